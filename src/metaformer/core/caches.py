"""What is kept between runs, in the user's own cache folder."""

import hashlib
import shutil
from pathlib import Path

import platformdirs

from metaformer.core.atomic_write import write_text

# The folder's name -> what is in it.
CACHES = {
    "weights": "downloaded weights",
    "operators": "compiled operators",
    "trials": "timed trials of optimize",
}


def cache_folder(name: str) -> Path:
    """Where one of CACHES is; it need not exist yet."""
    return Path(platformdirs.user_cache_dir("metaformer")) / name


def size_mib(name: str) -> float:
    """What one of CACHES holds."""
    return sum(path.stat().st_size for path in cache_folder(name).rglob("*") if path.is_file()) / 2**20


def clear_caches() -> None:
    """Removes all of it: weights are downloaded, operators compiled and trials made again when they are needed.

    Raises:
        OSError: A file cannot be removed.
    """
    for name in CACHES:
        if cache_folder(name).exists():
            shutil.rmtree(cache_folder(name))


def seal_of(path: Path) -> str:
    """What a file is, in one line: its size and the SHA-256 of its content."""
    with path.open("rb") as file:
        return f"{path.stat().st_size} {hashlib.file_digest(file, 'sha256').hexdigest()}"


def write_seal(path: Path, seal: str | None = None) -> None:
    """Notes beside a file what it is, so that damage shows."""
    write_text(_seal_path(path), (seal or seal_of(path)) + "\n")


def read_seal(path: Path) -> str:
    """What a file was when it was sealed; nothing where nobody knows."""
    try:
        seal = _seal_path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    size, _, digest = seal.partition(" ")
    return seal if size.isdecimal() and len(digest) == 64 else ""


def is_whole(path: Path) -> bool:
    """Whether a file is there and what it was when it was sealed."""
    seal = read_seal(path)
    # The size first: a file that was cut off need not be read.
    return bool(seal) and path.is_file() and seal.startswith(f"{path.stat().st_size} ") and seal_of(path) == seal


def _seal_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.seal")
