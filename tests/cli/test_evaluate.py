"""`metaformer evaluate` as a user runs it."""

import io
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from metaformer.block.token_mixers import PoolingConfig
from metaformer.cli import evaluate as command
from metaformer.cli.main import run
from metaformer.cli.progress import _Lines, image_progress
from metaformer.core.preprocessing import as_it_is
from metaformer.core.records import read_record
from metaformer.data.formats.digits import Digits
from metaformer.data.preparation import Preparation
from metaformer.data.sources import open_data, open_images
from metaformer.deploy.classifier import open_classifier
from metaformer.deploy.evaluation import evaluate_images
from metaformer.models.metaformer import MetaFormer
from metaformer.models.weights import save_weights
from metaformer.recipes.paper_scales import TINY_POOLFORMER
from metaformer.train.config import Run, TrainConfig
from metaformer.train.run import perform

COLOURS = {"black": 0, "grey": 128, "white": 255}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def weights(tmp_path):
    """Of a small model for three classes of plain images."""
    config = replace(TINY_POOLFORMER, num_classes=3).with_input(as_it_is((16, 16), mean=(0.5,), std=(0.5,)))
    save_weights(MetaFormer(config), tmp_path / "run" / "model.safetensors", class_names=tuple(COLOURS))
    return str(tmp_path / "run")


@pytest.fixture
def folder(tmp_path):
    for name, level in COLOURS.items():
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(4):
            Image.new("L", (20, 20), level).save(tmp_path / "images" / name / f"{number}.png")
    return tmp_path / "images"


def test_a_trained_run_gives_its_accuracy_again(tmp_path, capsys):
    recipe = TrainConfig(epochs=1, batch_size=64, warmup_epochs=0.2)
    model = replace(TINY_POOLFORMER, token_mixers=(PoolingConfig(),) * 4)
    for _ in perform(
        Run(name="a", model=model, data="digits", train=recipe, seed=0), Digits(), tmp_path / "a", command="test"
    ):
        pass
    expected = read_record(tmp_path / "a").measured.test_accuracy_percent
    assert run(["evaluate", str(tmp_path / "a"), "--data", "digits", "--out", str(tmp_path / "out")]) == 0
    output = capsys.readouterr().out
    assert float(re.search(r"top-1 +([\d.]+)%", output)[1]) == pytest.approx(expected, abs=0.01)
    record = read_record(tmp_path / "out")
    assert record.measured.top1_percent == pytest.approx(expected)
    assert record.config["data"] == "digits"
    assert str(tmp_path / "out" / "run.json") in output


def test_arrays_are_evaluated_on_validation_where_they_have_no_test(tmp_path, capsys):
    pixels = np.random.default_rng(0).random((60, 1, 16, 16), dtype=np.float32)
    np.savez(tmp_path / "some.npz", x=pixels, y=np.arange(60) % 3)
    classes = tmp_path / "plain"
    config = replace(TINY_POOLFORMER, num_classes=3).with_input(as_it_is((16, 16), mean=(0.5,), std=(0.5,)))
    save_weights(MetaFormer(config), classes / "model.safetensors")
    assert run(["evaluate", str(classes), "--data", f"npz:{tmp_path / 'some.npz'}"]) == 0
    assert "some, validation" in capsys.readouterr().out
    assert run(["evaluate", str(classes), "--data", f"npz:{tmp_path / 'some.npz'}", "--split", "test"]) == 2
    assert "has no test split. Take its validation split." in capsys.readouterr().err


def test_a_folder_gives_figures_and_a_matrix(weights, folder, capsys):
    assert run(["evaluate", "--weights", weights, "--data", str(folder)]) == 0
    output = capsys.readouterr().out
    assert "12 images, 3 classes" in output
    assert re.search(r"top-1 +\d+\.\d\d%   95% interval \d+\.\d\d% to \d+\.\d\d%", output)
    assert "top-5" not in output
    assert re.search(r"loss +\d\.\d{4}    nats", output)
    assert re.search(r"speed +[\d,]+ images/s with reading; the model alone [\d,]+ \(cpu, 32-true\)", output)
    rows = {line.split()[0]: line.split()[1:] for line in output.splitlines() if line.split()[:1]}
    for name in COLOURS:
        assert sum(int(cell) for cell in rows[name][1:4] if cell != ".") == 4


def test_images_that_cannot_be_read_make_the_exit_code_1(weights, folder, tmp_path, capsys):
    for number in range(12):
        (folder / "grey" / f"broken{number}.png").write_bytes(b"no image")
    out = tmp_path / "out"
    assert run(["evaluate", "--weights", weights, "--data", str(folder), "--out", str(out)]) == 1
    captured = capsys.readouterr()
    assert "12 images, 3 classes" in captured.out
    lines = captured.err.splitlines()
    assert lines[0] == f"cannot read {folder / 'grey' / 'broken0.png'}: not an image that Pillow can read"
    assert len(lines) == command.MOST_NAMED + 1
    assert lines[-1] == "12 images could not be read and are not counted. 2 more are in the record (--out)."
    assert len(read_record(out).measured.unreadable) == 12


def test_many_classes_show_the_worst(tmp_path, capsys):
    config = replace(TINY_POOLFORMER, num_classes=20, in_chans=1, image_size=(16, 16))
    save_weights(MetaFormer(config), tmp_path / "model.safetensors")
    for number in range(20):
        (tmp_path / "images" / str(number)).mkdir(parents=True)
        Image.new("L", (20, 20), number).save(tmp_path / "images" / str(number) / "a.png")
    assert run(["evaluate", str(tmp_path), "--data", str(tmp_path / "images"), "--precision", "bf16-mixed"]) == 0
    output = capsys.readouterr().out
    assert "note: folder names are class numbers" in output
    assert "lowest accuracy of a class:" in output
    assert len(output.split("lowest accuracy of a class:\n")[1].splitlines()) == command.WORST
    assert "top-5" in output


def test_a_class_map_from_a_file(weights, folder, tmp_path, capsys):
    (folder / "white").rename(folder / "weiss")
    words = ["evaluate", "--weights", weights, "--data", str(folder)]
    assert run(words) == 2
    assert "error: the model has no class 'weiss'" in capsys.readouterr().err
    (tmp_path / "map.json").write_text('{"weiss": "white", "black": 0, "grey": 1}')
    assert run([*words, "--class-map", str(tmp_path / "map.json")]) == 0
    assert "note: classes by the class map" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate", "--data", "digits"], "no model: name one of the zoo"),
        (["evaluate", "poolformer_s12", "--data", "digits"], "has a head that was never trained"),
        (["evaluate", "poolformer_s13", "--data", "digits"], "'poolformer_s13' is no model of the zoo"),
        (["evaluate", "{weights}", "--data", "digitz"], "unknown data source 'digitz'"),
        (["evaluate", "{weights}", "--data", "digits"], "the model's classes"),
        (["evaluate", "{weights}"], "--data is missing"),
        (["evaluate", "{weights}", "--data", "digits", "--crop-fraction", "1"], "are for image files; digits has none"),
        (["evaluate", "{weights}", "--data", "{folder}", "--crop-fraction", "2"], "crop_fraction must be in [0.1, 1]"),
        (["evaluate", "{weights}", "--data", "{folder}", "--precision", "fp8"], "unknown precision 'fp8'"),
        (["evaluate", "{weights}", "--data", "{folder}", "--threads", "0"], "num_threads must be at least 1"),
        (["evaluate", "{weights}", "--data", "{folder}", "--split", "test"], "It has no splits"),
        (["evaluate", "{weights}", "--data", "{folder}", "--class-map", "/nowhere"], "cannot read the classes in"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_requests_are_one_line(weights, folder, capsys, words, message):
    message = message.replace("the model's classes", "the model has no class")
    assert run([word.format(weights=weights, folder=folder) for word in words]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_progress_is_a_line_now_and_then_where_nobody_looks(capsys, monkeypatch):
    lines = _Lines(1000)
    lines.show(10, 0)
    assert capsys.readouterr().err == ""
    lines.started -= 20
    lines.said -= 20
    lines.show(500, 3)
    assert re.fullmatch(r"500 of 1,000 images, 25 images/s, 3 unreadable, ETA 0:(19|20)\n", capsys.readouterr().err)


def test_progress_is_a_bar_where_somebody_looks(capsys, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    with image_progress(100) as show:
        show(50, 1)
    assert "50/100" in terminal.getvalue()
    assert "1 unreadable" in terminal.getvalue()
    assert "ETA" in terminal.getvalue()


def test_damaged_weights_are_told_and_make_the_exit_code_1(folder, tmp_path, capsys):
    config = replace(TINY_POOLFORMER, num_classes=3).with_input(as_it_is((16, 16), mean=(0.5,), std=(0.5,)))
    model = MetaFormer(config)
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    save_weights(model, tmp_path / "nan" / "model.safetensors", class_names=tuple(COLOURS))
    words = [str(tmp_path / "nan"), "--data", str(folder)]
    assert run(["evaluate", *words, "--out", str(tmp_path / "out")]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("12 of 12 images have scores that are no numbers (NaN or infinite)")
    assert "top-1     0.00%   95% interval 0.00% to" in captured.out
    measured = read_record(tmp_path / "out").measured
    assert (measured.num_without_scores, measured.loss) == (12, None)
    assert run(["predict", words[0], str(folder), "--format", "jsonl"]) == 1
    captured = capsys.readouterr()
    assert "not finite numbers" in captured.out
    assert "probability" not in captured.out
    assert captured.err.splitlines()[-1].startswith("12 images, 12 have no scores")


def test_an_interpolation_given_in_training_is_evaluated_with(tmp_path):
    """What the record says comes again to the last digit: crop, interpolation and statistics are the training's."""
    random = torch.Generator().manual_seed(0)
    for number in range(60):
        file = tmp_path / "images" / ("test" if number % 3 == 0 else "train") / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        level = 115 + 10 * (number % 2)
        pixels = (torch.randn(37, 29, 3, generator=random) * 60 + level).clamp(0, 255).byte()
        Image.fromarray(pixels.numpy()).save(file)
    preparation = Preparation(image_size=(16, 16), interpolation="bilinear", crop_fraction=0.8, validation_fraction=0.2)
    data = open_data(str(tmp_path / "images"), preparation)
    recipe = TrainConfig(epochs=1, batch_size=8, warmup_epochs=0.2)
    trained = Run(name="a", model=TINY_POOLFORMER, data="", preparation=preparation, train=recipe, seed=0)
    for _ in perform(trained, data, tmp_path / "run", command="test"):
        pass
    trained_to = read_record(tmp_path / "run").measured
    classifier = open_classifier(None, tmp_path / "run")
    assert classifier.model.config.model_input == data.facts.model_input
    result = evaluate_images(classifier, open_images(str(tmp_path / "images"), "test"), batch_size=250)
    assert result.top1 == trained_to.test_accuracy_percent
    assert result.loss == pytest.approx(trained_to.test_loss, rel=1e-4)
