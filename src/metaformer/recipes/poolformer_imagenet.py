"""The first paper's recipe on ImageNet-1K."""

from dataclasses import replace

from metaformer.core.errors import unknown
from metaformer.data.augment.augmentation import AugmentationConfig
from metaformer.data.preparation import Preparation
from metaformer.models.config import MetaFormerConfig
from metaformer.models.zoo import ZOO
from metaformer.train.config import Run, TrainConfig
from metaformer.train.mixing import MixingConfig

# Rate of stochastic depth in the last block, by size.
DROP_PATH = {"s12": 0.1, "s24": 0.1, "s36": 0.2, "m36": 0.3, "m48": 0.4}
MODELS = tuple([f"poolformer_{size}" for size in DROP_PATH] + [name for name in ZOO if name.startswith("metaformer_")])

AUGMENTATION = AugmentationConfig(auto_augment="rand-m9-mstd0.5-inc1", erasing=0.25)
MIXING = MixingConfig(mixup=0.8, cutmix=1.0, switch=0.5)
IMAGENET_RECIPE = TrainConfig(
    epochs=310,
    cooldown_epochs=10.0,
    batch_size=4096,
    optimizer="adamw",
    lr=1e-3,
    lr_batch_size=1024,
    min_lr=1e-5,
    warmup_lr=1e-6,
    warmup_epochs=5.0,
    weight_decay=0.05,
    label_smoothing=0.1,
    mixing=MIXING,
    precision="bf16-mixed",
)


def photographs(model: MetaFormerConfig, augmentation: AugmentationConfig) -> Preparation:
    """Colour images at the model's own size, with its mean, standard deviation and crop."""
    return Preparation.of(model.model_input, augmentation)


def poolformer_imagenet(model: str = "poolformer_s12") -> Run:
    """The first paper on ImageNet: AdamW, batch 4096 (the learning rate follows others), 310 epochs.

    Command: `torchrun --nproc-per-node 8 -m metaformer train poolformer-imagenet --data imagenet --model
    poolformer_s12 --train.batch-size 1024`. Hardware: 8 GPUs of 24 GB; with fewer, `--execution.micro-batch-size`
    takes the same steps in parts. Time: timm's tables give 1,234 images/s in training S12 on an RTX 3090, so 310 epochs
    take about 11 days on one such GPU, 1.5 on eight; M48, six times that. Result by the paper: S12 77.2, S24 80.3,
    S36 81.4, M36 82.1, M48 82.5% top-1; the ablations of Table 5 for the hybrids. Not run here.

    Args:
        model: poolformer_s12, s24, s36, m36, m48, or a metaformer_* ablation of S12.

    Raises:
        ConfigError: The recipe is for other models.

    Source: arXiv:2111.11418, Sec. 4.1 and Table 6; the RandAugment string, warm-up and last learning rate, and the
    10 epochs of cooldown after the 300 from the authors' code. Its attention hybrids were trained with batch 1024.
    """
    if model not in MODELS:
        raise unknown("model of the recipe poolformer-imagenet", model, MODELS)
    rate = DROP_PATH[model.rpartition("_")[2]] if model.startswith("poolformer_") else DROP_PATH["s12"]
    config = replace(ZOO[model], drop_path=rate)
    has_attention = bool(config.position_embedding_stages)
    return Run(
        name=model,
        model=config,
        data="",
        preparation=photographs(config, AUGMENTATION),
        train=replace(IMAGENET_RECIPE, batch_size=1024) if has_attention else IMAGENET_RECIPE,
        seed=0,
    )
