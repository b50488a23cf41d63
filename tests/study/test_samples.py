import base64
import io
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from PIL import Image

from metaformer.data.sources import open_data
from metaformer.study.samples import samples_png


class Colours:
    """Images that are all of one colour."""

    facts = SimpleNamespace(mean=(0.5, 0.25, 0.5), std=(0.5, 0.25, 0.5))
    unreadable: ClassVar[list[tuple[str, str]]] = []

    def __init__(self, num_images, colour):
        self.images = torch.tensor(colour).view(1, 3, 1, 1).expand(num_images, 3, 8, 8)

    def train_batches(self, plan):
        yield from ()

    def evaluation_batches(self, split, *, batch_size=250, rank=0, world_size=1):
        yield self.images[:batch_size], torch.zeros(len(self.images), dtype=torch.long)


def picture(data):
    return Image.open(io.BytesIO(base64.b64decode(samples_png(data))))


def test_photographs_keep_their_colours():
    # Normalised: red is 1, green 0, blue 0.5.
    drawn = picture(Colours(6, (1.0, -1.0, 0.0)))
    assert drawn.mode == "RGB"
    assert drawn.getpixel((40, 40)) == (255, 0, 127)


@pytest.mark.parametrize(("num_images", "columns", "lines"), [(24, 12, 2), (7, 3, 2), (1, 1, 1)])
def test_images_stand_in_two_rows(num_images, columns, lines):
    drawn = picture(Colours(num_images, (0.0, 0.0, 0.0)))
    assert drawn.size == (columns * 10 * 8, lines * 10 * 8)


def test_scans_are_grey():
    drawn = picture(open_data("digits"))
    assert drawn.mode == "L"
    assert drawn.getextrema() == (0, 255)
