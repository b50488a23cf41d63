"""The table of data formats: what a name begins with, and who opens what stands behind it.

A new source is a file in `formats/` and a line in FORMATS.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from metaformer.data.formats.cifar_batches import holds_cifar_batches, open_cifar10
from metaformer.data.formats.cluttered_digits import ClutteredDigits
from metaformer.data.formats.digits import Digits
from metaformer.data.formats.folder import open_folder
from metaformer.data.formats.hub import open_hub, open_hub_stream
from metaformer.data.formats.ising3d import open_ising3d
from metaformer.data.formats.mnist1d import open_mnist1d
from metaformer.data.formats.npz import open_npz
from metaformer.data.formats.parquet import open_parquet
from metaformer.data.formats.shard_files import SUFFIXES
from metaformer.data.formats.torchvision import open_tensorflow, open_torchvision
from metaformer.data.formats.webdataset import open_webdataset
from metaformer.data.found import Found
from metaformer.data.source import DataSource
from metaformer.data.walk import Walk


@dataclass(frozen=True, kw_only=True)
class Format:
    """One way in which labelled images are stored."""

    open: Callable[[str], Found | DataSource]  # what stands behind the prefix -> what is there
    form: str = ""  # how it is written, for messages
    is_path: bool = True  # whether what stands behind the prefix must exist
    claims: Callable[[Path], bool] = lambda _: False  # whether a path without prefix is of this format


def _holds(suffixes: frozenset[str]) -> Callable[[Path], bool]:
    def claims(path: Path) -> bool:
        if path.is_file():
            return path.name.endswith(tuple(suffixes))
        return next(Walk(path, suffixes).files(), None) is not None

    return claims


# The prefix of a name -> its format; without a prefix the first that claims the path, else class folders.
FORMATS: dict[str, Format] = {
    "cluttered-digits": Format(open=lambda _: ClutteredDigits(), is_path=False),
    "digits": Format(open=lambda _: Digits(), is_path=False),
    "mnist1d": Format(open=lambda _: open_mnist1d(), is_path=False),
    "ising3d": Format(open=lambda _: open_ising3d(), is_path=False),
    "folder:": Format(open=open_folder, form="a folder of class folders"),
    "cifar10:": Format(open=open_cifar10, form="cifar10:PATH", claims=holds_cifar_batches),
    "parquet:": Format(open=open_parquet, form="parquet:PATH", claims=_holds(frozenset({".parquet"}))),
    "npz:": Format(open=open_npz, form="npz:FILE", claims=_holds(frozenset({".npz"}))),
    "wds:": Format(open=open_webdataset, form="wds:PATH", claims=_holds(SUFFIXES)),
    "torch/": Format(open=open_torchvision, form="torch/NAME:FOLDER", is_path=False),
    "hfds/": Format(open=open_hub, form="hfds/NAME", is_path=False),
    "hfids/": Format(open=open_hub_stream, form="hfids/NAME", is_path=False),
    "tfds/": Format(open=open_tensorflow, form="tfds/NAME", is_path=False),
}
GENERATED = tuple(name for name in FORMATS if name[-1] not in ":/")
