"""No mixing at all."""

from dataclasses import dataclass

from torch import nn

from metaformer.block.site import Site


@dataclass(frozen=True, kw_only=True)
class IdentityConfig:
    """Tokens stay apart within the block: the lower bound of the paper's ablation.

    Source: arXiv:2111.11418, Table 5; IdentityFormer of arXiv:2210.13452.
    """

    def build(self, site: Site) -> nn.Identity:
        return nn.Identity()
