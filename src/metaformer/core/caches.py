"""What is kept between runs, in the user's own cache folder."""

import shutil
from pathlib import Path

import platformdirs

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
