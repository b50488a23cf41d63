"""Settings of data that cannot work, each named with what is allowed."""

import pytest

from metaformer.core.errors import ConfigError
from metaformer.data.augment.augmentation import AugmentationConfig
from metaformer.data.preparation import Preparation


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop": "resize"}, r"unknown augmentation\.crop 'resize'\. Did you mean 'resized'\?"),
        ({"erasing_fill": "rand"}, r"unknown augmentation\.erasing_fill 'rand'\. Did you mean 'random'\?"),
        ({"interpolation": "bicubc"}, r"unknown augmentation\.interpolation 'bicubc'\. Did you mean 'bicubic'\?"),
        ({"flip": 1.5}, r"augmentation\.flip must be in \[0, 1\]; got 1\.5\."),
        ({"erasing": -0.1}, r"augmentation\.erasing must be in \[0, 1\]"),
        ({"shift_px": -1}, r"augmentation\.shift_px must be at least 0; got -1\."),
        ({"cutout_px": -1}, r"augmentation\.cutout_px must be at least 0"),
        ({"color_jitter": float("nan")}, r"augmentation\.color_jitter must be a finite number; got nan\."),
        ({"scale": (0.5, 0.1)}, r"augmentation\.scale must be two numbers above 0, the smaller first; got 0\.5, 0\.1"),
        ({"auto_augment": "rand-mX"}, r"augmentation\.auto_augment must be in timm's words; got 'rand-mX'\."),
        ({"auto_augment": "rand-m9-mstdinf"}, r"augmentation\.auto_augment must be in timm's words"),
        ({"ratio": (0.0, 1.0)}, r"augmentation\.ratio\[0\] must be above 0"),
    ],
    ids=str,
)
def test_augmentation(settings, message):
    with pytest.raises(ConfigError, match=message):
        AugmentationConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": (0, 8)}, r"preparation\.image_size\[0\] must be at least 1, or None; got 0"),
        ({"validation_fraction": 0.0}, r"preparation\.validation_fraction must be above 0; got 0\.0\."),
        ({"max_train_images": 0}, r"preparation\.max_train_images must be at least 1, or None; got 0\."),
        ({"num_train_images": 0}, r"preparation\.num_train_images must be at least 1"),
        ({"num_classes": 0}, r"preparation\.num_classes must be at least 1"),
        ({"mean": (0.5,)}, r"preparation\.mean and preparation\.std go together"),
        ({"mean": (0.5,), "std": (0.0,)}, r"preparation\.std\[0\] must be above 0"),
    ],
    ids=str,
)
def test_preparation(settings, message):
    with pytest.raises(ConfigError, match=message):
        Preparation(**settings)
