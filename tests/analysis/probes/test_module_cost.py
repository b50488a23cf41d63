"""Costs by module add up to the model's, and grow as they must."""

import pytest
import torch
from tests.analysis.conftest import TIMM

from metaformer.analysis import Exhibit, Journal
from metaformer.analysis.cost import profile
from metaformer.analysis.probes import module_cost
from metaformer.analysis.probes.module_cost import ModuleCost, Part, measure_parts, peak_of
from metaformer.core.errors import ConfigError
from metaformer.models.metaformer import MetaFormer

PROBE = ModuleCost(sizes=(0.5, 1.0, 1.5), num_rounds=1)


@pytest.mark.parametrize("name", ["ours", "resnet18"])
def test_parts_add_up_to_the_model(name, small):
    model = (MetaFormer(small) if name == "ours" else TIMM[name]()).eval()
    parts = measure_parts(model, torch.randn(2, 3, 64, 64), num_rounds=1)
    cost = profile(model, 64)
    assert sum(part.macs for part in parts) == cost.macs
    assert sum(part.params for part in parts) == cost.params
    assert all(part.time_ms > 0 for part in parts if part.macs)
    assert sum(part.activation_mib for part in parts) > 0


def test_convolutions_grow_with_the_pixels_and_models_of_one_size_say_so(inputs, small, monkeypatch):
    monkeypatch.setattr(module_cost, "peak_macs_per_s", lambda device: 1e15)
    exhibits = (
        Exhibit(name="ours", model=MetaFormer(small).eval()),
        Exhibit(name="deit", model=TIMM["deit_tiny"]().eval()),
    )
    found = PROBE.measure(exhibits, inputs, Journal())
    assert found.numbers["exponent of macs of ours"] == pytest.approx(1, abs=0.05)
    assert "deit refuses other sizes" in found.panels[-1].caption
    assert 0 < found.numbers["share of peak of ours"] < 1


def test_more_than_the_peak_is_measured_again_and_then_refused(monkeypatch):
    fast = {"m": [Part(path="a", params=1, macs=2_000_000, activation_mib=0.0, time_ms=1.0)]}
    tries = iter([1e9, 3e9])
    monkeypatch.setattr(module_cost, "peak_macs_per_s", lambda device: next(tries))
    assert peak_of(torch.device("cpu"), fast) == 3e9
    monkeypatch.setattr(module_cost, "peak_macs_per_s", lambda device: 1e9)
    with pytest.raises(ConfigError, match=r"seems to run at 200% of the machine's peak, which cannot be"):
        peak_of(torch.device("cpu"), fast)
