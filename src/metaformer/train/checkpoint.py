"""The state of a training run, on disk: the last few, and the weights of the best epoch."""

import logging
import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from metaformer.core.atomic_write import atomic_path
from metaformer.core.configs import to_dict
from metaformer.core.errors import DataError, first_line
from metaformer.data.source import DataSource
from metaformer.train.config import TrainConfig
from metaformer.train.stopping import naming_disk_errors

BEST_FILE = "best.pt"
NEEDED = {
    *("settings", "epoch", "step", "history", "best", "loss_sum", "seconds", "epoch_seconds"),
    *("model", "average", "optimizer", "precision"),
}
NAME = re.compile(r"checkpoint-(\d+)-(\d+)\.pt")
# What a process that was killed while it wrote leaves behind.
PART = re.compile(r"\.(checkpoint-\d+-\d+\.pt|best\.pt|log\.csv|run\.json|\w+\.safetensors)\.\w+\.part")
log = logging.getLogger("metaformer.train")


class Checkpoints:
    """The checkpoints of a run: `checkpoint-EPOCH-STEP.pt`, after so many epochs and steps of the next."""

    def __init__(self, folder: Path, *, keep: int = 2) -> None:
        self.folder, self.keep = folder, keep

    def save(self, state: dict[str, Any]) -> None:
        """Writes a checkpoint, then removes all but the last few; none is removed before the new one is whole.

        Raises:
            StoppedError: It cannot be written.
        """
        path = self.folder / f"checkpoint-{state['epoch']:04d}-{state['step']:06d}.pt"
        self._write(path, state)
        paths = self.paths()
        place = paths.index(path)
        # Those after it are damaged, or the run would have gone on from them.
        for other in [*paths[: max(0, place + 1 - self.keep)], *paths[place + 1 :]]:
            other.unlink(missing_ok=True)

    def save_best(self, state: dict[str, Any]) -> None:
        """Writes the weights of the best epoch so far.

        Raises:
            StoppedError: They cannot be written.
        """
        self._write(self.folder / BEST_FILE, state)

    def load(self) -> dict[str, Any] | None:
        """The newest checkpoint that can be read, if there is any; sweeps away what half-written files there are.

        Raises:
            DataError: There are some, and none can be read.
        """
        self._sweep()
        error: DataError | None = None
        for path in reversed(self.paths()):
            try:
                state = _read(path, NEEDED)
            except DataError as failure:
                error = error or failure
                continue
            if error:
                log.warning("%s Going on from the one before, %s.", str(error).split(" Delete it")[0], path.name)
            return state
        if error:
            raise error
        return None

    def load_best(self) -> dict[str, Any] | None:
        """The weights of the best epoch, if they are there.

        Raises:
            DataError: They cannot be read.
        """
        path = self.folder / BEST_FILE
        return _read(path, {"model", "epoch"}) if path.exists() else None

    def clear(self) -> None:
        """Removes what only a run that goes on would need."""
        for path in [*self.paths(), self.folder / BEST_FILE]:
            path.unlink(missing_ok=True)

    def paths(self) -> list[Path]:
        """The checkpoints, oldest first."""
        found = [path for path in self._files() if NAME.fullmatch(path.name)]
        # By number: an epoch or step of many digits does not sort by letters.
        return sorted(found, key=lambda path: [int(number) for number in path.stem.split("-")[1:]])

    def _files(self) -> list[Path]:
        return list(self.folder.iterdir()) if self.folder.is_dir() else []

    def _sweep(self) -> None:
        for path in self._files():
            if PART.fullmatch(path.name):
                path.unlink(missing_ok=True)

    def _write(self, path: Path, state: dict[str, Any]) -> None:
        last = self.paths()
        kept = f"{last[-1].name} is whole: the same command goes on from there." if last else "None was written yet."
        # A file of Python's: it knows why a write fails, and torch's own does not.
        with (
            naming_disk_errors(f"the checkpoint {path}", kept),
            atomic_path(path) as temporary,
            temporary.open("wb") as file,
        ):
            torch.save(state, file)


def _read(path: Path, needed: set[str]) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    # A damaged pickle fails wherever it happens to lead: IndexError, AttributeError, struct.error, ...
    except Exception as error:
        raise DataError(
            f"cannot read the checkpoint {path}: {first_line(error)} Delete it to start the run again."
        ) from None
    if not isinstance(state, dict) or not needed <= state.keys():
        raise DataError(f"{path} is not a checkpoint of a training run. Delete it to start the run again.")
    return state


def run_settings(
    model: nn.Module, data: DataSource, config: TrainConfig, *, seed: int, more: dict[str, Any]
) -> dict[str, Any]:
    """All that decides the result, as plain values; `more` is what the caller alone knows."""
    architecture = to_dict(model.config) if hasattr(model, "config") else None
    facts = data.facts
    described = {"name": facts.name, "num_train": facts.num_train, "class_names": list(facts.class_names)}
    return more | {"model": architecture, "data": described, "train": to_dict(config), "seed": seed}
