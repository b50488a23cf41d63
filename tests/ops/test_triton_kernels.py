import sys
from types import ModuleType

import pytest
import torch

from metaformer.ops import triton_kernels as home
from metaformer.ops.triton_kernels import triton_kernels

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def nothing_remembered():
    triton_kernels.cache_clear()
    yield
    triton_kernels.cache_clear()


@pytest.fixture
def kernels(monkeypatch):
    """Stands for the kernels of an operator; its probe does what it is told."""
    module = ModuleType("metaformer.ops.norm_pool.triton")
    module.probe = lambda _device: None
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(home.importlib.util, "find_spec", lambda _name: object())
    return module


def test_kernels_that_pass_their_probe_are_used(kernels):
    assert triton_kernels("norm_pool", CPU) is kernels


def test_kernels_that_fail_it_are_named_once_and_left_alone(kernels):
    def fail(_device):
        raise RuntimeError("a kernel\nis wrong")

    kernels.probe = fail
    with pytest.warns(UserWarning, match="kernels of norm_pool do not work on cpu: a kernel is wrong") as caught:
        assert [triton_kernels("norm_pool", CPU) for _ in range(2)] == [None, None]
    assert len(caught) == 1


def test_without_triton_it_says_so(monkeypatch):
    monkeypatch.setattr(home.importlib.util, "find_spec", lambda _name: None)
    with pytest.warns(UserWarning, match="Triton is not installed"):
        assert triton_kernels("norm_pool", CPU) is None
