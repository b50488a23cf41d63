"""How large the paper's comparisons are made: models, data and budget of three scales."""

from dataclasses import dataclass, replace

from metaformer.block.residual import ResidualConfig
from metaformer.block.token_mixers import PoolingConfig
from metaformer.core.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from metaformer.data.augment.augmentation import AugmentationConfig
from metaformer.data.preparation import Preparation
from metaformer.models.config import (
    DOWNSAMPLING,
    MetaFormerConfig,
    PatchEmbeddingConfig,
)
from metaformer.models.timm_model import TimmModelConfig
from metaformer.models.zoo import POOLFORMER_S12
from metaformer.train.config import TrainConfig
from metaformer.train.mixing import MixingConfig

# PoolFormer, four stages and one block each. LayerScale starts at 1: from the paper's 1e-5 it needs hundreds of epochs
# to open, and a small study has a few.
TINY_POOLFORMER = MetaFormerConfig(
    dims=(16, 32, 48, 64),
    depths=(1, 1, 1, 1),
    token_mixers=(PoolingConfig(),) * 4,
    patch_embeddings=(PatchEmbeddingConfig(kernel_size=3, stride=1, padding=1), *(DOWNSAMPLING,) * 3),
    residuals=(ResidualConfig(layer_scale_init=1.0),),
    init_std=None,
    image_size=(16, 16),
)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """A size of the study: the base, its data and what it may cost. The budget of one run is epochs x images."""

    base: MetaFormerConfig
    head_dim: int  # of attention
    data: str  # "": the caller names it
    preparation: Preparation
    train: TrainConfig
    hybrid_train: TrainConfig | None = None  # recipe of the rows with attention; None: that of all
    comparators: tuple[TimmModelConfig, TimmModelConfig, TimmModelConfig]  # ResNet, ResMLP, ViT, before scaling


DIGITS = Scale(
    base=TINY_POOLFORMER,
    head_dim=16,
    data="cluttered-digits",
    preparation=Preparation(),
    # 18 epochs of 997 images: ten seconds a run on one core.
    train=TrainConfig(epochs=18, batch_size=32, lr=4e-3),
    comparators=(
        TimmModelConfig(
            name="resnet",
            options={"layers": [1, 1, 1, 1], "channels": [16, 32, 64, 128], "stem_width": 16, "stem_pool": False}
            | {"stem_stride": 1},
            width_options=("channels", "stem_width"),
        ),
        TimmModelConfig(
            name="resmlp",
            options={"patch_size": 2, "embed_dim": 32, "num_blocks": 4},
            width_options=("embed_dim",),
            image_size_option="img_size",
        ),
        TimmModelConfig(
            name="vit",
            options={"patch_size": 2, "embed_dim": 32, "depth": 4, "num_heads": 2},
            width_options=("embed_dim",),
            image_size_option="img_size",
        ),
    ),
)
CIFAR10 = Scale(
    base=replace(
        TINY_POOLFORMER,
        dims=(24, 48, 96, 144),
        patch_embeddings=(PatchEmbeddingConfig(kernel_size=3, stride=2, padding=1), *(DOWNSAMPLING,) * 3),
        image_size=(32, 32),
    ),
    head_dim=24,
    data="",
    # 4 epochs of 10,000 images: a minute a run on one core.
    preparation=Preparation(augmentation=AugmentationConfig(crop="shift", color_jitter=0.0), max_train_images=10_000),
    train=TrainConfig(epochs=4, batch_size=64, lr=4e-3, warmup_epochs=0.5),
    comparators=(
        TimmModelConfig(
            name="resnet",
            options={"layers": [1, 1, 1, 1], "channels": [16, 32, 64, 128], "stem_width": 16, "stem_pool": False},
            width_options=("channels", "stem_width"),
        ),
        TimmModelConfig(
            name="resmlp",
            options={"patch_size": 4, "embed_dim": 64, "num_blocks": 4},
            width_options=("embed_dim",),
            image_size_option="img_size",
        ),
        TimmModelConfig(
            name="vit",
            options={"patch_size": 4, "embed_dim": 64, "depth": 4, "num_heads": 2},
            width_options=("embed_dim",),
            image_size_option="img_size",
        ),
    ),
)
PAPER_TRAIN = TrainConfig(
    epochs=300,
    batch_size=4096,
    lr=1e-3,
    lr_batch_size=1024,
    min_lr=1e-5,
    warmup_epochs=5.0,
    weight_decay=0.05,
    label_smoothing=0.1,
    mixing=MixingConfig(mixup=0.8, cutmix=1.0, switch=0.5),
)
IMAGENET = Scale(
    base=replace(POOLFORMER_S12, drop_path=0.1),
    head_dim=32,
    data="",
    preparation=Preparation(
        image_size=(224, 224),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        crop_fraction=0.9,
        augmentation=AugmentationConfig(auto_augment="rand-m9-mstd0.5-inc1", erasing=0.25),
    ),
    train=PAPER_TRAIN,
    hybrid_train=replace(PAPER_TRAIN, batch_size=1024),
    comparators=(
        TimmModelConfig(
            name="resnet",
            options={"layers": [2, 2, 2, 2], "channels": [64, 128, 256, 512], "stem_width": 64},
            width_options=("channels", "stem_width"),
        ),
        TimmModelConfig(
            name="resmlp",
            options={"patch_size": 16, "embed_dim": 384, "num_blocks": 12},
            width_options=("embed_dim",),
            image_size_option="img_size",
        ),
        TimmModelConfig(
            name="vit",
            options={"patch_size": 16, "embed_dim": 384, "depth": 12, "num_heads": 6},
            width_options=("embed_dim",),
            width_multiple=12,
            image_size_option="img_size",
        ),
    ),
)
SCALES = {"digits": DIGITS, "cifar10": CIFAR10, "imagenet": IMAGENET}
