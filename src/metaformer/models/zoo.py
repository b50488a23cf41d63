"""The published models, one row each: a name and the config behind it.

Sources: arXiv:2111.11418, Tables 1 and 5; the authors' code for LayerScale, crops and the hybrids' norm.
"""

from dataclasses import replace
from fnmatch import fnmatchcase

from metaformer.block.norm import LayerNormConfig
from metaformer.block.residual import ResidualConfig
from metaformer.block.token_mixers import AttentionConfig, IdentityConfig, PoolingConfig, SpatialMLPConfig
from metaformer.core.registry import Registry
from metaformer.models.config import MetaFormerConfig, Preprocessing

SMALL_DIMS, MEDIUM_DIMS = (64, 128, 320, 512), (96, 192, 384, 768)
DEPTHS_12, DEPTHS_24, DEPTHS_36, DEPTHS_48 = (2, 2, 6, 2), (4, 4, 12, 4), (6, 6, 18, 6), (8, 8, 24, 8)

POOL, ATTENTION, SPATIAL_MLP = PoolingConfig(), AttentionConfig(), SpatialMLPConfig()
SCALE_1E_5, SCALE_1E_6 = ResidualConfig(layer_scale_init=1e-5), ResidualConfig(layer_scale_init=1e-6)
CROP_95 = Preprocessing(crop_fraction=0.95)

POOLFORMER_S12 = MetaFormerConfig(dims=SMALL_DIMS, depths=DEPTHS_12, token_mixers=(POOL,) * 4, residual=SCALE_1E_5)
POOLFORMER_S24 = replace(POOLFORMER_S12, depths=DEPTHS_24)
POOLFORMER_S36 = replace(POOLFORMER_S12, depths=DEPTHS_36, residual=SCALE_1E_6)
POOLFORMER_M36 = replace(POOLFORMER_S36, dims=MEDIUM_DIMS, preprocessing=CROP_95)
POOLFORMER_M48 = replace(POOLFORMER_M36, depths=DEPTHS_48)

# The hybrids with attention use layer norm and one position embedding, before the first attention stage.
HYBRID_S12 = replace(POOLFORMER_S12, norm=LayerNormConfig(), preprocessing=CROP_95)
PPPA_S12 = replace(HYBRID_S12, token_mixers=(POOL, POOL, POOL, ATTENTION), position_embedding_stages=(3,))
PPAA_S12 = replace(HYBRID_S12, token_mixers=(POOL, POOL, ATTENTION, ATTENTION), position_embedding_stages=(2,))
PPPF_S12 = replace(POOLFORMER_S12, token_mixers=(POOL, POOL, POOL, SPATIAL_MLP))
PPFF_S12 = replace(POOLFORMER_S12, token_mixers=(POOL, POOL, SPATIAL_MLP, SPATIAL_MLP), preprocessing=CROP_95)

ZOO: Registry[MetaFormerConfig] = Registry(
    "model",
    {
        "poolformer_s12": POOLFORMER_S12,
        "poolformer_s24": POOLFORMER_S24,
        "poolformer_s36": POOLFORMER_S36,
        "poolformer_m36": POOLFORMER_M36,
        "poolformer_m48": POOLFORMER_M48,
        "metaformer_id_s12": replace(POOLFORMER_S12, token_mixers=(IdentityConfig(),) * 4),
        "metaformer_pppa_s12_224": PPPA_S12,
        "metaformer_ppaa_s12_224": PPAA_S12,
        "metaformer_pppf_s12_224": PPPF_S12,
        "metaformer_ppff_s12_224": PPFF_S12,
    },
)


def list_models(pattern: str = "*") -> list[str]:
    """Names in the zoo that match a shell pattern; a pattern without a wildcard matches anywhere in the name."""
    wanted = pattern if any(mark in pattern for mark in "*?[") else f"*{pattern}*"
    return [name for name in ZOO if fnmatchcase(name, wanted)]
