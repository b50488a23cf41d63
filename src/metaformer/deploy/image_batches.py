"""Images read ahead by threads, in batches and in order; those that cannot be read do not stop the rest."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from jaxtyping import UInt8
from torch import Tensor

from metaformer.core.errors import ConfigError
from metaformer.core.machine import available_cores
from metaformer.data.decode.image_file import ImageError
from metaformer.data.decode.image_transform import ImageTransform
from metaformer.data.image_set import Sample

BATCHES_AHEAD = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageBatch:
    """Some images: the pixels of those that could be read, and why the others could not."""

    samples: tuple[Sample, ...]
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
    samples: Iterable[Sample], transform: ImageTransform, *, batch_size: int, num_threads: int | None = None
) -> Iterator[ImageBatch]:
    """Reads images; at any time no more than a few batches of them are in memory.

    Args:
        samples: Taken one by one, never all at once.
        transform: The model's.
        batch_size: Images a batch; the last may have fewer.
        num_threads: That read; None: one a core.

    Raises:
        ConfigError: The batch size or the number of threads is below 1.
    """
    for name, value in {"batch_size": batch_size, "num_threads": num_threads}.items():
        if value is not None and value < 1:
            raise ConfigError(f"{name} must be at least 1; got {value}.")
    source = iter(samples)
    waiting: deque[Future[tuple[Sample, Tensor | str]]] = deque()
    pool = ThreadPoolExecutor(num_threads or available_cores())
    try:
        while True:
            while len(waiting) < BATCHES_AHEAD * batch_size and (sample := next(source, None)) is not None:
                waiting.append(pool.submit(_read, sample, transform))
            if not waiting:
                return
            yield _batch([waiting.popleft().result() for _ in range(min(batch_size, len(waiting)))], transform)
    finally:
        pool.shutdown(cancel_futures=True)


def _read(sample: Sample, transform: ImageTransform) -> tuple[Sample, Tensor | str]:
    named = Sample(name=sample.name, image=b"", label=sample.label)
    try:
        return named, transform.pixels(sample.image)
    except ImageError as error:
        return named, str(error)


def _batch(read: list[tuple[Sample, Tensor | str]], transform: ImageTransform) -> ImageBatch:
    pixels = [outcome for _, outcome in read if isinstance(outcome, Tensor)]
    empty = torch.empty(0, transform.in_chans, *transform.image_size, dtype=torch.uint8)
    return ImageBatch(
        samples=tuple(sample for sample, _ in read),
        errors=tuple(outcome if isinstance(outcome, str) else None for _, outcome in read),
        pixels=torch.stack(pixels) if pixels else empty,
    )
