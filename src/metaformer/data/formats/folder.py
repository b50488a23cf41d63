"""Images in folders, one folder a class."""

from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor

from metaformer.core.errors import DataError
from metaformer.data.decode.image_file import IMAGE_SUFFIXES
from metaformer.data.image_set import Sample
from metaformer.data.split_names import choose_split, split_of


class FolderImages:
    """FOLDER/class/image, or FOLDER/split/class/image.

    Classes are in timm's order of their names, in which 2 comes before 10.
    """

    order_is_by_name = True
    group_sizes: tuple[int, ...] = ()
    groups_at_once = 1

    def __init__(self, folder: Path, split: str | None = None) -> None:
        from timm.data.readers.reader_image_folder import find_images_and_targets

        self.folder = folder_of_split(folder, split)
        self.name = str(self.folder)
        found, class_to_index = find_images_and_targets(str(self.folder), types=IMAGE_SUFFIXES)
        self._samples = [(Path(file), label) for file, label in found if not Path(file).name.startswith(".")]
        self.class_names = tuple(class_to_index)
        self.num_images = len(self._samples)
        if not self._samples:
            raise DataError(f"{self.folder} holds no images. Expected {self.folder}/CLASS/IMAGE.")
        if "" in class_to_index:
            stray = next(file for file, label in self._samples if label == class_to_index[""])
            raise DataError(f"{stray} is in no class folder. Expected {self.folder}/CLASS/{stray.name}.")

    def read_labels(self) -> Int64[Tensor, " n"]:
        return torch.tensor([label for _, label in self._samples])

    def __getitem__(self, index: int) -> Sample:
        file, label = self._samples[index]
        return Sample(name=str(file), image=file, label=label)

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self._samples)))


def split_folders(folder: Path) -> list[str]:
    """The names of the folders inside, if they are splits; none if they are classes."""
    inside = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return inside if inside and all(split_of(name) for name in inside) else []


def folder_of_split(folder: Path, split: str | None) -> Path:
    """The folder itself, or that of a split where its folders are splits and not classes."""
    splits = split_folders(folder)
    return folder / choose_split(splits, split, where=str(folder)) if splits or split else folder
