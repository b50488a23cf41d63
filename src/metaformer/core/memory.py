"""The main memory of this process."""

import ctypes
import gc
import sys
from collections.abc import Callable
from pathlib import Path

# Parameters of glibc's mallopt, from its header.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def highest_memory_mib() -> float:
    """The most that this process has held at once since its start (resident); not a number where nobody knows."""
    try:
        import resource
    except ImportError:
        return float("nan")
    # Kilobytes on Linux, bytes on macOS.
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def added_memory_mib(call: Callable[[], object]) -> float | None:
    """How much more this process holds at the peak of a call than before it; None where the system does not tell.

    What is free but was not given back to the system is given back first, where that can be done. The mark that
    `highest_memory_mib` reads begins anew.
    """
    gc.collect()
    # Others keep what they keep.
    if malloc_trim := _gnu_function("malloc_trim"):
        malloc_trim(0)
    try:
        # The highest mark becomes what is held now.
        _CLEAR.write_text("5")
        before = _highest_since_cleared_mib()
    except (OSError, ValueError):
        return None
    call()
    return _highest_since_cleared_mib() - before


def keep_freed_memory() -> None:
    """Lets this process keep the large blocks that it frees, for the next that it needs.

    The GNU library gives blocks above 32 MiB back to the system at once. A training step needs the same blocks again
    and again, and clearing their pages anew takes an eighth of its time. What the process holds at most stays the same.
    Other libraries keep what they have, or cannot be told.
    """
    if mallopt := _gnu_function("mallopt"):
        mallopt(M_MMAP_THRESHOLD, 2**31 - 1)
        mallopt(M_TRIM_THRESHOLD, -1)


def _gnu_function(name: str) -> Callable[..., int] | None:
    """A function that only the GNU library has; None with any other."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


def _highest_since_cleared_mib() -> float:
    (line,) = [line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024
