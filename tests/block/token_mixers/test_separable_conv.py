import re

import pytest
import torch
import torch.nn.functional as F

from metaformer.block.site import Site
from metaformer.block.token_mixers import SeparableConvConfig
from metaformer.core.errors import ConfigError

SITE = Site(dim=4, grid=(5, 9), stage=0, index=0)


@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
def test_it_widens_activates_convolves_and_narrows(bias):
    mixer = SeparableConvConfig(kernel_size=3, expansion=3.0, activation="gelu", bias=bias).build(SITE).double()
    x = torch.randn(2, 4, 5, 9, dtype=torch.float64)

    def pointwise(conv, tokens):
        out = torch.einsum("oc,bchw->bohw", conv.weight[:, :, 0, 0], tokens)
        return out + conv.bias[:, None, None] if bias else out

    hidden = F.gelu(pointwise(mixer.pwconv1, x))
    assert hidden.shape[1] == 12
    dense = torch.zeros(12, 12, 3, 3, dtype=torch.float64)
    dense[range(12), range(12)] = mixer.dwconv.weight[:, 0]
    hidden = F.conv2d(hidden, dense, mixer.dwconv.bias, padding=1)
    torch.testing.assert_close(mixer(x), pointwise(mixer.pwconv2, hidden))


def test_the_defaults_are_those_of_convformer():
    shapes = {name: tuple(tensor.shape) for name, tensor in SeparableConvConfig().build(SITE).named_parameters()}
    assert shapes == {
        "pwconv1.weight": (8, 4, 1, 1),
        "activation.scale": (1,),
        "activation.bias": (1,),
        "dwconv.weight": (8, 1, 7, 7),
        "pwconv2.weight": (4, 8, 1, 1),
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"kernel_size": 4},
            "SeparableConvConfig.kernel_size must be odd and positive, so that the output keeps the grid; "
            "got 4. Try 5.",
        ),
        ({"expansion": 0.0}, "SeparableConvConfig.expansion must be above 0; got 0.0. The paper uses 2."),
        (
            {"activation": "gelo"},
            "unknown activation 'gelo'. Did you mean 'gelu'? Known: gelu, relu, silu, squared_relu, star_relu.",
        ),
    ],
    ids=["kernel_size", "expansion", "activation"],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        SeparableConvConfig(**options)
