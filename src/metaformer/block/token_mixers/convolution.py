"""Convolution over tokens and channels at once."""

from collections import OrderedDict
from dataclasses import dataclass

from torch import nn

from metaformer.block.activation import ACTIVATIONS
from metaformer.block.axes import CONVOLUTIONS
from metaformer.block.norm import NormConfig
from metaformer.block.site import Site, nearest_divisor
from metaformer.core.checked import check_number, check_window
from metaformer.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ConvolutionConfig:
    """A convolution whose channels see each other: all of them, or those of their group.

    What a residual network puts in the token mixer's place. With `groups` at the number of channels it is the depthwise
    convolution. Alone it is linear; a norm and an activation behind it make it the unit of such a network.

    Source: the 3x3 convolution, norm and activation of arXiv:1512.03385; groups as in arXiv:1611.05431. Neither
    MetaFormer paper has it.
    """

    kernel_size: int = 3  # side of the window, in tokens
    groups: int = 1  # parts of the channels that do not see each other
    bias: bool = True
    norm: NormConfig | None = None  # behind the convolution; None: no norm
    activation: str | None = None  # behind both, a name in ACTIVATIONS; None: none

    def __post_init__(self) -> None:
        # Looked up here, so that a misspelt name fails where it is written.
        if self.activation is not None:
            ACTIVATIONS[self.activation]
        check_window(self, "kernel_size")
        check_number(self, "groups", whole=True, least=1)

    def build(self, site: Site) -> nn.Module:
        if site.dim % self.groups:
            nearest = nearest_divisor(site.dim, self.groups)
            raise ConfigError(
                f"ConvolutionConfig.groups must divide the {site.dim} channels of stage {site.stage + 1}; "
                f"got {self.groups}. Try {nearest}."
            )
        padding = self.kernel_size // 2
        layer = CONVOLUTIONS[site.num_axes]
        conv = layer(site.dim, site.dim, self.kernel_size, padding=padding, groups=self.groups, bias=self.bias)
        parts: OrderedDict[str, nn.Module] = OrderedDict(conv=conv)
        if self.norm is not None:
            parts["norm"] = self.norm.build(site.dim)
        if self.activation is not None:
            parts["activation"] = ACTIVATIONS[self.activation]()
        return nn.Sequential(parts) if len(parts) > 1 else conv
