"""Data sets that timm's factory opens by name: torchvision's, those of the Hugging Face hub, TensorFlow's."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64
from PIL import Image
from torch import Tensor

from metaformer.core.errors import ConfigError, DataError, MissingExtraError, one_line
from metaformer.data.formats.folder import split_folders
from metaformer.data.image_set import Sample

# The prefix of a name -> the split to evaluate on, the library, and who brings it.
PREFIXES = {
    "torch": ("validation", "torchvision", ""),
    "hfds": ("test", "datasets", "data"),
    "hfids": ("test", "datasets", "data"),
    "tfds": ("test", "tensorflow_datasets", ""),
}
# Data sets of torchvision that have a training and a test split; timm calls the other one "validation".
TRAIN_AND_TEST = ("cifar10", "cifar100", "mnist", "kmnist", "fashion_mnist", "qmnist")


class TimmImages:
    """`torch/cifar10`, `hfds/owner/name`, `hfids/owner/name` (streamed), `tfds/name`."""

    order_is_by_name = False
    group_sizes: tuple[int, ...] = ()
    groups_at_once = 1

    def __init__(self, name: str, root: str | None, split: str | None = None) -> None:
        prefix = name.partition("/")[0]
        default, library, extra = PREFIXES[prefix]
        split = split or default
        self.name = f"{name}, {split}"
        options: dict[str, Any] = {}
        try:
            if prefix in ("hfds", "hfids"):
                options = _columns(name.partition("/")[2], root, None if prefix == "hfids" else split)
            self._data = _open(name, root, split, prefix, options)
        except ImportError:
            if extra:
                raise MissingExtraError(need=f"data by {prefix}/", extra=extra) from None
            raise ConfigError(f"data by {prefix}/ needs {library}. Install it: pip install {library}") from None
        except AssertionError as error:
            raise ConfigError(f"cannot open {name}: {_line(error)}") from None
        # Whatever the library raises: a name, a folder or a split that is not there, or no network.
        except Exception as error:
            raise DataError(f"cannot open {name}, split {split}: {_line(error)} Say --split, or NAME:FOLDER.") from None
        reader = getattr(self._data, "reader", None)
        self.class_names = _class_names(self._data, reader)
        self.num_images: int | None = len(self._data) or None
        # Only this reader hands out files; the others, images already decoded.
        self._files = reader if prefix == "hfds" else None

    def read_labels(self) -> Int64[Tensor, " n"]:
        """Without opening the images, where the data set keeps them apart."""
        if self._files is not None:
            return torch.tensor([-1 if label is None else int(label) for label in self._files.iter_targets()])
        targets = getattr(self._data, "targets", None)
        if targets is not None:
            return torch.as_tensor(targets).long()
        return torch.tensor([int(self._data[index][1]) for index in range(len(self._data))])

    def __getitem__(self, index: int) -> Sample:
        if self._files is not None:
            return self._file(index)
        image, label = self._data[index]
        return Sample(name=f"{self.name}, image {index}", image=image, label=int(label))

    def __iter__(self) -> Iterator[Sample]:
        if self._files is not None:
            for index in range(len(self._files)):
                yield self._file(index)
            return
        index = 0
        try:
            for image, label in self._in_order():
                assert isinstance(image, Image.Image)
                yield Sample(name=f"{self.name}, image {index}", image=image, label=int(label))
                index += 1
        except (OSError, RuntimeError) as error:
            raise DataError(f"cannot read {self.name} after {index} images: {_line(error)}") from None

    def _file(self, index: int) -> Sample:
        assert self._files is not None
        try:
            file, label = self._files[index]
        # A row without an image: one that cannot be read, not the end.
        except (OSError, TypeError, AssertionError):
            return Sample(name=f"{self.name}, image {index}", image=b"")
        with file:
            return Sample(name=self._name_of(index), image=file.read(), label=int(label))

    def _in_order(self) -> Iterator[tuple[Any, int]]:
        if hasattr(self._data, "__getitem__"):
            return (self._data[index] for index in range(len(self._data)))
        return iter(self._data)

    def _name_of(self, index: int) -> str:
        path = self._files.filename(index) if self._files is not None else None
        return f"{self.name}, image {index}" + (f" ({path})" if path else "")


def splits_of_name(data: str) -> tuple[str, ...]:
    """What the splits of a data set are called; empty if it has none.

    Raises:
        ConfigError: timm's name is for evaluation only.
        DataError: The data set cannot be reached.
        MissingExtraError: A library that it needs is not installed.
    """
    name, _, root = data.partition(":")
    prefix, _, name = name.partition("/")
    if prefix == "tfds":
        raise ConfigError(f"data by tfds/ can be evaluated, but not trained on. Try hfds/NAME instead of {data!r}.")
    if prefix == "torch":
        if name in ("folder", "image_folder"):
            return tuple(split_folders(Path(root)))
        return ("train", "test") if name in TRAIN_AND_TEST else ("train", "validation")
    try:
        import datasets
    except ImportError:
        raise MissingExtraError(need=f"data by {prefix}/", extra="data") from None
    try:
        return tuple(datasets.get_dataset_split_names(name))
    # Whatever the library raises: a name that is not there, or no network.
    except Exception as error:
        raise DataError(f"cannot open {data}: {_line(error)}") from None


def _open(name: str, root: str | None, split: str, prefix: str, options: dict[str, Any]) -> Any:
    from timm.data import create_dataset

    if prefix != "torch":
        # No conversion on the way: ours is the one that a viewer would make.
        options = options | {"input_img_mode": ""}
    return create_dataset(name, root=root or None, split=split, **options)


def _columns(name: str, root: str | None, split: str | None) -> dict[str, str]:
    """The columns of images and classes, where the data set says which they are."""
    import datasets

    datasets.disable_progress_bars()
    features = datasets.load_dataset_builder(name, cache_dir=root).info.features
    if features is None and split:
        # Files without a description are described by what they hold, once they are in the cache.
        features = datasets.load_dataset(name, split=split, cache_dir=root).features
    features = features or {}
    images = [column for column, feature in features.items() if isinstance(feature, datasets.Image)]
    labels = [column for column, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    return ({"input_key": images[0]} if images else {}) | ({"target_key": labels[0]} if labels else {})


def _class_names(data: Any, reader: Any) -> tuple[str, ...]:
    if reader is None:
        return tuple(str(name) for name in getattr(data, "classes", ()))
    class_to_index = getattr(reader, "class_to_idx", None) or {}
    return tuple(str(name) for name in sorted(class_to_index, key=lambda name: class_to_index[name]))


def _line(error: BaseException) -> str:
    text = one_line(error)
    return text if text.endswith(".") else f"{text}."
