"""Small data sets of every format, made of noise: no two images are alike."""

import io
import json
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from metaformer.data.batch_plan import BatchPlan

CLASSES = ("ant", "bee", "cat")


def noise(number: int, side_px: int = 8, form: str = "PNG") -> bytes:
    """An image file that belongs to the number."""
    pixels = np.random.default_rng(number).integers(0, 256, (side_px, side_px, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def write_folder(folder: Path, sizes: dict[str, int], side_px: int = 8) -> Path:
    """Class folders with so many images in each split; a split called "" has no folder of its own."""
    number = 0
    for split, size in sizes.items():
        for place in range(size):
            file = folder / split / CLASSES[place % 3] / f"{place:04}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(noise(number, side_px))
            number += 1
    return folder


def write_shard(path: Path, numbers: range, side_px: int = 8, broken: tuple[int, ...] = ()) -> None:
    """A tar shard; the class of an image is its number modulo 3."""
    with tarfile.open(path, "w") as opened:
        for number in numbers:
            image = b"no image" if number in broken else noise(number, side_px)
            for suffix, content in (("png", image), ("cls", str(number % 3).encode())):
                entry = tarfile.TarInfo(f"{number:05}.{suffix}")
                entry.size = len(content)
                opened.addfile(entry, io.BytesIO(content))


def write_parquet(path: Path, numbers: range, rows_a_group: int) -> None:
    """A Parquet file in the layout of Hugging Face; the class of an image is its number modulo 3."""
    arrow, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    features = {"img": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": list(CLASSES)}}
    rows = [{"bytes": noise(number), "path": f"{number}.png"} for number in numbers]
    table = arrow.table({"img": rows, "label": [number % 3 for number in numbers]})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=rows_a_group)


def epoch(source, **plan):
    """The batches of an epoch."""
    return list(source.train_batches(BatchPlan(**({"seed": 0, "epoch": 0, "batch_size": 8} | plan))))


def same(one, other) -> bool:
    """Whether two lists of batches are equal, bit for bit."""
    return len(one) == len(other) and all(
        torch.equal(a, b) for pair in zip(one, other, strict=True) for a, b in zip(*pair, strict=True)
    )


def joined(ranks):
    """What several processes saw, put together step by step."""
    return [tuple(torch.cat(parts) for parts in zip(*step, strict=True)) for step in zip(*ranks, strict=True)]


@pytest.fixture(scope="session")
def sets() -> SimpleNamespace:
    """Makes data sets."""
    return SimpleNamespace(noise=noise, folder=write_folder, shard=write_shard, parquet=write_parquet)


@pytest.fixture(scope="session")
def batches() -> SimpleNamespace:
    """Takes and compares batches."""
    return SimpleNamespace(epoch=epoch, same=same, joined=joined)
