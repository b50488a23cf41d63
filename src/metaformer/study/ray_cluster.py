"""Runs spread over a Ray cluster; results land in the folder of the machine that asks."""

import logging
import os
import re
import socket
import tempfile
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from metaformer.core.atomic_write import atomic_path
from metaformer.core.errors import ConfigError, MissingExtraError, first_line
from metaformer.core.records import RUN_FILE, Failure, FailureKind, Recorder, Training, failure_of
from metaformer.study.event import StudyEvent
from metaformer.study.folder import run_folder
from metaformer.study.worker import EXECUTION, failure_recorder, perform_run
from metaformer.train.config import Execution, Run

# A run whose machine was lost is tried again elsewhere, so many times in all.
MOST_TRIES = 3
ANSWER_S = 10.0  # how long a cluster may take to answer
CHECKPOINTS = "*.pt"  # what a run needs to go on; with the best weights so far, where the recipe keeps those
Files = dict[str, bytes]  # name -> content


@dataclass(frozen=True, kw_only=True)
class RayCluster:
    """As many runs at once as the cluster has GPUs, or cores where it has none, each on one of them.

    A machine needs this package and the data, under the same name; it needs no shared disk: a run's files come back
    through Ray, and are written here, whole. Checkpoints come after epochs, as often as `execution` saves by the clock:
    a run whose machine is lost, or that was broken off before, goes on from the last that came.
    """

    address: str  # of the cluster this machine belongs to, as in host:6379, or auto; local starts one here
    num_workers: int | None = None  # runs at once; None: one a GPU of the cluster, or a core
    num_gpus: float | None = None  # of a run; None: one where the cluster has any
    execution: Execution = EXECUTION  # of every run

    def __post_init__(self) -> None:
        if self.num_workers is not None and self.num_workers < 1:
            raise ConfigError(f"workers must be at least 1; got {self.num_workers}.")
        if self.address.startswith("ray://"):
            raise ConfigError(
                "a Ray cluster is joined by the address of its head, host:6379, from a machine that is part of it; "
                f"got {self.address!r}. Run the command there with --ray auto."
            )
        _ray()
        _reach(self.address)

    def perform(self, runs: Sequence[Run], out: Path, *, command: str) -> Generator[StudyEvent, None, None]:
        """Starts runs in their order; closing the iterator stops those that are under way."""
        ray = _ray()
        started_here = not ray.is_initialized()
        if started_here:
            _connect(ray, self.address)
        num_gpus = self.num_gpus if self.num_gpus is not None else float(_has_gpus(ray))
        task = ray.remote(num_cpus=1, num_gpus=num_gpus, max_retries=0, num_returns="streaming")(_remote_run)
        waiting = deque(_Job(run=run, recorder=failure_recorder(run, command)) for run in runs)
        under_way: dict[Any, _Job] = {}
        try:
            while waiting or under_way:
                # Asked each time: machines come and go.
                room = (self.num_workers or _capacity(ray, num_gpus)) - len(under_way)
                for _ in range(min(room, len(waiting))):
                    job = waiting.popleft()
                    saved = _files(run_folder(out, job.run), CHECKPOINTS)
                    under_way[task.remote(job.run, command, self.execution, saved)] = job
                    if job.num_tries == 0:
                        yield StudyEvent(kind="started", run=job.run)
                    job.num_tries += 1
                ready, _ = ray.wait(list(under_way), num_returns=1, timeout=1.0, fetch_local=False)
                for stream in ready:
                    event = _next_event(ray, stream, under_way[stream], out=out)
                    if event.kind != "epoch":
                        job = under_way.pop(stream)
                    if event.kind == "lost":
                        waiting.append(job)
                    yield event
        finally:
            for stream in under_way:
                ray.cancel(stream, force=True)
            if started_here:
                ray.shutdown()


@dataclass
class _Job:
    run: Run
    recorder: Recorder[Training]
    num_tries: int = 0


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise MissingExtraError(need="a Ray cluster", extra="ray") from None
    return ray


def _has_gpus(ray: Any) -> bool:
    return float(ray.cluster_resources().get("GPU", 0)) > 0


def _capacity(ray: Any, num_gpus: float) -> int:
    resources = ray.cluster_resources()
    return max(1, int(resources.get("GPU", 0) / num_gpus if num_gpus else resources.get("CPU", 1)))


def _connect(ray: Any, address: str) -> None:
    # A cluster that is started here tells nobody about it.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options = {"include_dashboard": False} if address == "local" else {"address": address}
    try:
        ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise _no_answer(address, error) from None


def _reach(address: str) -> None:
    """Asks once whether anybody listens there: Ray itself would ask for minutes."""
    host_and_port = re.fullmatch(r"\[?([^\]/]+)\]?:(\d+)", address)
    if not host_and_port:
        return
    try:
        socket.create_connection((host_and_port[1], int(host_and_port[2])), timeout=ANSWER_S).close()
    except OSError as error:
        raise _no_answer(address, error) from None


def _no_answer(address: str, error: Exception) -> ConfigError:
    reason = first_line(error).rstrip(".")
    return ConfigError(f"no Ray cluster answers at {address!r}: {reason}. Start one with: ray start --head")


def _remote_run(run: Run, command: str, execution: Execution, saved: Files) -> Iterator[dict[str, Any]]:
    """On a machine of the cluster: news of each epoch, with checkpoints now and then, and at last the files."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="metaformer-") as place:
        folder = Path(place)
        sent = time.perf_counter()
        try:
            _write(saved, folder)
            for news in perform_run(run, folder, command=command, execution=execution):
                is_due = time.perf_counter() - sent > 60 * execution.checkpoint_minutes
                yield news | ({"saved": _files(folder, CHECKPOINTS)} if is_due else {})
                sent = time.perf_counter() if is_due else sent
        except Exception as error:
            yield {"kind": "failed", "failure": failure_of(error)}
            return
        yield {"kind": "finished", "files": _files(folder, "*")}


def _next_event(ray: Any, stream: Any, job: _Job, *, out: Path) -> StudyEvent:
    """What a run says next; "lost" for one that must be tried again."""
    try:
        news = ray.get(next(stream))
    except StopIteration:
        news = _failed("lost_process", "the run ended without a word")
    # A machine that was lost, or a process on it.
    except ray.exceptions.RayError as error:
        reason = first_line(error)
        if job.num_tries < MOST_TRIES:
            return StudyEvent(kind="lost", run=job.run, failure=Failure(kind="lost_process", message=reason))
        news = _failed("lost_process", f"lost {MOST_TRIES} times; the last time: {reason}")
    folder = run_folder(out, job.run)
    if news["kind"] == "epoch" and (saved := news.pop("saved", None)):
        # Without it the run goes on all the same.
        with suppress(OSError):
            _write(saved, folder)
            _remove_checkpoints(folder, but=saved)
    if news["kind"] == "finished":
        news = _arrived(news["files"], folder)
    if news["kind"] == "failed":
        # The reason may be that nothing can be written.
        with suppress(OSError):
            job.recorder.finish(news["failure"]).write(folder)
    return StudyEvent(run=job.run, **news)


def _arrived(files: Files, folder: Path) -> dict[str, Any]:
    try:
        _write(files, folder)
        _remove_checkpoints(folder, but={})
    except OSError as error:
        return _failed("disk", f"the result cannot be written into {folder}: {error.strerror or error}")
    return {"kind": "finished"}


def _failed(kind: FailureKind, message: str) -> dict[str, Any]:
    return {"kind": "failed", "failure": Failure(kind=kind, message=message)}


def _files(folder: Path, pattern: str) -> Files:
    return {path.name: path.read_bytes() for path in folder.glob(pattern) if path.is_file()}


def _remove_checkpoints(folder: Path, *, but: Files) -> None:
    for path in folder.glob(CHECKPOINTS):
        if path.name not in but:
            path.unlink(missing_ok=True)


def _write(files: Files, folder: Path) -> None:
    """The record comes last: where it is, the run is finished."""
    for name in sorted(files, key=lambda name: name == RUN_FILE):
        with atomic_path(folder / name) as temporary:
            temporary.write_bytes(files[name])
