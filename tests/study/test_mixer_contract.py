"""Our mixers keep the contract; for each promise there is a mixer that breaks it, and is caught."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from metaformer.block.site import require_grid
from metaformer.block.token_mixers import TOKEN_MIXERS
from metaformer.study.mixer_contract import CHECKS, check_contract

NAMES = [name for name, _ in CHECKS.values()]


@pytest.mark.parametrize("name", list(TOKEN_MIXERS))
def test_our_mixers_keep_every_promise(name):
    checks = list(check_contract(TOKEN_MIXERS[name]()))
    assert [check.name for check in checks] == NAMES
    assert [check for check in checks if check.status == "fail"] == []
    tied = [check.name for check in checks if check.status == "note"]
    assert tied == (
        ["takes any grid, or says that it cannot"] if name in ("random", "spatial_mlp", "two_layer_spatial_mlp") else []
    )


class Broken(nn.Module):
    """One thing wrong at a time."""

    def __init__(self, fault, site):
        super().__init__()
        self.fault, self.grid = fault, site.grid
        self.weight = nn.Parameter(torch.ones(site.dim, 1, 1))
        if fault == "unused":
            self.unused = nn.Parameter(torch.ones(1))
        self.hidden = torch.rand(()) if fault == "state" else None
        self.single = nn.Linear(1, 1)

    def forward(self, x):
        y = self.weight * x
        y = y + 0 * self.single.weight.sum() + 0 * self.single.bias.sum() if self.fault == "zero" else y
        if self.fault != "zero":
            y = y * self.single.weight.sum() + self.single.bias.sum()
        match self.fault:
            case "shape":
                return y[:, :, :-1] if x.shape[2] > 1 else y
            case "nan":
                return y / 0
            case "grid":
                return y if tuple(x.shape[-2:]) == self.grid else y.flatten(2)
            case "one grid":
                if x.shape[2:] != self.grid:
                    raise RuntimeError("size mismatch")
                return y
            case "tied":
                return require_grid(y, self.grid, "this")
            case "detached":
                return self.weight + 0 * x.detach() + self.single.weight.sum() + self.single.bias.sum()
            case "noise":
                return (
                    y + torch.rand_like(y) * 0 + torch.rand(1, generator=torch.Generator().manual_seed(count())).item()
                )
            case "batch":
                return y - y.mean(dim=0, keepdim=True)
            case "layout":
                return y + float(x.is_contiguous())
            case "float32":
                return y.float()
            case "python":
                return y if float(y.sum()) > 0 else 2 * y
            case "state":
                return y + self.hidden
        return y


CALLS = []


def count():
    CALLS.append(1)
    return len(CALLS)


@dataclass(frozen=True, kw_only=True)
class BrokenConfig:
    fault: str = ""

    def build(self, site):
        return Broken(self.fault, site)


@pytest.mark.parametrize(
    ("fault", "promise", "detail"),
    [
        ("shape", 1, "(2, 64, 8, 8) becomes (2, 64, 7, 8)"),
        ("nan", 1, "numbers that are not finite, from an input of shape (2, 64, 8, 8)"),
        ("grid", 2, "built for (8, 8): (2, 64, 7, 7) becomes (2, 64, 49)"),
        ("unused", 3, "parameter unused gets no gradient"),
        ("detached", 3, "the input gets no gradient"),
        ("zero", 3, "the gradient of parameter single.weight is zero everywhere"),
        ("noise", 4, "two calls in evaluation: results differ by up to "),
        ("batch", 6, "sample 0 alone and in its batch: results differ by up to "),
        ("layout", 7, "channels_last: results differ by up to "),
        ("float32", 8, "float64 in, float32 out"),
        ("python", 9, ""),
        ("state", 10, "another module with the same state dict: results differ by up to "),
    ],
)
def test_a_broken_promise_is_caught_with_its_example(fault, promise, detail):
    checks = {check.name: check for check in check_contract(BrokenConfig(fault=fault))}
    caught = checks[NAMES[promise]]
    assert caught.status == "fail"
    assert caught.detail.startswith(detail)
    assert caught.detail


def test_a_mixer_without_fault_passes_and_one_tied_to_its_grid_says_so():
    assert {check.status for check in check_contract(BrokenConfig())} == {"pass"}
    checks = {check.name: check.status for check in check_contract(BrokenConfig(fault="tied"))}
    assert [name for name, status in checks.items() if status != "pass"] == [NAMES[2]]
    assert checks[NAMES[2]] == "note"


def test_a_mixer_that_takes_one_grid_only_and_does_not_say_so_breaks_that_promise_alone():
    checks = {check.name: check.status for check in check_contract(BrokenConfig(fault="one grid"))}
    assert [name for name, status in checks.items() if status != "pass"] == [NAMES[2]]
    assert checks[NAMES[2]] == "fail"


def test_a_config_that_does_not_come_back_is_caught():
    @dataclass(frozen=True, kw_only=True)
    class LocalConfig(BrokenConfig):
        pass

    checks = list(check_contract(replace(LocalConfig())))
    assert checks[0].status == "fail"
    assert "local object" in checks[0].detail


def test_a_build_that_raises_fails_every_promise_that_needs_it():
    class Raising:
        def build(self, site):
            raise RuntimeError("first line\nsecond line")

    checks = list(check_contract(Raising()))
    assert {check.status for check in checks} == {"fail"}
    assert checks[1].detail == "RuntimeError: first line"
