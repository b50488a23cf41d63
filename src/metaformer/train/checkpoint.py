"""The state of a training run, on disk: the last few, and the weights of the best epoch.

Each file ends with a hash of all before it, since PyTorch's reader takes changed bytes for weights. It lies in the
comment of the zip archive that PyTorch writes, which `torch.load` reads as ever.
"""

import hashlib
import logging
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

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
SEAL, SEAL_LENGTH = b"sha256:", 7 + 64
log = logging.getLogger("metaformer.train")


class Checkpoints:
    """The checkpoints of a run: `checkpoint-EPOCH-STEP.pt`, after so many epochs and steps of the next."""

    def __init__(self, folder: Path, *, keep: int = 2) -> None:
        self.folder, self.keep = folder, keep

    def save(self, state: dict[str, Any]) -> None:
        """Writes a checkpoint, then removes all but the last few; none is removed before the new one is whole.

        Raises:
            DiskError: It cannot be written.
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
            DiskError: They cannot be written.
        """
        self._write(self.folder / BEST_FILE, state)

    def load(self) -> dict[str, Any] | None:
        """The newest checkpoint that is whole, if there is any; sweeps away what half-written files there are.

        One whose name says another epoch and step than it holds counts by what it holds.

        Raises:
            DataError: There are some, and none can be read.
        """
        self._sweep()
        errors: list[DataError] = []
        found: list[tuple[Path, dict[str, Any]]] = []
        for path in reversed(self.paths()):
            try:
                found.append((path, _read(path, NEEDED)))
            except DataError as failure:
                errors.append(failure)
                continue
            if _place_in_name(path) == _place(found[-1][1]):
                break
        if not found:
            if errors:
                raise errors[0]
            return None
        path, state = max(found, key=lambda pair: _place(pair[1]))
        if errors:
            log.warning("%s Going on from the one before, %s.", str(errors[0]).split(" Delete it")[0], path.name)
        elif len(found) > 1:
            log.warning(
                "%s: the names of checkpoints are mixed up. Going on from %s, which holds epoch %d, step %d.",
                self.folder,
                path.name,
                *_place(state),
            )
        return state

    def load_best(self, epoch: int) -> dict[str, Any] | None:
        """The weights of the best epoch; None, and a warning, where they are not there or damaged.

        Args:
            epoch: Which one it is, counted from 1.
        """
        path = self.folder / BEST_FILE
        try:
            state = _read(path, {"model", "epoch"})
            if state["epoch"] == epoch:
                return state
            reason = f"{path} holds epoch {state['epoch']}."
        except DataError as error:
            reason = str(error).split(" Delete it")[0]
        log.warning("the weights of the best epoch, %d, are lost: %s The last ones are there.", epoch, reason)
        return None

    def clear(self) -> None:
        """Removes what only a run that goes on would need."""
        for path in [*self.paths(), self.folder / BEST_FILE]:
            if path.is_file():
                path.unlink()

    def paths(self) -> list[Path]:
        """The checkpoints, oldest first."""
        # By number: an epoch or step of many digits does not sort by letters.
        return sorted((path for path in self._files() if NAME.fullmatch(path.name)), key=_place_in_name)

    def _files(self) -> list[Path]:
        """What can be read and removed: neither folders nor pipes."""
        return [path for path in self.folder.iterdir() if path.is_file()] if self.folder.is_dir() else []

    def _sweep(self) -> None:
        for path in self._files():
            if PART.fullmatch(path.name):
                path.unlink(missing_ok=True)

    def _write(self, path: Path, state: dict[str, Any]) -> None:
        last = self.paths()
        kept = f"{last[-1].name} is whole: the same command goes on from there." if last else "None was written yet."
        with naming_disk_errors(f"the checkpoint {path}", kept), atomic_path(path) as temporary:
            # A file of Python's: it knows why a write fails, and torch's own does not.
            with temporary.open("wb") as file:
                torch.save(state, file)
            seal(temporary)


def seal(path: Path) -> None:
    """Adds the hash of all before it to a file that `torch.save` wrote."""
    with path.open("r+b") as file:
        # A zip archive ends with the length of its comment.
        file.seek(-2, 2)
        file.write(SEAL_LENGTH.to_bytes(2, "little"))
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256")
        file.seek(0, 2)
        file.write(SEAL + digest.hexdigest().encode())


def digest_of(tensors: dict[str, Tensor]) -> str:
    """A short hash of names and values: what tells first weights apart, wherever their file lies."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def run_settings(
    model: nn.Module, data: DataSource, config: TrainConfig, *, seed: int, more: dict[str, Any]
) -> dict[str, Any]:
    """All that decides the result, as plain values; `more` is what the caller alone knows.

    Of the data their content counts, and not where they lie.
    """
    architecture = to_dict(model.config) if hasattr(model, "config") else None
    return more | {"model": architecture, "data": data_settings(data), "train": to_dict(config), "seed": seed}


def data_settings(data: DataSource) -> dict[str, Any]:
    """What tells one data set from another, wherever it lies."""
    facts = data.facts
    described = {"num_train": facts.num_train, "class_names": list(facts.class_names)}
    return described | {"content": facts.fingerprint}


def _place(state: dict[str, Any]) -> tuple[int, int]:
    return int(state["epoch"]), int(state["step"])


def _place_in_name(path: Path) -> tuple[int, int]:
    epoch, step = path.stem.split("-")[1:]
    return int(epoch), int(step)


def _read(path: Path, needed: set[str]) -> dict[str, Any]:
    try:
        if not path.is_file():
            raise FileNotFoundError("it is not there." if not path.exists() else "it is no file.")
        _verify(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    # A damaged pickle fails wherever it happens to lead: IndexError, AttributeError, struct.error, ...
    except Exception as error:
        raise DataError(
            f"cannot read the checkpoint {path}: {first_line(error)} Delete it to start the run again."
        ) from None
    if not isinstance(state, dict) or not needed <= state.keys():
        raise DataError(f"{path} is not a checkpoint of a training run. Delete it to start the run again.")
    return state


def _verify(path: Path) -> None:
    """Compares the hash at the end of a file with that of what comes before it."""
    left = path.stat().st_size - SEAL_LENGTH
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while left > 0 and (part := file.read(min(left, 1 << 20))):
            digest.update(part)
            left -= len(part)
        found = file.read()
    if left or not found.startswith(SEAL):
        raise DataError("its hash is missing: it is cut short, or of another program.")
    if found != SEAL + digest.hexdigest().encode():
        raise DataError("it does not have its hash: it is damaged.")
