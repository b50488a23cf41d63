"""Folding changes no output: every model of the zoo, every mixer, norm and activation, each backend."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from metaformer.block.activation import ACTIVATIONS
from metaformer.block.channel_mlp import ChannelMLPConfig
from metaformer.block.norm import BatchNormConfig, LayerNormConfig, ModifiedLayerNormConfig, NoNormConfig
from metaformer.block.residual import ResidualConfig
from metaformer.block.token_mixers import DepthwiseConvConfig, IdentityConfig, PoolingConfig, SeparableConvConfig
from metaformer.core.errors import ShapeError
from metaformer.fast.backends import native_backend, plain_backend
from metaformer.fast.fold import fold_activation, fold_norm
from metaformer.fast.stage import FoldedStage, folded
from metaformer.fast.steps import UnfoldedMixerStep, UnfoldedMLPStep
from metaformer.models.config import DOWNSAMPLING, STEM
from metaformer.models.create import create_model
from metaformer.models.metaformer import MetaFormer
from metaformer.ops.native.library import library_or_reason
from metaformer.ops.norm_convolution.native import NativeNormConvolution
from metaformer.ops.norm_mlp.native import NativeNormMLP
from metaformer.ops.norm_pool.native import NativeNormPool
from metaformer.ops.norm_pool.plain import sliced_pool_mix
from metaformer.ops.pool_mix import pool_mix


def native():
    found = library_or_reason()
    if isinstance(found, str):
        pytest.skip(f"no C++ operators here: {found}")
    return native_backend(found)


BACKENDS = {
    "plain": lambda: plain_backend(torch.float32, sliced_pooling=False),
    "plain, sliced": lambda: plain_backend(torch.float32, sliced_pooling=True),
    "native": native,
}


@pytest.fixture(params=list(BACKENDS))
def backend(request):
    return BACKENDS[request.param]()


def assert_same(model, backend, x):
    with torch.no_grad():
        torch.testing.assert_close(folded(model, backend)(x), model(x), rtol=1e-4, atol=1e-5)


def test_every_model_keeps_its_outputs(any_model, images, backend, shake):
    assert_same(shake(any_model), backend, images)


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
@pytest.mark.parametrize(
    "norm",
    [
        ModifiedLayerNormConfig(eps=1e-2),
        ModifiedLayerNormConfig(bias=False),
        LayerNormConfig(eps=1e-2),
        BatchNormConfig(),
        NoNormConfig(),
    ],
    ids=["mln", "mln without bias", "ln", "bn", "none"],
)
def test_every_norm_with_every_activation(small, images, backend, shake, norm, activation):
    mixers = (PoolingConfig(), IdentityConfig(), SeparableConvConfig(kernel_size=3), DepthwiseConvConfig())
    config = replace(
        small,
        norm=norm,
        token_mixers=mixers,
        channel_mlp=ChannelMLPConfig(activation=activation),
        residuals=(ResidualConfig(layer_scale_init=0.5, res_scale_init=0.7),),
    )
    model = shake(MetaFormer(config))
    if isinstance(norm, BatchNormConfig):
        # Running statistics that are not zero and one.
        model(images)
    assert_same(model.eval(), backend, images)


@pytest.mark.parametrize(
    "change",
    [
        {"token_mixers": (PoolingConfig(pool_size=1), PoolingConfig(pool_size=5), PoolingConfig(pool_size=9)) * 2},
        {"channel_mlp": None},
        {"channel_mlp": ChannelMLPConfig(bias=False, ratio=0.7)},
        {"residuals": (ResidualConfig(skip=False, layer_scale_init=0.5),)},
        {"residuals": (ResidualConfig(),), "norm": NoNormConfig(), "channel_mlp": None},
        {"position_embedding_stages": (0, 2)},
        {"patch_embeddings": (replace(STEM, post_norm=LayerNormConfig(eps=1e-3)), *(DOWNSAMPLING,) * 3)},
        {"patch_embeddings": (replace(STEM, post_norm=ModifiedLayerNormConfig()), *(DOWNSAMPLING,) * 3)},
        {"patch_embeddings": (STEM, *(replace(DOWNSAMPLING, pre_norm=ModifiedLayerNormConfig(bias=False)),) * 3)},
        {"patch_embeddings": (STEM, *(replace(DOWNSAMPLING, pre_norm=BatchNormConfig(), padding=0),) * 3)},
        {"patch_embeddings": (STEM, *(replace(DOWNSAMPLING, pre_norm=LayerNormConfig()),) * 3)},
        {"patch_embeddings": (STEM, *(replace(DOWNSAMPLING, stride=1, max_pool=2, pre_norm=BatchNormConfig()),) * 3)},
        {"patch_embeddings": (STEM, *(replace(DOWNSAMPLING, post_norm=BatchNormConfig(), activation="gelu"),) * 3)},
        {"in_chans": 1},
        {"num_classes": 0},
    ],
    ids=lambda change: " ".join(change),
)
def test_awkward_configs(small, backend, shake, change):
    if "token_mixers" in change:
        change = {"token_mixers": change["token_mixers"][:4]}
    model = shake(MetaFormer(replace(small, **change))).eval()
    # Oblong and odd grids: 56x72 pixels give 14x18, 7x9, 4x5 and 2x3 tokens.
    images = torch.randn(2, model.in_chans, 56, 72)
    if "position_embedding_stages" in change:
        images = torch.randn(2, 3, 64, 64)
    if "patch_embeddings" in change:
        # Without padding grids shrink faster.
        images = torch.randn(2, 3, 136, 120)
    assert_same(model, backend, images)


def test_everything_of_a_poolformer_folds(small):
    copy = folded(MetaFormer(small), native())
    kinds = {module.kind for stage in copy.stages for block in stage.blocks for module in block.children()}
    assert kinds == {NativeNormPool, NativeNormMLP}
    assert all(stage.patch_embed.conv.kind is NativeNormConvolution for stage in copy.stages)
    assert not any(parameter.requires_grad for parameter in copy.parameters())


def test_the_model_itself_is_left_alone(small, images):
    model = MetaFormer(small).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    folded(model, plain_backend(torch.float32, sliced_pooling=False))(images)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_mixer_or_activation_of_the_users_is_kept_as_it_is(small, images, backend):
    class Doubling(nn.Module):
        def forward(self, x):
            return 2 * x

    model = MetaFormer(small).eval()
    model.stages[1].blocks[0].token_mixer = Doubling()
    model.stages[2].blocks[0].channel_mlp.activation = Doubling()
    copy = folded(model, backend)
    assert isinstance(copy.stages[1].blocks[0].token_mixer, UnfoldedMixerStep)
    assert isinstance(copy.stages[2].blocks[0].channel_mlp, UnfoldedMLPStep)
    assert_same(model, backend, images)


def test_norms_and_activations_that_we_do_not_know_are_not_folded():
    assert fold_norm(nn.GroupNorm(2, 4), torch.ones(4)) is None
    assert fold_norm(nn.BatchNorm2d(4, track_running_stats=False), torch.ones(4)) is None
    assert fold_activation(nn.GELU(approximate="tanh")) is None
    assert fold_activation(nn.Tanh()) is None


def test_the_interface_of_the_model_stays(small, images, backend):
    model = MetaFormer(small).eval()
    copy = folded(model, backend)
    with torch.no_grad():
        torch.testing.assert_close(copy.forward_features(images), model.forward_features(images), rtol=1e-4, atol=1e-5)
        mine, its = (m.forward_intermediates(images, intermediates_only=True) for m in (copy, model))
    for a, b in zip(mine, its, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert copy.num_features == model.num_features
    with pytest.raises(ShapeError, match="the model takes images as"):
        copy(torch.randn(1, 4, 64, 64))


def test_casting_a_native_model_does_not_break_its_weights(small, images):
    model = MetaFormer(small).eval()
    with torch.no_grad():
        expected, actual = model(images), folded(model, native()).to(torch.bfloat16)(images.bfloat16())
    assert actual.dtype == torch.bfloat16
    assert (actual.float() - expected).abs().max() < 0.05 * expected.abs().max()


@pytest.mark.parametrize("pool_size", [1, 3, 5, 9])
@pytest.mark.parametrize("grid", [(7, 7), (5, 9), (1, 4)], ids=str)
def test_sliced_pooling_is_pooling(grid, pool_size):
    x = torch.randn(2, 3, *grid, dtype=torch.float64)
    torch.testing.assert_close(sliced_pool_mix(x, pool_size), pool_mix(x, pool_size))
    constant = torch.full((1, 2, *grid), 3.0)
    assert torch.count_nonzero(sliced_pool_mix(constant, pool_size)) == 0


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize("name", list(BACKENDS))
def test_a_folded_model_can_be_exported(small, images, name):
    copy = folded(MetaFormer(small).eval(), BACKENDS[name]())
    assert all(isinstance(stage, FoldedStage) for stage in copy.stages)
    exported = torch.export.export(copy, (images,)).module()
    with torch.no_grad():
        torch.testing.assert_close(exported(images), copy(images), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize("name", list(BACKENDS))
def test_a_folded_model_can_be_compiled(small, images, name):
    copy = folded(MetaFormer(small).eval(), BACKENDS[name]())
    with torch.no_grad():
        compiled = torch.compile(copy)
        torch.testing.assert_close(compiled(images), copy(images), rtol=1e-4, atol=1e-5)


def test_what_folding_makes_lies_where_the_weights_are():
    like = torch.ones(4, device="meta")
    assert fold_norm(nn.Identity(), like).weight.device.type == "meta"
    model = create_model("poolformer_s12", num_classes=2).to("meta").eval()
    made = folded(model, plain_backend(torch.float32, sliced_pooling=False))
    assert {buffer.device.type for buffer in made.buffers()} == {"meta"}
