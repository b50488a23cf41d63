"""`metaformer doctor`: what works on this machine, and why the rest does not."""

import importlib
import importlib.util
from dataclasses import asdict

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from metaformer.core import caches
from metaformer.core.compiling import compiler_names, cpp_compiler
from metaformer.core.errors import DataError, one_line
from metaformer.core.machine import commit, this_machine, versions

# What can be done -> the modules it needs, and the extra that brings them.
ABILITIES = {
    "build, load, profile models": (("torch", "torchvision", "timm", "safetensors"), ""),
    "train": (("lightning_fabric", "timm.optim"), "train"),
    "embedded digits": (("sklearn.datasets",), "train"),
    "Parquet, hub and WebDataset": (("pyarrow.parquet", "datasets", "webdataset"), "data"),
    "tables of a study": (("scipy.stats",), "report"),
    "HTML page": (("jinja2", "plotly"), "report"),
}


def doctor(clear_caches: bool = False) -> int:
    """Shows the machine, the versions, which parts of the package work here, and what is kept between runs.

    Args:
        clear_caches: Remove what is kept: downloaded weights, compiled operators, timed trials.
    """
    if clear_caches:
        try:
            caches.clear_caches()
        except OSError as error:
            raise DataError(f"a cache cannot be removed: {error}") from None
    console = Console(soft_wrap=True, highlight=False)
    facts = {key: value for key, value in asdict(this_machine()).items() if value is not None}
    table = Table(box=None, show_header=False, pad_edge=False)
    for key, value in (facts | versions() | {"commit": commit() or "not a checkout"}).items():
        table.add_row(key.replace("_", " "), str(value))
    console.print(table)
    console.print()
    checks = Table(box=None, show_header=False, pad_edge=False)
    for ability, (ok, why) in _abilities().items():
        checks.add_row(ability, "yes" if ok else "no", escape(why))
    console.print(checks)
    console.print()
    for name, what in caches.CACHES.items():
        # Not a table: a path must not be cut.
        console.print(f"{what:25} {caches.size_mib(name):7.1f} MiB  {caches.cache_folder(name)}", markup=False)
    return 0


def _abilities() -> dict[str, tuple[bool, str]]:
    found = {ability: _modules(modules, extra) for ability, (modules, extra) in ABILITIES.items()}
    compiler = cpp_compiler()
    reason = f"by {compiler}" if compiler else f"no C++ compiler; not on the PATH: {', '.join(compiler_names())}"
    found["torch.compile on the CPU"] = (compiler is not None, reason)
    gpu = torch.cuda.is_available()
    found["GPU"] = (gpu, torch.cuda.get_device_name(0) if gpu else "torch.cuda sees none")
    return found


def _modules(modules: tuple[str, ...], extra: str) -> tuple[bool, str]:
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            fix = f"pip install 'metaformer[{extra}]'" if extra else "install the package again"
            return False, f"{one_line(error)}; {fix}"
    return True, ""
