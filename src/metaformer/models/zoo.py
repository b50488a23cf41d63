"""The published models, one row each: a name and the config behind it.

Sources: P1 = arXiv:2111.11418, Tables 1 and 5; P2 = arXiv:2210.13452, Table 1; LayerScale, crops, norms and their
epsilons from the authors' code.
"""

from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatchcase

from metaformer.block.channel_mlp import ChannelMLPConfig
from metaformer.block.norm import LayerNormConfig, ModifiedLayerNormConfig
from metaformer.block.residual import ResidualConfig
from metaformer.block.token_mixers import (
    AttentionConfig,
    IdentityConfig,
    PoolingConfig,
    RandomMixingConfig,
    SeparableConvConfig,
    SpatialMLPConfig,
    TokenMixerConfig,
)
from metaformer.core.preprocessing import Preprocessing
from metaformer.core.registry import Registry
from metaformer.models.config import DOWNSAMPLING, STEM, HeadConfig, MetaFormerConfig
from metaformer.models.isotropic import ISOTROPIC
from metaformer.models.swin import SWIN_MODELS

SMALL_DIMS, MEDIUM_DIMS = (64, 128, 320, 512), (96, 192, 384, 768)
DEPTHS_12, DEPTHS_24, DEPTHS_36, DEPTHS_48 = (2, 2, 6, 2), (4, 4, 12, 4), (6, 6, 18, 6), (8, 8, 24, 8)

IDENTITY, POOL, RANDOM, SPATIAL_MLP = IdentityConfig(), PoolingConfig(), RandomMixingConfig(), SpatialMLPConfig()
ATTENTION, BIAS_FREE_ATTENTION = AttentionConfig(), AttentionConfig(proj_bias=False)
SEPARABLE = SeparableConvConfig()
SCALE_1E_5, SCALE_1E_6 = ResidualConfig(layer_scale_init=1e-5), ResidualConfig(layer_scale_init=1e-6)
CROP_95, CROP_100 = Preprocessing(crop_fraction=0.95), Preprocessing(crop_fraction=1.0)

POOLFORMER_S12 = MetaFormerConfig(dims=SMALL_DIMS, depths=DEPTHS_12, token_mixers=(POOL,) * 4, residuals=(SCALE_1E_5,))
POOLFORMER_S24 = replace(POOLFORMER_S12, depths=DEPTHS_24)
POOLFORMER_S36 = replace(POOLFORMER_S12, depths=DEPTHS_36, residuals=(SCALE_1E_6,))
POOLFORMER_M36 = replace(POOLFORMER_S36, dims=MEDIUM_DIMS, preprocessing=CROP_95)
POOLFORMER_M48 = replace(POOLFORMER_M36, depths=DEPTHS_48)

# The hybrids with attention use layer norm and one position embedding, before the first attention stage.
HYBRID_S12 = replace(POOLFORMER_S12, norm=LayerNormConfig(), preprocessing=CROP_95)
PPPA_S12 = replace(HYBRID_S12, token_mixers=(POOL, POOL, POOL, ATTENTION), position_embedding_stages=(3,))
PPAA_S12 = replace(HYBRID_S12, token_mixers=(POOL, POOL, ATTENTION, ATTENTION), position_embedding_stages=(2,))
PPPF_S12 = replace(POOLFORMER_S12, token_mixers=(POOL, POOL, POOL, SPATIAL_MLP))
PPFF_S12 = replace(POOLFORMER_S12, token_mixers=(POOL, POOL, SPATIAL_MLP, SPATIAL_MLP), preprocessing=CROP_95)

# P2: no biases in blocks, StarReLU, ResScale in the last two stages, normed patch embeddings, norm after the mean.
P2_NORM = LayerNormConfig(eps=1e-6, bias=False)
P2_DOWNSAMPLING = replace(DOWNSAMPLING, pre_norm=P2_NORM)
P2_HEAD = HeadConfig(norm=LayerNormConfig(eps=1e-6), norm_after_pooling=True)
PLAIN, RES_SCALE = ResidualConfig(), ResidualConfig(res_scale_init=1.0)
POOLFORMERV2_S12 = replace(
    POOLFORMER_S12,
    patch_embeddings=(replace(STEM, post_norm=P2_NORM), *(P2_DOWNSAMPLING,) * 3),
    norm=ModifiedLayerNormConfig(eps=1e-6, bias=False),
    channel_mlp=ChannelMLPConfig(activation="star_relu", bias=False),
    residuals=(PLAIN, PLAIN, RES_SCALE, RES_SCALE),
    head=P2_HEAD,
    init_convolutions=True,
    preprocessing=CROP_100,
)
CONVFORMER_S18 = replace(
    POOLFORMERV2_S12,
    depths=(3, 3, 9, 3),
    token_mixers=(SEPARABLE,) * 4,
    norm=P2_NORM,
    head=replace(P2_HEAD, hidden_ratio=4.0),
)

# P2's basic families: a mixer in the sizes of PoolFormer. Random mixing starts at stage 3.
BASIC_FAMILIES: dict[str, tuple[TokenMixerConfig, ...]] = {
    "identityformer": (IDENTITY,) * 4,
    "randformer": (IDENTITY, IDENTITY, RANDOM, RANDOM),
    "poolformerv2": (POOL,) * 4,
}
BASIC_SIZES = {
    "s12": (SMALL_DIMS, DEPTHS_12),
    "s24": (SMALL_DIMS, DEPTHS_24),
    "s36": (SMALL_DIMS, DEPTHS_36),
    "m36": (MEDIUM_DIMS, DEPTHS_36),
    "m48": (MEDIUM_DIMS, DEPTHS_48),
}
# P2's strong families. M36 ends in 576 channels here, in 768 above.
STRONG_FAMILIES: dict[str, tuple[TokenMixerConfig, ...]] = {
    "convformer": (SEPARABLE,) * 4,
    "caformer": (SEPARABLE, SEPARABLE, BIAS_FREE_ATTENTION, BIAS_FREE_ATTENTION),
}
STRONG_SIZES = {
    "s18": (SMALL_DIMS, (3, 3, 9, 3)),
    "s36": (SMALL_DIMS, (3, 12, 18, 3)),
    "m36": ((96, 192, 384, 576), (3, 12, 18, 3)),
    "b36": ((128, 256, 512, 768), (3, 12, 18, 3)),
}


def _p2_rows() -> Iterator[tuple[str, MetaFormerConfig]]:
    for family, mixers in BASIC_FAMILIES.items():
        for size, (dims, depths) in BASIC_SIZES.items():
            yield f"{family}_{size}", replace(POOLFORMERV2_S12, dims=dims, depths=depths, token_mixers=mixers)
    for family, mixers in STRONG_FAMILIES.items():
        for size, (dims, depths) in STRONG_SIZES.items():
            config = replace(CONVFORMER_S18, dims=dims, depths=depths, token_mixers=mixers)
            yield f"{family}_{size}", config
            yield f"{family}_{size}_384", replace(config, image_size=(384, 384))


ZOO: Registry[MetaFormerConfig] = Registry(
    "model",
    {
        "poolformer_s12": POOLFORMER_S12,
        "poolformer_s24": POOLFORMER_S24,
        "poolformer_s36": POOLFORMER_S36,
        "poolformer_m36": POOLFORMER_M36,
        "poolformer_m48": POOLFORMER_M48,
        "metaformer_id_s12": replace(POOLFORMER_S12, token_mixers=(IDENTITY,) * 4),
        "metaformer_pppa_s12_224": PPPA_S12,
        "metaformer_ppaa_s12_224": PPAA_S12,
        "metaformer_pppf_s12_224": PPPF_S12,
        "metaformer_ppff_s12_224": PPFF_S12,
        **dict(_p2_rows()),
        **ISOTROPIC,
        **SWIN_MODELS,
    },
)


def list_models(pattern: str = "*") -> list[str]:
    """Names in the zoo that match a shell pattern; a pattern without a wildcard matches anywhere in the name."""
    wanted = pattern if any(mark in pattern for mark in "*?[") else f"*{pattern}*"
    return [name for name in ZOO if fnmatchcase(name, wanted)]
