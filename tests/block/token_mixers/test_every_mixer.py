"""What every token mixer owes the block, whatever it computes."""

import copy
import pickle

import pytest
import torch
from torch import nn

from metaformer.block.site import Site
from metaformer.block.token_mixers import (
    TOKEN_MIXERS,
    AttentionConfig,
    IdentityConfig,
    PoolingConfig,
    SpatialMLPConfig,
    TokenMixerConfig,
    WindowAttentionConfig,
)

GRIDS = {"odd": (7, 7), "oblong": (5, 9), "thin": (1, 4), "line": (9,), "volume": (2, 3, 5)}


@pytest.fixture(params=GRIDS.values(), ids=GRIDS)
def site(request):
    """Awkward grids of 16 channels, of one, two and three axes."""
    return Site(dim=16, grid=request.param, stage=2, index=3)


@pytest.fixture
def mixer(mixer_config, site):
    return mixer_config.build(site)


@pytest.fixture
def x(site):
    return torch.randn(3, site.dim, *site.grid)


def test_its_config_keeps_the_contract(mixer_config):
    assert isinstance(mixer_config, TokenMixerConfig)
    assert hash(mixer_config) == hash(copy.deepcopy(mixer_config))
    with pytest.raises((AttributeError, TypeError)):
        mixer_config.new_field = 1


def test_a_misspelt_option_fails(mixer_config):
    with pytest.raises(TypeError, match="unexpected keyword argument 'no_such_option'"):
        type(mixer_config)(no_such_option=1)


def test_it_keeps_shape_and_dtype_and_stays_finite(mixer, x):
    out = mixer(x)
    assert (out.shape, out.dtype) == (x.shape, x.dtype)
    assert out.isfinite().all()


def test_a_row_of_the_batch_is_mixed_as_if_alone(mixer, x):
    torch.testing.assert_close(mixer(x)[1:2], mixer(x[1:2]))


def test_an_empty_batch_passes(mixer, x):
    assert mixer(x[:0]).shape == x[:0].shape


def test_channels_last_gives_the_same(mixer, x):
    torch.testing.assert_close(mixer(x.movedim(1, -1).contiguous().movedim(-1, 1)), mixer(x))


def test_a_view_with_strides_gives_the_same(mixer, x):
    torch.testing.assert_close(mixer(x.transpose(0, -1).contiguous().transpose(0, -1)), mixer(x))


def test_the_input_is_left_alone(mixer, x):
    before = x.clone()
    mixer(x)
    assert torch.equal(x, before)


def test_double_precision_agrees(mixer, x):
    expected = mixer(x)
    torch.testing.assert_close(mixer.double()(x.double()).float(), expected, atol=1e-5, rtol=1e-4)


def test_every_parameter_and_the_input_get_a_gradient(mixer, x):
    x.requires_grad_()
    torch.sum(mixer(x) * torch.randn_like(x)).backward()
    for name, tensor in [("the input", x), *mixer.named_parameters()]:
        assert tensor.grad is not None, name
        assert tensor.grad.isfinite().all(), name
        assert tensor.grad.abs().max() > 0, name


def test_training_and_evaluation_agree_at_the_defaults(mixer, x):
    assert torch.equal(mixer.train()(x), mixer.eval()(x))


def test_weights_move_to_another_mixer(mixer_config, site, mixer, x):
    other = mixer_config.build(site)
    other.load_state_dict(mixer.state_dict())
    assert torch.equal(other(x), mixer(x))


def test_it_can_be_copied_and_pickled(mixer, x):
    assert torch.equal(copy.deepcopy(mixer)(x), mixer(x))
    assert torch.equal(pickle.loads(pickle.dumps(mixer))(x), mixer(x))


def test_the_seed_decides_the_weights(mixer_config, site):
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(mixer_config.build(site).state_dict())
    torch.testing.assert_close(*states, atol=0, rtol=0)


@pytest.mark.usefixtures("no_shape_checks")
def test_torch_fx_traces_it(mixer, x):
    traced = torch.fx.symbolic_trace(nn.Sequential(mixer))
    assert torch.equal(traced(x), mixer(x))


def test_it_mixes_tokens_or_is_the_identity(mixer_config, mixer, x):
    changed = x.clone()
    changed.flatten(2)[..., 0] += 1
    elsewhere = (mixer(changed) - mixer(x)).flatten(2)[..., 1:]
    assert (elsewhere.abs().max() > 0) == (mixer_config != IdentityConfig())


def test_no_token_sees_another_sample(mixer, x):
    changed = x.clone()
    changed[0] += 1
    assert torch.equal(mixer(changed)[1:], mixer(x)[1:])


@pytest.mark.parametrize(
    "config",
    [PoolingConfig(), AttentionConfig(head_dim=8), WindowAttentionConfig(head_dim=8), SpatialMLPConfig(bias=True)],
    ids=lambda config: type(config).__name__,
)
def test_a_line_of_tokens_is_a_plane_one_token_high(config):
    line, plane = (config.build(Site(dim=16, grid=grid, stage=0, index=1)) for grid in ((9,), (1, 9)))
    line.load_state_dict(plane.state_dict())
    x = torch.randn(2, 16, 9)
    torch.testing.assert_close(line(x), plane(x.unsqueeze(2)).squeeze(2))


def test_only_mixers_with_resize_depend_on_the_grid(mixer_config):
    mixer = mixer_config.build(Site(dim=16, grid=(4, 4), stage=0, index=0))
    other_grid = torch.randn(1, 16, 5, 3)
    if hasattr(mixer, "resize"):
        with pytest.raises(ValueError, match="image_size"):
            mixer(other_grid)
    else:
        assert mixer(other_grid).shape == other_grid.shape


def test_the_table_has_the_papers_mixers():
    assert {"identity", "pooling", "random", "depthwise_conv", "attention", "spatial_mlp"} <= set(TOKEN_MIXERS)
