"""Mean and standard deviation of data that are too large to look at every image."""

from collections.abc import Iterable

from metaformer.data.class_shares import interleave_classes
from metaformer.data.decode.image_transform import ImageTransform
from metaformer.data.decode.pixels import decode, pixel_statistics
from metaformer.data.image_set import Sample
from metaformer.data.image_splits import ImagePart
from metaformer.data.preparation import Preparation

NUM_IMAGES = 1000
STATISTICS_KEY = "images for the statistics"


def with_statistics(
    transform: ImageTransform, preparation: Preparation, train: ImagePart
) -> tuple[ImageTransform, str]:
    """The transform with mean and standard deviation, as given or of some training images; and a sentence about it.

    Raises:
        DataError: Too many of those images cannot be read.
    """
    if preparation.mean:
        return transform, ""
    chosen = train.choose(interleave_classes(train.labels, STATISTICS_KEY)[:NUM_IMAGES])
    return of_samples(transform, chosen, num_images=len(chosen), where=train.images.name)


def of_samples(
    transform: ImageTransform, samples: Iterable[Sample], *, num_images: int, where: str
) -> tuple[ImageTransform, str]:
    """The transform with the statistics of these images; and a sentence about it.

    Raises:
        DataError: Too many of them cannot be read.
    """
    pixels, _, _ = decode(samples, transform.with_preprocessing(crop_fraction=1.0), num_images=num_images, where=where)
    mean, std = pixel_statistics(pixels)
    told = f" Mean and standard deviation are those of {len(pixels):,} training images."
    return transform.with_preprocessing(mean=mean, std=std), told
