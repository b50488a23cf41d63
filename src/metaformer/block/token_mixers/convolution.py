"""Convolution over tokens and channels at once."""

from dataclasses import dataclass

from torch import nn

from metaformer.block.site import Site, nearest_divisor
from metaformer.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ConvolutionConfig:
    """A convolution whose channels see each other: all of them, or those of their group.

    What a residual network puts in the token mixer's place. With `groups` at the number of channels it is the depthwise
    convolution.

    Source: the 3x3 convolution of arXiv:1512.03385; groups as in arXiv:1611.05431. Neither MetaFormer paper has it.
    """

    kernel_size: int = 3  # side of the window, in tokens
    groups: int = 1  # parts of the channels that do not see each other
    bias: bool = True

    def __post_init__(self) -> None:
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise ConfigError(
                f"ConvolutionConfig.kernel_size must be odd and positive, so that the output keeps the grid; "
                f"got {self.kernel_size}. Try {max(1, self.kernel_size + 1 - self.kernel_size % 2)}."
            )
        if self.groups < 1:
            raise ConfigError(f"ConvolutionConfig.groups must be at least 1; got {self.groups}.")

    def build(self, site: Site) -> nn.Conv2d:
        if site.dim % self.groups:
            nearest = nearest_divisor(site.dim, self.groups)
            raise ConfigError(
                f"ConvolutionConfig.groups must divide the {site.dim} channels of stage {site.stage + 1}; "
                f"got {self.groups}. Try {nearest}."
            )
        padding = self.kernel_size // 2
        return nn.Conv2d(site.dim, site.dim, self.kernel_size, padding=padding, groups=self.groups, bias=self.bias)
