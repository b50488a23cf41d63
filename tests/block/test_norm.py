import pytest
import torch
from torch import nn

from metaformer.block.norm import NORMS, BatchNormConfig, LayerNormConfig, ModifiedLayerNormConfig, NoNormConfig

AFFINE = [ModifiedLayerNormConfig, LayerNormConfig]
# The axes over which mean and variance are taken.
AXES = {ModifiedLayerNormConfig: (1, 2, 3), LayerNormConfig: (1,)}


def random_affine(config, dim=6):
    norm = config.build(dim)
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    return norm


@pytest.mark.parametrize("grid", [(7, 7), (5, 9), (1, 4)], ids=str)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("config", AFFINE)
def test_it_equals_the_formula_forward_and_backward(config, bias, grid):
    norm = random_affine(config(eps=1e-3, bias=bias)).double()
    x = (3 * torch.randn(2, 6, *grid, dtype=torch.float64) + 1).requires_grad_()
    mean = x.mean(dim=AXES[config], keepdim=True)
    variance = ((x - mean) ** 2).mean(dim=AXES[config], keepdim=True)
    expected = (x - mean) / (variance + 1e-3).sqrt() * norm.weight[:, None, None]
    if bias:
        expected = expected + norm.bias[:, None, None]
    actual = norm(x)
    torch.testing.assert_close(actual, expected)
    seed = torch.randn_like(expected)
    torch.testing.assert_close(*(torch.autograd.grad(y, x, seed, retain_graph=True)[0] for y in (actual, expected)))


def test_modified_layer_norm_is_group_norm_of_one_group():
    norm, reference = random_affine(ModifiedLayerNormConfig()), nn.GroupNorm(1, 6)
    reference.load_state_dict(norm.state_dict())
    x = torch.randn(2, 6, 5, 9)
    assert norm.eps == reference.eps
    assert torch.equal(norm(x), reference(x))


def test_layer_norm_is_torchs_on_channels_last_tokens():
    norm, reference = random_affine(LayerNormConfig()), nn.LayerNorm(6)
    reference.load_state_dict(norm.state_dict())
    x = torch.randn(2, 6, 5, 9)
    assert torch.equal(norm(x), reference(x.movedim(1, -1)).movedim(-1, 1))


@pytest.mark.parametrize("config", AFFINE)
def test_it_starts_without_scale_and_shift(config):
    norm = config().build(4)
    assert torch.equal(norm.weight, torch.ones(4))
    assert torch.equal(norm.bias, torch.zeros(4))


@pytest.mark.parametrize("config", AFFINE)
def test_without_bias_there_is_no_parameter_for_it(config):
    assert [name for name, _ in config(bias=False).build(4).named_parameters()] == ["weight"]


@pytest.mark.parametrize("config", AFFINE)
def test_a_constant_sample_gives_the_bias(config):
    norm = random_affine(config())
    actual = norm(torch.full((1, 6, 3, 3), 5.0))
    torch.testing.assert_close(actual, norm.bias[None, :, None, None].expand(1, 6, 3, 3), atol=1e-4, rtol=0)


def test_modified_layer_norm_ignores_shift_and_scale_of_a_sample():
    norm = random_affine(ModifiedLayerNormConfig()).double()
    x = torch.randn(2, 6, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(norm(100 * x + 7), norm(x), atol=1e-4, rtol=1e-4)


def test_layer_norm_treats_tokens_apart():
    norm = random_affine(LayerNormConfig())
    x = torch.randn(1, 6, 2, 3)
    torch.testing.assert_close(norm(x)[..., 1:2, 2:3], norm(x[..., 1:2, 2:3]))


def test_batch_norm_takes_its_options():
    norm = BatchNormConfig(eps=0.25, momentum=0.5).build(4)
    assert isinstance(norm, nn.BatchNorm2d)
    assert (norm.num_features, norm.eps, norm.momentum) == (4, 0.25, 0.5)


def test_no_norm_changes_nothing():
    x = torch.randn(1, 4, 2, 2)
    assert NoNormConfig().build(4)(x) is x


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("grid", [(7, 7), (5, 9), (1, 4)], ids=str)
def test_every_norm_keeps_the_shape(name, grid):
    x = torch.randn(2, 4, *grid)
    assert NORMS[name]().build(4)(x).shape == x.shape
