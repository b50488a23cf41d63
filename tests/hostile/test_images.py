"""Images of strangers: a folder of them goes through predict, evaluate and the opening of a training."""

import contextlib
import functools
import io
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.hostile import odd_images

from metaformer.cli.main import run
from metaformer.core.errors import DataError
from metaformer.core.preprocessing import as_it_is
from metaformer.data.decode.image_file import ImageError, read_image, read_size
from metaformer.models.metaformer import MetaFormer
from metaformer.models.weights import save_weights
from metaformer.models.zoo import POOLFORMER_S12

SEED = 20
LIMIT_S = 15.0
PEAK_MIB = {"predict": 1000, "evaluate": 1250}
CLASSES = ("a", "b")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The file of a tiny model."""
    config = replace(POOLFORMER_S12, depths=(1,) * 4, dims=(8, 8, 16, 16), num_classes=2)
    config = config.with_input(as_it_is((32, 32), mean=(0.5,) * 3, std=(0.5,) * 3))
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(MetaFormer(config), path, class_names=CLASSES)
    return path


def write(folder, images):
    """The files of a class folder; names and whether each must be readable."""
    folder.mkdir(parents=True)
    expected = {}
    for image in images:
        (folder / image.name).write_bytes(image.content)
        expected[image.name] = image.is_readable
    for name in odd_images.write_specials(folder):
        expected[name] = False
    for name in odd_images.NAMES:
        file = folder / os.fsdecode(name)
        file.write_bytes(odd_images.encode(odd_images.noise(np.random.default_rng(0)), "JPEG"))
    return expected


@functools.cache
def small_ones():
    return tuple(odd_images.odd_images(SEED, with_large=False))


# One of so many in the suite, all of them in the campaign.
every = pytest.mark.parametrize("every", [9, pytest.param(1, marks=pytest.mark.slow)])


@every
def test_each_file_is_read_or_named(tries, every):
    for image in small_ones()[::every]:
        kind, started = tries(image.kind), time.perf_counter()
        try:
            read = read_image(image.content, mode="RGB", side_px=32)
            is_read, said = read.mode == "RGB", f"size {read.size}"
            # The header says what the pixels are, of what is not made smaller.
            is_read &= read_size(image.content) == (read.height, read.width) or max(read.size) > 4000
        except ImageError as error:
            is_read, said = False, str(error)
            kind.note(f"{image.name}, the words", said.isprintable() and bool(said), repr(said))
        except Exception as error:
            kind.note(image.name, False, repr(error))
            continue
        in_time = time.perf_counter() - started < LIMIT_S
        kind.note(image.name, in_time and image.is_readable in (None, is_read), said)


@every
def test_a_folder_of_odd_images_goes_through_predict_and_evaluate(tries, weights, tmp_path, every):
    folder = tmp_path / "data" / "a"
    expected = write(folder, small_ones()[::every])
    write(tmp_path / "data" / "b", [])
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(["predict", str(weights), str(folder), "--format", "jsonl"])
    rows = {Path(row["image"]).name: row for row in map(json.loads, out.getvalue().splitlines())}
    predicted = tries("images: predict a folder")
    predicted.note("exit code", code == 1, f"{code}")
    predicted.note("no traceback", "Traceback" not in err.getvalue(), err.getvalue()[-300:])
    predicted.note(
        "one line each", all(line.isprintable() for line in err.getvalue().splitlines()), "control characters"
    )
    for name, is_readable in expected.items():
        row = rows.get(name, {"error": "left out"})
        predicted.note(name, is_readable in (None, "error" not in row), str(row))
    predicted.note("odd names", len(rows) == len(expected) + len(odd_images.NAMES), f"{len(rows)} rows")
    evaluated = tries("images: evaluate a folder")
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(["evaluate", str(weights), "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")])
    evaluated.note("exit code", code == 1, f"{code} {err.getvalue()[-300:]}")
    evaluated.note("no traceback", "Traceback" not in err.getvalue(), err.getvalue()[-300:])
    evaluated.note("a record", (tmp_path / "out" / "run.json").is_file())


@every
def test_a_training_opens_a_folder_with_odd_images(tries, tmp_path, every):
    from metaformer.data.preparation import Preparation
    from metaformer.data.sources import open_data

    images = [image for image in small_ones()[::every] if image.is_readable]
    few = [image for image in small_ones() if image.is_readable is False][:: 20 * every]
    write(tmp_path / "data" / "a", [*images, *few])
    write(tmp_path / "data" / "b", images)
    for size in ((16, 16), (224, 224)):
        opened = tries("images: open for training").run(
            f"{size}", lambda size=size: open_data(str(tmp_path / "data"), Preparation(image_size=size))
        )
        # More than a tenth of the first hundred may be bad: then it is one line.
        tries("images: open for training").note(
            f"{size} opens", isinstance(opened, DataError) or opened.facts.num_train
        )


MEASURE = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
print(code.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10)
sys.stderr.buffer.write(code.stderr)
"""


@pytest.mark.slow
def test_the_memory_of_a_folder_with_large_images(tries, weights, tmp_path):
    expected = write(tmp_path / "data" / "a", odd_images.odd_images(SEED))
    write(tmp_path / "data" / "b", [])
    predict = ["predict", str(weights), str(tmp_path / "data" / "a"), "--format", "jsonl"]
    for words in (predict, ["evaluate", str(weights), "--data", str(tmp_path / "data")]):
        command = [sys.executable, "-c", MEASURE, sys.executable, "-m", "metaformer", *words]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=300, check=False)
        code, peak_mib = map(int, done.stdout.split())
        kind = tries(f"images: memory of {words[0]}, {len(expected)} files: {peak_mib} MiB")
        kind.note("exit code", code == 1 and "Traceback" not in done.stderr, f"{code} {done.stderr[-300:]}")
        kind.note("peak", peak_mib < PEAK_MIB[words[0]], f"{peak_mib} MiB")
