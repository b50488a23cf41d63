"""A thread that takes from an iterator before anyone asks."""

import threading
import time

import pytest

from metaformer.data.decode.read_ahead import ReadAhead


def test_everything_comes_in_order():
    ahead = ReadAhead(range(100), num_ahead=3)
    assert list(ahead) == list(range(100))
    ahead.close()


def test_it_runs_ahead_and_no_further():
    taken = []

    def numbers():
        for number in range(100):
            taken.append(number)
            yield number

    ahead = ReadAhead(numbers(), num_ahead=3)
    deadline = time.monotonic() + 10
    while len(taken) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    # Three wait, and one is in its hand.
    assert taken == [0, 1, 2, 3]
    ahead.close()


def test_an_error_arrives_where_it_happened():
    def numbers():
        yield 1
        raise ValueError("broken")

    ahead = iter(ReadAhead(numbers(), num_ahead=3))
    assert next(ahead) == 1
    with pytest.raises(ValueError, match=r"^broken$"):
        next(ahead)


def test_closing_ends_the_thread_and_closes_the_source():
    closed = threading.Event()

    def numbers():
        try:
            yield from range(100)
        finally:
            closed.set()

    before = threading.active_count()
    ahead = ReadAhead(numbers(), num_ahead=1)
    assert next(iter(ahead)) == 0
    ahead.close()
    assert closed.is_set()
    assert threading.active_count() == before
