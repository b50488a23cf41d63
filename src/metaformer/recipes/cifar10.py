"""CIFAR-10 on one laptop: mixers compared in an hour, the best we know in an hour, a few minutes."""

from dataclasses import replace

from metaformer.block.channel_mlp import ChannelMLPConfig
from metaformer.block.norm import BatchNormConfig
from metaformer.block.residual import ResidualConfig
from metaformer.block.token_mixers import ConvolutionConfig, PoolingConfig
from metaformer.data.augmentation import AugmentationConfig
from metaformer.data.preparation import Preparation
from metaformer.models.config import DOWNSAMPLING, MetaFormerConfig, PatchEmbeddingConfig
from metaformer.models.zoo import ZOO
from metaformer.train.config import TrainConfig
from metaformer.train.run import Run

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
# The unit of a residual network where the token mixer stands: convolution, norm, activation.
CONVOLUTION_UNIT = ConvolutionConfig(bias=False, norm=BatchNormConfig(), activation="gelu")
AUGMENTATION = AugmentationConfig(crop="shift", shift_px=2, flip=0.5, color_jitter=0.0)


def cifar10_small(model: str = "") -> Run:
    """CIFAR-10 in an hour: three stages of two blocks on 32x32 pixels, any token mixer.

    Command: `metaformer train cifar10-small --data cifar10:DIR --token-mixers pooling`. Hardware: two CPU cores.
    Time: 52 minutes. Result, seed 0, on two cores of a Zen 2: dense 3x3 convolutions 87.9% on the test split (93
    million multiply-adds, 2.6 million parameters). Pooling, measured with the earlier augmentation (colour jitter 0.4,
    shifts of 4 pixels) and 14 epochs: 86.2% (36 million multiply-adds, 1.1 million parameters), 72 minutes on one core.

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
    """CIFAR-10 in an hour, the best token mixer we know for it: 3x3 convolution, batch norm and GELU.

    Command: `metaformer train cifar10-convolution --data cifar10:DIR`. Hardware: two CPU cores. Time: 62 minutes by the
    speed of its first epochs, which had other work beside them. Result: judged by short runs so far (10,000 images, 4
    epochs, validation split): 66.1%, where the convolution alone has 61.4%; in the whole recipe the convolution alone
    has 87.9% on the test split.

    Body and training are those of `cifar10_small`; only the mixer differs.

    Args:
        model: As for `cifar10_small`.
    """
    hour = cifar10_small(model)
    body = hour.model if model else replace(SMALL_METAFORMER, token_mixers=(CONVOLUTION_UNIT,) * 3)
    return replace(hour, name="cifar10_convolution", model=body)


def cifar10_five_minutes(model: str = "") -> Run:
    """CIFAR-10 in minutes: the same with two epochs, on a third of the images.

    Command: `metaformer train cifar10-five-minutes --data cifar10:DIR`. Hardware: two CPU cores. Time: 1.5
    minutes on two quiet cores of a Zen 2, five beside other work. Result: pooling 51.7% on the test split (seed 0).

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
