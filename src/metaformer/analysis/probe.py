"""The contract of a probe: what it is given, and what it gives back."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from metaformer.analysis.anatomy.redraw import redraw
from metaformer.core.atomic_write import write_json
from metaformer.core.errors import ConfigError
from metaformer.core.measurement import Measurement
from metaformer.core.records import read_json
from metaformer.core.seeding import key_seed

Batch = tuple[Tensor, Tensor]  # images as the model takes them (B, C, H, W), and their classes (B,)


@dataclass(frozen=True, kw_only=True, eq=False)
class Exhibit:
    """A model that is looked at, in evaluation mode; probes leave it as it was."""

    name: str
    model: nn.Module
    build: Callable[[], nn.Module] | None = None  # the same architecture with first weights, from PyTorch's generator
    group: str = ""  # exhibits of one group are seeds of one variant; empty: its own
    is_trained: bool = True
    class_index: tuple[int, ...] = ()  # the model's class of each class of the images; empty: they are the same

    def classes(self, labels: Tensor) -> Tensor:
        """The model's classes of labels of the images, on its device; shares of classes (B, K) are left as they are.

        Raises:
            ConfigError: The images have no classes.
        """
        if labels.ndim == 1 and bool((labels < 0).any()):
            raise ConfigError("the images have no classes: give a folder of class folders.")
        if labels.ndim == 1 and self.class_index:
            labels = torch.tensor(self.class_index)[labels]
        return labels.to(self.device)

    @property
    def variant(self) -> str:
        """The name under which its seeds are joined."""
        return self.group or self.name

    @property
    def device(self) -> torch.device:
        return next((tensor.device for tensor in self.model.parameters()), torch.device("cpu"))

    def untrained(self, seed: int) -> nn.Module:
        """Its twin before training; without `build`, a copy whose layers draw their first weights again (`redraw`)."""
        with torch.random.fork_rng():
            torch.manual_seed(key_seed("untrained twin", seed))
            twin = self.build() if self.build else redraw(deepcopy(self.model))
        return twin.to(self.device).eval()


class NotApplicableError(ConfigError):
    """A probe cannot be applied to one of the models; perhaps to the others."""

    def __init__(self, exhibit: str, reason: str) -> None:
        super().__init__(f"{exhibit}: {reason}")
        self.exhibit = exhibit


@contextmanager
def concerning(exhibit: Exhibit) -> Iterator[None]:
    """What is wrong inside the block is wrong with this model."""
    try:
        yield
    except NotApplicableError:
        raise
    except ConfigError as error:
        raise NotApplicableError(exhibit.name, str(error)) from None


@dataclass(frozen=True, kw_only=True, eq=False)
class Inputs:
    """The images that all models are shown."""

    batches: Iterable[Batch]  # may be gone through any number of times, always in one order
    num_batches: int
    augmented: Iterable[Batch] | None = None  # as training sees them; classes may be shares (B, K)
    mean: tuple[float, ...] = (0.0,)  # that normalisation took from pixels in [0, 1], per channel
    std: tuple[float, ...] = (1.0,)
    class_names: tuple[str, ...] = ()

    def first_images(self, most: int) -> Tensor:
        """So many images at most, from the first batches.

        Raises:
            ConfigError: There are none.
        """
        found: list[Tensor] = []
        for images, _ in self.batches:
            found.append(images[: most - sum(map(len, found))])
            if sum(map(len, found)) >= most:
                break
        if not found or not sum(map(len, found)):
            raise ConfigError("there are no images to look at: the data is empty.")
        return torch.cat(found)

    def first_batches(self, most: int) -> list[Batch]:
        """The first batches with so many images at most."""
        chosen: list[Batch] = []
        left = most
        for images, labels in self.batches:
            chosen.append((images[:left], labels[:left]))
            left -= len(images)
            if left <= 0:
                break
        return chosen


class Journal:
    """Where a probe says how far it is, and keeps what it need not measure again."""

    def __init__(self, folder: Path | None = None, watch: Callable[[int, int], None] | None = None) -> None:
        self._folder, self._watch = folder, watch

    def show(self, done: int, total: int) -> None:
        """So many steps of the probe are done."""
        if self._watch:
            self._watch(done, total)

    def kept(self, key: str) -> Any | None:
        """What was kept under this key before an interruption; None if nothing."""
        path = self._folder / f"{key}.json" if self._folder else None
        return read_json(path)["value"] if path and path.exists() else None

    def keep(self, key: str, value: Any) -> None:
        """Keeps plain JSON values."""
        if self._folder:
            write_json(self._folder / f"{key}.json", {"value": value})


@runtime_checkable
class Probe(Protocol):
    """A frozen config that measures one thing on models."""

    def measure(self, exhibits: tuple[Exhibit, ...], inputs: Inputs, journal: Journal) -> Measurement:
        """Raises ConfigError, in one line, where a model has not what is asked about."""
        ...
