"""The folder of a run has one writer: a lock that says who that is, and a look at whether it can be written."""

import contextlib
import json
import os
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from metaformer.core.errors import ConfigError, DataError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK_FILE = "run.lock"


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The process that writes into a folder."""

    pid: int
    host: str
    started: str  # when it took the folder: ISO 8601, UTC
    process_start: str  # tells a process from a later one of the same number

    @property
    def is_gone(self) -> bool:
        """Whether it ran on this machine and does not any more."""
        return self.host == socket.gethostname() and self.process_start != _process_start(self.pid)


def require_writable(folder: Path) -> None:
    """Makes the folder where it is missing, and writes into it once.

    Raises:
        DataError: It cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0")
    except OSError as error:
        raise DataError(f"cannot write into {folder}: {error.strerror or error}. Choose another folder.") from None


@contextlib.contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Keeps other runs out of a folder for as long as the block lasts.

    A lock that a dead process left is taken over; whether a process of another machine is alive cannot be seen from
    here, so that its lock stands until somebody deletes it.

    Args:
        folder: Made where it is missing.

    Raises:
        ConfigError: Another run writes there; names its process and machine.
        DataError: The folder cannot be written.
    """
    require_writable(folder)
    path, pid = folder / LOCK_FILE, os.getpid()
    mine = Holder(
        pid=pid,
        host=socket.gethostname(),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        process_start=_process_start(pid),
    )
    try:
        with _alone(path) as file:
            other = _read(file)
            if other and not other.is_gone:
                raise ConfigError(_refusal(folder, other))
            file.truncate()
            file.write(json.dumps(asdict(mine)))
    except OSError as error:
        raise DataError(f"cannot lock {folder}: {path.name}: {error.strerror or error}.") from None
    try:
        yield
    finally:
        # The folder may be gone, or be somebody else's by now.
        with contextlib.suppress(OSError), _alone(path) as file:
            if _read(file) == mine:
                path.unlink()


def _refusal(folder: Path, other: Holder) -> str:
    who = f"process {other.pid} on {other.host}, since {other.started}"
    if other.host == socket.gethostname():
        return f"another run writes into {folder} ({who}). Choose another --out, or wait for it to end."
    return (
        f"a run on another machine writes into {folder} ({who}). Choose another --out; "
        f"if that run is gone, delete {folder / LOCK_FILE}."
    )


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[IO[str]]:
    """The file, open at its beginning, while no other process reads or writes it here."""
    while True:
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+", encoding="utf-8") as file:
            if fcntl is not None:
                # A file system without such locks still has the names in the file.
                with contextlib.suppress(OSError):
                    fcntl.flock(file, fcntl.LOCK_EX)
            # Whoever held it may have removed it meanwhile.
            if _is_still(path, file):
                yield file
                return


def _is_still(path: Path, file: IO[str]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _read(file: IO[str]) -> Holder | None:
    """Who holds the folder; nobody, where the file is new or holds something else."""
    try:
        file.seek(0)
        return Holder(**json.loads(file.read()))
    except (ValueError, TypeError):
        return None
    finally:
        file.seek(0)


def _process_start(pid: int) -> str:
    """When a process began, in the system's own words; empty for one that is not there, or waits to be buried."""
    try:
        # The name in brackets may hold anything; the fields after it are plain.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        pass
    if Path("/proc/self/stat").exists():
        return ""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return "runs"
    except (OSError, OverflowError):
        return ""
    return "runs"
