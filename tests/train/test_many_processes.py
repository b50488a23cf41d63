"""Several processes on one machine, as torchrun starts them, equal one with the same global batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from metaformer.core.records import read_record

SCRIPT = Path(__file__).parent / "training_process.py"
MIXING = {"mixup": 0.8, "cutmix": 1.0}
EVERYTHING = {
    "norm": "batch_norm",
    "dropout": 0.0,
    "recipe": {
        "mixing": MIXING,
        "ema_decay": 0.9,
        "clip_grad_norm": 0.5,
        "optimizer": "momentum",
        "lr": 0.1,
        "epochs": 2,
    },
}
ACCUMULATED = {
    "dropout": 0.0,
    "recipe": {"mixing": MIXING, "ema_decay": 0.9, "optimizer": "lamb", "batch_size": 16, "epochs": 3},
    "execution": {"micro_batch_size": 2},
}


def start(folder, options, *, num=1):
    """What the processes printed, errors included, and the exit code."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(num)] if num > 1 else []
    done = subprocess.run(
        [sys.executable, *launcher, str(SCRIPT), str(folder), json.dumps(options)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    return done.stdout.splitlines(), done.returncode


def losses(lines, rank=0):
    """The loss of each step, by epoch and step."""
    rows = [line.split() for line in lines]
    return {(int(row[1]), int(row[2])): float(row[3]) for row in rows if len(row) == 4 and row[0] == str(rank)}


def expect_equal_runs(one, several, optimizer="momentum"):
    """The same weights, history and test, to float tolerance."""
    expected, actual = (load_file(folder / "model.safetensors") for folder in (one, several))
    # LAMB makes whole steps of gradients that are zero but for rounding, as those of a bias that a norm takes away.
    for name, value in expected.items() if optimizer == "momentum" else ():
        torch.testing.assert_close(
            actual[name], value, rtol=1e-3, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}"
        )
    expected, actual = (read_record(folder) for folder in (one, several))
    for name in ("train_loss", "validation_loss", "validation_accuracy_percent", "learning_rate"):
        known = getattr(expected.measured.history, name)
        assert getattr(actual.measured.history, name) == pytest.approx(known, rel=1e-4)
    for name in ("test_loss", "test_accuracy_percent"):
        assert getattr(actual.measured, name) == pytest.approx(getattr(expected.measured, name), rel=1e-4)


def test_two_processes_equal_one(tmp_path):
    """Drop path, mixing, synchronised batch norm, clipping and averaging; one quick run of what the slow tests do."""
    one, code = start(tmp_path / "1", EVERYTHING)
    assert code == 0, one
    two, code = start(tmp_path / "2", EVERYTHING, num=2)
    assert code == 0, two
    assert len(losses(one)) == 10
    assert losses(two) == pytest.approx(losses(one), rel=1e-4)
    assert losses(two, rank=1) == losses(two, rank=0)
    expect_equal_runs(tmp_path / "1", tmp_path / "2")
    assert read_record(tmp_path / "2").measured.num_processes == 2
    # Rank 0 alone writes; nobody warns.
    names = [sorted(path.name for path in (tmp_path / folder).iterdir()) for folder in "12"]
    assert names[0] == names[1]
    assert not [line for line in two if "arning" in line or "deprecated" in line]


@pytest.mark.slow
@pytest.mark.parametrize("num", [2, 4])
@pytest.mark.parametrize("options", [EVERYTHING, ACCUMULATED], ids=["everything", "accumulated"])
def test_more_processes_and_accumulated_gradients_equal_one(tmp_path, num, options):
    one, _ = start(tmp_path / "1", options)
    several, code = start(tmp_path / "several", options, num=num)
    assert code == 0, several
    assert losses(several) == pytest.approx(losses(one), rel=1e-4)
    expect_equal_runs(tmp_path / "1", tmp_path / "several", options["recipe"]["optimizer"])


@pytest.mark.slow
@pytest.mark.parametrize(("num", "rank"), [(2, 1), (2, 0), (4, 2)])
def test_a_killed_process_ends_the_job_with_one_line_and_the_next_start_goes_on(tmp_path, num, rank):
    options = EVERYTHING | {"execution": {"checkpoint_steps": 2}}
    undisturbed, _ = start(tmp_path / "undisturbed", options, num=num)
    lines, code = start(tmp_path / "run", options | {"die": [rank, 8]}, num=num)
    assert code == 1
    said = [line for line in lines if line.startswith("error")]
    # The launcher may end a process before it has said anything.
    assert 1 <= len(said) <= num - 1, lines
    for line in said:
        assert f"another of the {num} processes of this training ended" in line
        assert line.endswith("What was saved stays: the same command goes on from there.")
    again, code = start(tmp_path / "run", options, num=num)
    assert code == 0, again
    # Rank 0 may have saved step 8 or not, but never less than step 6.
    first = min(losses(again))
    assert (1, 1) < first <= (1, 4)
    expected = losses(undisturbed)
    # DDP orders its first step's sums over processes unlike those after it: with three summands that shows in the
    # last digit.
    tolerance = 0 if num == 2 else 1e-5
    expected = {place: loss for place, loss in expected.items() if place >= first}
    assert losses(again) == pytest.approx(expected, rel=tolerance, abs=0)
    weights = [load_file(tmp_path / folder / "model.safetensors") for folder in ("undisturbed", "run")]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=tolerance, atol=tolerance, msg=name)


@pytest.mark.slow
def test_a_batch_that_cannot_be_divided_is_refused_by_every_process(tmp_path):
    lines, code = start(tmp_path, {"recipe": {"batch_size": 7}}, num=2)
    assert code == 1
    said = [line for line in lines if line.startswith("error")]
    assert len(said) >= 1
    assert "train.batch_size must be a multiple of the number of processes (2); got 7. Try 8." in said[0]


@pytest.mark.slow
def test_a_loss_that_is_no_number_in_one_process_is_named_by_all(tmp_path):
    # The 13th and 14th image of the order are of the second step, and of the second process.
    lines, code = start(tmp_path, EVERYTHING | {"poison": 13}, num=2)
    assert code == 1
    reason = "the loss became nan in epoch 1, step 2: the images of the batch are not finite"
    said = {line for line in lines if line.startswith("error")}
    # The launcher may end one before it has said it.
    assert said
    assert said <= {f"error {rank}: {reason}" for rank in range(2)}, lines
