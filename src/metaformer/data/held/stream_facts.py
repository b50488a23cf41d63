"""How much there is in a stream, found out before any of it is decoded."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from metaformer.core.errors import ConfigError
from metaformer.core.seeding import key_seed
from metaformer.data.classes import Agreement
from metaformer.data.image_set import ShardedImages
from metaformer.data.image_splits import HELD_OUT_KEY
from metaformer.data.preparation import Preparation

KEY_END = 2**63  # keys are below it

log = logging.getLogger("metaformer.data")


@dataclass(frozen=True, kw_only=True)
class StreamFacts:
    """Counts and classes of a stream."""

    num_train: int  # images an epoch
    shard_sizes: tuple[int, ...] | None  # training images of each shard; None where nobody has counted them
    num_validation: int
    num_test: int
    held_out: float  # share of the training images that is for validation; 0: the source has a validation split
    class_names: tuple[str, ...]
    description: str  # how the splits were made


def is_held_out(name: str, fraction: float) -> bool:
    """Whether an image of a stream is for validation: by its name alone, so that every class has about its share."""
    return key_seed(HELD_OUT_KEY, name) < fraction * KEY_END


def stream_facts(
    found: Mapping[str, ShardedImages], agreement: Agreement | None, preparation: Preparation, *, name: str
) -> StreamFacts:
    """Counts the images of each split.

    Local shards are counted by their headers; others are read once, but for training images that need no counting.

    Args:
        found: The splits, by our names.
        agreement: On their classes, where headers tell the labels.
        preparation: Says what the source does not.
        name: Of the source, for messages.

    Raises:
        ConfigError: A setting is missing, or cannot work with a stream.
    """
    if preparation.max_train_images is not None:
        raise ConfigError(
            "preparation.max_train_images needs data with an index, and this is a stream. Say how many images an "
            f"epoch has instead: preparation.num_train_images={preparation.max_train_images}."
        )
    held_out = 0.0 if "validation" in found else preparation.validation_fraction
    class_names = agreement.class_names if agreement else _class_names(found["train"], preparation, name)
    num_train, num_held_out, shard_sizes = _count_train(found["train"], preparation, held_out, name)
    others = {split: _count(found[split]) for split in ("validation", "test") if split in found}
    num_validation, num_test = others.get("validation", num_held_out), others.get("test", 0)
    num_shards = found["train"].num_shards
    told = f"{num_train:,} images for training in an epoch, from {num_shards} shard{'s' if num_shards > 1 else ''}. "
    if held_out:
        told += f"{num_held_out:,} more are held out for validation ({held_out:.0%} of all, chosen by their names). "
    else:
        told += f"The validation split ({num_validation:,} images) is the source's own. "
    told += f"The test split ({num_test:,} images) is the source's own." if num_test else "There is no test split."
    return StreamFacts(
        num_train=num_train,
        shard_sizes=shard_sizes,
        num_validation=num_validation,
        num_test=num_test,
        held_out=held_out,
        class_names=class_names,
        description=told,
    )


def _count_train(
    images: ShardedImages, preparation: Preparation, held_out: float, name: str
) -> tuple[int, int, tuple[int, ...] | None]:
    """Images for training in an epoch, those held out, and the training images of each shard."""
    given = preparation.num_train_images
    if held_out or images.read_index() is not None:
        # Holding some out means reading everything before every evaluation: once more, to count, costs no more.
        kept = [[not is_held_out(image, held_out) for image in shard] for shard in _names(images)]
        sizes = tuple(map(sum, kept))
        return given or sum(sizes), sum(map(len, kept)) - sum(sizes), sizes
    if not given and not images.num_images:
        raise ConfigError(
            f"{name} does not say how many training images it has. Say how many make an epoch: "
            "preparation.num_train_images."
        )
    return given or images.num_images or 0, 0, None


def _names(images: ShardedImages) -> Iterator[Iterator[str]]:
    """The names of the images of each shard, in order."""
    index = images.read_index()
    if index is not None:
        names = iter(index.names)
        return (islice(names, size) for size in index.shard_sizes)
    log.info("counting the images of %s: reading its %d shards once", images.name, images.num_shards)
    return ((sample.name for sample in images.shard(number)) for number in range(images.num_shards))


def _count(images: ShardedImages) -> int:
    return images.num_images or sum(1 for shard in _names(images) for _ in shard)


def _class_names(images: ShardedImages, preparation: Preparation, name: str) -> tuple[str, ...]:
    if images.class_names:
        return images.class_names
    if preparation.num_classes is None:
        raise ConfigError(f"{name} does not say how many classes it has. Say it: preparation.num_classes.")
    return tuple(str(label) for label in range(preparation.num_classes))
