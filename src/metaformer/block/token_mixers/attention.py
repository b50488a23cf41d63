"""Multi-head self-attention.

Letters: B batch, N tokens, H heads, D channels of a head, T = 3 for query, key and value.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from metaformer.block.site import Site, nearest_divisor
from metaformer.core.checked import check_number, check_share
from metaformer.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class AttentionConfig:
    """Self-attention over all tokens of the grid, without a position embedding of its own."""

    head_dim: int = 32  # channels of one head
    qkv_bias: bool = False
    proj_bias: bool = True
    attention_dropout: float = 0.0  # on the attention weights
    proj_dropout: float = 0.0  # on the output

    def __post_init__(self) -> None:
        check_number(self, "head_dim", whole=True, least=1, hint="The paper uses 32.")
        for name in ("attention_dropout", "proj_dropout"):
            check_share(self, name)

    def build(self, site: Site) -> "Attention":
        return Attention(site, self)


class Attention(nn.Module):
    """softmax(Q K^T / sqrt(D)) V, heads joined and projected.

    Source: arXiv:1706.03762, Eq. 1; options as in the authors' hybrids (arXiv:2111.11418, Sec. 4.3).
    """

    def __init__(self, site: Site, config: AttentionConfig) -> None:
        super().__init__()
        if site.dim % config.head_dim:
            nearest = nearest_divisor(site.dim, config.head_dim)
            raise ConfigError(
                f"AttentionConfig.head_dim must divide the channels of its stage; got head_dim={config.head_dim} "
                f"for {site.dim} channels in stage {site.stage + 1}. Try head_dim={nearest}."
            )
        self.head_dim = config.head_dim
        self.attention_dropout = config.attention_dropout
        self.qkv = nn.Linear(site.dim, 3 * site.dim, bias=config.qkv_bias)
        self.proj = nn.Linear(site.dim, site.dim, bias=config.proj_bias)
        self.proj_dropout = nn.Dropout(config.proj_dropout)

    def forward(self, x: Float[Tensor, "b c *grid"]) -> Float[Tensor, "b c *grid"]:
        tokens_BNC = x.flatten(2).transpose(1, 2)
        qkv_TBHND = self.qkv(tokens_BNC).unflatten(2, (3, -1, self.head_dim)).permute(2, 0, 3, 1, 4)
        query_BHND, key_BHND, value_BHND = qkv_TBHND.unbind(0)
        mixed_BHND = F.scaled_dot_product_attention(
            query_BHND, key_BHND, value_BHND, dropout_p=self.attention_dropout if self.training else 0.0
        )
        mixed_BNC = mixed_BHND.transpose(1, 2).flatten(2)
        return self.proj_dropout(self.proj(mixed_BNC)).transpose(1, 2).unflatten(2, x.shape[2:])

    def extra_repr(self) -> str:
        return f"head_dim={self.head_dim}"
