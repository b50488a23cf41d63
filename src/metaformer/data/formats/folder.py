"""Images in folders, one folder a class: FOLDER/class/image, or FOLDER/split/class/image.

The class is the first folder below the split, however deep an image lies below it.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path

import torch

from metaformer.core.errors import DataError
from metaformer.core.printable import printable
from metaformer.data.decode.image_file import IMAGE_SUFFIXES
from metaformer.data.found import Found
from metaformer.data.image_set import IndexedImages, Sample
from metaformer.data.name_list import NameList
from metaformer.data.notes import Note, counted, some
from metaformer.data.split_names import ours, split_of
from metaformer.data.walk import Walk

ANNOTATIONS = "annotations.txt"  # how the file ends in which Tiny ImageNet keeps the classes of its validation images


class FolderImages(IndexedImages):
    """The images of a folder of class folders, in timm's order of names: 2 comes before 10.

    Args:
        folder: Of the split.
        known: The classes of the training folder, where this is another split: a single folder that is none of them
            holds images without labels.

    Raises:
        DataError: There are no images, or most of them are in no class folder, and this is no unlabelled split.
    """

    order_is_by_name = True

    def __init__(self, folder: Path, known: Sequence[str] = ()) -> None:
        self.folder, self.name = folder, printable(str(folder))
        walk = Walk(folder, IMAGE_SUFFIXES, keep_special=True)
        folders, strays = walk.list_folder()
        self._files, self._labels = NameList(), torch.empty(0, dtype=torch.int64)
        sizes: list[int] = []
        with_images: list[str] = []
        empty: list[str] = []
        for name in sorted(folders, key=lambda name: (_natural(name), name)):
            before = len(self._files)
            self._files.extend(sorted(walk.files(name), key=_natural))
            if len(self._files) == before:
                empty.append(name)
                continue
            sizes.append(len(self._files) - before)
            with_images.append(name)
        told = walk.notes()
        if empty:
            what = counted(len(empty), "folder")
            text = f"{what} without an image that can be read: {some(map(printable, empty))}; no class is made of it."
            told.append(Note(text=text, count=len(empty)))
        by_file = self._annotated(with_images, strays, known) if known else {}
        is_unlabelled = bool(known) and not by_file and len(with_images) <= 1 and not {*with_images} & {*known}
        if strays and (is_unlabelled or by_file):
            self._files.extend(strays)
        elif strays:
            where = f"Expected {self.name}/CLASS/{printable(strays[0])}."
            if len(strays) > len(self._files):
                raise DataError(
                    f"{self.name}/{printable(strays[0])} is in no class folder, as are {len(strays):,} of the "
                    f"{len(strays) + len(self._files):,} images there. {where}"
                )
            text = f"Left out: {counted(len(strays), 'image')} in no class folder (the first: {printable(strays[0])})."
            told.append(Note(text=text, count=len(strays)))
        self.num_images: int = len(self._files)
        if not self.num_images:
            read = "".join(f" {note}" for note in told)
            raise DataError(f"{self.name} holds no images. Expected {self.name}/CLASS/IMAGE.{read}")
        if by_file:
            with_images = list(known)
            index_of = {name: place for place, name in enumerate(known)}
            places = [index_of[by_file[os.path.basename(file)]] for file in self._files]  # noqa: PTH119
            self._labels = torch.tensor(places, dtype=torch.int64)
            text = f"The classes of {counted(self.num_images, 'image')} in {self.name} are those of its {ANNOTATIONS}."
            told.append(Note(text=text, count=self.num_images))
        elif is_unlabelled:
            with_images = []
            self._labels = torch.full((self.num_images,), -1)
        else:
            self._labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
        self.class_names = tuple(map(printable, with_images))
        self.notes = tuple(told)

    def read_labels(self) -> Sequence[object]:
        return self._labels.tolist()

    def __getitem__(self, index: int) -> Sample:
        path = os.path.join(self.folder, self._files[index])  # noqa: PTH118 (a tenth of the time)
        return Sample(name=printable(path), image=Path(path), label=int(self._labels[index]))

    def _annotated(self, folders: Sequence[str], strays: Sequence[str], known: Sequence[str]) -> dict[str, str]:
        """The class of each file, where a list beside the images says it: `val_0.JPEG<tab>n03444034<tab>...`."""
        if len(folders) > 1 or {*folders} & {*known}:
            return {}
        files = [*strays, *(os.path.basename(file) for file in self._files)]  # noqa: PTH119
        for path in sorted(self.folder.glob(f"*{ANNOTATIONS}")):
            lines = (line.split("\t") for line in path.read_text(errors="replace").splitlines())
            found = {words[0]: words[1] for words in lines if len(words) > 1 and words[1] in known}
            if files and {*files} <= {*found}:
                return found
        return {}


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """Where the splits of a folder are."""

    base: Path
    splits: dict[str, Path] = field(default_factory=dict)  # by our names; empty: the folders are classes
    notes: tuple[Note, ...] = ()


def open_folder(place: str) -> Found:
    """The splits of a folder.

    Raises:
        DataError: It can be read in two ways, or not be listed.
    """
    layout = _layout(Path(place))
    splits = layout.splits or {"train": layout.base}
    classes: list[str] = []

    def known() -> list[str]:
        if "train" in splits and not classes:
            classes.extend(
                sorted(Walk(splits["train"], IMAGE_SUFFIXES).list_folder()[0], key=lambda name: (_natural(name), name))
            )
        return classes

    def opener(split: str) -> FolderImages:
        return FolderImages(splits[split], known() if split != "train" else ())

    return Found(
        title=Path(place).resolve().name,
        splits={split: partial(opener, split) for split in splits},
        notes=layout.notes,
    )


def _layout(folder: Path) -> _Layout:
    walk = Walk(folder, IMAGE_SUFFIXES)
    names, files = walk.list_folder()
    named = [name for name in names if split_of(name)]
    others = [name for name in names if name not in named]
    where = printable(str(folder))
    if not named:
        # An archive that was unpacked into a folder of its own.
        if len(names) == 1 and not files and _holds_classes(walk, names[0]) and not walk.list_folder(names[0])[1]:
            inner = _layout(folder / names[0])
            inside = walk.list_folder(names[0])[0]
            what = "splits" if inner.splits else "classes"
            text = (
                f"{where} holds the folder {printable(names[0])} only, which is not taken as a class: its "
                f"{counted(len(inside), 'folder')} are the {what} ({some(map(printable, inside))})."
            )
            return _Layout(
                base=inner.base, splits=inner.splits, notes=(Note(text=text, count=len(inside)), *inner.notes)
            )
        return _Layout(base=folder)
    holding_classes = [name for name in named if _holds_classes(walk, name)]
    told = []
    if others:
        sizes = {name: sum(1 for _ in walk.files(name)) for name in others}
        filled = [printable(name) for name, size in sizes.items() if size]
        if filled and not holding_classes:
            text = f"{some(map(printable, named))} are classes, as are {some(filled)}: they hold images and no folders."
            return _Layout(base=folder, notes=(Note(text=text, count=len(named)),))
        if filled and len({split_of(name) for name in named}) == 1:
            raise DataError(
                f"{where} can be read in two ways: {named[0]} as a split (it holds class folders), or as a class "
                f"beside {some(filled)}. Name {where}/{named[0]}, or move the others away."
            )
        listed = some(f"{printable(name)} ({counted(size, 'image')})" for name, size in sizes.items())
        text = f"{some(named)} are splits; left out beside them: {listed}."
        told.append(Note(text=text, count=sum(sizes.values())))
    if files:
        text = f"Left out: {counted(len(files), 'image')} beside the splits (the first: {printable(files[0])})."
        told.append(Note(text=text, count=len(files)))
    splits = {split: folder / name for split, name in ours(named, where=where).items()}
    for split, place in splits.items():
        inside, direct = Walk(place, IMAGE_SUFFIXES).list_folder()
        if len(inside) == 1 and not direct and split_of(inside[0]) == split:
            splits[split] = place / inside[0]
            told.append(Note(text=f"The {split} split is read from {where}/{place.name}/{inside[0]}.", count=1))
    return _Layout(base=folder, splits=splits, notes=tuple(told))


def _holds_classes(walk: Walk, name: str) -> bool:
    """Whether images lie in folders inside it, and not only in it."""
    inside, _ = walk.list_folder(name)
    below = chain.from_iterable(walk.files(os.path.join(name, folder)) for folder in inside)  # noqa: PTH118
    return next(below, None) is not None


def _natural(name: str) -> list[str | int]:
    """By which timm sorts: numbers as numbers, capitals as small letters."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name.lower())]
