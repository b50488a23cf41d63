"""Compiles the C++ operators on first use, into the user's cache folder."""

import hashlib
import subprocess
import tempfile
from pathlib import Path

from metaformer.core import caches
from metaformer.core.checked_file import checked_path, is_whole
from metaformer.core.compiling import compiler_names, cpp_compiler

# Each operator's C++ lies beside its definition, what they share in this folder.
SOURCES = Path(__file__).parents[1]
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-fPIC", "-shared")
TIMEOUT_S = 600


class BuildError(RuntimeError):
    """The operators cannot be compiled on this machine; says why."""


def cache_folder() -> Path:
    """Where compiled operators are kept."""
    return caches.cache_folder("operators")


def source_files() -> list[Path]:
    """What the operators are made of."""
    return sorted(path for path in SOURCES.glob("*/*") if path.suffix in (".cpp", ".h"))


def built_library(*, again: bool = False) -> Path:
    """The compiled operators, made now if this machine has none from the same sources and compiler, or damaged ones.

    The system ends a process that loads half a library, so the hash is compared first. Two processes may build at once:
    each writes a file of its own, which then takes its place whole.

    Args:
        again: Even where there are some.

    Raises:
        BuildError: There is no compiler, or it failed.
    """
    compiler = cpp_compiler()
    if compiler is None:
        raise BuildError(f"no C++ compiler found: not on the PATH: {', '.join(compiler_names())}")
    target = _target(compiler)
    if again or not is_whole(target):
        try:
            with checked_path(target) as temporary:
                _compile(compiler, temporary)
        except OSError as error:
            raise BuildError(f"cannot write {target}: {error}") from None
    return target


def is_built() -> bool:
    """Whether the operators are there, so that nobody has to wait for them."""
    compiler = cpp_compiler()
    try:
        return compiler is not None and is_whole(_target(compiler))
    except BuildError:
        return False


def _target(compiler: str) -> Path:
    return cache_folder() / _key(compiler) / "libmetaformer.so"


def _compile(compiler: str, target: Path) -> None:
    sources = [str(path) for path in source_files() if path.suffix == ".cpp"]
    _run(compiler, *FLAGS, "-I", str(Path(__file__).parent), "-o", str(target), *sources)


def _key(compiler: str) -> str:
    """Differs wherever the compiled file would: by sources, flags, compiler, and the machine's instructions."""
    digest = hashlib.sha256(" ".join(FLAGS).encode())
    for path in source_files():
        digest.update(path.name.encode() + path.read_bytes())
    # The macros that the compiler defines name its version and every instruction set it will use.
    with tempfile.NamedTemporaryFile(suffix=".cpp") as empty:
        macros = _run(compiler, *FLAGS[:3], "-dM", "-E", empty.name).splitlines()
    # Sorted: GCC lists the same macros in another order now and then.
    digest.update("\n".join(sorted(macros)).encode())
    return digest.hexdigest()[:20]


def _run(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{command[0]} did not run: {error}") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines() or ["?"]
        raise BuildError(f"{command[0]} failed: {lines[0].strip()}")
    return done.stdout
