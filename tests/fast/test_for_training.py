"""The fused blocks train as the plain ones do."""

import copy
import importlib
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from metaformer.block.channel_mlp import ChannelMLPConfig
from metaformer.block.metaformer_block import MetaFormerBlock
from metaformer.block.norm import LayerNormConfig, ModifiedLayerNormConfig
from metaformer.block.residual import ResidualConfig
from metaformer.block.token_mixers import AttentionConfig, PoolingConfig, SeparableConvConfig
from metaformer.core.errors import ConfigError
from metaformer.fast.for_training import FusedBlock, for_training
from metaformer.models.metaformer import MetaFormer
from metaformer.ops.native.library import native_library
from metaformer.ops.norm_mlp.training_plain import InSlices

for_training_module = importlib.import_module("metaformer.fast.for_training")

VARIANTS = {
    "as it is": {},
    "pool 5": {"token_mixers": (PoolingConfig(pool_size=5),) * 4},
    "no layer scale": {"residuals": (ResidualConfig(),)},
    "res scale": {"residuals": (ResidualConfig(res_scale_init=0.8),)},
    "star relu, no biases": {
        "norm": ModifiedLayerNormConfig(bias=False),
        "channel_mlp": ChannelMLPConfig(activation="star_relu", bias=False),
    },
    "hybrid": {"token_mixers": (PoolingConfig(), SeparableConvConfig(), PoolingConfig(), AttentionConfig(head_dim=8))},
    "no channel mlp": {"channel_mlp": None},
}


def pair(config, shake):
    """A plain model and a fused one with the same weights."""
    plain = shake(MetaFormer(config)).double()
    return plain, for_training(copy.deepcopy(plain))


def loss_of(model, images, labels):
    torch.manual_seed(7)
    return F.cross_entropy(model(images), labels)


@pytest.mark.parametrize("name", list(VARIANTS))
def test_loss_and_gradients_are_those_of_the_plain_blocks(small, images, shake, name):
    plain, fused = pair(replace(small, drop_path=0.4, **VARIANTS[name]), shake)
    labels = torch.tensor([1, 2])
    losses = [loss_of(model.train(), images.double(), labels) for model in (plain, fused)]
    torch.testing.assert_close(*losses)
    for loss in losses:
        loss.backward()
    named = dict(plain.named_parameters())
    assert named.keys() == dict(fused.named_parameters()).keys()
    for parameter_name, parameter in fused.named_parameters():
        torch.testing.assert_close(parameter.grad, named[parameter_name].grad, rtol=1e-6, atol=1e-9)


def test_the_loss_curve_stays_within_float_noise(small, images, shake):
    plain = shake(MetaFormer(replace(small, drop_path=0.2)))
    fused, labels = for_training(copy.deepcopy(plain)), torch.tensor([1, 2])
    curves = []
    for model in (plain, fused):
        optimizer, curve = torch.optim.AdamW(model.train().parameters(), lr=1e-3), []
        for _ in range(8):
            loss = loss_of(model, images, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            curve.append(loss.item())
        curves.append(curve)
    assert curves[1] == pytest.approx(curves[0], rel=2e-4)
    assert curves[0][-1] < 0.8 * curves[0][0]


def test_the_norms_bias_in_front_of_pooling_gets_a_zero_gradient(small, images):
    model = for_training(MetaFormer(small))
    model(images).square().sum().backward()
    for block in (module for module in model.modules() if isinstance(module, FusedBlock)):
        assert torch.equal(block.norm1.bias.grad, torch.zeros_like(block.norm1.bias))
        assert block.norm2.bias.grad.any()


def test_it_works_in_place_and_checkpoints_do_not_change(small):
    model = MetaFormer(small)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert for_training(model) is model
    assert list(model.state_dict()) == list(before)
    MetaFormer(small).load_state_dict(model.state_dict())
    # Again changes nothing.
    assert for_training(model) is model


def test_somebodys_noise_decides_what_stochastic_depth_drops(small, images, shake):
    plain, fused = pair(replace(small, drop_path=0.5), shake)
    for model in (plain, fused):
        for module in model.train().modules():
            if hasattr(module, "drop_path_noise"):
                module.drop_path_noise = torch.tensor([0.1, 0.9])
    torch.testing.assert_close(fused(images.double()), plain(images.double()))


def test_evaluation_and_gradient_checkpointing_work_too(small, images, shake):
    plain, fused = pair(small, shake)
    torch.testing.assert_close(fused.eval()(images.double()), plain.eval()(images.double()))
    fused.train().set_grad_checkpointing()
    plain.train()
    results = [model(images.double()).square().sum() for model in (plain, fused)]
    for result in results:
        result.backward()
    for mine, its in zip(fused.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, its.grad)


def test_under_autocast_it_is_no_further_from_float32_than_the_plain_blocks(small, images, shake):
    plain = shake(MetaFormer(small)).train()
    fused, labels = for_training(copy.deepcopy(plain), products=torch.bfloat16), torch.tensor([1, 2])

    def gradient(model, enabled):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            loss = loss_of(model, images, labels)
        grads = torch.autograd.grad(loss, list(model.parameters()))
        assert all(grad.dtype == torch.float32 for grad in grads)
        return torch.cat([grad.flatten() for grad in grads])

    exact = gradient(plain, False)
    errors = [(gradient(model, True) - exact).norm() / exact.norm() for model in (plain, fused)]
    assert 0 < errors[1] < 1.5 * errors[0]


def test_less_is_kept_for_the_backward_pass(small, images):
    def kept(model):
        seen = {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t: seen.update({t.data_ptr(): t.nbytes}) or t, lambda t: t
        ):
            model(images)
        parameters = {parameter.data_ptr() for parameter in model.parameters()}
        return sum(size for address, size in seen.items() if address not in parameters)

    config = replace(small, dims=(32, 64, 64, 64))
    plain, without_hidden = MetaFormer(config), for_training(MetaFormer(config), keep_hidden=False)
    assert kept(without_hidden) < 0.5 * kept(plain)
    fused = for_training(MetaFormer(config))
    fused(images).sum().backward()
    (spare,) = {block.spare for block in fused.modules() if isinstance(block, FusedBlock)}
    assert spare._spare
    assert kept(fused) < 0.8 * kept(plain)
    # Asked again, it takes effect; and a copy has buffers of its own.
    (of_copy,) = {block.spare for block in copy.deepcopy(fused).modules() if isinstance(block, FusedBlock)}
    assert of_copy is not spare
    assert all(
        block.spare is None for block in for_training(fused, keep_hidden=False).modules() if hasattr(block, "spare")
    )


def test_a_model_with_spare_buffers_is_saved_without_them(small, images, tmp_path):
    fused = for_training(MetaFormer(small))
    fused(images).sum().backward()
    torch.save(fused, tmp_path / "model.pt")
    again = torch.load(tmp_path / "model.pt", weights_only=False)
    torch.testing.assert_close(again(images), fused(images))
    (spare,) = {block.spare for block in again.modules() if isinstance(block, FusedBlock)}
    assert not spare._spare


def test_kernels_are_chosen_when_the_model_is_made_and_again_when_it_is_cast(small, images, monkeypatch):
    model = for_training(MetaFormer(small))
    block = model.stages[0].blocks[0]
    assert (type(block.trained_mlp) is InSlices) == (native_library() is None)
    made = [copy.deepcopy(model), for_training(MetaFormer(small), products=torch.bfloat16), model.double()]
    chosen = [one.stages[0].blocks[0].trained_mlp for one in made]
    assert chosen[1:] == [InSlices(torch.bfloat16), InSlices(torch.float64)]
    # Not in forward.
    for name in ("choose_trained_mlp", "choose_trained_pool"):
        monkeypatch.setattr(for_training_module, name, None)
    for one in made:
        one(images.to(next(one.parameters()).dtype)).sum().backward()


def test_what_cannot_be_fused(small):
    with pytest.raises(ConfigError, match="for_training takes a MetaFormer; got Linear"):
        for_training(nn.Linear(2, 2))
    with pytest.raises(ConfigError, match="no block of this model can be fused"):
        for_training(MetaFormer(replace(small, norm=LayerNormConfig())))


def test_an_mlp_with_dropout_is_left_alone(small, images):
    # Its masks would have to be drawn again in the backward pass.
    model = for_training(MetaFormer(replace(small, channel_mlp=ChannelMLPConfig(dropout=0.5)))).train()
    called = []
    model.stages[0].blocks[0].channel_mlp.register_forward_hook(lambda *_: called.append(True))
    model(images)
    assert called


def test_a_block_that_somebody_changed_is_theirs(small):
    class Their(MetaFormerBlock):
        pass

    model = MetaFormer(small)
    model.stages[0].blocks[0].__class__ = Their
    for_training(model)
    assert type(model.stages[0].blocks[0]) is Their
    assert type(model.stages[1].blocks[0]) is FusedBlock


def test_under_autocast_a_branch_of_1e_5_is_not_rounded_away(small, images):
    config = replace(small, residuals=(ResidualConfig(layer_scale_init=1e-5),))
    model = MetaFormer(config)
    block = for_training(model).stages[0].blocks[0]
    x = torch.randn(2, small.dims[0], 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        y = block(x.bfloat16())
    assert y.dtype == torch.float32
    assert (y - x.bfloat16()).abs().mean() > 1e-6


def test_a_second_derivative_is_refused_not_wrong(small, images):
    model = for_training(MetaFormer(small))
    weight = next(parameter for parameter in model.stages[0].blocks.parameters() if parameter.ndim == 4)
    (gradient,) = torch.autograd.grad(model(images).square().sum(), weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_a_compiler_goes_around_the_fused_operators(small, images, shake):
    plain = shake(MetaFormer(small)).train()
    fused = torch.compile(for_training(copy.deepcopy(plain)), backend="eager")
    for model in (plain, fused):
        model(images).square().sum().backward()
    for mine, its in zip(fused.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, its.grad, rtol=1e-3, atol=1e-4)


def test_a_model_in_bfloat16_sums_its_gradients_in_float32(small, shake):
    # Eight slices of tokens: summed in bfloat16 the first ones would be rounded eight times.
    exact = shake(MetaFormer(replace(small, dims=(8, 16, 16, 16), image_size=(64, 64)))).train()
    rounded = for_training(copy.deepcopy(exact)).bfloat16()
    images = torch.randn(4, 3, 64, 64)
    labels = torch.tensor([0, 1, 2, 3])
    plain = copy.deepcopy(exact).bfloat16()
    errors = []
    loss_of(exact, images, labels).backward()
    for model in (rounded, plain):
        loss_of(model, images.bfloat16(), labels).backward()
        pairs = zip(model.stages.parameters(), exact.stages.parameters(), strict=True)
        errors.append(max(float((a.grad.float() - b.grad).norm() / (b.grad.norm() + 1e-3)) for a, b in pairs))
        assert all(parameter.grad.dtype == torch.bfloat16 for parameter in model.parameters())
    assert errors[0] < 1.2 * errors[1]
