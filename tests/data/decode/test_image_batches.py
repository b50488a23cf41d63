import threading

import pytest
import torch
from PIL import Image

from metaformer.core.errors import ConfigError
from metaformer.core.preprocessing import as_it_is
from metaformer.data.decode.image_batches import read_batches
from metaformer.data.decode.image_transform import ImageTransform
from metaformer.data.image_set import Sample

TRANSFORM = ImageTransform(as_it_is((4, 4), mean=(0.0,), std=(1.0,)))


def samples(num, broken=()):
    for index in range(num):
        image = b"broken" if index in broken else Image.new("L", (4, 4), index)
        yield Sample(name=str(index), image=image, label=index)


@pytest.mark.parametrize("num_threads", [1, 4])
@pytest.mark.parametrize("batch_size", [1, 3, 7, 50])
def test_images_come_in_order_and_broken_ones_are_named(batch_size, num_threads):
    batches = list(read_batches(samples(20, {3, 4, 19}), TRANSFORM, batch_size=batch_size, num_threads=num_threads))
    assert [len(batch.samples) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert [sample.label for batch in batches for sample in batch.samples] == list(range(20))
    assert [name for batch in batches for name, _ in batch.unreadable] == ["3", "4", "19"]
    for batch in batches:
        assert batch.pixels[:, 0, 0, 0].tolist() == [sample.label for sample in batch.readable]
        assert batch.pixels.dtype == torch.uint8


def test_a_batch_of_broken_images_is_a_batch():
    (batch,) = read_batches(samples(2, {0, 1}), TRANSFORM, batch_size=2)
    assert batch.pixels.shape == (0, 1, 4, 4)
    assert [reason for _, reason in batch.unreadable] == ["not an image that Pillow can read"] * 2


def test_no_more_is_read_than_will_soon_be_needed():
    taken = []

    def endless():
        index = 0
        while True:
            taken.append(index)
            yield Sample(name=str(index), image=Image.new("L", (4, 4)))
            index += 1

    batches = read_batches(endless(), TRANSFORM, batch_size=5)
    for _ in range(3):
        next(batches)
    assert len(taken) == 20
    batches.close()


def test_threads_end_with_the_batches():
    before = threading.active_count()
    batches = read_batches(samples(50), TRANSFORM, batch_size=5, num_threads=4)
    next(batches)
    batches.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"batch_size": 1, "num_threads": 0}], ids=str)
def test_numbers_below_1_are_refused(options):
    with pytest.raises(ConfigError, match="must be at least 1; got 0"):
        next(read_batches(samples(1), TRANSFORM, **options))
