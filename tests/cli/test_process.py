"""The installed command as a process: signals, pipes, exit codes, and one whole study."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from metaformer.core.records import RUN_FILE, read_record

COMMAND = Path(sys.executable).with_name("metaformer")
QUICK = ["study", "quick", "--train.epochs", "2", "--train.warmup-epochs", "0.2", "--train.batch-size", "128"]

pytestmark = pytest.mark.skipif(not COMMAND.exists(), reason=f"the console script is not installed: {COMMAND}")


def start(*words):
    """A process in a session of its own, as in a terminal of its own."""
    return subprocess.Popen(
        [COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def wait_until_all_have_ended(session, leader, seconds=5):
    deadline = time.monotonic() + seconds
    while session(leader) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert session(leader) == []


def wait_for_first_epoch(out, process):
    deadline = time.monotonic() + 60
    while not list(out.glob("*/*/checkpoint-*.pt")):
        if process.poll() is not None or time.monotonic() > deadline:
            # Leaving the block of a process waits for it.
            os.killpg(process.pid, signal.SIGKILL)
            raise AssertionError(f"no epoch was done: {process.communicate()}")
        time.sleep(0.02)


def records(out):
    return {path.parent.relative_to(out).as_posix(): path.stat().st_mtime_ns for path in out.glob(f"*/*/{RUN_FILE}")}


linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc to find processes")


@linux
def test_a_study_that_was_killed_completes_and_writes_its_page(tmp_path, session):
    out = tmp_path / "quick"
    words = [*QUICK, "--seeds", "2", "--variants", "pooling,identity", "--out", str(out)]
    with start(*words) as process:
        first = process.stdout.readline()
        process.kill()
    assert re.match(r"\[1/4\] (pooling|identity), seed 0: [\d.]+% validation, [\d,]+ images/s, ETA \d+:\d\d$", first)
    # Those that it started end with it, in the middle of an epoch if need be.
    wait_until_all_have_ended(session, process.pid, seconds=20)
    before = records(out)
    assert before

    done = subprocess.run([COMMAND, *words], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("finished before") == len(before)
    after = records(out)
    assert set(after) == {f"{name}/seed{seed}" for name in ("pooling", "identity") for seed in (0, 1)}
    assert after.items() >= before.items()
    assert all(read_record(out / place).failure is None for place in after)
    assert read_record(out).command == f"metaformer {' '.join(words)}"
    page = (out / "report.html").read_text()
    assert "Pooling 3x3" in page
    assert f"page: {out / 'report.html'}" in done.stdout


@linux
@pytest.mark.parametrize(
    ("number", "exit_code", "line"),
    [
        (signal.SIGINT, 130, "interrupted; the same command continues where it stopped"),
        (signal.SIGTERM, 143, "terminated; the same command continues where it stopped"),
    ],
    ids=["ctrl-c", "sigterm"],
)
def test_a_signal_ends_a_study_with_one_line_and_no_orphans(tmp_path, session, number, exit_code, line):
    out = tmp_path / "quick"
    words = [
        "study",
        "quick",
        "--train.epochs",
        "5000",
        "--train.batch-size",
        "128",
        "--seeds",
        "1",
        "--variants",
        "pooling,identity",
    ]
    with start(*words, "--out", str(out)) as process:
        wait_for_first_epoch(out, process)
        if number == signal.SIGINT:
            # A terminal sends it to every process.
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == exit_code
    assert stderr.strip() == line
    assert stdout == ""
    wait_until_all_have_ended(session, process.pid)
    assert (out / RUN_FILE).exists()
    assert records(out) == {}


def closed_pipe():
    """The end of a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.mark.parametrize("words", [["--help"], ["doctor"]], ids=" ".join)
def test_a_reader_that_has_gone_is_no_error(words):
    writer = closed_pipe()
    try:
        done = subprocess.run(
            [COMMAND, *words], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_exit_code_of_a_wrong_request_reaches_the_shell():
    done = subprocess.run([COMMAND, "modles"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "error: unknown command 'modles'. Did you mean 'models'? See: metaformer --help\n"
