"""The block, as the paper's Figure 1 draws it."""

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor, nn

from metaformer.block.channel_mlp import ChannelMLPConfig
from metaformer.block.norm import ModifiedLayerNormConfig, NormConfig
from metaformer.block.residual import LeftOut, ResidualConfig
from metaformer.block.site import Site
from metaformer.block.token_mixers import TokenMixerConfig
from metaformer.block.token_mixers.pooling import PoolingConfig


@dataclass(frozen=True, kw_only=True)
class BlockConfig:
    """The parts of a block."""

    token_mixer: TokenMixerConfig = field(default_factory=PoolingConfig)
    norm: NormConfig = field(default_factory=ModifiedLayerNormConfig)
    channel_mlp: ChannelMLPConfig | None = field(default_factory=ChannelMLPConfig)  # None: left out
    residual: ResidualConfig = field(default_factory=ResidualConfig)

    def build(self, site: Site, drop_path: float = 0.0) -> "MetaFormerBlock":
        return MetaFormerBlock(self, site, drop_path)


class MetaFormerBlock(nn.Module):
    """Norm, token mixer, residual; norm, channel MLP, residual.

    Source: arXiv:2111.11418, Sec. 3.1 and Figure 1.
    """

    def __init__(self, config: BlockConfig, site: Site, drop_path: float = 0.0) -> None:
        super().__init__()
        self.norm1 = config.norm.build(site.dim)
        self.token_mixer = config.token_mixer.build(site)
        self.residual1 = config.residual.build(site.dim, drop_path)
        # Without a channel MLP the second sub-block has no parameters and returns its input.
        self.norm2: nn.Module = nn.Identity()
        self.channel_mlp: nn.Module = nn.Identity()
        self.residual2: nn.Module = LeftOut()
        if config.channel_mlp is not None:
            self.norm2 = config.norm.build(site.dim)
            self.channel_mlp = config.channel_mlp.build(site.dim, site.num_axes)
            self.residual2 = config.residual.build(site.dim, drop_path)

    def forward(self, x: Float[Tensor, "b c *grid"]) -> Float[Tensor, "b c *grid"]:
        x = self.residual1(x, self.token_mixer(self.norm1(x)))
        x = self.residual2(x, self.channel_mlp(self.norm2(x)))
        return x
