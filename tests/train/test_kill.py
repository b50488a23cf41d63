"""A run that is killed again and again ends where an undisturbed one does, bit for bit."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from metaformer.core.configs import to_dict
from metaformer.core.records import read_record

SCRIPT = Path(__file__).parent / "training_process.py"
SETUPS = {
    "adamw, mixing, average": {"recipe": {"mixing": {"mixup": 0.8, "cutmix": 1.0}, "ema_decay": 0.9}},
    "lamb, parts": {"recipe": {"optimizer": "lamb"}, "execution": {"micro_batch_size": 3}},
    "sgd, batch norm, clipping": {"norm": "batch_norm", "recipe": {"optimizer": "sgd", "clip_grad_norm": 0.5}},
    "bf16, best": {"recipe": {"precision": "bf16-mixed", "final_weights": "best", "ema_decay": 0.8}},
}


def start(folder, options):
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(folder), json.dumps(options)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(folder, options):
    process = start(folder, options)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def with_checkpoints(options, **execution):
    return options | {"execution": options.get("execution", {}) | execution}


def disturb(folder, options, *, num_lines, delay_s, number=signal.SIGKILL):
    """Sends the signal some time after so many steps; says where that was, and the exit code."""
    process = start(folder, options)
    seen = [process.stdout.readline() for _ in range(num_lines)]
    time.sleep(delay_s)
    process.send_signal(number)
    rest, _ = process.communicate(timeout=300)
    steps = [line for line in [*seen, *rest.splitlines()] if line[:2] == "0 "]
    return steps[-1].split()[1:3] if steps else ["0", "0"], rest, process.returncode


def expect_same(expected, actual):
    weights = [load_file(folder / "model.safetensors") for folder in (expected, actual)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    records = [read_record(folder) for folder in (expected, actual)]
    histories = [to_dict(record.measured.history) for record in records]
    for name in histories[0].keys() - {"images_per_second", "seconds"}:
        assert histories[0][name] == histories[1][name], name
    assert records[0].measured.test_loss == records[1].measured.test_loss
    # Every step and epoch is in the log once.
    places = [
        [line.split(",")[:2] for line in (folder / "log.csv").read_text().splitlines()] for folder in (expected, actual)
    ]
    assert places[0] == places[1]


def test_a_kill_in_the_middle_of_an_epoch_changes_nothing(tmp_path):
    options = with_checkpoints(SETUPS["adamw, mixing, average"], checkpoint_steps=1, log_steps=1)
    finish(tmp_path / "undisturbed", options)
    place, _, code = disturb(tmp_path / "run", options | {"pause_s": 0.05}, num_lines=8, delay_s=0.02)
    assert code == -signal.SIGKILL
    assert ["1", "2"] < place < ["2", "5"]
    lines = finish(tmp_path / "run", options).splitlines()
    assert ["1", "1"] < lines[0].split()[1:3] <= [place[0], str(int(place[1]) + 1)]
    expect_same(tmp_path / "undisturbed", tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_says_one_line_and_changes_nothing(tmp_path, number):
    options = with_checkpoints(SETUPS["lamb, parts"], log_steps=1)
    finish(tmp_path / "undisturbed", options)
    _, rest, code = disturb(tmp_path / "run", options | {"pause_s": 0.1}, num_lines=7, delay_s=0.05, number=number)
    assert code == 128 + number
    last = rest.splitlines()[-1]
    assert last.startswith("stopped: stopped after epoch 2, step ")
    assert last.endswith("; saved: the same command goes on there")
    done = int(last.split("step ")[1].split(";")[0])
    lines = finish(tmp_path / "run", options).splitlines()
    assert lines[0].split()[1:3] == ["1", str(done + 1)]
    expect_same(tmp_path / "undisturbed", tmp_path / "run")


@pytest.mark.slow
def test_twenty_kills_at_random_moments_change_nothing(tmp_path, capsys):
    choose = random.Random(0)
    log = []
    for name, options in SETUPS.items():
        finish(tmp_path / name, with_checkpoints(options, log_steps=1))
    for number in range(20):
        name = list(SETUPS)[number % len(SETUPS)]
        options = with_checkpoints(SETUPS[name], checkpoint_steps=choose.choice([1, 2, 3]), log_steps=1)
        folder = tmp_path / f"run {number}"
        # Between the first step and the last, at any moment of a step or of writing.
        num_lines, delay_s = choose.randint(0, 13), choose.random() * 0.05
        place, _, code = disturb(folder, options | {"pause_s": 0.01}, num_lines=num_lines, delay_s=delay_s)
        saved = sorted(path.name for path in folder.glob("checkpoint-*.pt")) if folder.exists() else []
        finish(folder, options)
        expect_same(tmp_path / name, folder)
        end = "killed" if code == -signal.SIGKILL else "had ended"
        newest = saved[-1] if saved else "none"
        log.append(f"{number + 1:2} {name:26} {end} after {place[0]} epochs and {place[1]} steps; saved: {newest}")
        assert not list(folder.glob(".*.part"))
    with capsys.disabled():
        print("\n" + "\n".join(log))  # noqa: T201 (quoted in the documentation)
    assert sum("killed" in line for line in log) >= 15
