"""Swin Transformers, as rows: MetaFormers whose token mixer is attention within windows.

Source: arXiv:2103.14030, Sec. 3.3; norms and epsilons from the authors' code.
"""

from dataclasses import replace

from metaformer.block.norm import LayerNormConfig
from metaformer.block.residual import ResidualConfig
from metaformer.block.token_mixers import WindowAttentionConfig
from metaformer.models.config import MetaFormerConfig, PatchEmbeddingConfig

NORM = LayerNormConfig()
PATCHES = PatchEmbeddingConfig(kernel_size=4, stride=4, padding=0, post_norm=NORM)
MERGING = PatchEmbeddingConfig(kernel_size=1, stride=1, padding=0, bias=False, merge=2, pre_norm=NORM)

SWIN_TINY = MetaFormerConfig(
    dims=(96, 192, 384, 768),
    depths=(2, 2, 6, 2),
    token_mixers=(WindowAttentionConfig(),) * 4,
    patch_embeddings=(PATCHES, *(MERGING,) * 3),
    norm=NORM,
    residuals=(ResidualConfig(),),
)
SWIN_SMALL = replace(SWIN_TINY, depths=(2, 2, 18, 2))

SWIN_MODELS: dict[str, MetaFormerConfig] = {
    "swin_tiny_patch4_window7_224": SWIN_TINY,
    "swin_small_patch4_window7_224": SWIN_SMALL,
    "swin_base_patch4_window7_224": replace(SWIN_SMALL, dims=(128, 256, 512, 1024)),
}
