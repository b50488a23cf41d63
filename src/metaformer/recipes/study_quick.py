"""The paper's point in three minutes."""

from dataclasses import replace

from metaformer.block.residual import ResidualConfig
from metaformer.block.token_mixers import (
    AttentionConfig,
    DepthwiseConvConfig,
    IdentityConfig,
    PoolingConfig,
    RandomMixingConfig,
    SpatialMLPConfig,
)
from metaformer.models.config import DOWNSAMPLING, MetaFormerConfig, PatchEmbeddingConfig
from metaformer.study.config import StudyConfig, Variant
from metaformer.train.config import TrainConfig

POOL = PoolingConfig()
ATTENTION = AttentionConfig(head_dim=16)
SPATIAL_MLP = SpatialMLPConfig()

# PoolFormer, four stages and one block each. LayerScale starts at 1: from the paper's 1e-5 it needs hundreds of epochs
# to open, and this study has eighteen.
TINY_POOLFORMER = MetaFormerConfig(
    dims=(16, 32, 48, 64),
    depths=(1, 1, 1, 1),
    token_mixers=(POOL,) * 4,
    patch_embeddings=(PatchEmbeddingConfig(kernel_size=3, stride=1, padding=1), *(DOWNSAMPLING,) * 3),
    residuals=(ResidualConfig(layer_scale_init=1.0),),
    init_std=None,
    image_size=(16, 16),
)

TABLE_5 = "arXiv:2111.11418, Table 5"

VARIANTS = (
    Variant(
        name="pooling",
        title="Pooling 3x3",
        change="the base: PoolFormer",
        model=TINY_POOLFORMER,
        paper_top1=77.2,
        paper_note=TABLE_5,
    ),
    Variant(
        name="identity",
        title="Identity",
        change="no token mixing in the block",
        model=replace(TINY_POOLFORMER, token_mixers=(IdentityConfig(),) * 4),
        paper_top1=74.3,
        paper_note=TABLE_5,
    ),
    Variant(
        name="random",
        title="Random matrix",
        change="frozen random mixing matrices in all stages",
        model=replace(TINY_POOLFORMER, token_mixers=(RandomMixingConfig(),) * 4),
        paper_top1=75.8,
        paper_note=TABLE_5,
    ),
    Variant(
        name="depthwise_conv",
        title="Depthwise convolution",
        change="3x3 depthwise convolution in all stages",
        model=replace(TINY_POOLFORMER, token_mixers=(DepthwiseConvConfig(),) * 4),
        paper_top1=78.1,
        paper_note=TABLE_5,
    ),
    Variant(
        name="attention_late",
        title="Attention, stages 3-4",
        change="attention in stages 3 and 4, pooling below",
        model=replace(TINY_POOLFORMER, token_mixers=(POOL, POOL, ATTENTION, ATTENTION), position_embedding_stages=(2,)),
        paper_top1=81.0,
        paper_note=f"{TABLE_5}; there with layer norm",
    ),
    Variant(
        name="spatial_mlp_late",
        title="Spatial MLP, stages 3-4",
        change="spatial MLP in stages 3 and 4, pooling below",
        model=replace(TINY_POOLFORMER, token_mixers=(POOL, POOL, SPATIAL_MLP, SPATIAL_MLP)),
        paper_top1=77.9,
        paper_note=TABLE_5,
    ),
    Variant(
        name="no_channel_mlp",
        title="No channel MLP",
        change="channel MLPs left out",
        model=replace(TINY_POOLFORMER, channel_mlp=None),
        paper_top1=5.7,
        paper_note=TABLE_5,
        control=True,
    ),
    Variant(
        name="no_residual",
        title="No residual, LayerScale 1e-5",
        change="residual connections left out; LayerScale starts at 1e-5, as in the paper's S12",
        model=replace(TINY_POOLFORMER, residuals=(ResidualConfig(skip=False, layer_scale_init=1e-5),)),
        paper_top1=0.1,
        paper_note=f"{TABLE_5}; LayerScale not stated",
        control=True,
    ),
    Variant(
        name="no_residual_scale_1",
        title="No residual, LayerScale 1",
        change="residual connections left out; LayerScale starts at 1, as in the base",
        model=replace(TINY_POOLFORMER, residuals=(ResidualConfig(skip=False, layer_scale_init=1.0),)),
        paper_top1=0.1,
        paper_note=f"{TABLE_5}; LayerScale not stated",
        control=True,
    ),
)


def study_quick() -> StudyConfig:
    """Nothing changes but the token mixer, and as negative controls the channel MLP and the residual connection.

    Command: `metaformer study quick`. Hardware: 2 CPU cores, no GPU. Time: under three minutes. Result: README.md.
    """
    return StudyConfig(
        name="quick",
        title="The same architecture, with nothing changed but the token mixer",
        question="Does it matter which token mixer sits in the MetaFormer block?",
        base="pooling",
        variants=VARIANTS,
        data="cluttered-digits",
        train=TrainConfig(epochs=18, batch_size=32, lr=4e-3),
        seeds=(0, 1, 2),
    )
