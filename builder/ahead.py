"""Pieces of work made ahead of the one who takes them, so that two processors are busy."""

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")

DEPTH = 4
"""How many pieces may wait: memory is bounded by as many times their size."""


class _Closed(Exception):
    """Nobody takes pieces any more."""


class _End(Generic[T]):
    """The last thing that comes: why there is no more."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


@contextmanager
def ahead(pieces: Iterator[T]) -> Iterator[Iterator[T]]:
    """`with ahead(pieces) as taken: for piece in taken: …`: the same, made in a thread of their own.

    What `pieces` raises is raised where they are taken. The thread has ended when the block ends.
    """
    waiting: queue.Queue[T | _End[T]] = queue.Queue(DEPTH)
    closed = threading.Event()

    def put(piece: T | _End[T]) -> None:
        waiting.put(piece)
        if closed.is_set():
            raise _Closed

    maker = threading.Thread(target=lambda: _make(pieces, put), name="ahead", daemon=True)
    maker.start()
    try:
        yield _taken(waiting)
    finally:
        closed.set()
        while maker.is_alive():
            # One that waits for room finds it, and learns then that it is over.
            while not waiting.empty():
                waiting.get()
            maker.join(0.01)


def _make(pieces: Iterator[T], put: Callable[[T | _End[T]], None]) -> None:
    error: BaseException | None = None
    try:
        for piece in pieces:
            put(piece)
    except _Closed:
        return
    except BaseException as caught:  # it belongs to the thread that takes
        error = caught
    try:
        put(_End(error))
    except _Closed:
        return


def _taken(waiting: "queue.Queue[T | _End[T]]") -> Iterator[T]:
    while True:
        piece = waiting.get()
        if isinstance(piece, _End):
            if piece.error is not None:
                raise piece.error
            return
        yield piece
