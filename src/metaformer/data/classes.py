"""Which classes a data set has: words, numbers and listed names become indices that all splits share."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from metaformer.core.errors import DataError, did_you_mean
from metaformer.data.notes import Note, counted, some

Label = int | str | None
# Where the order of the classes comes from: a list of the source's, the order of names, or the numbers themselves.
LISTED, NAMES, NUMBERS = "listed", "names", "numbers"
HIGHEST_LABEL = 2**31
FAR, FROM_LABEL = 100, 1000  # a number so many times the range of all others away is no class; small ones may be


@dataclass(frozen=True, kw_only=True, eq=False)
class SplitLabels:
    """What a split says of each image, before the splits are compared."""

    where: str
    codes: Int64[Tensor, " n"]  # index into values; -1 where an image has no label
    values: tuple[int | str, ...]
    origin: str  # LISTED, NAMES or NUMBERS
    name_of: Callable[[int], str]  # of an image, for messages

    @property
    def is_unlabelled(self) -> bool:
        return len(self.codes) > 0 and bool((self.codes < 0).all())


@dataclass(frozen=True, kw_only=True, eq=False)
class Agreement:
    """The classes of a data set, and the labels of its splits in their order."""

    class_names: tuple[str, ...]
    origin: str
    labels: Mapping[str, Int64[Tensor, " n"]]  # of the splits that have labels
    notes: tuple[Note, ...]


def clean_label(value: object, name: str) -> Label:
    """A label as a number or a word; None where there is none, as -1, an empty word and not-a-number say.

    Raises:
        DataError: It is neither.
    """
    if type(value) in (int, str):
        return None if value in (-1, "") else value  # type: ignore[return-value]
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        return clean_label(value.item(), name)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, float) and value.is_integer():
        return clean_label(int(value), name)
    if isinstance(value, bytes):
        return clean_label(value.decode(errors="backslashreplace").strip(), name)
    kinds = {float: f"the fraction {value}", list: "a list of labels", dict: "a record"}
    what = next((said for kind, said in kinds.items() if isinstance(value, kind)), f"a {type(value).__name__}")
    raise DataError(f"{name} has {what} for a label; expected one class an image, as a whole number or a word.")


def read_split(
    raw: Sequence[object],
    *,
    class_names: tuple[str, ...],
    order_is_by_name: bool,
    name_of: Callable[[int], str],
    where: str,
) -> SplitLabels:
    """The labels of a split.

    Args:
        raw: One an image, as the source has them; indices of the names where it names its classes.
        class_names: What the source calls its classes; empty where the labels speak for themselves.
        order_is_by_name: Whether the order of those names is nobody's choice.
        name_of: The name of an image by its number.
        where: They come from, for messages.

    Raises:
        DataError: A label is none, or labels are words here and numbers there.
    """
    labels = [
        value if type(value) is int and value >= 0 else clean_label(value, name_of(index))
        for index, value in enumerate(raw)
    ]
    if class_names:
        codes = torch.tensor([-1 if label is None else label for label in labels], dtype=torch.int64)
        wrong = ((codes < -1) | (codes >= len(class_names))).nonzero().flatten()
        if len(wrong):
            first = int(wrong[0])
            raise DataError(
                f"{name_of(first)} has the label {labels[first]}; the classes are 0 to {len(class_names) - 1}."
            )
        origin = NAMES if order_is_by_name else LISTED
        return SplitLabels(where=where, codes=codes, values=class_names, origin=origin, name_of=name_of)
    distinct = set(labels) - {None}
    words = {label for label in distinct if isinstance(label, str)}
    if words and all(word.isascii() and word.isdecimal() for word in words):
        labels = [int(label) if isinstance(label, str) else label for label in labels]
        distinct, words = set(labels) - {None}, set()
    if words and len(words) < len(distinct):
        place = next(index for index, label in enumerate(labels) if isinstance(label, str))
        raise DataError(
            f"{where} mixes words and numbers as labels, as {labels[place]!r} of {name_of(place)}. Use one kind."
        )
    values: list[int | str] = sorted(distinct)  # type: ignore[arg-type]
    if not words:
        _refuse_far_outside(values, labels, name_of)  # type: ignore[arg-type]
    index_of: dict[Label, int] = {value: index for index, value in enumerate(values)} | {None: -1}
    codes = torch.tensor([index_of[label] for label in labels], dtype=torch.int64)
    origin = NAMES if words else NUMBERS
    return SplitLabels(where=where, codes=codes, values=tuple(values), origin=origin, name_of=name_of)


def _refuse_far_outside(values: list[int], labels: Sequence[Label], name_of: Callable[[int], str]) -> None:
    wrong = next((value for value in values if value < 0 or value >= HIGHEST_LABEL), None)
    rest = [value for value in values if value != wrong]
    if wrong is None and len(values) > 1 and values[-1] >= FROM_LABEL:
        *rest, highest = values
        if highest - rest[-1] > FAR * (rest[-1] - rest[0] + 1):
            wrong = highest
    if wrong is not None:
        others = f"; the others are {rest[0]} to {rest[-1]}" if rest else ""
        raise DataError(
            f"{name_of(labels.index(wrong))} has the label {wrong}{others}. Correct it; a class may also be a word."
        )


def agree_on_classes(
    splits: Mapping[str, SplitLabels], *, reference: str = "train", num_classes: int | None = None
) -> Agreement:
    """The classes of all splits, which are those of the training images.

    A split none of whose images has a label is left out: it cannot choose, test or train.

    Args:
        splits: By our names.
        reference: Whose classes count.
        num_classes: Where classes are numbers: so many, from 0.

    Raises:
        DataError: An image has no label though others have, or a split has a class that the reference lacks.
    """
    told: list[Note] = []
    labelled = {}
    for split, labels in splits.items():
        without = (labels.codes < 0).nonzero().flatten()
        if labels.is_unlabelled and split != reference:
            what = counted(len(labels.codes), "image")
            told.append(
                Note(text=f"The {split} split has no labels and is left out ({what}).", count=len(labels.codes))
            )
        elif len(without):
            raise DataError(
                f"{labels.name_of(int(without[0]))} has no label, as {len(without):,} of the {len(labels.codes):,} "
                f"images of {labels.where}. Give each one a class, or leave it out."
            )
        else:
            labelled[split] = labels
    origin = labelled[reference].origin
    for labels in labelled.values():
        if (labels.origin == NUMBERS) != (origin == NUMBERS) and len(labels.codes):
            raise DataError(
                f"the classes of {labels.where} are {_kind(labels.origin)} and those of "
                f"{labelled[reference].where} {_kind(origin)}. Use the same in all splits."
            )
    if origin == NUMBERS:
        values, more = _numbers(labelled, reference, num_classes)
        told += more
    else:
        values = labelled[reference].values
    place_of = {value: place for place, value in enumerate(values)}
    indices = {}
    for split, labels in labelled.items():
        used = set(labels.codes.unique().tolist())
        strange = [value for code, value in enumerate(labels.values) if value not in place_of and code in used]
        if strange:
            num = int(torch.isin(labels.codes, torch.tensor([labels.values.index(value) for value in strange])).sum())
            cure = did_you_mean(str(strange[0]), [str(value) for value in values])
            if origin == NUMBERS:
                cure = " To keep a class that cannot be learned, say preparation.num_classes."
            raise DataError(
                f"{labels.where} has the class {str(strange[0])!r}, which the training images lack.{cure} "
                f"({counted(num, 'image')} of {counted(len(strange), 'such class', 'such classes')}.)"
            )
        own = torch.tensor([place_of.get(value, -1) for value in labels.values], dtype=torch.int64)
        indices[split] = own[labels.codes] if len(labels.codes) else labels.codes
        present = set(indices[split].unique().tolist()) if split == reference else set()
        absent = [str(value) for place, value in enumerate(values) if place not in present]
        if present and absent:
            what = counted(len(absent), "class", "classes")
            told.append(Note(text=f"{what} without an image in {labels.where}: {some(absent)}.", count=len(absent)))
    names = tuple(str(value) for value in values)
    return Agreement(class_names=names, origin=origin, labels=indices, notes=tuple(told))


def _numbers(
    labelled: Mapping[str, SplitLabels], reference: str, num_classes: int | None
) -> tuple[tuple[int | str, ...], list[Note]]:
    """The numbers of the training images: as they are where none is missing, else in their order."""
    found = [int(value) for value in labelled[reference].values]
    if num_classes is not None:
        outside = [
            value
            for labels in labelled.values()
            for value in labels.values
            if isinstance(value, int) and value >= num_classes
        ]
        if outside:
            labels = next(labels for labels in labelled.values() if outside[0] in labels.values)
            image = labels.name_of(int((labels.codes == labels.values.index(outside[0])).nonzero()[0]))
            raise DataError(f"{image} has the label {outside[0]}; the classes are 0 to {num_classes - 1}.")
        return tuple(range(num_classes)), []
    if found == list(range(len(found))):
        return tuple(found), []
    what = counted(len(found), "class", "classes")
    text = (
        f"Labels are numbers with gaps, from {found[0]} to {found[-1]}: taken as {what} with these numbers as names "
        "(to keep the numbers, say preparation.num_classes)."
    )
    return tuple(found), [Note(text=text, count=len(found))]


def _kind(origin: str) -> str:
    return "numbers" if origin == NUMBERS else "words"
