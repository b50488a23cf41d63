import numpy as np
import pytest
import torch
from PIL import Image

from metaformer.core.errors import ConfigError
from metaformer.core.preprocessing import ModelInput, Preprocessing
from metaformer.data.decode import image_transform
from metaformer.data.decode.image_transform import ImageTransform

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def transform(side=(32, 32), **options):
    in_chans = options.pop("in_chans", 3)
    settings = Preprocessing(**{"crop_fraction": 1.0, "mean": MEAN, "std": STD} | options)
    return ImageTransform(ModelInput(image_size=side, in_chans=in_chans, preprocessing=settings))


def photograph(width, height):
    small = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "nearest"])
@pytest.mark.parametrize(
    "size", [(64, 48), (37, 91), (20, 20), (1, 1), (100, 30), (1000, 231), (231, 1000), (333, 7), (33, 32)], ids=str
)
@pytest.mark.parametrize(
    ("side", "crop_fraction"), [((32, 32), 0.9), ((32, 32), 1.0), ((24, 40), 1.0), ((45, 31), 0.875)], ids=str
)
def test_the_input_equals_that_of_timm(size, side, crop_fraction, interpolation):
    from timm.data import create_transform

    image = photograph(*size)
    theirs = create_transform(
        (3, *side), is_training=False, interpolation=interpolation, mean=MEAN, std=STD, crop_pct=crop_fraction
    )(image)
    ours = transform(side, crop_fraction=crop_fraction, interpolation=interpolation)
    torch.testing.assert_close(ours.normalise(ours.pixels(image)[None])[0], theirs)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "nearest"])
@pytest.mark.parametrize("size", [(1000, 31), (7, 500)], ids=str)
def test_what_is_kept_of_a_strip_is_what_would_be_kept_of_the_whole(size, interpolation, monkeypatch):
    # Pillow keeps a box in single precision: a level or two may differ.
    whole = transform(crop_fraction=0.9, interpolation=interpolation).pixels(photograph(*size)).int()
    monkeypatch.setattr(image_transform, "RESIZED_PX", 0)
    part = transform(crop_fraction=0.9, interpolation=interpolation).pixels(photograph(*size)).int()
    assert (whole - part).abs().max() <= 2


def test_a_picture_of_the_models_size_is_its_pixels():
    image = photograph(32, 32)
    pixels = transform().pixels(image)
    assert torch.equal(pixels, torch.from_numpy(np.array(image)).permute(2, 0, 1))


@pytest.mark.parametrize("size", [(20_000, 1), (1, 20_000), (5_000, 7)], ids=str)
def test_a_strip_costs_no_more_than_what_is_kept_of_it(size):
    # The middle is red, the rest is blue: the middle must be what is seen.
    image = Image.new("RGB", size, "blue")
    along = max(size)
    half = 40 * min(size)
    box = (along // 2 - half, 0, along // 2 + half, size[1]) if size[0] > size[1] else None
    image.paste("red", box or (0, along // 2 - half, size[0], along // 2 + half))
    pixels = transform((64, 64), crop_fraction=0.9).pixels(image)
    assert pixels.shape == (3, 64, 64)
    assert (pixels[0] == 255).all()
    assert (pixels[2] == 0).all()


def test_grey_models_see_grey_and_average_statistics_of_colour():
    grey = transform(in_chans=1)
    pixels = grey.pixels(photograph(40, 40))
    assert pixels.shape == (1, 32, 32)
    expected = (pixels.float() / 255 - sum(MEAN) / 3) / (sum(STD) / 3)
    torch.testing.assert_close(grey.normalise(pixels[None])[0], expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in_chans": 4}, "RGB .3 channels. or grey .1 channel.; this model takes 4 channels"),
        ({"crop_fraction": 0.0}, r"crop_fraction must be in \[0\.1, 1\]; got 0"),
        ({"interpolation": "bicubik"}, "unknown interpolation 'bicubik'. Did you mean 'bicubic'"),
    ],
    ids=["channels", "crop", "interpolation"],
)
def test_what_cannot_work_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        transform(**options)
