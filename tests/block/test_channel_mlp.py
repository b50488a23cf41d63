import re

import pytest
import torch
import torch.nn.functional as F

from metaformer.block.activation import ACTIVATIONS
from metaformer.block.channel_mlp import ChannelMLPConfig
from metaformer.core.errors import ConfigError


def test_it_is_two_linear_layers_for_each_token():
    mlp = ChannelMLPConfig().build(4).double()
    x = torch.randn(2, 4, 3, 5, dtype=torch.float64)
    tokens = x.movedim(1, -1)
    hidden = F.gelu(tokens @ mlp.fc1.weight[:, :, 0, 0].T + mlp.fc1.bias)
    expected = hidden @ mlp.fc2.weight[:, :, 0, 0].T + mlp.fc2.bias
    torch.testing.assert_close(mlp(x), expected.movedim(-1, 1))


@pytest.mark.parametrize(("ratio", "hidden"), [(4.0, 32), (2.5, 20), (0.01, 1)])
def test_the_ratio_sets_the_hidden_channels(ratio, hidden):
    assert ChannelMLPConfig(ratio=ratio).build(8).fc1.out_channels == hidden


def test_without_bias_there_are_two_parameters():
    mlp = ChannelMLPConfig(bias=False).build(4)
    assert [name for name, _ in mlp.named_parameters()] == ["fc1.weight", "fc2.weight"]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_activation_is_the_one_named(name):
    assert type(ChannelMLPConfig(activation=name).build(4).activation) is ACTIVATIONS[name]


def test_dropout_acts_in_training_only():
    mlp, x = ChannelMLPConfig(dropout=0.9).build(8), torch.randn(2, 8, 4, 4)
    assert not torch.equal(mlp(x), mlp(x))
    assert torch.equal(mlp.eval()(x), mlp(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio": 0.0}, "ChannelMLPConfig.ratio must be above 0; got 0.0. The paper uses 4."),
        ({"ratio": -4.0}, "ChannelMLPConfig.ratio must be above 0; got -4.0. The paper uses 4."),
        ({"dropout": 1.0}, "ChannelMLPConfig.dropout must be in [0, 1); got 1.0."),
        ({"dropout": -0.1}, "ChannelMLPConfig.dropout must be in [0, 1); got -0.1."),
        (
            {"activation": "gelo"},
            "unknown activation 'gelo'. Did you mean 'gelu'? Known: gelu, relu, silu, squared_relu, star_relu.",
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        ChannelMLPConfig(**options)
