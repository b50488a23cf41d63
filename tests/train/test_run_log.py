import csv
import errno
import os

import pytest

from metaformer.core.errors import ConfigError, StoppedError
from metaformer.train.loop import EpochResult, StepResult
from metaformer.train.run_log import LOG_FILE, RunLog

HISTORY = {name: [1.0, 2.0, 3.0] for name in ("train_loss", "validation_loss", "validation_accuracy", "seconds")}


def step(epoch, step, loss=0.5):
    return StepResult(
        epoch=epoch,
        step=step,
        steps_per_epoch=4,
        loss=loss,
        learning_rate=1e-3,
        images_per_second=10.0,
        waiting_share=0.25,
        memory_mib=100.0,
    )


def epoch(epoch, resumed=False):
    history = {name: column[:epoch] for name, column in HISTORY.items()}
    return EpochResult(epoch=epoch, history=history, steps_per_epoch=4, resumed=resumed)


def write(folder, results, *, log_steps=1, names=("csv",)):
    log = RunLog(names, folder, log_steps=log_steps, settings={})
    for result in results:
        log.write(result)
    log.close()


def places(folder):
    """Epoch and step of each line; no step where an epoch ended."""
    with (folder / LOG_FILE).open() as file:
        return [(int(row["epoch"]), int(row["step"]) if row["step"] else None) for row in csv.DictReader(file)]


def an_epoch(index):
    return [*(step(index, number) for number in range(1, 5)), epoch(index + 1)]


WHOLE = [(0, 1), (0, 2), (0, 3), (0, 4), (1, None), (1, 1), (1, 2), (1, 3), (1, 4), (2, None)]


def test_a_line_for_each_step_and_each_epoch(tmp_path):
    write(tmp_path, an_epoch(0) + an_epoch(1))
    assert places(tmp_path) == WHOLE
    with (tmp_path / LOG_FILE).open() as file:
        first, *_, last = csv.DictReader(file)
    assert (first["loss"], first["learning_rate"], first["validation_accuracy"]) == ("0.5", "0.001", "")
    assert (last["loss"], last["validation_accuracy"], last["seconds"]) == ("", "2", "2")


@pytest.mark.parametrize(("log_steps", "expected"), [(2, [2, 4, None]), (3, [3, 4, None]), (100, [4, None])])
def test_every_few_steps_and_the_last_of_an_epoch(tmp_path, log_steps, expected):
    write(tmp_path, an_epoch(0), log_steps=log_steps)
    assert [place[1] for place in places(tmp_path)] == expected


@pytest.mark.parametrize("resumed_at", range(1, 5))
def test_a_run_that_goes_on_cuts_the_lines_of_steps_that_it_does_again(tmp_path, resumed_at):
    """It was killed after epoch 2, step 4; its newest checkpoint is of so many steps of that epoch."""
    write(tmp_path, an_epoch(0) + an_epoch(1)[:4])
    write(tmp_path, [epoch(1, resumed=True), *an_epoch(1)[resumed_at - 1 :]])
    assert places(tmp_path) == WHOLE


def test_a_run_killed_in_evaluation_writes_the_epoch_once(tmp_path):
    write(tmp_path, an_epoch(0) + an_epoch(1))
    write(tmp_path, [epoch(1, resumed=True), epoch(2)])
    assert places(tmp_path) == WHOLE


@pytest.mark.parametrize("num_known", [4, 6])
def test_an_epoch_that_was_saved_and_not_logged_is_added(tmp_path, num_known):
    """Killed between the two; or the epoch's line is lost in the middle."""
    known = an_epoch(0)[:4] + an_epoch(1)[: num_known - 4]
    write(tmp_path, known)
    write(tmp_path, [epoch(1, resumed=True), *an_epoch(1)[num_known - 4 :]])
    assert places(tmp_path) == WHOLE


def test_a_run_whose_epochs_are_all_done_leaves_the_log_alone(tmp_path):
    write(tmp_path, an_epoch(0) + an_epoch(1))
    before = (tmp_path / LOG_FILE).read_bytes()
    write(tmp_path, [epoch(2, resumed=True)])
    assert (tmp_path / LOG_FILE).read_bytes() == before


@pytest.mark.parametrize(
    "damage", [b"0,4", b"0,4,0.5,0.001\n", b"\x00\x00\x00", b"\xff\xfe,\n", b"x,y,,,,,,,,,\n"], ids=repr
)
def test_a_damaged_end_is_cut_too(tmp_path, damage):
    write(tmp_path, an_epoch(0)[:3])
    with (tmp_path / LOG_FILE).open("ab") as file:
        file.write(damage)
    write(tmp_path, an_epoch(0)[3:] + an_epoch(1))
    assert places(tmp_path) == WHOLE


def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    log = RunLog(("csv",), tmp_path, log_steps=1, settings={})
    log.write(step(0, 1))

    class Full:
        def write(self, text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        close = write

    log._loggers[0]._file.close()
    monkeypatch.setattr(log._loggers[0], "_file", Full())
    monkeypatch.setattr(Full, "close", lambda self: self.write(""))
    with pytest.raises(StoppedError, match=r"^cannot write the log in .*: the disk is full\. What was saved stays"):
        log.write(step(0, 2))
    log.close()


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_logger_that_is_not_installed_is_named(tmp_path, monkeypatch, name):
    for module in ("torch.utils.tensorboard", "wandb", "mlflow"):
        monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(
        ConfigError, match=rf"^execution\.loggers '{name}' needs {name}\. Install it: pip install {name}$"
    ):
        RunLog((name,), tmp_path, log_steps=1, settings={})


def test_other_loggers_get_the_step_counted_from_the_beginning(tmp_path, monkeypatch):
    seen = []

    class Spy:
        def log(self, values, step):
            seen.append((step, values.get("loss"), values.get("validation_accuracy")))

        def close(self):
            seen.append("closed")

    monkeypatch.setattr("metaformer.train.run_log._open", lambda name, folder, settings: Spy())
    # Resumed where only the evaluation of the second epoch was missing.
    write(tmp_path, [epoch(1, resumed=True), epoch(2), step(2, 1)])
    assert seen == [(8, None, 2.0), (9, 0.5, None), "closed"]
