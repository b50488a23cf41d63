"""Batches without an image, and images without room for a window."""

import pytest
import torch

from metaformer.core.errors import ShapeError
from metaformer.fast.native import NativeBackend
from metaformer.fast.stage import folded
from metaformer.models.create import create_model
from metaformer.ops.native.packing import fill_up, pack_panels
from metaformer.ops.norm_convolution.operator import norm_convolution


@pytest.fixture(params=["poolformer_s12", "convformer_s18"])
def model(request, library):
    return folded(create_model(request.param, num_classes=5).eval(), NativeBackend(library))


@torch.no_grad()
def test_an_empty_batch_passes(model):
    assert model(torch.randn(0, 3, 64, 64)).shape == (0, 5)
    assert model(torch.randn(1, 3, 64, 64)).isfinite().all()


@torch.no_grad()
def test_a_window_that_does_not_fit_is_refused(library):
    panels, bias = (
        pack_panels(torch.randn(4, 2 * 3 * 3), library.tile_columns),
        fill_up(torch.zeros(4), library.tile_columns),
    )
    x = torch.randn(1, 2, 2, 2)
    options = (4, 3, 2, 0, "none", 1.0, 0.0, "none", 1e-5, 1e-5, False)
    with pytest.raises(ShapeError, match="a kernel of 3 with padding 0 does not fit into 2x2 tokens"):
        norm_convolution(x, None, panels, bias, None, None, None, None, *options)
