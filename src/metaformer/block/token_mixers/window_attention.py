"""Self-attention within windows."""

from dataclasses import dataclass
from math import prod

import torch
import torch.fx
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from metaformer.block.site import Site, nearest_divisor
from metaformer.core.checked import check_number
from metaformer.core.errors import ConfigError
from metaformer.ops.windows import cut_windows, join_windows, masked_bias, relative_places

# Leaves for torch.fx: what they do depends on the shape.
torch.fx.wrap("cut_windows")
torch.fx.wrap("join_windows")
torch.fx.wrap("masked_bias")


@dataclass(frozen=True, kw_only=True)
class WindowAttentionConfig:
    """Attention within windows, moved by half a window in every second block: the token mixer of Swin."""

    window_size: int = 7  # tokens along each axis; a grid that is smaller is one window
    head_dim: int = 32  # channels of one head
    qkv_bias: bool = True

    def __post_init__(self) -> None:
        check_number(self, "window_size", whole=True, least=1, most=10_000, hint="The paper uses 7.")
        check_number(self, "head_dim", whole=True, least=1, hint="The paper uses 32.")

    def build(self, site: Site) -> "WindowAttention":
        return WindowAttention(site, self)


class WindowAttention(nn.Module):
    """softmax(Q K^T / sqrt(D) + B) V within each window, B learned for each distance between two tokens.

    Takes any grid: zeros fill up the last windows.

    Source: arXiv:2103.14030, Eq. 4 and Sec. 3.2.
    """

    places: Tensor

    def __init__(self, site: Site, config: WindowAttentionConfig) -> None:
        super().__init__()
        if site.dim % config.head_dim:
            nearest = nearest_divisor(site.dim, config.head_dim)
            raise ConfigError(
                f"WindowAttentionConfig.head_dim must divide the channels of its stage; got head_dim={config.head_dim} "
                f"for {site.dim} channels in stage {site.stage + 1}. Try head_dim={nearest}."
            )
        self.head_dim = config.head_dim
        self.window = tuple(min(side, config.window_size) for side in site.grid)
        self.shift = tuple(side // 2 if site.index % 2 else 0 for side in self.window)
        distances = prod(2 * side - 1 for side in self.window)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(distances, site.dim // config.head_dim))
        # Not saved: it follows from the window.
        self.register_buffer("places", relative_places(self.window), persistent=False)
        self.qkv = nn.Linear(site.dim, 3 * site.dim, bias=config.qkv_bias)
        self.proj = nn.Linear(site.dim, site.dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the bias anew."""
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, x: Float[Tensor, "b c *grid"]) -> Float[Tensor, "b c *grid"]:
        windows_BWNC = cut_windows(x, self.window, self.shift)
        qkv_TBWHND = self.qkv(windows_BWNC).unflatten(3, (3, -1, self.head_dim)).permute(3, 0, 1, 4, 2, 5)
        query, key, value = qkv_TBWHND.unbind(0)
        bias_HNN = self.relative_position_bias_table[self.places].permute(2, 0, 1)
        bias = masked_bias(bias_HNN, x.shape[2:], self.window, self.shift)
        mixed_BWHND = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        mixed_BWNC = self.proj(mixed_BWHND.transpose(2, 3).flatten(3))
        return join_windows(mixed_BWNC, x.shape[2:], self.window, self.shift)

    def extra_repr(self) -> str:
        return f"window={self.window}, shift={self.shift}, head_dim={self.head_dim}"
