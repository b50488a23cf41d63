"""Arrays in NumPy's own file, with labels: a scientist's data without a loader."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from metaformer.core.errors import DataError
from metaformer.data.held.arrays import Arrays
from metaformer.data.notes import Note

# The array with inputs and the one with labels: what the file may call them. The second pair is optional.
TRAIN_NAMES = (("inputs", "labels"), ("x", "y"), ("x_train", "y_train"))
TEST_NAMES = (("test_inputs", "test_labels"), ("x_test", "y_test"))
SHAPES = "(N, C, L), (N, C, H, W) or (N, C, D, H, W)"


def open_npz(place: str) -> Arrays:
    """The arrays `x` and `y` of a file, with `x_test` and `y_test` where it has them.

    Inputs are (N, C, L), (N, C, H, W) or (N, C, D, H, W); labels are whole numbers or text, one an input.

    Raises:
        DataError: The file cannot be read, lacks an array, or an array has another shape.
    """
    path = Path(place)
    try:
        with np.load(path, allow_pickle=False) as opened:
            arrays = {name: opened[name] for name in opened.files}
    except (OSError, ValueError, EOFError, AttributeError) as error:
        raise DataError(f"cannot read {path} as a file of arrays (numpy.savez): {error}.") from None
    pair = next((names for names in TRAIN_NAMES if {*names} <= arrays.keys()), None)
    if pair is None:
        raise DataError(
            f"{path} must hold arrays x and y; it holds {', '.join(sorted(arrays)) or 'nothing'}. "
            "Write it with numpy.savez(path, x=inputs, y=labels)."
        )
    test_pair = next((names for names in TEST_NAMES if {*names} <= arrays.keys()), None)
    class_names = tuple(str(label) for label in np.unique(arrays[pair[1]]))
    train = _split(arrays, pair, class_names, path)
    test = None if test_pair is None else _split(arrays, test_pair, class_names, path)
    if test is not None and test[0].shape[1:] != train[0].shape[1:]:
        raise DataError(f"{path}: {test_pair[0] if test_pair else ''} has another shape than {pair[0]}.")
    size = "x".join(map(str, train[0].shape[2:]))
    notes = [Note(text=f"{pair[0]} read as {train[0].shape[1]} channels of {size}", count=len(train[1]))]
    if test is None:
        notes.append(Note(text="no x_test and y_test: there is no test split", count=0))
    return Arrays(
        train,
        test,
        name=f"npz:{place}",
        title=path.stem,
        description=f"Arrays of {train[0].shape[1]} channels and {size} values each, from {path.name}.",
        class_names=class_names,
        notes=tuple(notes),
    )


def _split(
    arrays: dict[str, np.ndarray], names: tuple[str, str], class_names: tuple[str, ...], path: Path
) -> tuple[Tensor, Tensor]:
    inputs, labels = (arrays[name] for name in names)
    if inputs.ndim not in (3, 4, 5) or not np.issubdtype(inputs.dtype, np.number) or 0 in inputs.shape:
        raise DataError(
            f"{path}: {names[0]} must hold numbers of shape {SHAPES}; got {inputs.dtype} of {inputs.shape}. "
            "Without channels, give it one: x[:, None]."
        )
    if labels.shape != inputs.shape[:1] or labels.dtype.kind not in "iuUb":
        raise DataError(
            f"{path}: {names[1]} must be whole numbers or text, one for each of {inputs.shape[0]} inputs; "
            f"got {labels.dtype} of {labels.shape}."
        )
    index = {name: place for place, name in enumerate(class_names)}
    unknown = sorted({str(label) for label in labels} - index.keys())
    if unknown:
        raise DataError(f"{path}: {names[1]} has classes that training lacks: {', '.join(unknown[:4])}.")
    values = torch.from_numpy(np.ascontiguousarray(inputs, dtype=np.float32))
    if not values.isfinite().all():
        raise DataError(f"{path}: {names[0]} holds NaN or infinity.")
    return values, torch.tensor([index[str(label)] for label in labels])
