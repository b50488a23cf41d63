import re

import pytest
import torch

from metaformer.block.site import Site
from metaformer.block.token_mixers import AttentionConfig
from metaformer.core.errors import ConfigError

SITE = Site(dim=16, grid=(3, 5), stage=2, index=0)


@pytest.fixture
def x():
    return torch.randn(2, 16, 3, 5, dtype=torch.float64)


def sharp(**options):
    """Large weights, so that attention is far from uniform."""
    mixer = AttentionConfig(head_dim=8, **options).build(SITE).double()
    torch.nn.init.normal_(mixer.qkv.weight)
    return mixer


@pytest.mark.parametrize("qkv_bias", [False, True], ids=["no bias", "bias"])
def test_it_is_softmax_of_scaled_products_head_by_head(x, qkv_bias):
    mixer = sharp(qkv_bias=qkv_bias)
    tokens = x.flatten(2).mT
    query, key, value = mixer.qkv(tokens).split(16, dim=-1)
    heads = []
    for channels in torch.arange(16).split(8):
        scores = query[..., channels] @ key[..., channels].mT / 8**0.5
        heads.append(scores.softmax(dim=-1) @ value[..., channels])
    expected = mixer.proj(torch.cat(heads, dim=-1)).mT.reshape(x.shape)
    torch.testing.assert_close(mixer(x), expected)


def test_permuted_tokens_give_permuted_tokens(x):
    mixer, order = sharp(), torch.randperm(15)
    permuted = x.flatten(2)[..., order].reshape(x.shape)
    torch.testing.assert_close(mixer(permuted).flatten(2), mixer(x).flatten(2)[..., order])


def test_without_a_position_embedding_the_shape_of_the_grid_does_not_matter(x):
    mixer = sharp()
    torch.testing.assert_close(mixer(x.reshape(2, 16, 5, 3)).flatten(2), mixer(x).flatten(2))


def test_equal_tokens_stay_equal():
    out = sharp()(torch.randn(1, 16, 1, 1, dtype=torch.float64).expand(1, 16, 3, 5))
    torch.testing.assert_close(out, out[..., :1, :1].expand_as(out))


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["qkv.weight", "proj.weight", "proj.bias"]),
        ({"qkv_bias": True, "proj_bias": False}, ["qkv.weight", "qkv.bias", "proj.weight"]),
    ],
    ids=["defaults", "other biases"],
)
def test_biases_are_options(options, names):
    assert list(AttentionConfig(head_dim=8, **options).build(SITE).state_dict()) == names


@pytest.mark.parametrize("name", ["attention_dropout", "proj_dropout"])
def test_dropout_acts_in_training_only(x, name):
    mixer = sharp(**{name: 0.5})
    assert not torch.equal(mixer(x), mixer(x))
    mixer.eval()
    assert torch.equal(mixer(x), mixer(x))


@pytest.mark.parametrize(("head_dim", "nearest"), [(32, 16), (5, 4), (3, 2)])
def test_a_head_that_does_not_divide_the_channels_is_refused(head_dim, nearest):
    message = (
        f"AttentionConfig.head_dim must divide the channels of its stage; got head_dim={head_dim} "
        f"for 16 channels in stage 3. Try head_dim={nearest}."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        AttentionConfig(head_dim=head_dim).build(SITE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head_dim": 0}, "AttentionConfig.head_dim must be at least 1; got 0. The paper uses 32."),
        ({"attention_dropout": 1.0}, "AttentionConfig.attention_dropout must be in [0, 1); got 1.0."),
        ({"proj_dropout": -0.5}, "AttentionConfig.proj_dropout must be in [0, 1); got -0.5."),
    ],
    ids=["head_dim", "attention_dropout", "proj_dropout"],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        AttentionConfig(**options)
