"""Small data sets, which lie in memory."""

from dataclasses import replace

import pytest
import torch

from metaformer.core.errors import ConfigError, DataError
from metaformer.data.augment.augmentation import AugmentationConfig
from metaformer.data.held.memory_images import MemoryImages
from metaformer.data.preparation import Preparation
from metaformer.data.sources import open_data

EVERYTHING = AugmentationConfig(crop="shift", shift_px=2, flip=0.5, color_jitter=0.4, erasing=0.5, cutout_px=3)
RESIZED = AugmentationConfig(crop="resized", color_jitter=0.0, erasing=0.5, erasing_fill="const")
NOTHING = AugmentationConfig(crop="none", flip=0.0, color_jitter=0.0)
AUGMENTATIONS = [EVERYTHING, RESIZED, NOTHING]


@pytest.fixture
def folder(tmp_path, sets):
    return sets.folder(tmp_path, {"train": 60, "test": 9})


@pytest.mark.parametrize("augmentation", AUGMENTATIONS, ids=["everything", "resized", "nothing"])
@pytest.mark.parametrize("world_size", [2, 4])
def test_any_number_of_processes_sees_the_same_batches(folder, augmentation, world_size, batches):
    source = open_data(str(folder), Preparation(augmentation=augmentation))
    assert isinstance(source, MemoryImages)
    alone = batches.epoch(source, epoch=3)
    ranks = [batches.epoch(source, epoch=3, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert len(alone) == 54 // 8
    assert batches.same(batches.joined(ranks), alone)


@pytest.mark.parametrize("augmentation", AUGMENTATIONS, ids=["everything", "resized", "nothing"])
def test_an_epoch_goes_on_at_any_step(folder, augmentation, batches):
    source = open_data(str(folder), Preparation(augmentation=augmentation))
    alone = batches.epoch(source)
    again = open_data(str(folder), Preparation(augmentation=augmentation))
    assert batches.same(batches.epoch(again, first_step=4), alone[4:])
    assert batches.epoch(again, first_step=6) == []


def test_seed_and_epoch_decide_and_nothing_else(folder, batches):
    source = open_data(str(folder), Preparation(augmentation=EVERYTHING))
    first = batches.epoch(source, seed=1, epoch=2)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    assert batches.same(batches.epoch(source, seed=1, epoch=2), first)
    assert torch.equal(torch.get_rng_state(), state)
    for other in ({"seed": 2, "epoch": 1}, {"seed": 1, "epoch": 1}, {"seed": 2, "epoch": 2}):
        images, labels = (torch.cat(parts) for parts in zip(*batches.epoch(source, **other), strict=True))
        assert not torch.equal(labels, torch.cat([batch[1] for batch in first]))
        assert not torch.equal(images, torch.cat([batch[0] for batch in first]))


def test_without_augmentation_training_sees_what_evaluation_would(folder, batches):
    held_out = open_data(str(folder), Preparation(augmentation=NOTHING))
    images = torch.cat([batch[0] for batch in batches.epoch(held_out, batch_size=54)])
    # The same images as a test split.
    folder.joinpath("test").rename(folder / "away")
    folder.joinpath("train").rename(folder / "test")
    folder.joinpath("away").rename(folder / "train")
    settings = Preparation(augmentation=NOTHING, mean=held_out.facts.mean, std=held_out.facts.std)
    evaluated = torch.cat([batch[0] for batch in open_data(str(folder), settings).evaluation_batches("test")])
    known = {image.numpy().tobytes() for image in evaluated}
    assert len({image.numpy().tobytes() for image in images}) == 54
    assert all(image.numpy().tobytes() in known for image in images)


def test_training_pixels_have_mean_zero_and_deviation_one(folder, batches):
    source = open_data(str(folder), Preparation(augmentation=NOTHING))
    images = torch.cat([batch[0] for batch in batches.epoch(source, batch_size=54)])
    torch.testing.assert_close(images.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(images.std((0, 2, 3), unbiased=False), torch.ones(3), atol=1e-5, rtol=0)


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_evaluation_shares_are_disjoint_and_complete(folder, world_size):
    source = open_data(str(folder), Preparation(augmentation=NOTHING))
    shares = [
        [image.numpy().tobytes() for images, _ in some for image in images]
        for some in (
            source.evaluation_batches("test", batch_size=2, rank=rank, world_size=world_size)
            for rank in range(world_size)
        )
    ]
    everything = [image for share in shares for image in share]
    assert len(everything) == len({*everything}) == source.facts.num_test == 9
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_an_image_that_cannot_be_read_is_named_and_left_out(folder):
    bad = folder / "train" / "bee" / "0001.png"
    bad.write_bytes(b"no image at all")
    gone = folder / "test" / "cat" / "0002.png"
    gone.write_bytes(b"")
    source = open_data(str(folder), Preparation(augmentation=NOTHING, validation_fraction=0.1))
    assert sorted(source.unreadable) == sorted(
        [(str(bad), "not an image that Pillow can read"), (str(gone), "the file is empty")]
    )
    assert source.facts.num_train + source.facts.num_validation == 59
    assert source.facts.num_test == 8
    assert "2 images cannot be read and are left out" in source.facts.description
    labels = torch.cat([batch[1] for batch in source.evaluation_batches("test")])
    assert labels.bincount().tolist() == [3, 3, 2]


def test_many_unreadable_images_are_an_error_that_names_the_first(folder):
    for file in sorted((folder / "train" / "ant").iterdir())[:12]:
        file.write_bytes(b"no image at all")
    with pytest.raises(DataError, match=r"11 of the first \d+ images of .*train cannot be read; the first: .*ant/"):
        open_data(str(folder), Preparation(augmentation=NOTHING))


def test_images_of_different_sizes_need_an_image_size(folder, batches, sets):
    odd = folder / "train" / "cat" / "0005.png"
    odd.write_bytes(sets.noise(5, side_px=9))
    with pytest.raises(ConfigError, match=r"differ in size: the first has 8x8 pixels, .*0005.png has 9x9\. Say one"):
        open_data(str(folder), Preparation(augmentation=NOTHING))
    source = open_data(str(folder), Preparation(augmentation=NOTHING, image_size=(6, 10)))
    assert batches.epoch(source)[0][0].shape == (8, 3, 6, 10)
    assert source.facts.image_size == (6, 10)


def test_grey_images(folder, batches):
    source = open_data(str(folder), Preparation(augmentation=EVERYTHING, in_chans=1))
    assert batches.epoch(source)[0][0].shape == (8, 1, 8, 8)
    assert len(source.facts.mean) == len(source.facts.std) == 1


def test_an_unknown_split_is_an_error(tmp_path, sets):
    source = open_data(str(sets.folder(tmp_path, {"": 30})), Preparation(augmentation=NOTHING))
    with pytest.raises(ConfigError, match=r"has no split 'test'\. It has: validation\."):
        next(source.evaluation_batches("test"))


def test_the_crop_of_evaluation_is_not_that_of_training(folder, batches):
    settings = Preparation(augmentation=NOTHING, image_size=(4, 4), mean=(0.0,) * 3, std=(1.0,) * 3)
    whole = open_data(str(folder), settings)
    cropped = open_data(str(folder), replace(settings, crop_fraction=0.5))
    assert batches.same(batches.epoch(whole), batches.epoch(cropped))
    one, other = (next(source.evaluation_batches("test"))[0] for source in (whole, cropped))
    assert not torch.equal(one, other)
