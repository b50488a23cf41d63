from collections import Counter

import pytest
import torch

from metaformer.data.formats import cluttered_digits
from metaformer.data.formats.cluttered_digits import CANVAS_PX, TEST_CANVASES, VALIDATION_CANVASES, ClutteredDigits
from metaformer.data.formats.digits import SIDE_PX, DigitScans, load_scans

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def data():
    return ClutteredDigits()


def canvases(data, split):
    """Grey levels as whole numbers, and labels."""
    images, labels = data.train_epoch(seed=0, epoch=0) if split == "train" else getattr(data, split)()
    pixels = images[:, 0] * data.facts.std[0] + data.facts.mean[0]
    return (pixels * 16).round().int(), labels


def windows(canvas):
    """Every place where a scan may lie."""
    cut = canvas.unfold(0, SIDE_PX, 1).unfold(1, SIDE_PX, 1)
    return [tuple(row) for row in cut.reshape(-1, SIDE_PX**2).tolist()]


NUM_CANVASES = {"train": 1, "validation": VALIDATION_CANVASES, "test": TEST_CANVASES}


@pytest.mark.parametrize("split", SPLITS)
def test_each_canvas_shows_a_whole_scan_of_its_class_in_front(data, split):
    scans, classes = getattr(load_scans(), split)
    label_of = {
        tuple(row): label for row, label in zip((scans * 16).int().flatten(1).tolist(), classes.tolist(), strict=True)
    }
    seen = Counter()
    for canvas, label in zip(*canvases(data, split), strict=True):
        shown = [window for window in windows(canvas) if label_of.get(window) == int(label)]
        assert shown
        seen[shown[0]] += 1
    assert seen == Counter(dict.fromkeys(label_of, NUM_CANVASES[split]))


def test_there_is_clutter_beside_the_digit(data):
    scans, _ = load_scans().train
    drawn, _ = canvases(data, "train")
    assert int((drawn > 0).sum()) > 1.2 * int((scans > 0).sum())


def test_every_pixel_of_the_canvas_is_drawn_on(data):
    drawn, _ = canvases(data, "train")
    used = (drawn > 0).float().mean(dim=0)
    assert used.shape == (CANVAS_PX, CANVAS_PX)
    assert float(used.min()) > 0.01


def test_digits_stand_at_every_place_equally_often(data):
    scans, _ = load_scans().train
    known = set(map(tuple, (scans * 16).int().flatten(1).tolist()))
    places = Counter()
    for canvas in canvases(data, "train")[0]:
        places[[window in known for window in windows(canvas)].index(True)] += 1
    num_places = (CANVAS_PX - SIDE_PX + 1) ** 2
    assert len(places) == num_places
    assert min(places.values()) > 0.5 * 997 / num_places
    assert max(places.values()) < 1.5 * 997 / num_places


def test_fragments_come_from_the_same_split(monkeypatch):
    # Scans of one grey level a split: a foreign fragment would bring a foreign level.
    level_of = {"train": 4, "validation": 8, "test": 12}
    _, labels = load_scans().validation
    grey = {name: (torch.full((len(labels), 8, 8), level / 16), labels) for name, level in level_of.items()}
    monkeypatch.setattr(cluttered_digits, "load_scans", lambda: DigitScans(**grey))
    data = ClutteredDigits()
    for split, level in level_of.items():
        drawn, _ = canvases(data, split)
        assert drawn.unique().tolist() == [0, level]


def test_the_repeated_canvases_of_a_scan_differ(data):
    drawn, labels = canvases(data, "test")
    num_scans = len(labels) // TEST_CANVASES
    repeats = drawn.unflatten(0, (TEST_CANVASES, num_scans))
    assert torch.equal(labels[:num_scans].repeat(TEST_CANVASES), labels)
    for other in range(1, TEST_CANVASES):
        # A digit may hide all fragments twice at the same place; hardly ever.
        differ = (repeats[0] != repeats[other]).flatten(1).any(dim=1)
        assert float(differ.float().mean()) > 0.99


def test_each_epoch_places_the_digits_anew(data):
    one, other = data.train_epoch(seed=0, epoch=0)[0], data.train_epoch(seed=0, epoch=1)[0]
    same = {image.numpy().tobytes() for image in one} & {image.numpy().tobytes() for image in other}
    assert not same
