"""Graphs of a model: torch.fx and torch.export."""

from dataclasses import replace

import pytest
import torch

from metaformer.block.token_mixers import (
    AttentionConfig,
    DepthwiseConvConfig,
    IdentityConfig,
    PoolingConfig,
    RandomMixingConfig,
    SeparableConvConfig,
    SpatialMLPConfig,
)
from metaformer.core.errors import ShapeError
from metaformer.models.create import create_model

# Tracers call with stand-ins for tensors.
pytestmark = pytest.mark.usefixtures("no_shape_checks")


def test_torch_fx_traces_the_same_function(any_model, images):
    traced = torch.fx.symbolic_trace(any_model)
    assert torch.equal(traced(images), any_model(images))
    assert torch.equal(traced(images[:1]), any_model(images[:1]))


def test_a_traced_model_still_refuses_the_wrong_shape(small):
    traced = torch.fx.symbolic_trace(create_model(small))
    with pytest.raises(ShapeError, match="the model takes images as"):
        traced(torch.randn(1, 4, 64, 64))


def test_a_traced_tied_model_still_refuses_another_grid(small):
    traced = torch.fx.symbolic_trace(create_model(replace(small, token_mixers=(RandomMixingConfig(),) * 4)))
    with pytest.raises(ShapeError, match="image_size"):
        traced(torch.randn(1, 3, 96, 96))


def test_a_traced_model_trains(small, images):
    model = create_model(small)
    traced = torch.fx.symbolic_trace(model)
    traced(images).square().sum().backward()
    assert all(parameter.grad is not None for parameter in traced.parameters())


def test_torch_export_agrees(any_model, images):
    exported = torch.export.export(any_model, (images,)).module()
    torch.testing.assert_close(exported(images), any_model(images))


@pytest.mark.parametrize(
    "mixers",
    [
        (SeparableConvConfig(), PoolingConfig(), AttentionConfig(head_dim=8), SpatialMLPConfig()),
        (DepthwiseConvConfig(), IdentityConfig(), RandomMixingConfig(), PoolingConfig()),
    ],
    ids=["separable, pooling, attention, spatial mlp", "depthwise, identity, random, pooling"],
)
def test_torch_export_agrees_for_any_batch_size(small, images, mixers):
    model = create_model(replace(small, token_mixers=mixers, position_embedding_stages=(2,))).eval()
    batch = torch.export.Dim("batch")
    exported = torch.export.export(model, (images,), dynamic_shapes=({0: batch},)).module()
    more = torch.randn(5, 3, 64, 64)
    torch.testing.assert_close(exported(more), model(more), rtol=1e-4, atol=1e-5)


def test_an_exported_program_comes_back_from_its_file(small, images, tmp_path):
    model = create_model(small).eval()
    torch.export.save(torch.export.export(model, (images,)), tmp_path / "model.pt2")
    loaded = torch.export.load(tmp_path / "model.pt2").module()
    torch.testing.assert_close(loaded(images), model(images))
