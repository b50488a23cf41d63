"""Data sets whose images are read when their turn comes, by workers or here."""

import random

import numpy as np
import pytest
import torch

from metaformer.core.errors import ConfigError, DataError
from metaformer.core.preprocessing import as_it_is
from metaformer.data.augment.augmentation import AugmentationConfig
from metaformer.data.augment.image_augmentation import ImageAugmentation
from metaformer.data.decode.image_transform import ImageTransform
from metaformer.data.held import storage
from metaformer.data.held.large_images import LargeImages, epoch_order
from metaformer.data.preparation import Preparation
from metaformer.data.sources import open_data

EVERYTHING = AugmentationConfig(auto_augment="rand-m9-mstd0.5-inc1", erasing=0.5, cutout_px=3)
NOTHING = AugmentationConfig(crop="none", flip=0.0, color_jitter=0.0)


def preparation(augmentation=EVERYTHING, **settings):
    return Preparation(**({"augmentation": augmentation, "image_size": (16, 16)} | settings))


@pytest.fixture
def nothing_fits(monkeypatch):
    monkeypatch.setattr(storage, "MEMORY_BYTES", 0)


@pytest.fixture
def folder(tmp_path, sets):
    return sets.folder(tmp_path, {"train": 60, "val": 8, "test": 9}, side_px=20)


def test_workers_processes_and_interruptions_change_nothing(folder, batches):
    alone = open_data(str(folder), preparation())
    assert isinstance(alone, LargeImages)
    expected = batches.epoch(alone, epoch=1)
    assert len(expected) == 7
    workers = open_data(str(folder), preparation(), num_workers=2)
    assert batches.same(batches.epoch(workers, epoch=1), expected)
    for world_size in (2, 4):
        ranks = [batches.epoch(alone, epoch=1, rank=rank, world_size=world_size) for rank in range(world_size)]
        assert batches.same(batches.joined(ranks), expected)
    assert batches.same(batches.epoch(alone, epoch=1, first_step=5), expected[5:])
    evaluated = list(alone.evaluation_batches("validation", batch_size=3))
    assert [len(labels) for _, labels in evaluated] == [3, 3, 2]
    assert batches.same(list(workers.evaluation_batches("validation", batch_size=3)), evaluated)


@pytest.mark.parametrize("other", [{"epoch": 1}, {"seed": 1}], ids=["epoch", "seed"])
def test_epochs_and_seeds_differ(folder, batches, other):
    source = open_data(str(folder), preparation())
    one, two = batches.epoch(source), batches.epoch(source, **other)
    assert not torch.equal(torch.cat([batch[1] for batch in one]), torch.cat([batch[1] for batch in two]))
    seen, other_seen = ({image.numpy().tobytes() for images, _ in some for image in images} for some in (one, two))
    assert len(seen) == 56
    assert not seen & other_seen


@pytest.mark.parametrize("crop", ["none", "resized"])
def test_an_alternating_flip_shows_each_image_and_its_mirror_image_in_turn(tmp_path, sets, batches, crop):
    sets.folder(tmp_path, {"train": 60, "val": 8}, side_px=16)
    whole = {"crop": crop, "scale": (1.0, 1.0), "ratio": (1.0, 1.0), "color_jitter": 0.0}

    def seen(epoch, **settings):
        plain = preparation(AugmentationConfig(**whole, **settings), mean=(0.0,) * 3, std=(1.0,) * 3)
        (batch,) = batches.epoch(open_data(str(tmp_path), plain), epoch=epoch, batch_size=60)
        return batch[0]

    def as_set(images):
        return {image.contiguous().numpy().tobytes() for image in images}

    first, second, third = (seen(epoch, alternating_flip=True) for epoch in range(3))
    assert as_set(second) == as_set(first.flip(-1))
    assert as_set(third) == as_set(first)
    assert 10 < len(as_set(first) & as_set(seen(0, flip=0.0))) < 50


# The shape hook itself draws from Python's generator.
@pytest.mark.usefixtures("no_shape_checks")
def test_randomness_outside_is_neither_used_nor_changed(folder, batches):
    source = open_data(str(folder), preparation())
    expected = batches.epoch(source)
    random.seed(7), np.random.seed(7), torch.manual_seed(7)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    assert batches.same(batches.epoch(source), expected)
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])


@pytest.mark.usefixtures("nothing_fits")
def test_without_augmentation_training_sees_what_evaluation_would(folder, batches):
    source = open_data(str(folder), preparation(NOTHING))
    assert isinstance(source, LargeImages)
    transform = ImageTransform(source.facts.model_input)
    files = sorted((folder / "train").rglob("*.png"))
    expected = {transform.normalise(transform.pixels(file)[None]).numpy().tobytes() for file in files}
    seen = {image[None].numpy().tobytes() for images, _ in batches.epoch(source, batch_size=60) for image in images}
    assert len(seen) == 60
    assert seen == expected


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_evaluation_shares_are_disjoint_and_complete(folder, world_size):
    source = open_data(str(folder), preparation())
    everything = [
        image.numpy().tobytes()
        for rank in range(world_size)
        for images, _ in source.evaluation_batches("test", batch_size=2, rank=rank, world_size=world_size)
        for image in images
    ]
    assert len(everything) == len({*everything}) == 9


@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_good_image_stands_in_for_one_that_cannot_be_read(folder, batches, num_workers):
    bad = folder / "train" / "ant" / "0000.png"
    bad.write_bytes(b"no image at all")
    (folder / "val" / "bee" / "0001.png").write_bytes(b"")
    source = open_data(str(folder), preparation(mean=(0.5,) * 3, std=(0.5,) * 3), num_workers=num_workers)
    for _ in range(2):
        trained = batches.epoch(source, batch_size=60)
        assert trained[0][0].shape == (60, 3, 16, 16)
        # One of them twice.
        assert len({image.numpy().tobytes() for image in trained[0][0]}) == 59
    assert source.unreadable == [(str(bad), "not an image that Pillow can read")]
    assert sum(len(labels) for _, labels in source.evaluation_batches("validation")) == 7
    assert source.unreadable[1:] == [(str(folder / "val" / "bee" / "0001.png"), "the file is empty")]


def test_a_batch_without_any_good_image_is_an_error(folder, batches):
    for file in sorted((folder / "train").rglob("*.png"))[:8]:
        file.write_bytes(b"no image at all")
    source = open_data(str(folder), preparation(mean=(0.5,) * 3, std=(0.5,) * 3))
    with pytest.raises(DataError, match=r"none of the 1 images of a batch can be read; .*ant.*: not an image"):
        batches.epoch(source, batch_size=1)


def test_many_unreadable_images_are_an_error(folder, batches):
    for file in sorted((folder / "train").rglob("*.png"))[::3]:
        file.write_bytes(b"no image at all")
    source = open_data(str(folder), preparation(mean=(0.5,) * 3, std=(0.5,) * 3))
    with pytest.raises(DataError, match=r"of the first \d+ images of .* cannot be read; the first: .*png: not an"):
        batches.epoch(source)
    with pytest.raises(DataError, match=r"of the first \d+ images of .* cannot be read"):
        open_data(str(folder), preparation())


def test_photographs_of_many_sizes_need_an_image_size(folder, sets):
    (folder / "train" / "cat" / "0100.png").write_bytes(sets.noise(1000, side_px=70))
    with pytest.raises(ConfigError, match=r"differ in size: the first has 20x20 pixels, .*0100.png has 70x70"):
        open_data(str(folder), preparation(image_size=None))
    assert isinstance(open_data(str(folder), preparation(NOTHING, image_size=(70, 70))), LargeImages)


def test_a_policy_that_timm_does_not_know_is_an_error_at_once(folder):
    with pytest.raises(ConfigError, match=r"augmentation.auto_augment must be in timm's words; got 'rnad-m9'"):
        open_data(str(folder), preparation(AugmentationConfig(auto_augment="rnad-m9")))
    with pytest.raises(ConfigError, match="num_workers must be at least 0; got -1"):
        open_data(str(folder), preparation(), num_workers=-1)


def test_rows_of_parquet_files_are_read_by_group(tmp_path, sets, batches):
    sets.parquet(tmp_path / "train-00000-of-00002.parquet", range(40), 7)
    sets.parquet(tmp_path / "train-00001-of-00002.parquet", range(40, 64), 7)
    source = open_data(str(tmp_path), preparation(validation_fraction=0.125))
    images = source._splits.train.images
    assert images.group_sizes == (7, 7, 7, 7, 7, 5, 7, 7, 7, 3)
    assert [images[index].image for index in (0, 39, 40, 63)] == [sets.noise(number) for number in (0, 39, 40, 63)]
    images.groups_at_once = 2
    images._kept.clear()
    seen = torch.cat([batch[1] for batch in batches.epoch(source, batch_size=7)])
    assert len(seen) == 56
    assert len(images._kept) == 2


def test_what_is_read_together_is_used_together():
    windows = torch.arange(100) // 10
    order = epoch_order(windows, torch.Generator().manual_seed(0))
    assert order.sort().values.tolist() == list(range(100))
    in_order = windows[order].reshape(10, 10)
    assert bool((in_order == in_order[:, :1]).all())
    assert in_order[:, 0].tolist() != list(range(10))
    other = epoch_order(windows, torch.Generator().manual_seed(1))
    assert not torch.equal(order, other)


@pytest.mark.parametrize("in_chans", [1, 3])
@pytest.mark.parametrize("policy", ["rand-m10-mstd0-p1-n4", "augmix-m5", "original", "3a"])
def test_every_policy_works_on_grey_and_coloured_images(sets, in_chans, policy):
    transform = ImageTransform(as_it_is((16, 16), mean=(0.5,) * in_chans, std=(0.2,) * in_chans))
    augment = ImageAugmentation(AugmentationConfig(auto_augment=policy), transform)
    image = sets.noise(0, 24)
    made = [augment(image, key=key) for key in range(40)]
    assert all(one.shape == (in_chans, 16, 16) for one in made)
    assert torch.equal(augment(image, key=3), made[3])


def test_shift_flip_and_cutout_of_one_image(sets):
    transform = ImageTransform(as_it_is((16, 16), mean=(0.0,) * 3, std=(1.0,) * 3))
    config = AugmentationConfig(crop="shift", shift_px=2, flip=0.5, color_jitter=0.0, cutout_px=4)
    plain = AugmentationConfig(crop="shift", shift_px=2, flip=0.5, color_jitter=0.0)
    image = sets.noise(0, 16)
    whole = [ImageAugmentation(plain, transform)(image, key=key) for key in range(300)]
    assert len({one.numpy().tobytes() for one in whole}) == 50
    cut = [ImageAugmentation(config, transform)(image, key=key) for key in range(50)]
    for one, other in zip(whole, cut, strict=False):
        changed = (one != other).any(0)
        assert 4 <= int(changed.sum()) <= 16
        assert bool((other[:, changed] == 0).all())
