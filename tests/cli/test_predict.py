"""`metaformer predict` as a user runs it."""

import csv
import io
import json
from dataclasses import replace

import pytest
import torch
from PIL import Image

from metaformer.cli.main import run
from metaformer.models.metaformer import MetaFormer
from metaformer.models.weights import save_weights
from metaformer.recipes.paper_scales import TINY_POOLFORMER

CONFIG = replace(TINY_POOLFORMER, num_classes=3, in_chans=3, image_size=(16, 16))


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def weights(tmp_path):
    save_weights(MetaFormer(CONFIG), tmp_path / "run" / "model.safetensors", class_names=("ant", "bee", "cat"))
    return str(tmp_path / "run")


@pytest.fixture
def images(tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(3):
        Image.new("RGB", (20, 30), (80 * number, 9, 9)).save(tmp_path / "images" / f"{number}.png")
    return tmp_path / "images"


def test_files_and_folders_as_a_table(weights, images, capsys):
    assert run(["predict", weights, str(images / "2.png"), str(images), "--top-k", "2"]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[0].split() == ["image", "probability", "class"]
    assert len(lines) == 1 + 4 * 2
    assert [line.split()[0][-5:] for line in lines[1::2]] == ["2.png", "0.png", "1.png", "2.png"]
    assert {line.split()[-1] for line in lines[1:]} <= {"ant", "bee", "cat"}
    assert captured.err.startswith("4 images, ")


def test_the_name_the_weights_and_images_in_any_place(weights, images, capsys):
    one = str(images / "0.png")
    for words in (
        ["--weights", weights, one],
        [one, "--weights", weights],
        [weights, one],
        [weights, "--format", "jsonl", one],
        ["--weights", weights, "--format", "jsonl", one],
    ):
        assert run(["predict", *words, "--top-k", "1"]) == 0, words
        assert "0.png" in capsys.readouterr().out


def test_a_model_of_the_zoo_by_name(tmp_path, images, capsys):
    from metaformer.models.create import create_model

    model = create_model("poolformer_s12", num_classes=3)
    save_weights(model, tmp_path / "s12.safetensors", class_names=("ant", "bee", "cat"))
    words = ["predict", "poolformer_s12", "--weights", str(tmp_path / "s12.safetensors"), str(images / "0.png")]
    assert run([*words, "--format", "csv"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 3


def test_names_of_files_from_stdin(weights, images, capsys, monkeypatch):
    names = f"{images / '1.png'}\n\n{images / 'with space.png'}\r\n{images}\n"
    (images / "0.png").rename(images / "with space.png")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(names.encode())))
    assert run(["predict", weights, "-", "--format", "jsonl", "--top-k", "1"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["image"].rpartition("/")[2] for row in rows] == [
        "1.png",
        "with space.png",
        "1.png",
        "2.png",
        "with space.png",
    ]


@pytest.mark.parametrize("form", ["table", "jsonl", "csv"])
def test_images_that_cannot_be_read_are_named_and_the_rest_run(weights, images, capsys, form):
    (images / "1.png").write_bytes(b"")
    assert run(["predict", weights, str(images), "absent.jpg", "--format", form, "--top-k", "1"]) == 1
    captured = capsys.readouterr()
    errors = captured.err.splitlines()
    assert errors[0] == f"cannot read {images / '1.png'}: the file is empty"
    assert errors[1] == "cannot read absent.jpg: no such file or directory"
    assert errors[2].startswith("4 images, 2 could not be read, ")
    if form == "jsonl":
        rows = [json.loads(line) for line in captured.out.splitlines()]
        assert [row.get("error") for row in rows] == [None, "the file is empty", None, "no such file or directory"]
    if form == "csv":
        rows = list(csv.DictReader(captured.out.splitlines()))
        assert [row["rank"] for row in rows] == ["1", "", "1", ""]


def test_names_of_classes_from_a_file(tmp_path, images, capsys):
    save_weights(MetaFormer(CONFIG), tmp_path / "w.safetensors")
    words = ["predict", str(tmp_path / "w.safetensors"), str(images), "--top-k", "1"]
    assert run(words) == 0
    assert capsys.readouterr().err.startswith("note: the weights name no classes, so their numbers stand for them")
    (tmp_path / "names.txt").write_text("dog\nelk\nfox\n")
    assert run([*words, "--class-names", str(tmp_path / "names.txt")]) == 0
    captured = capsys.readouterr()
    assert not captured.err.startswith("note")
    assert {line.split()[-1] for line in captured.out.splitlines()[1:]} <= {"dog", "elk", "fox"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["predict"], "no images: name files or folders"),
        (["predict", "{weights}"], "no images: name files or folders"),
        (["predict", "poolformer_s12", "a.jpg"], "has a head that was never trained"),
        (["predict", "poolformer_s13", "a.jpg"], "is no model of the zoo, and no folder with model.safetensors"),
        (["predict", "poolformer_s13", "--weights", "{weights}", "a.jpg"], "is neither a model nor an image. Did you"),
        (["predict", "a.jpg"], "no model: name one of the zoo"),
        (["predict", "{weights}", "{empty}"], "no images in"),
        (["predict", "{weights}", "a.jpg", "--format", "xml"], "unknown format 'xml'"),
        (["predict", "{weights}", "a.jpg", "--top-k", "0"], "top_k must be at least 1; got 0"),
        (["predict", "{weights}", "a.jpg", "--batch-size", "0"], "batch_size must be at least 1; got 0"),
        (["predict", "{weights}", "a.jpg", "--class-names", "/nowhere"], "cannot read the classes in /nowhere"),
        (["predict", "{weights}", "a.jpg", "--top-j", "0"], "--top-j"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_requests_are_one_line(weights, tmp_path, capsys, words, message):
    (tmp_path / "empty").mkdir()
    assert run([word.format(weights=weights, empty=tmp_path / "empty") for word in words]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_predicting_does_not_begin_with_loading_the_compiler(run_python):
    """It takes a second and 70 MiB, and only what is compiled or trained needs it."""
    assert run_python("import sys, metaformer.cli.predict; print('torch._dynamo' in sys.modules)").strip() == "False"
