"""Data sets that timm opens by name: torchvision's (`torch/NAME:FOLDER`) and TensorFlow's (`tfds/NAME`)."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from metaformer.core.errors import ConfigError, DataError, one_line
from metaformer.data.formats.folder import open_folder
from metaformer.data.found import Found
from metaformer.data.image_set import ImageSet, IndexedImages, Sample

# Data sets of torchvision that have a training and a test split; timm calls the other one "validation".
TRAIN_AND_TEST = ("cifar10", "cifar100", "mnist", "kmnist", "fashion_mnist", "qmnist")
FOLDERS = ("folder", "image_folder")


class TorchvisionImages(IndexedImages):
    """One split, decoded by torchvision."""

    def __init__(self, data: Any, *, name: str) -> None:
        self._data, self.name = data, name
        self.class_names = tuple(map(str, getattr(data, "classes", ())))
        self.num_images = len(data)

    def read_labels(self) -> Sequence[object]:
        """Without opening the images, where the data set keeps them apart."""
        targets = getattr(self._data, "targets", None)
        if targets is not None:
            return targets.tolist() if hasattr(targets, "tolist") else list(targets)
        return [self._data[index][1] for index in range(len(self._data))]

    def __getitem__(self, index: int) -> Sample:
        image, label = self._data[index]
        return Sample(name=f"{self.name}, image {index}", image=image, label=int(label))


class TensorflowImages(ImageSet):
    """One split, which can only be read from beginning to end."""

    def __init__(self, data: Any, *, name: str) -> None:
        self._data, self.name = data, name
        class_to_index = getattr(data.reader, "class_to_idx", None) or {}
        self.class_names = tuple(map(str, sorted(class_to_index, key=lambda name: class_to_index[name])))
        self.num_images = len(data) or None

    def __iter__(self) -> Iterator[Sample]:
        index = 0
        try:
            for image, label in self._data:
                assert isinstance(image, Image.Image)
                yield Sample(name=f"{self.name}, image {index}", image=image, label=int(label))
                index += 1
        except (OSError, RuntimeError) as error:
            raise DataError(f"cannot read {self.name} after {index} images: {_line(error)}") from None


def open_torchvision(place: str) -> Found:
    """The splits of `NAME:FOLDER`.

    Raises:
        ConfigError: torchvision has no such data set, or the folder is missing.
        DataError: The folder does not hold it.
    """
    name, _, root = place.partition(":")
    if root and name in FOLDERS:
        return open_folder(root)
    folder = Path(root).expanduser()
    what = f"torch/{name} needs the folder that holds its files: torch/{name}:FOLDER. Nothing is downloaded."
    if not root:
        raise ConfigError(what)
    if not folder.is_dir():
        raise ConfigError(f"{what} There is no folder {root}.")
    if not any(folder.iterdir()):
        raise DataError(f"{what} {root} is empty.")

    def opener(split: str) -> ImageSet:
        theirs = "train" if split == "train" else "validation"
        return TorchvisionImages(_open(f"torch/{name}", str(folder), theirs), name=f"torch/{place}, {split}")

    splits = ("train", "test") if name in TRAIN_AND_TEST else ("train", "validation")
    return Found(title=name, splits={split: partial(opener, split) for split in splits})


def open_tensorflow(place: str) -> Found:
    """The test split of `NAME[:FOLDER]`, to evaluate on.

    Raises:
        ConfigError: The library is missing.
        DataError: It cannot be opened.
    """
    name, _, root = place.partition(":")

    def opener() -> ImageSet:
        return TensorflowImages(_open(f"tfds/{name}", root or None, "test"), name=f"tfds/{place}, test")

    return Found(title=name, splits={"test": opener})


def _open(name: str, root: str | None, split: str) -> Any:
    from timm.data import create_dataset

    library = "torchvision" if name.startswith("torch/") else "tensorflow_datasets"
    # No conversion on the way: ours is the one that a viewer would make.
    options = {} if library == "torchvision" else {"input_img_mode": ""}
    try:
        return create_dataset(name, root=root, split=split, **options)
    except ImportError:
        raise ConfigError(
            f"data by {name.partition('/')[0]}/ needs {library}. Install it: pip install {library}"
        ) from None
    except AssertionError as error:
        raise ConfigError(f"cannot open {name}: {_line(error)}") from None
    # Whatever the library raises: a folder or a split that is not there, or no network.
    except Exception as error:
        if "download=True" in str(error):
            # Its advice names an option of its own.
            raise DataError(
                f"{root} does not hold {name} as torchvision stores it, or its files are damaged."
            ) from None
        raise DataError(f"cannot open {name}: {_line(error)} Say where it is: {name}:FOLDER.") from None


def _line(error: BaseException) -> str:
    text = one_line(error)
    return text if text.endswith(".") else f"{text}."
