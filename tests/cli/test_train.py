"""`metaformer train` as a user meets it."""

import json
import signal
import subprocess
import sys
import time

import pytest
import torch
from PIL import Image

from metaformer.cli.main import run
from metaformer.core.records import read_record
from metaformer.models.create import create_model
from metaformer.models.weights import WEIGHTS_FILE

QUICK = ["train", "digits-quick", "--data", "digits", "--train.epochs", "2"]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def photographs(tmp_path):
    """Two classes that a glance tells apart."""
    for index in range(24):
        for name, colour in (("red", (200, index, 0)), ("blue", (0, index, 200))):
            file = tmp_path / "photographs" / name / f"{index}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 48), colour).save(file)
    return tmp_path / "photographs"


def error_of(words, capsys):
    assert run(words) == 2
    text = capsys.readouterr().err
    assert text.startswith("error: ")
    assert text.count("\n") == 1
    return text


def test_a_run_ends_with_a_folder_that_the_other_commands_take(tmp_path, capsys):
    out = tmp_path / "run"
    assert run([*QUICK, "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "epoch 2/2: loss" in text
    assert "997 training images, 300 for validation, 500 for the test" in text
    assert run(["evaluate", str(out), "--data", "digits"]) == 0
    accuracy = read_record(out).measured.test_accuracy_percent
    assert f"top-1   {accuracy:6.2f}%" in capsys.readouterr().out
    assert run([*QUICK, "--out", str(out)]) == 0
    assert "holds this run, finished" in capsys.readouterr().out


def test_a_finished_folder_is_not_overwritten_by_other_settings(tmp_path, capsys):
    assert run([*QUICK, "--out", str(tmp_path)]) == 0
    capsys.readouterr()
    assert "holds a finished run with other settings" in error_of(
        [*QUICK, "--seed", "1", "--out", str(tmp_path)], capsys
    )


def test_finetune_on_a_folder_of_images(photographs, tmp_path, capsys):
    out = tmp_path / "tuned"
    words = ["train", "finetune", "--data", str(photographs), "--model", "poolformer_s12", "--out", str(out)]
    small = ["--preparation.image-size", "32", "32", "--train.epochs", "2", "--train.batch-size", "8"]
    assert run([*words, *small, "--train.lr", "3e-3", "--train.layer-decay", "None"]) == 0
    model = create_model("poolformer_s12", weights=out)
    assert model.num_classes == 2
    capsys.readouterr()
    assert run(["predict", str(out), str(photographs / "red" / "3.png"), "--format", "jsonl"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[0])
    assert answer["predictions"][0]["class"] == "red"
    # Weights of a run are a start for another, which then trains its head alone.
    again = tmp_path / "head"
    words = ["train", "finetune", "--data", str(photographs), "--weights", str(out), "--out", str(again)]
    assert run([*words, *small, "--train.trainable", "head"]) == 0
    before, after = (create_model("poolformer_s12", weights=folder).state_dict() for folder in (out, again))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("head.") for name in changed)


def test_a_dry_run_writes_nothing(photographs, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["train", "finetune", "--data", str(photographs), "--out", str(out), "--train.batch-size", "4"]
    assert run([*words, "--preparation.image-size", "32", "32", "--dry-run"]) == 0
    text = capsys.readouterr().out
    for word in ("nothing was written", "step ", "validation", "whole run", "memory", "checkpoint", "free"):
        assert word in text
    assert not out.exists()


def test_token_mixers_are_chosen_by_name(tmp_path):
    mixers = "pooling,depthwise_conv(kernel_size=5),identity,identity"
    assert run([*QUICK, "--train.epochs", "1", "--token-mixers", mixers, "--out", str(tmp_path)]) == 0
    types = [mixer["type"] for mixer in read_record(tmp_path).config["model"]["token_mixers"]]
    assert types == ["pooling", "depthwise_conv", "identity", "identity"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train"], "'metaformer train' needs a recipe: digits-quick, cifar10-small"),
        (["train", "digits-quik"], "unknown recipe 'digits-quik'. Did you mean 'digits-quick'?"),
        (["train", "finetune"], "--data is missing"),
        (["train", "finetune", "--data", "nowhere"], "unknown data source 'nowhere'"),
        (["train", "finetune", "--model", "poolformer_s13"], "Did you mean 'poolformer_s12'?"),
        ([*QUICK, "--train.epochs", "0"], "train.epochs must be at least 1; got 0."),
        ([*QUICK, "--train.label-smooth", "0"], "Did you mean --train.label-smoothing?"),
        ([*QUICK, "--token-mixers", "poling"], "Did you mean 'pooling'?"),
        ([*QUICK, "--execution.loggers", "tensorbord"], "Did you mean 'tensorboard'?"),
        ([*QUICK, "--train.optimizer", "adamww"], "Did you mean 'adamw'?"),
        ([*QUICK, "--weights", "nothing.safetensors"], "nothing.safetensors"),
        ([*QUICK, "--execution.device", "cuda"], "unknown execution.device 'cuda'"),
    ],
    ids=lambda value: " ".join(value)[-40:] if isinstance(value, list) else "",
)
def test_mistakes_get_one_line(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert message in error_of(words, capsys)


def test_help_names_the_recipes_and_the_options_of_one(capsys):
    assert run(["train", "--help"]) == 0
    assert "metaformer-baselines-imagenet" in capsys.readouterr().out
    assert run(["train", "digits-quick", "--help"]) == 0
    assert "--train.ema-decay" in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_saves_and_the_same_command_goes_on(tmp_path, number):
    out = tmp_path / "run"
    words = [sys.executable, "-m", "metaformer", "train", "digits-quick", "--train.epochs", "400", "--out", str(out)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list(out.glob("checkpoint-*.pt")):
        time.sleep(0.05)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "saved: the same command goes on there" in said
    assert "Traceback" not in said
    assert not (out / WEIGHTS_FILE).exists()
    again = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    first = next(line for line in again.stdout if line.startswith("epoch"))
    again.kill()
    again.communicate()
    # Not from the beginning.
    assert not first.startswith("epoch 1/400: loss 2.3") or list(out.glob("checkpoint-0001-*"))


def test_fused_operators_train_to_the_same_losses(tmp_path):
    histories = []
    for name, extra in (("plain", []), ("fast", ["--execution.fast"])):
        assert run([*QUICK, *extra, "--out", str(tmp_path / name)]) == 0
        histories.append(read_record(tmp_path / name).measured.history.train_loss)
    assert histories[0] == pytest.approx(histories[1], rel=1e-3)


def test_a_training_has_a_page(tmp_path, capsys):
    assert run([*QUICK, "--out", str(tmp_path / "one")]) == 0
    assert run([*QUICK, "--seed", "1", "--out", str(tmp_path / "other")]) == 0
    capsys.readouterr()
    assert run(["report", str(tmp_path / "one"), str(tmp_path / "other")]) == 0
    page = tmp_path / "one" / "report-with-other.html"
    assert str(page) in capsys.readouterr().out
    assert "Validation accuracy" in page.read_text()
