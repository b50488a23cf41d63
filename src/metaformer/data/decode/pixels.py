"""Many images decoded into one tensor."""

from collections.abc import Iterable

import torch
from jaxtyping import Float64, UInt8
from PIL import Image
from torch import Tensor

from metaformer.core.errors import ConfigError, DataError
from metaformer.data.decode.image_batches import read_batches
from metaformer.data.decode.image_transform import ImageTransform
from metaformer.data.image_set import Sample
from metaformer.data.source import Unreadable

IMAGES_AT_ONCE = 512
FIRST_IMAGES, MAX_UNREADABLE = 100, 0.1  # of the first so many images, at most this share may be unreadable


def decode(
    samples: Iterable[Sample], transform: ImageTransform, *, num_images: int, where: str, same_size: bool = False
) -> tuple[UInt8[Tensor, "k c h w"], list[int], list[Unreadable]]:
    """Reads images with all cores.

    Args:
        samples: The images, taken one by one.
        transform: To their pixels.
        num_images: How many samples there are.
        where: They come from, for messages.
        same_size: Whether an image of another size than the transform's is a mistake.

    Returns:
        The pixels of the readable ones, their places among the samples, and the names and reasons of the others.

    Raises:
        ConfigError: An image has another size, and should not.
        DataError: More than a tenth of the first hundred cannot be read, or none at all.
    """
    pixels = torch.empty(num_images, transform.in_chans, *transform.image_size, dtype=torch.uint8)
    places: list[int] = []
    unreadable: list[Unreadable] = []
    num_tried = 0

    def check(sample: Sample, image: Image.Image) -> None:
        if same_size and (image.height, image.width) != transform.image_size:
            raise another_size(sample.name, (image.height, image.width), transform.image_size)

    for batch in read_batches(samples, transform, batch_size=IMAGES_AT_ONCE, check=check):
        pixels[len(places) : len(places) + len(batch.pixels)] = batch.pixels
        for sample, reason in zip(batch.samples, batch.errors, strict=True):
            if reason is None:
                places.append(num_tried)
            num_tried += 1
            if reason is not None:
                unreadable.append((sample.name, reason))
                check_readable(unreadable, num_tried, where=where)
    if not places:
        name, reason = unreadable[0]
        raise DataError(f"none of the {num_images} images of {where} can be read; the first: {name}: {reason}.")
    return pixels[: len(places)], places, unreadable


def check_readable(unreadable: list[Unreadable], num_read: int, *, where: str) -> None:
    """Stops where too many of the first images cannot be read: then it is not the images that are wrong.

    Args:
        unreadable: So far.
        num_read: How many images were tried so far.
        where: They come from.

    Raises:
        DataError: More than a tenth of the first hundred.
    """
    if num_read <= FIRST_IMAGES and len(unreadable) > MAX_UNREADABLE * FIRST_IMAGES:
        name, reason = unreadable[0]
        raise DataError(
            f"{len(unreadable)} of the first {num_read} images of {where} cannot be read; the first: {name}: {reason}."
        )


def pixel_statistics(pixels: UInt8[Tensor, "n c h w"]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, of pixels in [0, 1]."""
    levels = torch.arange(256, dtype=torch.float64) / 255
    mean, std = [], []
    for channel in pixels.unbind(1):
        counts: Float64[Tensor, " 256"] = torch.zeros(256, dtype=torch.float64)
        # In parts: counting needs eight bytes a pixel.
        for part in channel.split(1024):
            counts += torch.bincount(part.flatten(), minlength=256)
        share = counts / counts.sum()
        mean.append(float((share * levels).sum()))
        variance = float((share * (levels - mean[-1]) ** 2).sum())
        # Images of one colour have no spread to divide by.
        std.append(variance**0.5 or 1.0)
    return tuple(mean), tuple(std)


def another_size(name: str, size: tuple[int, int], expected: tuple[int, int]) -> ConfigError:
    """The error for images that differ in size where nobody said which they should have; sizes are height and width."""
    return ConfigError(
        f"the images differ in size: the first has {expected[1]}x{expected[0]} pixels, {name} has {size[1]}x{size[0]}. "
        "Say one size for all, as --preparation.image-size 224 224."
    )
