"""CKA equals the full computation and another library's, and is never without a value."""

import pytest
import torch
from tests.analysis.conftest import TIMM, inputs_of
from torch import nn

from metaformer.analysis import Exhibit, Inputs, Journal
from metaformer.analysis.probes.similarity import Alignment, Similarity, kernel_of, unbiased_hsic
from metaformer.core.errors import ConfigError


class Two(nn.Module):
    """Two layers, the second of which may be constant or stand idle."""

    def __init__(self, *, constant: bool = False, idle: bool = False) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 5, 3)
        self.constant, self.idle = constant, idle
        if constant:
            nn.init.zeros_(self.second.weight)

    def forward(self, x):
        return self.first(x) if self.idle else (self.first(x), self.second(x))


def full_cka(x, y):
    """The definition, with matrices written out: U-centred kernels, their inner product, no batches."""

    def centred(features):
        features = features.flatten(1).double()
        kernel = features @ features.T
        kernel.fill_diagonal_(0)
        n = len(kernel)
        rows = kernel.sum(dim=1, keepdim=True)
        kernel = kernel - rows / (n - 2) - rows.T / (n - 2) + kernel.sum() / ((n - 1) * (n - 2))
        return kernel.fill_diagonal_(0)

    k, m = centred(x), centred(y)
    return float((k * m).sum() / ((k * k).sum() * (m * m).sum()).sqrt())


def streamed_cka(batches):
    alignment = Alignment()
    for x, y in batches:
        alignment.add(torch.stack([kernel_of(x), kernel_of(y)]))
    return float(alignment.values(["x", "y"])[0, 1])


def test_one_batch_equals_the_full_computation():
    x, y = torch.randn(20, 3, 8, 8) + 3, torch.randn(20, 50)
    y[:, :30] += x.flatten(1)[:, :30]
    assert streamed_cka([(x, y)]) == pytest.approx(full_cka(x, y), abs=1e-6)
    assert streamed_cka([(x, x)]) == pytest.approx(1, abs=1e-12)
    rotation = torch.linalg.qr(torch.randn(50, 50))[0]
    assert streamed_cka([(y, 7 * y @ rotation)]) == pytest.approx(1, abs=1e-5)


def test_batches_equal_ckatorch():
    from ckatorch.core import cka_batch

    x, y = torch.randn(6, 16, 40), torch.randn(6, 16, 25)
    y[..., :20] += 0.5 * x[..., :20]
    assert streamed_cka(zip(x, y, strict=True)) == pytest.approx(float(cka_batch(x, y)), abs=1e-6)


def test_the_estimate_is_unbiased_where_the_usual_one_is_not():
    independent = [streamed_cka([(torch.randn(8, 500), torch.randn(8, 500))]) for _ in range(50)]
    assert abs(sum(independent) / 50) < 0.06


def test_too_few_images_constant_and_idle_layers_get_one_line():
    with pytest.raises(ConfigError, match="at least 4 images in every batch; got 3"):
        unbiased_hsic(torch.zeros(2, 3, 3))
    inputs = inputs_of(torch.randn(8, 3, 8, 8))
    probe = Similarity(layers=("first", "second"))
    with pytest.raises(ConfigError, match="not defined for second of m: its features do not vary"):
        probe.measure((Exhibit(name="m", model=Two(constant=True)),), inputs, Journal())
    with pytest.raises(ConfigError, match="the layer 'second' of m did not run"):
        probe.measure((Exhibit(name="m", model=Two(idle=True)),), inputs, Journal())
    with pytest.raises(ConfigError, match="Did you mean 'second'"):
        Similarity(layers=("secnd",)).measure((Exhibit(name="m", model=Two()),), inputs, Journal())
    with pytest.raises(ConfigError, match="there are none"):
        probe.measure((Exhibit(name="m", model=Two()),), Inputs(batches=[], num_batches=0), Journal())


def test_models_side_by_side_and_the_papers_finding():
    """A vision transformer's stream keeps its representation from low to high layers, a ResNet's does not."""
    exhibits = tuple(Exhibit(name=name, model=TIMM[name]().eval()) for name in ("deit_tiny", "resnet18"))
    found = Similarity().measure(exhibits, inputs_of(torch.randn(24, 3, 64, 64), batch_size=12), Journal())
    assert [panel.title for panel in found.panels] == [
        "CKA within deit_tiny",
        "CKA within resnet18",
        "CKA between deit_tiny and resnet18",
    ]
    assert len(found.panels[2].values) == 6
    assert len(found.panels[2].values[0]) == 8
    assert all(value is not None for panel in found.panels for row in panel.values for value in row)
    assert found.numbers["uniformity of deit_tiny"] > found.numbers["uniformity of resnet18"]
