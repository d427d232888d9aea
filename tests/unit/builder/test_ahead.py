import threading
import time

import pytest

from builder import ahead as module
from builder.ahead import ahead


def test_pieces_come_in_their_order():
    with ahead(iter(range(100))) as taken:
        assert list(taken) == list(range(100))


def test_they_are_made_in_another_thread_and_no_more_than_a_few_ahead():
    made = []

    def pieces():
        for number in range(100):
            made.append(threading.current_thread())
            yield number

    with ahead(pieces()) as taken:
        next(taken)
        time.sleep(0.05)
        assert 1 <= len(made) <= module.DEPTH + 2
    assert threading.current_thread() not in made


def test_what_goes_wrong_there_is_raised_where_they_are_taken():
    def pieces():
        yield 1
        raise ValueError("broken")

    with ahead(pieces()) as taken:
        assert next(taken) == 1
        with pytest.raises(ValueError, match="broken"):
            next(taken)


def test_nothing_runs_any_more_when_the_taker_gives_up():
    def endless():
        while True:
            yield b"x"

    with pytest.raises(RuntimeError), ahead(endless()) as taken:
        next(taken)
        raise RuntimeError
    assert "ahead" not in [each.name for each in threading.enumerate()]
