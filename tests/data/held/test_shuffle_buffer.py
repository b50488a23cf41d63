"""Which process reads which image of a stream, by counting: shards hold numbers in the place of images."""

from collections import Counter
from itertools import islice

import pytest

from metaformer.data.held.shuffle_buffer import endless_training_images
from metaformer.data.image_set import Sample, ShardedImages


class Numbers(ShardedImages):
    name = "numbers"

    def __init__(self, sizes):
        self.sizes, self.num_shards = sizes, len(sizes)

    def read_index(self):
        return None

    def shard(self, number):
        return (Sample(name=f"{number}/{place}", image=b"") for place in range(self.sizes[number]))


UNEVEN = (40, *[120] * 7)


@pytest.mark.parametrize("is_known", [True, False], ids=["sizes known", "a server's, sizes unknown"])
@pytest.mark.parametrize(
    ("sizes", "world_size"),
    [(UNEVEN, 8), (UNEVEN[:7], 8), (UNEVEN[:3], 8), ((40, *[120] * 15), 8), (UNEVEN, 1)],
    ids=["a shard each", "fewer shards", "few shards", "two shards each", "one process"],
)
def test_a_small_shard_beside_large_ones_is_read_as_often_as_they_are(sizes, world_size, is_known):
    read = Counter()
    shares = []
    for rank in range(world_size):
        images = endless_training_images(
            Numbers(sizes),
            lambda _: True,
            sizes if is_known else None,
            seed=0,
            epoch=1,
            rank=rank,
            world_size=world_size,
        )
        first = [sample.name for sample, reading in islice(images, sum(sizes) // world_size) if reading == 0]
        shares.append(len(first))
        read.update(first)
    assert shares == [sum(sizes) // world_size] * world_size
    assert len(read) == read.total() == sum(sizes) // world_size * world_size


def test_many_shards_of_a_server_are_dealt_out_whole_and_only_a_few_images_wait_for_another_epoch():
    sizes = (40, *[60] * 63)
    read = Counter()
    for rank in range(8):
        images = endless_training_images(Numbers(sizes), lambda _: True, None, seed=0, epoch=1, rank=rank, world_size=8)
        read.update(sample.name for sample, _ in islice(images, sum(sizes) // 8))
    assert max(read.values()) <= 2
    assert len(read) > 0.99 * sum(sizes)
