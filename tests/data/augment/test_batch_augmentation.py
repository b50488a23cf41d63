"""How images in memory are varied: each image by numbers of its own, in the frequencies that are asked for."""

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision.transforms import functional as reference
from torchvision.transforms.v2 import functional as v2

from metaformer.core.errors import ConfigError
from metaformer.core.preprocessing import as_it_is
from metaformer.data.augment.augmentation import AugmentationConfig
from metaformer.data.augment.batch_augmentation import BatchAugmentation
from metaformer.data.augment.batch_color import ColorJitter, jitter_color
from metaformer.data.augment.random_boxes import crop_boxes, erased_boxes, square_boxes
from metaformer.data.decode.image_transform import ImageTransform

NUM, SIDE = 2000, 12


def augmentation(pixels, **settings):
    config = AugmentationConfig(**({"crop": "none", "flip": 0.0, "color_jitter": 0.0} | settings))
    transform = ImageTransform(as_it_is((SIDE, SIDE), mean=(0.0,) * 3, std=(1.0,) * 3))
    return BatchAugmentation(pixels, config, transform)


def augmented(pixels, *, seed=0, epoch=0, **settings):
    made = augmentation(pixels, **settings)
    return made.batch(torch.arange(len(pixels)), made.draw(seed=seed, epoch=epoch)) * 255


@pytest.fixture(scope="module")
def picture():
    return torch.randint(0, 256, (3, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def repeated(picture, num=NUM):
    return picture.expand(num, -1, -1, -1).contiguous()


def test_every_shift_is_equally_likely_and_reflects_at_the_border(picture):
    shifted = augmented(repeated(picture), crop="shift", shift_px=2)
    padded = F.pad(picture.float()[None], (2, 2, 2, 2), mode="reflect")[0]
    counts = []
    for top in range(5):
        for left in range(5):
            window = padded[:, top : top + SIDE, left : left + SIDE]
            counts.append(int(torch.isclose(shifted, window, atol=1e-3).all((1, 2, 3)).sum()))
    assert sum(counts) == NUM
    # Binomial with mean 80 and deviation 8.8.
    assert min(counts) > 45
    assert max(counts) < 115


def test_half_of_the_images_are_flipped(picture):
    flipped = augmented(repeated(picture), flip=0.5)
    is_flipped = torch.isclose(flipped, picture.float().flip(-1), atol=1e-3).all(-1).all(-1).all(-1)
    is_same = torch.isclose(flipped, picture.float(), atol=1e-3).all(-1).all(-1).all(-1)
    assert int(is_flipped.sum() + is_same.sum()) == NUM
    assert 0.45 < float(is_flipped.float().mean()) < 0.55


def test_an_alternating_flip_shows_both_sides_in_any_two_epochs_in_turn(picture):
    images = repeated(picture)
    first, second, third = (
        augmented(images, flip=0.5, alternating_flip=True, epoch=epoch)
        .isclose(picture.float(), atol=1e-3)
        .all((1, 2, 3))
        for epoch in range(3)
    )
    assert 0.45 < float(first.float().mean()) < 0.55
    assert torch.equal(second, ~first)
    assert torch.equal(third, first)
    other_seed = augmented(images, flip=0.5, alternating_flip=True, seed=1).isclose(picture.float(), atol=1e-3)
    assert not torch.equal(other_seed.all((1, 2, 3)), first)


def test_an_alternating_flip_leaves_nothing_to_chance():
    with pytest.raises(ConfigError, match=r"alternating_flip .* augmentation\.flip must be 0\.5; got 0\.3"):
        AugmentationConfig(alternating_flip=True, flip=0.3)


def test_cutout_is_a_square_around_any_pixel():
    white = torch.full((NUM, 3, SIDE, SIDE), 255, dtype=torch.uint8)
    cut = augmented(white, cutout_px=4) == 0
    assert (cut.all(1) == cut.any(1)).all()
    areas = cut[:, 0].sum((1, 2))
    # Squares at a corner keep 2 x 2 pixels, those inside all of 4 x 4.
    assert int(areas.min()) == 4
    assert int(areas.max()) == 16
    # Centres within an edge of 2 rows, or behind the last but one, lose part of the square.
    expected = (sum(min(SIDE, c + 2) - max(0, c - 2) for c in range(SIDE)) / SIDE) ** 2
    assert abs(float(areas.float().mean()) - expected) < 0.3
    assert bool(cut[:, 0].any(0).all())


@pytest.mark.parametrize("fill", ["const", "random"])
def test_erasing_fills_rectangles_of_a_share_of_the_images(fill):
    grey = torch.full((NUM, 3, SIDE, SIDE), 128, dtype=torch.uint8)
    erased = augmented(grey, erasing=0.25, erasing_fill=fill) / 255
    changed = ~torch.isclose(erased, torch.tensor(128 / 255))
    is_erased = changed.any(1).any(1).any(1)
    assert 0.2 < float(is_erased.float().mean()) < 0.3
    areas = changed[is_erased].any(1).float().mean((1, 2))
    # Timm's range, up to rounding to whole pixels.
    assert float(areas.min()) > 0.005
    assert float(areas.max()) < 0.4
    assert abs(float(areas.mean()) - 0.165) < 0.03
    values = erased[changed]
    if fill == "const":
        assert bool((values == 0).all())
    else:
        assert abs(float(values.mean())) < 0.05
        assert abs(float(values.std()) - 1) < 0.05
        assert len(values.unique()) > 1000


def test_a_resized_crop_is_what_pillow_makes_of_the_same_part(picture):
    made = augmentation(repeated(picture, 200), crop="resized", scale=(0.3, 1.0), interpolation="bilinear")
    numbers = made.draw(seed=0, epoch=0)
    batch = made.batch(torch.arange(200), numbers) * 255
    for image, (top, left, height, width) in zip(batch, numbers.crop.list(), strict=True):
        part = v2.to_pil_image(picture[:, top : top + height, left : left + width])
        expected = v2.pil_to_tensor(part.resize((SIDE, SIDE), Image.Resampling.BILINEAR)).float()
        # Both work in whole numbers.
        torch.testing.assert_close(image, expected, atol=1.01, rtol=0)


def test_interpolation_is_one_of_two(picture):
    made = augmentation(repeated(picture), crop="resized", interpolation="random")
    assert 0.45 < float(made.draw(seed=0, epoch=0).is_bicubic.float().mean()) < 0.55
    made = augmentation(repeated(picture), crop="resized", interpolation="bicubic")
    assert bool(made.draw(seed=0, epoch=0).is_bicubic.all())


def test_colour_steps_are_those_of_torchvision(picture):
    images = repeated(picture, 6).float() / 255
    order = torch.tensor([[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]])
    factors = torch.tensor(
        [[0.7, 1.3, 0.6], [1.4, 0.8, 1.2], [1.1, 0.6, 0.7], [0.6, 0.6, 1.4], [1.3, 1.3, 1.3], [1, 1, 1]]
    )
    steps = [reference.adjust_brightness, reference.adjust_contrast, reference.adjust_saturation]
    expected = []
    for image, kinds, factor in zip(images, order.tolist(), factors, strict=True):
        for kind in kinds:
            image = steps[kind](image, float(factor[kind]))
        expected.append(image)
    jitter_color(images, ColorJitter(factors=factors, order=order))
    torch.testing.assert_close(images, torch.stack(expected), atol=1e-3, rtol=0)


def test_an_image_looks_the_same_in_any_batch(picture):
    pixels = torch.randint(0, 256, (50, 3, SIDE, SIDE), dtype=torch.uint8)
    made = augmentation(pixels, crop="shift", flip=0.5, color_jitter=0.4, erasing=0.5, cutout_px=3)
    numbers = made.draw(seed=1, epoch=2)
    together = made.batch(torch.arange(50), numbers)
    order = torch.randperm(50)
    again = torch.cat([made.batch(part, made.draw(seed=1, epoch=2)) for part in order.split(7)])
    assert torch.equal(again, together[order])
    # The images in memory stay as they are.
    assert torch.equal(made.batch(torch.arange(50), numbers), together)


def test_what_is_drawn_for_one_thing_does_not_depend_on_another(picture):
    alone = augmentation(repeated(picture), flip=0.5).draw(seed=0, epoch=0)
    more = augmentation(repeated(picture), flip=0.5, crop="shift", erasing=0.5).draw(seed=0, epoch=0)
    assert torch.equal(alone.is_flipped, more.is_flipped)


def test_crop_boxes_lie_inside_and_cover_the_scale():
    boxes = crop_boxes(NUM, (40, 60), scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3), random=torch.Generator().manual_seed(0))
    assert bool((boxes.top >= 0).all())
    assert bool((boxes.left >= 0).all())
    assert bool((boxes.top + boxes.height <= 40).all())
    assert bool((boxes.left + boxes.width <= 60).all())
    areas = boxes.height * boxes.width / 2400
    assert float(areas.min()) < 0.1
    assert float(areas.max()) > 0.85
    ratios = boxes.width / boxes.height
    assert float(ratios.min()) > 0.7
    assert float(ratios.max()) < 1.4


def test_a_crop_that_fits_nowhere_is_the_largest_part_in_the_middle():
    boxes = crop_boxes(5, (10, 100), scale=(1.0, 1.0), ratio=(3 / 4, 4 / 3), random=torch.Generator().manual_seed(0))
    assert boxes.list() == [(0, 43, 10, 13)] * 5


def test_boxes_of_nothing_are_empty():
    random = torch.Generator().manual_seed(0)
    assert not int(erased_boxes(50, (8, 8), probability=0.0, random=random).height.sum())
    # A square larger than the image covers all of it.
    large = square_boxes(50, (4, 4), side_px=20, random=random)
    assert large.list() == [(0, 0, 4, 4)] * 50
