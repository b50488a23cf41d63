"""Separable convolution, inverted: wide in the middle."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from metaformer.block.activation import ACTIVATIONS
from metaformer.block.axes import CONVOLUTIONS
from metaformer.block.site import Site
from metaformer.core.checked import check_number, check_window


@dataclass(frozen=True, kw_only=True)
class SeparableConvConfig:
    """The token mixer of ConvFormer, and of CAFormer's first two stages."""

    kernel_size: int = 7  # side of the depthwise window, in tokens
    expansion: float = 2.0  # channels of the depthwise convolution per channel
    activation: str = "star_relu"  # a name in ACTIVATIONS
    bias: bool = False

    def __post_init__(self) -> None:
        # Looked up here, so that a misspelt name fails where it is written.
        ACTIVATIONS[self.activation]
        check_window(self, "kernel_size")
        check_number(self, "expansion", above=0, most=10_000, hint="The paper uses 2.")

    def build(self, site: Site) -> "SeparableConv":
        return SeparableConv(site, self)


class SeparableConv(nn.Module):
    """Pointwise convolution, activation, depthwise convolution, pointwise convolution.

    Source: arXiv:2210.13452, Sec. 3.3, after the inverted separable convolution of arXiv:1801.04381.
    """

    def __init__(self, site: Site, config: SeparableConvConfig) -> None:
        super().__init__()
        dim, hidden, kernel = site.dim, max(1, int(site.dim * config.expansion)), config.kernel_size
        conv = CONVOLUTIONS[site.num_axes]
        self.pwconv1 = conv(dim, hidden, 1, bias=config.bias)
        self.activation = ACTIVATIONS[config.activation]()
        self.dwconv = conv(hidden, hidden, kernel, padding=kernel // 2, groups=hidden, bias=config.bias)
        self.pwconv2 = conv(hidden, dim, 1, bias=config.bias)

    def forward(self, x: Float[Tensor, "b c *grid"]) -> Float[Tensor, "b c *grid"]:
        return self.pwconv2(self.dwconv(self.activation(self.pwconv1(x))))
