"""Every numeric option of every command, with numbers that nobody meant: a result or one line, in 15 s."""

import json
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import metaformer as mf
from metaformer.models.weights import save_weights

NUMBERS = ("0", "-1", "1e-300", "1e308", "inf", "-inf", "nan", "1000000000", "9" * 5000)
# What stands before an option in the usage, for options that take numbers.
NUMERIC = re.compile(r"^\W*(--[a-z][\w.-]*)\s+.*\b(?:INT|FLOAT)\b")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with weights, an image, and a small data set."""
    folder = tmp_path_factory.mktemp("commands")
    torch.manual_seed(0)
    model = mf.MetaFormer(_tiny())
    save_weights(model, folder / "tiny.safetensors", class_names=("a", "b"))
    for split, number in (("train", 12), ("test", 4)):
        for index in range(2 * number):
            path = folder / "data" / split / "ab"[index % 2] / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(index).integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
    return folder


def _tiny():
    from dataclasses import replace

    from metaformer.models.zoo import POOLFORMER_S12

    return replace(POOLFORMER_S12, depths=(1,) * 4, dims=(8, 8, 8, 8), num_classes=2, image_size=(32, 32))


def _bases(place):
    """Command -> the words that make it quick, before the option is tried."""
    weights, image, data = place / "tiny.safetensors", place / "data/test/a/0.png", place / "data"
    out = place / "out"
    train = ["--data", data, "--out", out, "--weights", weights, "--train.batch-size", "4", "--dry-run"]
    return {
        ("predict",): [weights, image],
        ("evaluate",): ["--weights", weights, "--data", data],
        ("profile",): ["poolformer_s12"],
        ("train", "finetune"): train,
    }


def _lines(place):
    """Every command line of the campaign, as (name, words)."""
    bases = _bases(place)
    helps = _helps([*bases])
    for command, base in bases.items():
        for option in dict.fromkeys(found[1] for line in helps[command].splitlines() if (found := NUMERIC.match(line))):
            for number in NUMBERS:
                # A pair, where a pair is asked: the parser says so where one number was enough.
                words = [*command, *map(str, base)]
                yield f"{' '.join(command)} {option} {number[:12]}", [*words, option, number]


def _helps(commands):
    code = "import json,sys,io,contextlib\nfrom metaformer.cli.main import run\nsaid=[]\n" + (
        "for words in json.load(sys.stdin):\n"
        "    with contextlib.redirect_stdout(io.StringIO()) as text: run([*words, '--help'])\n"
        "    said.append(text.getvalue())\n"
        "print(json.dumps(said))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps([list(one) for one in commands]),
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(zip(commands, json.loads(done.stdout), strict=True))


def _is_right(code, said):
    """A result, or one line that says what was wrong."""
    lines = [line for line in said.splitlines() if line.strip()]
    if code == 2:
        return len(lines) == 1 and lines[0].startswith("error: ") and len(lines[0]) < 1500
    return code in (0, 1) and "Traceback" not in said and "Warning" not in said


def _try_all(lines, tries, cwd):
    script = Path(__file__).with_name("forked_commands.py")
    done = subprocess.run(
        [sys.executable, str(script)],
        input=json.dumps([words for _, words in lines]),
        capture_output=True,
        text=True,
        cwd=cwd,
        check=True,
    )
    counted = tries("command lines: numbers")
    for (name, _), answer in zip(lines, done.stdout.splitlines(), strict=True):
        code, said, seconds = json.loads(answer)
        counted.note(name, _is_right(code, said), f"exit {code} after {seconds:.0f} s: {said[-300:]!r}")


def test_odd_numbers_in_a_few_options_give_a_result_or_one_line(place, tries, tmp_path):
    _try_all(random.Random(0).sample(list(_lines(place)), 24), tries, tmp_path)


@pytest.mark.slow
def test_odd_numbers_in_every_option_give_a_result_or_one_line(place, tries, tmp_path):
    _try_all(list(_lines(place)), tries, tmp_path)
