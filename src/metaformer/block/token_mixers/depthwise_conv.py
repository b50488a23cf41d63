"""Depthwise convolution."""

from dataclasses import dataclass

from torch import nn

from metaformer.block.site import Site
from metaformer.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class DepthwiseConvConfig:
    """A convolution of each channel by itself: a learned pooling window.

    Source: arXiv:2111.11418, Table 5 ("depthwise convolution"). The paper does not state the kernel; 3x3 with bias
    fits its parameter count, and is the authors' own drop-in (sail-sg/poolformer, issue 18).
    """

    kernel_size: int = 3  # side of the window, in tokens
    bias: bool = True

    def __post_init__(self) -> None:
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise ConfigError(
                f"DepthwiseConvConfig.kernel_size must be odd and positive, so that the output keeps the grid; "
                f"got {self.kernel_size}. Try {max(1, self.kernel_size + 1 - self.kernel_size % 2)}."
            )

    def build(self, site: Site) -> nn.Conv2d:
        return nn.Conv2d(
            site.dim, site.dim, self.kernel_size, padding=self.kernel_size // 2, groups=site.dim, bias=self.bias
        )
