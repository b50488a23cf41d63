"""Batches without an image, and images without room for a window."""

import pytest
import torch

from metaformer.core.errors import ShapeError
from metaformer.fast.backends import native_backend
from metaformer.fast.stage import folded
from metaformer.models.create import create_model
from metaformer.ops.norm_convolution.native import NativeNormConvolution
from metaformer.ops.norm_convolution.reference import NormConvolution


@pytest.fixture(params=["poolformer_s12", "convformer_s18"])
def model(request, library):
    return folded(create_model(request.param, num_classes=5).eval(), native_backend(library))


@torch.no_grad()
def test_an_empty_batch_passes(model):
    assert model(torch.randn(0, 3, 64, 64)).shape == (0, 5)
    assert model(torch.randn(1, 3, 64, 64)).isfinite().all()


@torch.no_grad()
def test_a_window_that_does_not_fit_is_refused(library):
    op = NormConvolution(weight=torch.randn(4, 2, 3, 3), bias=torch.zeros(4), stride=2)
    with pytest.raises(ShapeError, match="a kernel of 3 with padding 0 does not fit into 2x2 tokens"):
        NativeNormConvolution.pack(op, library).run(torch.randn(1, 2, 2, 2), None)
