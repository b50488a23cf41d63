"""Models with one stage, as rows: Transformers and MLP-like models, MetaFormers with the mixer of their name.

Sources: DeiT, arXiv:2012.12877, Table 1; ViT, arXiv:2010.11929, Table 1, in the sizes of timm; ResMLP,
arXiv:2105.03404, Table 1; MLP-Mixer, arXiv:2105.01601, Table 1. Epsilons, crops and colours as timm has them.
"""

from dataclasses import replace

from metaformer.block.norm import AffineConfig, LayerNormConfig
from metaformer.block.residual import ResidualConfig
from metaformer.block.token_mixers import AttentionConfig, SpatialMLPConfig, TwoLayerSpatialMLPConfig
from metaformer.core.preprocessing import Preprocessing
from metaformer.models.config import MetaFormerConfig, PatchEmbeddingConfig

PATCH_16, PATCH_8 = (PatchEmbeddingConfig(kernel_size=side, stride=side, padding=0) for side in (16, 8))
# Pixels from -1 to 1.
HALF = (0.5, 0.5, 0.5)

DEIT_SMALL = MetaFormerConfig(
    dims=(384,),
    depths=(12,),
    token_mixers=(AttentionConfig(head_dim=64, qkv_bias=True),),
    patch_embeddings=(PATCH_16,),
    norm=LayerNormConfig(eps=1e-6),
    residuals=(ResidualConfig(),),
    position_embedding_stages=(0,),
    class_token=True,
)
VIT_SMALL = replace(DEIT_SMALL, preprocessing=Preprocessing(mean=HALF, std=HALF))
RESMLP_12 = replace(
    DEIT_SMALL,
    token_mixers=(SpatialMLPConfig(bias=True),),
    norm=AffineConfig(),
    residuals=(ResidualConfig(layer_scale_init=1e-4),),
    position_embedding_stages=(),
    class_token=False,
    preprocessing=Preprocessing(crop_fraction=0.875),
)
MIXER_S16 = replace(
    DEIT_SMALL,
    dims=(512,),
    depths=(8,),
    token_mixers=(TwoLayerSpatialMLPConfig(),),
    position_embedding_stages=(),
    class_token=False,
    preprocessing=Preprocessing(crop_fraction=0.875, mean=HALF, std=HALF),
)

ISOTROPIC: dict[str, MetaFormerConfig] = {
    "deit_tiny_patch16_224": replace(DEIT_SMALL, dims=(192,)),
    "deit_small_patch16_224": DEIT_SMALL,
    "deit_base_patch16_224": replace(DEIT_SMALL, dims=(768,)),
    "vit_small_patch16_224": VIT_SMALL,
    "vit_base_patch16_224": replace(VIT_SMALL, dims=(768,)),
    "resmlp_12_224": RESMLP_12,
    "resmlp_24_224": replace(RESMLP_12, depths=(24,), residuals=(ResidualConfig(layer_scale_init=1e-5),)),
    "resmlp_big_24_224": replace(
        RESMLP_12,
        dims=(768,),
        depths=(24,),
        patch_embeddings=(PATCH_8,),
        residuals=(ResidualConfig(layer_scale_init=1e-6),),
    ),
    "mixer_s16_224": MIXER_S16,
    "mixer_b16_224": replace(MIXER_S16, dims=(768,), depths=(12,)),
}
