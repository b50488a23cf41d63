from dataclasses import replace

import pytest
import torch

from metaformer.block.channel_mlp import ChannelMLPConfig
from metaformer.block.metaformer_block import BlockConfig
from metaformer.block.residual import ResidualConfig
from metaformer.block.site import Site

SITE = Site(dim=16, grid=(5, 9), stage=0, index=0)


@pytest.fixture
def x():
    return torch.randn(2, 16, 5, 9)


@pytest.fixture
def config(mixer_config):
    return BlockConfig(token_mixer=mixer_config, residual=ResidualConfig(layer_scale_init=0.5))


def test_a_block_is_its_two_equations(config, x):
    block = config.build(SITE)
    y = x + 0.5 * block.token_mixer(block.norm1(x))
    z = y + 0.5 * block.channel_mlp(block.norm2(y))
    torch.testing.assert_close(block(x), z)


def test_with_layer_scale_zero_a_block_is_the_identity(config, x):
    block = replace(config, residual=ResidualConfig(layer_scale_init=0.0)).build(SITE)
    assert torch.equal(block(x), x)


def test_the_block_changes_its_input(config, x):
    assert (config.build(SITE)(x) - x).abs().max() > 1e-3


def test_the_parts_have_the_papers_names(config):
    names = ["norm1", "token_mixer", "residual1", "norm2", "channel_mlp", "residual2"]
    assert [name for name, _ in config.build(SITE).named_children()] == names


def test_the_defaults_are_poolformers():
    block = BlockConfig().build(SITE)
    assert [type(part).__name__ for part in block.children()] == [
        "ModifiedLayerNorm",
        "Pooling",
        "Residual",
        "ModifiedLayerNorm",
        "ChannelMLP",
        "Residual",
    ]


def test_without_a_channel_mlp_the_second_sub_block_has_no_parameters(config, x):
    block = replace(config, channel_mlp=None).build(SITE)
    assert [name for name in block.state_dict() if name.startswith(("norm2", "channel_mlp", "residual2"))] == []
    torch.testing.assert_close(block(x), x + 0.5 * block.token_mixer(block.norm1(x)))


def test_without_a_channel_mlp_and_skips_the_output_is_the_branch(x):
    block = BlockConfig(channel_mlp=None, residual=ResidualConfig(skip=False)).build(SITE)
    torch.testing.assert_close(block(x), block.token_mixer(block.norm1(x)))


def test_both_residuals_get_the_rate_of_stochastic_depth():
    block = BlockConfig(channel_mlp=ChannelMLPConfig()).build(SITE, drop_path=0.25)
    assert (block.residual1.drop_path, block.residual2.drop_path) == (0.25, 0.25)


def test_stochastic_depth_in_a_block_drops_whole_branches():
    block = BlockConfig(channel_mlp=None).build(SITE, drop_path=0.5)
    x = torch.randn(64, 16, 5, 9)
    changed = (block(x) != x).flatten(1).any(dim=1)
    assert 16 < changed.sum() < 48
    assert (block.eval()(x) != x).flatten(1).any(dim=1).all()
