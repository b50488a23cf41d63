"""Images in folders, one folder a class."""

from collections.abc import Iterator
from pathlib import Path

from metaformer.core.errors import DataError
from metaformer.data.image_file import IMAGE_SUFFIXES
from metaformer.data.image_set import Sample
from metaformer.data.split_names import choose_split, split_of


class FolderImages:
    """FOLDER/class/image, or FOLDER/split/class/image.

    Classes are in timm's order of their names, in which 2 comes before 10.
    """

    order_is_by_name = True

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

    def __iter__(self) -> Iterator[Sample]:
        for file, label in self._samples:
            yield Sample(name=str(file), image=file, label=label)


def folder_of_split(folder: Path, split: str | None) -> Path:
    """The folder itself, or that of a split where its folders are splits and not classes."""
    inside = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    splits = inside if inside and all(split_of(name) for name in inside) else []
    return folder / choose_split(splits, split, where=str(folder)) if splits or split else folder
