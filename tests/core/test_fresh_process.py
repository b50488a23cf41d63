import os
from concurrent.futures.process import BrokenProcessPool

import pytest

from metaformer.core.fresh_process import in_fresh_process


def die():
    os.kill(os.getpid(), 9)


def test_it_runs_elsewhere_and_comes_back():
    assert in_fresh_process(os.getpid) != os.getpid()
    assert in_fresh_process(max, 2, 5) == 5


def test_what_it_raises_is_raised_here():
    with pytest.raises(ZeroDivisionError):
        in_fresh_process(divmod, 1, 0)


def test_a_killed_process_is_an_error_and_no_endless_wait():
    with pytest.raises(BrokenProcessPool):
        in_fresh_process(die)
