"""What the build says, in the form that a push has."""

import contextlib
import sys
import time
from collections.abc import Iterator


def step(text: str) -> None:
    print(f"-----> {text}", flush=True)


def line(text: str) -> None:
    print(f"       {text}", flush=True)


@contextlib.contextmanager
def timed() -> Iterator[None]:
    """Says how long the block took, once it has done its work."""
    begun = time.monotonic()
    yield
    line(f"{time.monotonic() - begun:.0f} s")


def fail(text: str) -> None:
    first, *others = text.splitlines()
    print(f" !     {first}", *(f"       {each}" for each in others), sep="\n", file=sys.stderr, flush=True)
