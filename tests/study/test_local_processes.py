"""Workers of one machine: what each gets of it, and that none outlives the study."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from multiprocessing import Pipe, Process
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from metaformer.core.errors import ConfigError
from metaformer.study import local_processes, worker
from metaformer.study.folder import plan
from metaformer.study.local_processes import LocalProcesses, gpu_names
from metaformer.study.worker import EXECUTION, Task, failure_recorder


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(
    ("device", "visible", "names"),
    [
        ("auto", None, ["0", "1"]),
        ("cuda", "", ["0", "1"]),
        ("auto", "4, 6", ["4", "6"]),
        ("cuda", "GPU-a,GPU-b,GPU-gone", ["GPU-a", "GPU-b"]),
        ("cuda:1", "4,6", ["6"]),
        ("cpu", None, []),
    ],
)
def test_gpus_are_called_what_this_process_may_call_them(two_gpus, monkeypatch, device, visible, names):
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpu_names(device) == names


@pytest.mark.parametrize("device", ["cuda:2", "cuda:x"])
def test_a_gpu_that_is_not_there_is_refused(two_gpus, device):
    with pytest.raises(ConfigError, match=rf"must be one of cuda:0 to cuda:1 here; got '{device}'\.$"):
        gpu_names(device)


def test_without_a_gpu_there_is_none_to_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_names("auto") == []


class Ended(Process):
    """A process that nobody has to wait for."""

    def join(self, timeout=None):
        pass

    terminate = kill = join


@pytest.fixture
def started(monkeypatch):
    """The tasks that would have been started; each has finished at once."""
    tasks, at_once = [], []

    def start(task):
        tasks.append(task)
        receiver, sender = Pipe(duplex=False)
        sender.send({"kind": "finished"})
        return local_processes._Worker(
            process=Ended(), progress=receiver, task=task, recorder=failure_recorder(task.run, "")
        )

    def ready(workers):
        at_once.append(len(workers))
        return workers[:1]

    monkeypatch.setattr(local_processes, "_start", start)
    monkeypatch.setattr(local_processes, "_ready", ready)
    monkeypatch.setattr(local_processes, "available_cores", lambda: 8)
    return SimpleNamespace(tasks=tasks, at_once=at_once)


@pytest.mark.parametrize(
    ("num_workers", "gpus", "num_threads"),
    [(None, ["0", "1", "0", "1"], 4), (1, ["0"] * 4, 8), (4, ["0", "1", "0", "1"], 2)],
    ids=str,
)
def test_workers_divide_gpus_and_threads(two_gpus, started, study, tmp_path, num_workers, gpus, num_threads):
    list(LocalProcesses(num_workers=num_workers).perform(plan(study), tmp_path, command=""))
    assert [task.gpu for task in started.tasks] == gpus
    assert {task.num_threads for task in started.tasks} == {num_threads}
    # The only one that a run sees is the first.
    assert {task.execution.device for task in started.tasks} == {"cuda"}
    assert max(started.at_once) == (num_workers or 2)


def test_without_gpus_there_is_a_worker_a_core(started, study, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    execution = replace(EXECUTION, micro_batch_size=7)
    list(LocalProcesses(execution=execution).perform(plan(study), tmp_path, command=""))
    assert {(task.gpu, task.num_threads, task.execution) for task in started.tasks} == {(None, 1, execution)}
    assert max(started.at_once) == 4


def test_a_worker_sees_its_gpu_and_carries_out_the_run_as_asked(study, tmp_path, monkeypatch):
    seen = {}

    def perform_run(run, folder, *, command, execution):
        seen.update(gpu=os.environ["CUDA_VISIBLE_DEVICES"], execution=execution)
        yield {"kind": "epoch", "epoch": 1}

    monkeypatch.setattr(worker, "perform_run", perform_run)
    monkeypatch.setattr(worker.signal, "signal", lambda *_: None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    execution = replace(EXECUTION, num_workers=3)
    receiver, sender = Pipe(duplex=False)
    task = Task(run=plan(study)[0], out=tmp_path, command="", execution=execution, num_threads=1, gpu="GPU-b")
    worker.work(task, sender)
    assert seen == {"gpu": "GPU-b", "execution": execution}
    assert [receiver.recv()["kind"], receiver.recv()["kind"]] == ["epoch", "finished"]


# Two runs, each with a process that reads its images; one epoch takes longer than anybody waits.
SCRIPT = """
import sys
from dataclasses import replace
from pathlib import Path

from metaformer.data.preparation import Preparation
from metaformer.recipes.study_quick import study_quick
from metaformer.study.local_processes import LocalProcesses
from metaformer.study.runner import run_study
from metaformer.study.worker import EXECUTION
from metaformer.train.config import TrainConfig

if __name__ == "__main__":
    out, images, ending = sys.argv[1:]
    study = replace(
        study_quick(),
        data=images,
        preparation=Preparation(image_size=(32, 32)),
        train=TrainConfig(epochs=3, batch_size=1),
        seeds=(0,),
    )
    executor = LocalProcesses(num_workers=2, execution=replace(EXECUTION, num_workers=1, checkpoint_steps=5))
    names = ("pooling", "identity")
    events = run_study(study, out=Path(out), command="", variants=names, executor=executor)
    print(next(events).kind, flush=True)
    if ending == "exit":
        print(next(events).kind, flush=True)
        import time
        while len(list(Path(out).glob("*/*/checkpoint-*.pt"))) < 2:
            time.sleep(0.05)
        sys.exit(3)
    for event in events:
        print(event.kind, event.failure, flush=True)
"""


@pytest.fixture
def many_images(tmp_path):
    """A folder of so many images that an epoch of single ones takes many seconds."""
    for split, number in (("train", 1500), ("val", 2), ("test", 2)):
        for name in ("a", "b"):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            Image.new("RGB", (32, 32), (9, 9, 9)).save(folder / "0.png")
            for index in range(1, number):
                (folder / f"{index}.png").hardlink_to(folder / "0.png")
    return tmp_path / "images"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc to find processes")
@pytest.mark.parametrize("ending", ["SIGKILL", "SIGINT", "exit"])
def test_workers_and_what_reads_their_images_end_with_the_study_in_the_middle_of_an_epoch(
    many_images, tmp_path, ending, session
):
    script, out = tmp_path / "study.py", tmp_path / "out"
    script.write_text(SCRIPT, encoding="utf-8")
    words = [sys.executable, str(script), str(out), str(many_images), ending]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        deadline = time.monotonic() + 90
        while len(list(out.glob("*/*/checkpoint-*.pt"))) < 2 and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.05)
        # The study, its two workers, their two readers, and what multiprocessing needs itself.
        num_processes = len(session(process.pid))
        if ending == "SIGINT":
            # A terminal sends it to every process.
            os.killpg(process.pid, signal.SIGINT)
        elif ending == "SIGKILL":
            process.kill()
        said = process.communicate(timeout=30)[0]
    deadline = time.monotonic() + 5
    while session(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert session(process.pid) == []
    assert "epoch" not in said.split()
    assert "failed" not in said.split()
    assert num_processes >= 5 or ending == "exit"
    assert process.returncode == 3 or ending != "exit"
