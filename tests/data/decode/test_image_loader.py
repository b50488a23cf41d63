"""Worker processes: how they end."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from metaformer.core.errors import DataError
from metaformer.core.preprocessing import as_it_is
from metaformer.data.augment.augmentation import AugmentationConfig
from metaformer.data.batch_plan import BatchPlan
from metaformer.data.decode.image_loader import ImageLoader
from metaformer.data.decode.image_tasks import ImageReader, ImageTask
from metaformer.data.decode.image_transform import ImageTransform
from metaformer.data.image_set import Sample
from metaformer.data.preparation import Preparation
from metaformer.data.sources import open_data

SCRIPT = """
import multiprocessing, os, signal, sys, time
from metaformer.data.augment.augmentation import AugmentationConfig
from metaformer.data.batch_plan import BatchPlan
from metaformer.data.preparation import Preparation
from metaformer.data.sources import open_data

if __name__ == "__main__":
    preparation = Preparation(image_size=(8, 8), augmentation=AugmentationConfig(auto_augment="rand-m9"))
    batches = open_data(sys.argv[1], preparation, num_workers=2).train_batches(BatchPlan(seed=0, epoch=0, batch_size=2))
    next(batches)
    try:
        print(*(child.pid for child in multiprocessing.active_children()), flush=True)
        time.sleep(120)
    except KeyboardInterrupt:
        next(batches)
        batches.close()
        print("closed", len(multiprocessing.active_children()), flush=True)
"""


def is_alive(pid):
    status = Path(f"/proc/{pid}/stat")
    # A dead process whose parent has not looked yet is a zombie, Z.
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.fixture
def running(tmp_path, sets):
    """A process that trains with two workers, and their numbers."""
    script = tmp_path / "trains.py"
    script.write_text(SCRIPT)
    folder = sets.folder(tmp_path / "images", {"": 60})
    process = subprocess.Popen(
        [sys.executable, "-W", "error", str(script), str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    workers = [int(word) for word in process.stdout.readline().split()]
    yield process, workers
    process.kill()
    process.communicate()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes in /proc")
def test_no_worker_outlives_a_process_that_is_killed(running):
    process, workers = running
    assert len(workers) == 2
    assert all(map(is_alive, workers))
    process.kill()
    deadline = time.monotonic() + 60
    while any(map(is_alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(is_alive, workers))


@pytest.mark.slow
def test_workers_go_on_after_ctrl_c_until_they_are_closed(running):
    process, workers = running
    assert len(workers) == 2
    # To all of its processes, as a terminal does.
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=120)[0] == "closed 0\n"
    assert process.returncode == 0


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("num_good", [0, 3])
def test_an_error_comes_after_the_batches_before_it_and_leaves_no_worker(sets, num_workers, num_good):
    transform = ImageTransform(as_it_is((8, 8), mean=(0.5,) * 3, std=(0.5,) * 3))
    reader = ImageReader(AugmentationConfig(), transform)

    def tasks():
        for number in range(num_good):
            yield [ImageTask(sample=Sample(name=str(number), image=sets.noise(number), label=number), key=number)]
        raise DataError("the disk is gone")

    labels = []
    batches = ImageLoader(num_workers=num_workers, where="toy").training_batches(reader, tasks())
    with pytest.raises(DataError, match=r"^the disk is gone$"):
        labels.extend(int(batch) for _, batch in batches)
    assert labels == list(range(num_good))
    # At once, and not when the garbage collector comes by.
    assert multiprocessing.active_children() == []


def test_closing_early_leaves_no_worker_and_no_thread(tmp_path, sets):
    preparation = Preparation(image_size=(8, 8), augmentation=AugmentationConfig(auto_augment="rand-m9"))
    source = open_data(str(sets.folder(tmp_path, {"": 60})), preparation, num_workers=1)
    before = threading.active_count()
    batches = source.train_batches(BatchPlan(seed=0, epoch=0, batch_size=2))
    next(batches)
    assert len(multiprocessing.active_children()) == 1
    batches.close()
    assert multiprocessing.active_children() == []
    assert threading.active_count() == before
