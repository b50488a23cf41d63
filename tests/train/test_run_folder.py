import json
import os
import re
import socket
import subprocess
import sys

import pytest

from metaformer.core.errors import ConfigError, DataError
from metaformer.train.run_folder import LOCK_FILE, Holder, hold_folder


def leave_lock(folder, **changed):
    """What a process that ended without a word leaves."""
    holder = {
        "pid": 4194304,
        "host": socket.gethostname(),
        "started": "2026-01-01T00:00:00+00:00",
        "process_start": "1",
    }
    (folder / LOCK_FILE).write_text(json.dumps(holder | changed))


def holder_of(folder):
    return Holder(**json.loads((folder / LOCK_FILE).read_text()))


def test_a_folder_is_held_and_let_go(tmp_path):
    with hold_folder(tmp_path / "new"):
        assert holder_of(tmp_path / "new").pid == os.getpid()
    assert not any((tmp_path / "new").iterdir())
    with pytest.raises(ZeroDivisionError), hold_folder(tmp_path / "new"):
        1 / 0  # noqa: B018
    assert not any((tmp_path / "new").iterdir())


def test_a_second_run_is_refused_by_name(tmp_path):
    words = f"process {os.getpid()} on {re.escape(socket.gethostname())}, since 20"
    with hold_folder(tmp_path):
        message = rf"^another run writes into {re.escape(str(tmp_path))} \({words}"
        with pytest.raises(ConfigError, match=message), hold_folder(tmp_path):
            pass
        assert holder_of(tmp_path).pid == os.getpid()


@pytest.mark.parametrize(
    "changed",
    [{}, {"pid": os.getpid()}, {"pid": 1}, {"pid": 10**30}],
    ids=["gone", "taken by another", "the first", "out of range"],
)
def test_the_lock_of_a_process_that_is_gone_is_taken_over(tmp_path, changed):
    """Also where another program has the number of the process by now."""
    leave_lock(tmp_path, **changed)
    with hold_folder(tmp_path):
        assert holder_of(tmp_path).pid == os.getpid()


def test_a_process_that_was_killed_and_not_buried_is_gone(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from metaformer.train.run_folder import hold_folder\n"
        "with hold_folder(Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    with pytest.raises(ConfigError, match=f"process {process.pid} on"), hold_folder(tmp_path):
        pass
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with hold_folder(tmp_path):
        pass
    process.communicate()


def test_the_lock_of_another_machine_stands_and_says_what_to_do(tmp_path):
    leave_lock(tmp_path, host="elsewhere")
    message = rf"on elsewhere, since 2026.*if that run is gone, delete .*{LOCK_FILE}\.$"
    with pytest.raises(ConfigError, match=message), hold_folder(tmp_path):
        pass
    assert holder_of(tmp_path).host == "elsewhere"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"{}", b"null"])
def test_a_lock_that_says_nothing_is_taken_over(tmp_path, content):
    (tmp_path / LOCK_FILE).write_bytes(content)
    with hold_folder(tmp_path):
        assert holder_of(tmp_path).pid == os.getpid()


def test_a_lock_that_is_a_folder_is_told_in_a_line(tmp_path):
    (tmp_path / LOCK_FILE).mkdir()
    with pytest.raises(DataError, match=r"^cannot lock"), hold_folder(tmp_path):
        pass


def test_of_many_that_find_a_stale_lock_one_takes_it(tmp_path):
    leave_lock(tmp_path)
    code = (
        "import sys, time; from pathlib import Path; from metaformer.train.run_folder import hold_folder\n"
        "from metaformer.core.errors import ConfigError\n"
        "while time.time() < float(sys.argv[2]): pass\n"
        "try:\n    with hold_folder(Path(sys.argv[1])): print('held', flush=True); time.sleep(2)\n"
        "except ConfigError: print('refused')"
    )
    import time

    start = str(time.time() + 4)
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), start], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    said = sorted(process.communicate()[0].strip() for process in processes)
    assert said == ["held", "refused", "refused", "refused"]
