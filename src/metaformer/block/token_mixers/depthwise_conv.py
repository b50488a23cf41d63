"""Depthwise convolution."""

from dataclasses import dataclass

from torch import nn

from metaformer.block.axes import CONVOLUTIONS
from metaformer.block.site import Site
from metaformer.core.checked import check_window


@dataclass(frozen=True, kw_only=True)
class DepthwiseConvConfig:
    """A convolution of each channel by itself: a learned pooling window.

    Source: arXiv:2111.11418, Table 5 ("depthwise convolution"). The paper does not state the kernel; 3x3 with bias
    fits its parameter count, and is the authors' own drop-in (sail-sg/poolformer, issue 18).
    """

    kernel_size: int = 3  # side of the window, in tokens
    bias: bool = True

    def __post_init__(self) -> None:
        check_window(self, "kernel_size")

    def build(self, site: Site) -> nn.Module:
        return CONVOLUTIONS[site.num_axes](
            site.dim, site.dim, self.kernel_size, padding=self.kernel_size // 2, groups=site.dim, bias=self.bias
        )
