"""Images read ahead by threads, in batches and in order; those that cannot be read do not stop the rest."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from metaformer.core.errors import ConfigError
from metaformer.core.machine import available_cores
from metaformer.data.decode.image_file import ImageError
from metaformer.data.decode.image_transform import ImageTransform, as_pixels
from metaformer.data.image_set import Sample

BATCHES_AHEAD = 2
# A task of a thread is a part of a batch: small images take no longer than handing one over does.
TASKS_A_BATCH = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageBatch:
    """Some images: the pixels of those that could be read, and why the others could not."""

    samples: tuple[Sample, ...]  # without what was read
    errors: tuple[str | None, ...]  # one a sample; None: it could be read
    pixels: UInt8[Tensor, "n c h w"]  # of the readable ones

    @property
    def readable(self) -> tuple[Sample, ...]:
        return tuple(sample for sample, error in zip(self.samples, self.errors, strict=True) if error is None)

    @property
    def unreadable(self) -> tuple[tuple[str, str], ...]:
        """Names and reasons."""
        pairs = zip(self.samples, self.errors, strict=True)
        return tuple((sample.name, error) for sample, error in pairs if error is not None)


def read_batches(
    samples: Iterable[Sample],
    transform: ImageTransform,
    *,
    batch_size: int,
    num_threads: int | None = None,
    check: Callable[[Sample, Image.Image], None] | None = None,
) -> Iterator[ImageBatch]:
    """Reads images; at any time no more than a few batches of them are in memory.

    Args:
        samples: Taken one by one, never all at once.
        transform: The model's.
        batch_size: Images a batch; the last may have fewer.
        num_threads: That read; None: one a core.
        check: Is shown each image before it is resized, and may raise.

    Raises:
        ConfigError: The batch size or the number of threads is below 1.
    """
    for name, value in {"batch_size": batch_size, "num_threads": num_threads}.items():
        if value is not None and value < 1:
            raise ConfigError(f"{name} must be at least 1; got {value}.")
    source = iter(samples)
    size = -(-batch_size // TASKS_A_BATCH)
    waiting: deque[list[Future[list[tuple[Sample, Tensor | str]]]]] = deque()
    pool = ThreadPoolExecutor(num_threads or available_cores())
    try:
        while True:
            while len(waiting) < BATCHES_AHEAD and (batch := list(islice(source, batch_size))):
                parts = (batch[start : start + size] for start in range(0, len(batch), size))
                waiting.append([pool.submit(_read, part, transform, check) for part in parts])
            if not waiting:
                return
            yield _batch([read for part in waiting.popleft() for read in part.result()], transform)
    finally:
        pool.shutdown(cancel_futures=True)


def _read(
    samples: list[Sample], transform: ImageTransform, check: Callable[[Sample, Image.Image], None] | None
) -> list[tuple[Sample, Tensor | str]]:
    read: list[tuple[Sample, Tensor | str]] = []
    for sample in samples:
        named = replace(sample, image=b"")
        try:
            image = transform.read(sample.image)
            if check:
                check(sample, image)
            read.append((named, as_pixels(transform.fit(image))))
        except ImageError as error:
            read.append((named, str(error)))
    return read


def _batch(read: list[tuple[Sample, Tensor | str]], transform: ImageTransform) -> ImageBatch:
    pixels = [outcome for _, outcome in read if isinstance(outcome, Tensor)]
    empty = torch.empty(0, transform.in_chans, *transform.image_size, dtype=torch.uint8)
    return ImageBatch(
        samples=tuple(sample for sample, _ in read),
        errors=tuple(outcome if isinstance(outcome, str) else None for _, outcome in read),
        pixels=torch.stack(pixels) if pixels else empty,
    )
