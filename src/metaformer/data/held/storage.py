"""Whether a data set is kept in memory, and at which size."""

from collections.abc import Iterable
from dataclasses import dataclass

from metaformer.core.errors import ConfigError, DataError
from metaformer.data.decode.image_file import ImageError, read_image, read_size
from metaformer.data.decode.pixels import another_size
from metaformer.data.image_set import Sample
from metaformer.data.image_splits import ImagePart, ImageSplits
from metaformer.data.preparation import Preparation

MEMORY_BYTES = 2 << 30  # what a data set may fill, one byte a pixel and channel
SMALL_PX = 64  # images up to this side are kept in memory whatever size their files have


@dataclass(frozen=True, kw_only=True)
class Storage:
    """Where the pixels of a data set are."""

    in_memory: bool
    image_size: tuple[int, int]
    is_given: bool  # whether somebody asked for this size; otherwise all images must have it


def choose_storage(splits: ImageSplits, preparation: Preparation, *, name: str) -> Storage:
    """In memory what is small and needs no transform that only works image by image.

    Raises:
        ConfigError: No image size is given, and the images differ in theirs or are too many to look.
        DataError: No image can be read.
    """
    parts = [splits.train, splits.validation, *([splits.test] if splits.test else [])]
    given = preparation.image_size
    image_size = given or size_of_first(splits.train, where=name)
    num_bytes = sum(map(len, parts)) * preparation.in_chans * image_size[0] * image_size[1]
    fits, is_small = num_bytes <= MEMORY_BYTES, max(image_size) <= SMALL_PX
    by_image = preparation.augmentation.auto_augment is not None
    in_memory = fits and is_small and not by_image
    if not given and not fits:
        raise ConfigError(
            f"{name} is too large to find out whether its images all have one size. "
            "Say it, as --preparation.image-size 224 224."
        )
    # Decoding tells as well, where it is done at once.
    if fits and not in_memory and not (given and by_image):
        other = _other_size(parts, image_size)
        if other and not given:
            raise another_size(*other, image_size)
        in_memory = not by_image and not other
    return Storage(in_memory=in_memory, image_size=image_size, is_given=given is not None)


def size_of_first(samples: Iterable[Sample], *, where: str) -> tuple[int, int]:
    """Height and width of the first image that can be read.

    Raises:
        DataError: None can be read.
    """
    reason = "there are none"
    for sample in samples:
        try:
            image = read_image(sample.image, mode="RGB", side_px=1 << 20)
        except ImageError as error:
            reason = f"{sample.name}: {error}"
            continue
        return image.height, image.width
    raise DataError(f"no image of {where} can be read; the last: {reason}.")


def _other_size(parts: list[ImagePart], image_size: tuple[int, int]) -> tuple[str, tuple[int, int]] | None:
    """The name and size of the first image that has not this size, by the headers of the files."""
    for part in parts:
        for sample in part:
            size = read_size(sample.image)
            if size is not None and size != image_size:
                return sample.name, size
    return None
