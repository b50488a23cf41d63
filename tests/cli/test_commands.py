"""What the commands print."""

import dataclasses
import importlib
import inspect
import re
import typing

import pytest
import torch

from metaformer import __version__
from metaformer.cli.main import COMMANDS, run
from metaformer.core import caches
from metaformer.models.zoo import ZOO
from metaformer.train.config import TrainConfig


def options(command):
    """The options and arguments that the signature of a command asks for, as they are written."""
    module, _ = COMMANDS[command]
    function = getattr(importlib.import_module(f"metaformer.cli.{module}"), module)
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        if parameter.name == "train":
            yield from (f"--train.{field.name.replace('_', '-')}" for field in dataclasses.fields(TrainConfig))
        elif dataclasses.is_dataclass(base := getattr(parameter.annotation, "__origin__", None)):
            # All options of the command in one value; those that are configs themselves have fields of their own.
            fields = [field for field in dataclasses.fields(base) if not dataclasses.is_dataclass(field.type)]
            yield from (f"--{field.name.replace('_', '-')}" for field in fields)
        elif typing.get_origin(parameter.annotation) is typing.Annotated:
            parts = [part for part in parameter.annotation.__metadata__ if hasattr(part, "metavar")]
            yield from (part.metavar or f"--{part.name}" for part in parts)
        else:
            yield f"--{parameter.name.replace('_', '-')}"


@pytest.fixture
def printed(capsys):
    """Runs a command that must succeed; returns its output."""

    def call(*words):
        assert run(list(words)) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        return captured.out

    return call


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]], ids=" ".join)
def test_the_help_names_every_command(printed, words):
    text = printed(*words)
    for command, (_, purpose) in COMMANDS.items():
        assert re.search(rf"^  {' '.join(command)} +{re.escape(purpose)}$", text, re.M)


@pytest.mark.parametrize("help_option", ["--help", "-h"])
# The options of 'train' depend on the recipe: tests/cli/test_train.py.
@pytest.mark.parametrize("command", [command for command in COMMANDS if command != ("train",)], ids=" ".join)
def test_the_help_of_a_command_names_its_options(printed, command, help_option):
    text = printed(*command, help_option)
    assert text.startswith(f"usage: metaformer {' '.join(command)} ")
    for option in options(command):
        assert re.search(rf"(^|\s){re.escape(option)}(?!\w)", text, re.M), option


def test_the_help_test_looks_for_options():
    assert {"--seeds", "--out", "--train.epochs", "--train.clip-grad-norm"} <= set(options(("study", "quick")))
    assert {"NAME", "--image-size"} <= set(options(("profile",)))


def test_the_help_of_the_study_shows_its_defaults(printed):
    text = " ".join(re.sub("[│╭╰─╮╯]", "", printed("study", "quick", "--help")).split())
    for default in ("(default: cluttered-digits)", "(default: 3)", "(default: runs/quick)", "(default: 0.004)"):
        assert default in text


@pytest.mark.parametrize("word", ["--version", "-V"])
def test_the_version(printed, word):
    assert printed(word) == f"metaformer {__version__}\n"


def rows_of_models(text):
    """The line of each model."""
    return {line.split()[0]: line for line in text.splitlines() if line.split() and line.split()[0] in ZOO}


def test_models_lists_the_zoo_with_the_papers_costs(printed):
    rows = rows_of_models(printed("models"))
    assert list(rows) == list(ZOO)
    assert re.search(r" 11\.9 M +1\.82 G ", rows["poolformer_s12"])
    assert re.search(r" 21\.4 M +3\.41 G ", rows["poolformer_s24"])
    assert re.search(r" 73\.5 M +11\.59 G ", rows["poolformer_m48"])


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("poolformer_s24", ["poolformer_s24"]),
        ("poolformer_s?2", ["poolformer_s12"]),
        ("ppaa", ["metaformer_ppaa_s12_224"]),
    ],
)
def test_models_takes_a_pattern(printed, pattern, expected):
    assert list(rows_of_models(printed("models", pattern))) == expected


def test_profile_shows_the_grid_of_patches_beside_a_class_token(printed):
    text = printed("profile", "deit_tiny_patch16_224")
    assert re.search(r"^stages\.0\.patch_embed +14x14 ", text, re.M)


def test_profile_counts_poolformer_s12(printed):
    text = printed("profile", "poolformer_s12")
    assert "poolformer_s12, one image of 3x224x224" in text
    assert re.search(r"^parameters +11,915,176 ", text, re.M)
    assert re.search(r"^MACs +1,822,678,528 ", text, re.M)
    assert re.search(r"^stages\.0\.patch_embed +56x56 ", text, re.M)
    assert re.search(r"^stages\.3\.patch_embed +7x7 ", text, re.M)


def test_the_parts_of_a_profile_add_up(printed):
    text = printed("profile", "poolformer_s12")
    rows = re.findall(r"^(?:stages\S+|norm|head) .*?([\d,]+) +([\d,]+) +([\d.]+)%$", text, re.M)
    params, macs = (sum(int(row[i].replace(",", "")) for row in rows) for i in (0, 1))
    assert (params, macs) == (11_915_176, 1_822_678_528)
    assert sum(float(row[2]) for row in rows) == pytest.approx(100, abs=1)


def test_profile_takes_other_images_and_classes(printed):
    text = printed("profile", "poolformer_s12", "--image-size", "64", "96", "--in-chans", "1", "--num-classes", "0")
    assert "one image of 1x64x96" in text
    assert re.search(r"^stages\.0\.patch_embed +16x24 ", text, re.M)
    assert re.search(r"^head +0 ", text, re.M)
    square = printed("profile", "poolformer_s12", "--image-size", "64")
    assert "one image of 3x64x64" in square


def test_profile_of_a_model_tied_to_its_grid(printed):
    assert "1x" not in printed("profile", "metaformer_pppf_s12_224", "--image-size", "64").split("\n")[0]


def test_doctor_says_what_works_here(printed):
    text = printed("doctor")
    assert re.search(rf"^torch +{re.escape(torch.__version__.partition('+')[0])}", text, re.M)
    assert re.search(rf"^metaformer +{re.escape(__version__)}", text, re.M)
    for ability in ("build, load, profile models", "train", "embedded digits", "HTML page"):
        assert re.search(rf"^{ability} +yes", text, re.M)
    assert re.search(r"^torch\.compile on the CPU +(yes +by \S+|no +no C\+\+ compiler;)", text, re.M)
    assert re.search(r"^GPU +(yes|no +torch\.cuda sees none)", text, re.M)


def test_doctor_says_how_to_get_what_is_missing(printed, monkeypatch):
    doctor = importlib.import_module("metaformer.cli.doctor")
    monkeypatch.setitem(doctor.ABILITIES, "HTML page", (("no_such_module",), "report"))
    text = " ".join(printed("doctor").split())
    assert "HTML page no No module named 'no_such_module'; pip install 'metaformer[report]'" in text


def test_doctor_shows_and_clears_what_is_kept(printed, monkeypatch, tmp_path):
    monkeypatch.setattr(caches.platformdirs, "user_cache_dir", lambda name: str(tmp_path / name))
    kept = tmp_path / "metaformer" / "trials" / "one.json"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(bytes(2**20))
    assert re.search(rf"^timed trials of optimize +1\.0 MiB +{re.escape(str(kept.parent))}", printed("doctor"), re.M)
    assert re.search(r"^timed trials of optimize +0\.0 MiB", printed("doctor", "--clear-caches"), re.M)
    assert not kept.exists()


@pytest.mark.parametrize("sides", [["64"], ["64", "64"]], ids=" ".join)
def test_an_image_size_is_one_side_or_two(sides, capsys):
    assert run(["profile", "poolformer_s12", "--image-size", *sides]) == 0
    assert "3x64x64" in capsys.readouterr().out


def test_three_sides_are_refused(capsys):
    assert run(["profile", "poolformer_s12", "--image-size", "64", "64", "64"]) == 2
    assert "INT [INT]" in capsys.readouterr().err
