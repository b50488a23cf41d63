"""Batches of images read one by one: by workers where there are some, and with something in place of bad ones."""

import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader

from metaformer.core.errors import ConfigError, DataError
from metaformer.data.augment.image_augmentation import own_random_state
from metaformer.data.batch_plan import Batch
from metaformer.data.decode.image_tasks import ImageReader, ImageTask, ReadImages
from metaformer.data.decode.pixels import FIRST_IMAGES, check_readable
from metaformer.data.decode.read_ahead import ReadAhead
from metaformer.data.source import Unreadable

TASKS_AHEAD = 2  # batches of tasks that wait for a worker, besides those that workers have

Tasks = Sequence[ImageTask]


class ImageLoader:
    """Reads lists of tasks in their order; the number of workers decides how fast, and nothing else."""

    def __init__(self, *, num_workers: int, where: str) -> None:
        if num_workers < 0:
            raise ConfigError(f"num_workers must be at least 0; got {num_workers}.")
        self.num_workers, self._where = num_workers, where
        self.unreadable: list[Unreadable] = []
        self._known: set[str] = set()
        self._num_read = 0
        self._early: list[Unreadable] = []

    def training_batches(self, reader: ImageReader, batches: Iterable[Tasks]) -> Iterator[Batch]:
        """Batches of full size: where an image cannot be read, the next good one of the same list stands in for it.

        Raises:
            DataError: None of a list can be read, or more than a tenth of the first hundred.
        """
        for read in self._read(reader, batches):
            if not read.places:
                name, reason = read.unreadable[0]
                raise DataError(f"none of the {read.num_tasks} images of a batch can be read; {name}: {reason}.")
            if len(read.places) == read.num_tasks:
                yield read.images, read.labels
                continue
            places = torch.tensor(read.places)
            # Behind the last good one comes the first.
            chosen = torch.searchsorted(places, torch.arange(read.num_tasks)) % len(places)
            yield read.images[chosen], read.labels[chosen]

    def evaluation_batches(self, reader: ImageReader, batches: Iterable[Tasks]) -> Iterator[Batch]:
        """Batches without the images that cannot be read.

        Raises:
            DataError: More than a tenth of the first hundred cannot be read.
        """
        for read in self._read(reader, batches):
            if read.places:
                yield read.images, read.labels

    def _read(self, reader: ImageReader, batches: Iterable[Tasks]) -> Iterator[ReadImages]:
        source = _by_workers(reader, batches, self.num_workers) if self.num_workers else _here(reader, batches)
        try:
            for read in source:
                self._note(read)
                yield read
        finally:
            source.close()

    def _note(self, read: ReadImages) -> None:
        bad = sorted({*range(read.num_tasks)} - {*read.places})
        first = self._num_read
        self._num_read += read.num_tasks
        for place, (name, reason) in zip(bad, read.unreadable, strict=True):
            if first + place < FIRST_IMAGES:
                self._early.append((name, reason))
            if name not in self._known:
                self._known.add(name)
                self.unreadable.append((name, reason))
        check_readable(self._early, min(self._num_read, FIRST_IMAGES), where=self._where)


def _here(reader: ImageReader, batches: Iterable[Tasks]) -> Generator[ReadImages, None, None]:
    for tasks in batches:
        with own_random_state():
            read = reader.__getitems__(tasks)
        yield read


def _by_workers(reader: ImageReader, batches: Iterable[Tasks], num_workers: int) -> Generator[ReadImages, None, None]:
    # Reading raw bytes must not hold up the training step that asks for a batch.
    ahead = ReadAhead(batches, num_ahead=TASKS_AHEAD)
    failures: list[Exception] = []
    try:
        with warnings.catch_warnings():
            # More workers than cores is the caller's choice.
            warnings.filterwarnings("ignore", message="This DataLoader will create")
            loader: DataLoader[Any] = DataLoader(
                reader,  # type: ignore[arg-type]
                batch_sampler=_until_failure(ahead, failures),  # type: ignore[arg-type]
                num_workers=num_workers,
                collate_fn=_as_it_is,
                worker_init_fn=_start_worker,
                multiprocessing_context=_process_context(),
                # Its own generator: otherwise it would take a number from the global one.
                generator=torch.Generator(),
            )
            iterator = iter(loader)
        try:
            yield from iterator
            if failures:
                raise failures[0]
        finally:
            # Without it the workers would live as long as a reference in a traceback does.
            iterator._shutdown_workers()  # type: ignore[attr-defined]
    finally:
        ahead.close()


def _until_failure(batches: Iterable[Tasks], failures: list[Exception]) -> Iterator[Tasks]:
    """The batches up to an error, which is kept for later.

    DataLoader must not see it: raised in its constructor, the error would leave workers that only the garbage collector
    ends, and that closes their pipes twice; the second time they may be somebody else's files.
    """
    try:
        yield from batches
    except Exception as error:
        failures.append(error)


def _process_context() -> Any:
    """Workers never inherit the threads and locks of this process; they start from one that has imported PyTorch."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _start_worker(_: int) -> None:
    # Ctrl-C is the main process's to answer: it saves, and then ends the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # PyTorch watches the process that forked the worker, which here is not the one that it works for.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _as_it_is(read: Any) -> Any:
    return read
