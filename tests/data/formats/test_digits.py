import pytest
import torch
import torch.nn.functional as F

from metaformer.data.formats.digits import Digits, load_scans


@pytest.fixture(scope="module")
def scans():
    return load_scans()


@pytest.fixture(scope="module")
def parts(scans):
    return {"train": scans.train, "validation": scans.validation, "test": scans.test}


def rows(images):
    """Scans as tuples of their grey levels, which are whole numbers."""
    return [tuple(row) for row in (images * 16).round().int().flatten(1).tolist()]


def test_the_splits_have_997_300_and_500_scans(parts):
    assert {name: len(labels) for name, (_, labels) in parts.items()} == {"train": 997, "validation": 300, "test": 500}


def test_the_splits_hold_every_scan_of_scikit_learn_once_and_share_none(parts):
    from sklearn.datasets import load_digits

    pixels, classes = load_digits(return_X_y=True)
    original = sorted((*row, label) for row, label in zip(pixels.astype(int).tolist(), classes.tolist(), strict=True))
    original = sorted((tuple(row[:-1]), row[-1]) for row in original)
    split = sorted(
        pair for images, labels in parts.values() for pair in zip(rows(images), labels.tolist(), strict=True)
    )
    assert split == original
    sets = [set(rows(images)) for images, _ in parts.values()]
    assert len(set().union(*sets)) == sum(map(len, sets)) == 1797


def test_every_class_has_its_share_of_each_split(parts):
    total = sum(labels.bincount() for _, labels in parts.values())
    for _, labels in parts.values():
        share = total * len(labels) / total.sum()
        assert float((labels.bincount() - share).abs().max()) <= 2


def test_pixels_have_17_levels_from_0_to_1(parts):
    for images, _ in parts.values():
        assert torch.equal((images * 16).round() / 16, images)
        assert (float(images.min()), float(images.max())) == (0, 1)


def test_a_training_image_is_a_scan_shifted_by_at_most_two_pixels(scans):
    data = Digits()
    images, labels = data.train_epoch(seed=1, epoch=2)
    pixels = images[:, 0] * data.facts.std[0] + data.facts.mean[0]
    originals, classes = scans.train
    large = F.interpolate(originals.unsqueeze(1), scale_factor=2, mode="bilinear", align_corners=False).squeeze(1)
    padded = F.pad(large, (2, 2, 2, 2))
    shifts = set()
    for image, label in zip(pixels[:20], labels[:20], strict=True):
        same_class = padded[classes == label]
        found = [
            (down, right)
            for down in range(5)
            for right in range(5)
            if (same_class[:, down : down + 16, right : right + 16] - image).abs().amax((1, 2)).min() < 1e-5
        ]
        assert found
        shifts.update(found)
    assert len(shifts) > 5


@pytest.mark.parametrize("split", ["validation", "test"])
def test_validation_and_test_images_are_the_scans_where_they_are(parts, split):
    data = Digits()
    images, labels = getattr(data, split)()
    pixels = images[:, 0] * data.facts.std[0] + data.facts.mean[0]
    originals, classes = parts[split]
    assert torch.equal(labels, classes)
    enlarged = F.interpolate(originals.unsqueeze(1), size=(16, 16), mode="bilinear", align_corners=False).squeeze(1)
    torch.testing.assert_close(pixels, enlarged, atol=1e-6, rtol=0)
