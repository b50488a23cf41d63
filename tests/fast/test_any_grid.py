"""Folded models on grids of one and three axes, and behind a class token, against the models themselves."""

import copy

import pytest
import torch

from metaformer.block.norm import AffineConfig, LayerNormConfig, ModifiedLayerNormConfig
from metaformer.block.residual import ResidualConfig
from metaformer.block.token_mixers import AttentionConfig, IdentityConfig, PoolingConfig, SeparableConvConfig
from metaformer.fast.backends import plain_backend
from metaformer.fast.for_training import for_training
from metaformer.fast.stage import folded
from metaformer.models.config import MetaFormerConfig, PatchEmbeddingConfig
from metaformer.models.metaformer import MetaFormer

PATCHES = PatchEmbeddingConfig(kernel_size=4, stride=4, padding=0)
MIXERS = (PoolingConfig(), IdentityConfig(), AttentionConfig(head_dim=8), SeparableConvConfig())
SHAPES = {"1d": ((36,), False), "3d": ((8, 12, 8), False), "class token": ((12, 16), True)}


@pytest.fixture(params=SHAPES.values(), ids=SHAPES)
def shape(request):
    return request.param


def build(shape, mixer, norm):
    size, class_token = shape
    config = MetaFormerConfig(
        dims=(16,),
        depths=(2,),
        token_mixers=(mixer,),
        patch_embeddings=(PATCHES,),
        norm=norm,
        residuals=(ResidualConfig(layer_scale_init=0.5),),
        class_token=class_token,
        num_classes=7,
        image_size=size,
    )
    return MetaFormer(config), torch.randn(2, 3, *size)


@pytest.mark.parametrize("norm", [ModifiedLayerNormConfig(), LayerNormConfig(), AffineConfig()], ids=str)
@pytest.mark.parametrize("mixer", MIXERS, ids=str)
def test_folded_gives_the_models_outputs(shape, mixer, norm):
    model, x = build(shape, mixer, norm)
    with torch.no_grad():
        expected = model.eval()(x)
        for sliced in (False, True):
            actual = folded(model, plain_backend(torch.float32, sliced_pooling=sliced))(x)
            torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("mixer", MIXERS[:3], ids=str)
def test_fused_for_training_gives_the_models_gradients(shape, mixer):
    model, x = build(shape, mixer, ModifiedLayerNormConfig())
    fused = for_training(copy.deepcopy(model))
    for either in (model, fused):
        either(x).square().sum().backward()
    for (name, ours), theirs in zip(fused.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-5, rtol=1e-3, msg=name)
