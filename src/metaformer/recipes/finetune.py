"""Any model of the zoo on any folder of images."""

from metaformer.data.augment.augmentation import AugmentationConfig
from metaformer.models.zoo import ZOO
from metaformer.recipes.poolformer_imagenet import photographs
from metaformer.train.config import Run, TrainConfig


def finetune(model: str = "poolformer_s12") -> Run:
    """Any weights on your images: smaller learning rates for earlier layers, gentle augmentation, the best epoch kept.

    Command: `metaformer train finetune --data FOLDER --model poolformer_s12 --weights FILE`; only the head:
    `--train.trainable head --train.lr 1e-2`. Hardware: any; a GPU for more than a few thousand images. Time: an epoch
    of 1,000 images with poolformer_s12 at 224 takes about four minutes on 2 CPU cores, seconds on a GPU. Result: a
    folder that `evaluate`, `predict` and `create_model(..., weights=FOLDER)` take.

    Args:
        model: A name of the zoo.

    Raises:
        ConfigError: There is no such model.
    """
    config = ZOO[model]
    return Run(
        name=model,
        model=config,
        data="",
        preparation=photographs(config, AugmentationConfig(scale=(0.35, 1.0), color_jitter=0.2)),
        train=TrainConfig(
            epochs=20,
            batch_size=64,
            optimizer="adamw",
            lr=5e-4,
            min_lr=1e-6,
            layer_decay=0.75,
            label_smoothing=0.1,
            clip_grad_norm=1.0,
            early_stopping_epochs=8,
            final_weights="best",
        ),
        seed=0,
    )
