"""The order in which a process reads shards and uses their images."""

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice
from typing import TypeVar

import torch

from metaformer.core.errors import DataError
from metaformer.core.seeding import generator, key_seed
from metaformer.data.image_set import Sample, ShardedImages

MANY_SHARDS = 8  # a process; then one more or less does not matter
BUFFER_IMAGES = 2048  # encoded images of a process that wait to be drawn from

T = TypeVar("T")


def shuffled(values: Iterator[T], *, size: int, key: int) -> Iterator[T]:
    """The same values in another order: each is drawn from the next `size` that are not used yet."""
    draw = random.Random(key)
    waiting: list[T] = []
    for value in values:
        if len(waiting) < size:
            waiting.append(value)
            continue
        place = draw.randrange(size)
        taken, waiting[place] = waiting[place], value
        yield taken
    draw.shuffle(waiting)
    yield from waiting


def images_of_process(
    images: ShardedImages,
    keep: Callable[[Sample], bool],
    order: Sequence[int],
    shard_sizes: Sequence[int] | None,
    *,
    rank: int,
    world_size: int,
) -> Iterator[Sample]:
    """A process's training images of one reading of all shards in that order; each image is read by one process.

    Where the sizes of the shards are known, all images in that order are cut into equal stretches, so that a process
    reads parts of shards. Where not, whole shards are dealt out if each process gets many; else every process reads all
    of them, and they take turns: as many shards for each need not be as many images.
    """
    if shard_sizes is not None:
        total, start = sum(shard_sizes), 0
        first, end = rank * total // world_size, (rank + 1) * total // world_size
        for number in order:
            stop = start + shard_sizes[number]
            if start < end and first < stop:
                kept = filter(keep, images.shard(number))
                yield from islice(kept, max(0, first - start), min(end, stop) - start)
            start = stop
    elif len(order) >= MANY_SHARDS * world_size or world_size == 1:
        for number in order[rank::world_size]:
            yield from filter(keep, images.shard(number))
    else:
        everything = (sample for number in order for sample in images.shard(number))
        yield from islice(filter(keep, everything), rank, None, world_size)


def endless_training_images(
    images: ShardedImages,
    keep: Callable[[Sample], bool],
    shard_sizes: Sequence[int] | None,
    *,
    seed: int,
    epoch: int,
    rank: int,
    world_size: int,
) -> Iterator[tuple[Sample, int]]:
    """A process's training images of an epoch, shuffled, without end: after the last it begins again.

    Args:
        images: The shards.
        keep: Says which images are for training.
        shard_sizes: Training images of each shard; None where only reading tells.
        seed: Of the run.
        epoch: Decides the order, together with the seed.
        rank: Of the process.
        world_size: How many processes there are.

    Returns:
        Each image, and how often it was begun again before.

    Raises:
        DataError: The process has no image at all.
    """
    order = torch.randperm(images.num_shards, generator=generator("shards", seed, epoch)).tolist()
    for reading in count():
        mine = images_of_process(images, keep, order, shard_sizes, rank=rank, world_size=world_size)
        num_read = 0
        key = key_seed("shuffle buffer", seed, epoch, reading, rank)
        for sample in shuffled(mine, size=BUFFER_IMAGES, key=key):
            num_read += 1
            yield sample, reading
        if not num_read:
            raise DataError(f"{images.name} has no images for process {rank} of {world_size}. Use fewer processes.")
