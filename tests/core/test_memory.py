import ctypes
import sys

import pytest
import torch

from metaformer.core import memory
from metaformer.core.fresh_process import in_fresh_process
from metaformer.core.memory import added_memory_mib, highest_memory_mib, keep_freed_memory


def test_the_peak_of_a_call_counts_what_it_gave_back_but_not_what_was_held_before():
    held = torch.ones(32 * 2**18)
    added = added_memory_mib(lambda: torch.ones(64 * 2**18).sum())
    if added is None:
        pytest.skip("this system does not tell")
    assert 60 < added < 80
    assert added_memory_mib(lambda: None) < 5
    assert highest_memory_mib() > 32
    assert held.sum() > 0


def test_a_system_that_does_not_tell(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_CLEAR", tmp_path / "no" / "such")
    called = []
    assert added_memory_mib(lambda: called.append(True)) is None
    assert not called


def faults_of_blocks_that_come_and_go(keep: bool) -> int:
    """How many pages the system has to give for 20 blocks of 64 MiB, one after the other."""
    import resource

    if keep:
        keep_freed_memory()
    # The library finds the place that fits after some tries.
    for _ in range(20):
        torch.ones(2**24)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(sys.platform != "linux", reason="only the GNU library is told to keep what is freed")
def test_blocks_that_are_kept_are_not_asked_for_again():
    if not hasattr(ctypes.CDLL(None), "mallopt"):
        pytest.skip("not the GNU library")
    kept, given_back = (in_fresh_process(faults_of_blocks_that_come_and_go, keep) for keep in (True, False))
    assert kept < 0.2 * given_back
