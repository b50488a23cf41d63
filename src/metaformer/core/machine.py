"""Where a number was measured: processor, memory, threads, versions, commit."""

import importlib.metadata
import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import torch

VERSIONED = ("metaformer", "torch", "torchvision", "timm", "lightning-fabric", "numpy", "scikit-learn")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The machine, as far as it decides how fast a model runs."""

    processor: str
    cores: int  # that the process may use
    torch_threads: int
    memory_gib: float | None
    system: str
    accelerator: str | None  # name of the first GPU


def this_machine() -> Machine:
    """The machine that this runs on."""
    return Machine(
        processor=_processor(),
        cores=available_cores(),
        torch_threads=torch.get_num_threads(),
        memory_gib=_memory_gib(),
        system=platform.platform(terse=True),
        accelerator=accelerator_name(),
    )


def provenance() -> dict[str, Any]:
    """What a script's own file says of where and when it was made, as plain JSON values; it started now."""
    return {
        "machine": asdict(this_machine()),
        "versions": versions(),
        "commit": commit(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@cache
def instruction_sets() -> tuple[str, ...]:
    """What the processor says that it can do, sorted; empty where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ()
    found = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return tuple(sorted(set(found.partition(":")[2].split())))


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide a result."""
    found = {"python": platform.python_version()}
    for name in VERSIONED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def available_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def accelerator_name() -> str | None:
    """The name of the first GPU, or None."""
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


@cache
def commit() -> str | None:
    """The commit of the checkout that this package runs from, with a + when files differ from it."""
    folder = Path(__file__).parent
    try:
        head = _git(folder, "rev-parse", "--short=12", "HEAD")
        return head + ("+" if _git(folder, "status", "--porcelain", "--untracked-files=no", ".") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()


@cache
def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
