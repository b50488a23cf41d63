"""The state of a training run between two epochs, on disk."""

from pathlib import Path
from typing import Any

import torch

from metaformer.core.atomic_write import atomic_path
from metaformer.core.errors import DataError

CHECKPOINT_FILE = "checkpoint.pt"


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Writes the checkpoint; the one before it stays until the new one is whole."""
    with atomic_path(folder / CHECKPOINT_FILE) as temporary:
        torch.save(state, temporary)


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Reads the checkpoint, if there is one.

    Raises:
        DataError: It is not one of ours, or damaged.
    """
    path = folder / CHECKPOINT_FILE
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    # A damaged pickle fails wherever it happens to lead: IndexError, AttributeError, struct.error, ...
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"cannot read the checkpoint {path}: {reason} Delete it to start the run again.") from None
    if not isinstance(state, dict) or not {"model", "optimizer", "epoch", "history", "config"} <= state.keys():
        raise DataError(f"{path} is not a checkpoint of a training run. Delete it to start the run again.")
    return state
