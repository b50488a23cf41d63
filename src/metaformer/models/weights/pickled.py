"""PyTorch's own files: opened without running anything that is in them."""

import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from metaformer.core.errors import DataError, first_line
from metaformer.models.weights.inert import INERT_PICKLE

# PyTorch stores numbers as they are; what unpacks to many times the file is there to fill the memory.
MOST_UNPACKED = 4
SAVE_ANEW = "Save it anew where it was made: torch.save(model.state_dict(), FILE)."


def read_pickled(path: Path) -> Any:
    """What a .pth, .pth.tar, .pt or .bin file holds: tensors, plain containers, and `Inert` for all else.

    Raises:
        DataError: It is damaged, no file of PyTorch, or has something in it that is there to run code.
    """
    _check_container(path)
    try:
        with warnings.catch_warnings():
            # Of old storages: not for whoever opens a file.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", pickle_module=INERT_PICKLE, weights_only=False)
    except DataError as refusal:
        raise DataError(f"refused {path}: {refusal}.") from None
    # A damaged file fails wherever it happens to lead, in few places with words: struct.error, AssertionError, ...
    except Exception as error:
        reason = f" ({first_line(error).split('. ')[0]})" if isinstance(error, RuntimeError | OSError) else ""
        raise DataError(
            f"cannot read {path}: it is neither safetensors nor a whole PyTorch file{reason}. {SAVE_ANEW}"
        ) from None


def _check_container(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(512)
    if start[257:262] == b"ustar":
        raise DataError(f"cannot read {path}: it is a tar archive. Unpack it and name the file inside.")
    if start.lstrip()[:1] == b"<":
        raise DataError(f"cannot read {path}: it is a web page, not a weights file.")
    if start[:2] != b"PK":
        return
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        # PyTorch says what is wrong with it.
        return
    if sum(member.file_size for member in members) > MOST_UNPACKED * path.stat().st_size:
        raise DataError(f"refused {path}: it would unpack to more than {MOST_UNPACKED} times its size.")
    if any(Path(member.filename).name == "constants.pkl" for member in members):
        raise DataError(f"cannot read {path}: it is a TorchScript program, and weights are needed. {SAVE_ANEW}")
