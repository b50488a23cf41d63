"""The one walk over folders: for classes, Parquet files, shards, and images to predict."""

import os
from collections import Counter
from collections.abc import Iterator, Set
from pathlib import Path

from metaformer.core.errors import DataError
from metaformer.core.printable import printable
from metaformer.data.notes import Note, counted, some

# What notebooks, archives, network drives and systems leave behind; hidden names besides.
JUNK_FOLDERS = frozenset(
    {"__MACOSX", "__pycache__", "@eaDir", "@Recycle", "#recycle", "lost+found", "$RECYCLE.BIN"}
    | {"System Volume Information"}
)
JUNK_FILES = frozenset({"thumbs.db", "desktop.ini", "icon\r"})


def is_junk(name: str) -> bool:
    """Whether a file or folder of this name was made by a program for itself."""
    return name.startswith(".") or name in JUNK_FOLDERS or name.lower() in JUNK_FILES


class Walk:
    """Lists folders and files in the order of their names, follows links, and counts what it leaves out.

    A link to a folder that it lies in would lead round in circles and is left out, as are pipes and devices unless they
    are kept for a reader that names them. A link to nothing stays a file: who reads it says that it is not there.
    """

    def __init__(self, root: str | Path, suffixes: Set[str], *, keep_special: bool = False) -> None:
        self.root, self._suffixes, self._keep_special = str(root), suffixes, keep_special
        self._real_root = os.path.realpath(root)
        self.junk: list[str] = []
        self.loops: list[str] = []
        self.special: list[str] = []
        self.other: Counter[str] = Counter()  # files by suffixes that are not read

    def list_folder(self, folder: str = "") -> tuple[list[str], list[str]]:
        """Names of the folders, and of the files with the suffixes asked for, directly in a folder below the root.

        Raises:
            DataError: The folder cannot be listed.
        """
        folders, files = [], []
        try:
            with os.scandir(os.path.join(self.root, folder)) as found:  # noqa: PTH118 (a million times faster)
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            place = printable(os.path.join(self.root, folder))  # noqa: PTH118
            raise DataError(f"cannot list {place}: {error.strerror}. Make it readable, or move it away.") from None
        for entry in entries:
            kind = self._kind(entry)
            if kind == "folder":
                folders.append(entry.name)
            elif kind == "file":
                files.append(entry.name)
        return folders, files

    def files(self, folder: str = "") -> Iterator[str]:
        """All files in a folder and below it, relative to the root; each folder is entered once."""
        yield from self._below(folder, set())

    def _below(self, folder: str, entered: set[tuple[int, int]]) -> Iterator[str]:
        try:
            here = os.stat(os.path.join(self.root, folder))  # noqa: PTH116, PTH118
        except OSError as error:
            raise DataError(f"cannot list {printable(folder or self.root)}: {error.strerror}.") from None
        if (here.st_dev, here.st_ino) in entered:
            self.loops.append(folder)
            return
        entered.add((here.st_dev, here.st_ino))
        folders, files = self.list_folder(folder)
        prefix = folder + os.sep if folder else ""
        yield from (prefix + name for name in files)
        for name in folders:
            yield from self._below(prefix + name, entered)

    def _kind(self, entry: "os.DirEntry[str]") -> str:
        if is_junk(entry.name):
            self.junk.append(entry.path)
            return ""
        try:
            is_folder, is_file = entry.is_dir(), entry.is_file()
        # A link to itself.
        except OSError:
            is_folder = is_file = False
        if is_folder:
            if entry.is_symlink() and self._is_above(entry.path):
                self.loops.append(entry.path)
                return ""
            return "folder"
        if not is_file and not entry.is_symlink() and not self._keep_special:
            self.special.append(entry.path)
            return ""
        name = entry.name.lower()
        if any(name.endswith(suffix) for suffix in (os.path.splitext(name)[1], ".tar.gz") if suffix in self._suffixes):  # noqa: PTH122
            return "file"
        self.other[os.path.splitext(name)[1] or "no suffix"] += 1  # noqa: PTH122
        return ""

    def _is_above(self, link: str) -> bool:
        target = os.path.realpath(link)
        places = (self._real_root, os.path.realpath(os.path.dirname(link)))  # noqa: PTH120
        return any(place == target or place.startswith(os.path.join(target, "")) for place in places)  # noqa: PTH118

    def notes(self) -> list[Note]:
        """What was left out so far, with counts."""
        told = []
        if self.junk:
            names = sorted({os.path.basename(path) for path in self.junk})  # noqa: PTH119
            what = counted(len(self.junk), "hidden or system file or folder", "hidden or system files or folders")
            told.append(Note(text=f"Left out: {what} ({some(map(printable, names))}).", count=len(self.junk)))
        if self.other:
            total = self.other.total()
            suffixes = some(f"{suffix} {count:,}" for suffix, count in self.other.most_common())
            told.append(
                Note(text=f"Left out: {counted(total, 'file')} with suffixes not read here: {suffixes}.", count=total)
            )
        for paths, thing, things in (
            (self.loops, "link that leads back to where it lies", "links that lead back to where they lie"),
            (self.special, "pipe, socket or device", "pipes, sockets or devices"),
        ):
            if paths:
                what = counted(len(paths), thing, things)
                told.append(Note(text=f"Left out: {what} (the first: {printable(paths[0])}).", count=len(paths)))
        return told
