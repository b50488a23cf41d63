"""Folders that cannot be written and full disks: the run stops with a sentence, and goes on when there is room."""

import contextlib
import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from metaformer.core.errors import DataError, StoppedError
from metaformer.train.checkpoint import Checkpoints
from metaformer.train.config import Run
from metaformer.train.run import perform
from metaformer.train.run_folder import require_writable
from metaformer.train.stopping import naming_disk_errors

SCRIPT = Path(__file__).parent / "training_process.py"


def behind(error):
    """A RuntimeError that hides the system's, as torch raises it."""
    try:
        try:
            raise error
        except OSError:
            raise RuntimeError("unexpected pos 64 vs 0")  # noqa: B904 (as torch does)
    except RuntimeError as outer:
        return outer


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space"), "the disk is full"),
        (behind(OSError(errno.ENOSPC, "No space")), "the disk is full"),
        (
            SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
            "the disk is full",
        ),
        (OSError(errno.EROFS, "Read-only"), "Read-only file system"),
        (behind(OSError(errno.EFBIG, "File too large")), "File too large"),
    ],
    ids=str,
)
def test_what_failed_why_and_what_is_kept(error, reason):
    message = f"^cannot write the log: {reason}\\. Nothing is lost\\.$"
    with pytest.raises(StoppedError, match=message), naming_disk_errors("the log", "Nothing is lost."):
        raise error


@pytest.mark.parametrize(
    "error", [RuntimeError("other"), ValueError(), SafetensorError("bad"), KeyboardInterrupt()], ids=repr
)
def test_other_errors_pass(error):
    with pytest.raises(type(error)) as caught, naming_disk_errors("", ""):
        raise error
    assert caught.value is error


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_done(tiny, stripes, short, tmp_path):
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "run"
    run = Run(name="run", model=tiny, data="stripes", train=short, seed=0)
    message = f"cannot write into {folder}: Not a directory. Choose another folder."
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        next(perform(run, stripes, folder, command=""))


def test_a_folder_is_made_and_left_empty(tmp_path):
    require_writable(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def start(folder, **options):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), json.dumps(options)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.stdout.splitlines(), done.returncode


def expect_same_weights(one, other):
    weights = [load_file(folder / "model.safetensors") for folder in (one, other)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


@pytest.mark.slow
def test_a_run_that_may_write_too_little_keeps_its_last_checkpoint_and_goes_on(tmp_path):
    """The system's own limit on the size of a file stands for a disk that fills up."""
    options = {"execution": {"checkpoint_steps": 2}}
    start(tmp_path / "undisturbed", **options)
    lines, code = start(tmp_path / "none", **options, limit=2000)
    assert code == 1
    assert re.search(r"^error 0: cannot write the checkpoint .*: File too large\. None was written yet\.$", lines[-1])
    folder = tmp_path / "run"
    assert start(folder, **options, die=[0, 7])[1] < 0
    before = {path.name: path.read_bytes() for path in folder.glob("*.pt")}
    lines, code = start(folder, **options, limit=2000)
    assert code == 1
    assert re.search(
        r"^error 0: cannot write the checkpoint .*: File too large\. checkpoint-0001-00000\d\.pt is whole: the same "
        r"command goes on from there\.$",
        lines[-1],
    )
    assert {path.name: path.read_bytes() for path in folder.glob("*.pt")} == before
    assert start(folder, **options)[1] == 0
    expect_same_weights(tmp_path / "undisturbed", folder)


def fill_up(ballast):
    """Takes all the room that is left."""
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1024))


@pytest.mark.slow
def test_a_disk_that_fills_up_stops_the_run_and_room_lets_it_go_on(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if os.name != "posix" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system is not permitted here")
    try:
        options = {"execution": {"checkpoint_steps": 2}}
        start(tmp_path / "undisturbed", **options)
        assert start(disk / "run", **options, die=[0, 7])[1] < 0
        ballast = disk / "ballast"
        fill_up(ballast)
        lines, _ = start(disk / "run", **options)
        assert lines == [f"error 0: cannot write into {disk / 'run'}: No space left on device. Choose another folder."]
        # Room for a line of the log, and for no checkpoint.
        os.truncate(ballast, ballast.stat().st_size - 8192)
        lines, code = start(disk / "run", **options)
        assert code == 1
        assert "the disk is full." in lines[-1]
        assert lines[-1].startswith("error 0: cannot write the ")
        state = Checkpoints(disk / "run").load()
        assert (state["epoch"], state["step"]) >= (1, 0)
        ballast.unlink()
        assert start(disk / "run", **options)[1] == 0
        expect_same_weights(tmp_path / "undisturbed", disk / "run")
    finally:
        subprocess.run(["umount", str(disk)], check=True)
