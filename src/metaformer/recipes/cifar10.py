"""CIFAR-10 on one laptop: mixers compared in an hour, the best we know in an hour, a few minutes."""

from dataclasses import replace

from metaformer.block.channel_mlp import ChannelMLPConfig
from metaformer.block.norm import BatchNormConfig
from metaformer.block.residual import ResidualConfig
from metaformer.block.token_mixers import ConvolutionConfig, PoolingConfig
from metaformer.data.augment.augmentation import AugmentationConfig
from metaformer.data.preparation import Preparation
from metaformer.models.config import DOWNSAMPLING, MetaFormerConfig, PatchEmbeddingConfig
from metaformer.models.zoo import ZOO
from metaformer.train.config import Run, TrainConfig

SMALL_METAFORMER = MetaFormerConfig(
    dims=(64, 128, 256),
    depths=(2, 2, 2),
    token_mixers=(PoolingConfig(),) * 3,
    patch_embeddings=(PatchEmbeddingConfig(kernel_size=5, stride=2, padding=2), DOWNSAMPLING, DOWNSAMPLING),
    norm=BatchNormConfig(),
    channel_mlp=ChannelMLPConfig(ratio=2.0),
    residuals=(ResidualConfig(layer_scale_init=1.0),),
    init_std=None,
    num_classes=10,
    image_size=(32, 32),
)
# The unit of a residual network, convolution, norm and activation: as token mixer, and where a stage opens, there with
# the maximum of 2x2 tokens behind a convolution at the resolution before.
CONVOLUTION_UNIT = ConvolutionConfig(bias=False, norm=BatchNormConfig(), activation="gelu")
UNIT_EMBEDDING = PatchEmbeddingConfig(
    kernel_size=3, stride=1, padding=1, max_pool=2, post_norm=BatchNormConfig(), activation="gelu"
)
CONVOLUTION_METAFORMER = replace(
    SMALL_METAFORMER,
    dims=(64, 192, 192),
    depths=(1, 1, 1),
    token_mixers=(CONVOLUTION_UNIT,) * 3,
    patch_embeddings=(replace(UNIT_EMBEDDING, kernel_size=5, padding=2), UNIT_EMBEDDING, UNIT_EMBEDDING),
    channel_mlp=ChannelMLPConfig(ratio=1.0),
)
AUGMENTATION = AugmentationConfig(crop="shift", shift_px=2, flip=0.5, alternating_flip=True, color_jitter=0.0)


def cifar10_small(model: str = "") -> Run:
    """CIFAR-10 in an hour: three stages of two blocks on 32x32 pixels, any token mixer.

    Command: `metaformer train cifar10-small --data cifar10:DIR --token-mixers pooling`. Hardware: two CPU cores.
    Time: 52 minutes. Result, seed 0, on two cores of a Zen 2, measured with flips by chance: dense 3x3 convolutions
    87.9% on the test split (93 million multiply-adds, 2.6 million parameters). Pooling, measured with the augmentation
    before that (colour jitter 0.4, shifts of 4 pixels) and 14 epochs: 86.2% (36 million multiply-adds, 1.1 million
    parameters), 72 minutes on one core.

    Nothing in it belongs to one mixer: body, rate, epochs and augmentation are the same for all.

    Args:
        model: Nothing, or a name of the zoo, whose stride of 32 leaves one token of 32x32 pixels.
    """
    return Run(
        name="cifar10_small",
        model=ZOO[model] if model else SMALL_METAFORMER,
        data="",
        preparation=Preparation(image_size=(32, 32), augmentation=AUGMENTATION),
        train=TrainConfig(
            epochs=13,
            batch_size=256,
            optimizer="muon",
            lr=1e-2,
            min_lr=0.0,
            warmup_epochs=0.5,
            momentum=0.95,
            weight_decay=0.05,
            label_smoothing=0.1,
        ),
        seed=0,
    )


def cifar10_convolution(model: str = "") -> Run:
    """CIFAR-10 in an hour, the best MetaFormer we know for it: 3x3 convolution, batch norm and GELU mix the tokens.

    Command: `metaformer train cifar10-convolution --data cifar10:DIR`. Hardware: two CPU cores. Time: 63
    minutes beside other work, 57 by `--dry-run` alone. Result, seed 0, on two cores of a Zen 2: 89.7% on the test
    split, 90.4% with `metaformer evaluate --mirror` (98 million multiply-adds, 1.3 million parameters).

    Training is that of `cifar10_small` with more epochs, wider shifts and a whitened patch embedding. The body is its
    own: one block a stage, and stages that open with the same unit at full resolution and keep the maximum of 2x2
    tokens. It trains on all but 100 of the training images: ask for another `--preparation.validation-fraction` to
    choose something by the rest.

    Args:
        model: As for `cifar10_small`.
    """
    hour = cifar10_small(model)
    body = hour.model if model else CONVOLUTION_METAFORMER
    # With body and recipe chosen, what was held out to choose them by is trained on, too.
    preparation = replace(
        hour.preparation,
        augmentation=replace(AUGMENTATION, shift_px=4),
        validation_fraction=0.002,
    )
    training = replace(hour.train, epochs=16, whitening=True)
    return replace(hour, name="cifar10_convolution", model=body, preparation=preparation, train=training)


def cifar10_five_minutes(model: str = "") -> Run:
    """CIFAR-10 in minutes: the same with two epochs, on a third of the images.

    Command: `metaformer train cifar10-five-minutes --data cifar10:DIR`. Hardware: two CPU cores. Time: 1.5
    minutes on two quiet cores of a Zen 2, five beside other work. Result: pooling 56.9% on the test split (seed 0).

    Args:
        model: As for `cifar10_small`.
    """
    hour = cifar10_small(model)
    return replace(
        hour,
        name="cifar10_five_minutes",
        preparation=replace(hour.preparation, max_train_images=15_000),
        train=replace(hour.train, epochs=2, warmup_epochs=0.2),
    )
