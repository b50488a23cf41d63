import pytest
import torch

from metaformer.core import memory
from metaformer.core.memory import added_memory_mib, highest_memory_mib


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
