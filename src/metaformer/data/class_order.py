"""Which of the model's classes each of the data's classes is: the order of folders is not the order of a classifier."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from metaformer.core.errors import ConfigError, DataError, did_you_mean
from metaformer.data.notes import some

ClassMap = Mapping[str, int | str]


@dataclass(frozen=True, kw_only=True)
class ClassOrder:
    """The model's index of each of the data's classes, and how it was found."""

    index: tuple[int, ...]  # empty: the data's numbers are the model's
    note: str = ""


def match_classes(
    data_names: tuple[str, ...],
    model_names: tuple[str, ...],
    num_classes: int,
    *,
    class_map: ClassMap | None = None,
    order_is_by_name: bool = True,
) -> ClassOrder:
    """Finds the model's index of each of the data's classes.

    Args:
        data_names: The data's classes in its order; empty where it has numbers only.
        model_names: The model's classes in its order; empty where nobody knows them.
        num_classes: How many the model has.
        class_map: What the caller says: a name in the data -> an index or a name of the model.
        order_is_by_name: Whether the data's order is merely that of its names.

    Raises:
        ConfigError: They do not match.
    """
    if class_map is not None:
        return _by_map(data_names, model_names, num_classes, class_map)
    if not data_names:
        return ClassOrder(index=())
    if model_names and (order := _by_name(data_names, model_names)):
        return order
    if model_names and not _are_numbers(data_names, num_classes):
        raise _conflict(data_names, model_names)
    if order_is_by_name and _are_numbers(data_names, num_classes):
        return ClassOrder(index=tuple(int(name) for name in data_names), note="folder names are class numbers")
    if len(data_names) != num_classes:
        raise ConfigError(
            f"the data has {len(data_names)} classes ({some(map(repr, data_names))}) and the model {num_classes}, "
            "without names to match them by. Say which is which: --class-map FILE."
        )
    if not order_is_by_name:
        return ClassOrder(index=tuple(range(num_classes)))
    return ClassOrder(
        index=tuple(range(num_classes)),
        note=f"the weights name no classes: folders taken in the order of their names ({some(map(repr, data_names))}); "
        "if the model's order differs, say --class-map FILE",
    )


def _by_map(
    data_names: tuple[str, ...], model_names: tuple[str, ...], num_classes: int, class_map: ClassMap
) -> ClassOrder:
    if not data_names:
        raise ConfigError("the data has class numbers and no names, so a class map has nothing to map. Leave it out.")
    missing = [name for name in data_names if name not in class_map]
    if missing:
        raise ConfigError(f"the class map lacks {some(map(repr, missing))}.{did_you_mean(missing[0], class_map)}")
    index = []
    for name in data_names:
        target = class_map[name]
        if isinstance(target, str):
            if target not in model_names:
                known = (
                    f"{did_you_mean(target, model_names)} Known: {some(map(repr, model_names))}." if model_names else ""
                )
                raise ConfigError(f"the class map sends {name!r} to {target!r}, which the model does not have.{known}")
            target = model_names.index(target)
        if not 0 <= target < num_classes:
            raise ConfigError(
                f"the class map sends {name!r} to {target}; the model has classes 0 to {num_classes - 1}."
            )
        index.append(target)
    return ClassOrder(index=tuple(index), note="classes by the class map")


def _by_name(data_names: tuple[str, ...], model_names: tuple[str, ...]) -> ClassOrder | None:
    """All of the data's classes found among the model's, as they are or but for case and hyphens."""
    for spelling in (str, _plain):
        places = {spelling(name): place for place, name in enumerate(model_names)}
        found = [places.get(spelling(name)) for name in data_names]
        index = tuple(place for place in found if place is not None)
        if len(set(index)) != len(data_names) or len(places) != len(model_names):
            continue
        if len(index) < len(model_names):
            absent = len(model_names) - len(index)
            return ClassOrder(index=index, note=f"classes matched by name; {absent} of the model's have no images")
        is_same = index == tuple(range(len(index)))
        return ClassOrder(index=index, note="" if is_same else "classes matched by name: their orders differ")
    return None


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def _are_numbers(names: tuple[str, ...], num_classes: int) -> bool:
    return {*names} == {str(number) for number in range(num_classes)}


def _conflict(data_names: tuple[str, ...], model_names: tuple[str, ...]) -> ConfigError:
    strange = [name for name in data_names if name not in model_names]
    return ConfigError(
        f"the model has no class {some(map(repr, strange))}; it has {some(map(repr, model_names))}. "
        "Say which is which: --class-map FILE."
    )


def read_class_map(path: Path) -> dict[str, int | str]:
    """A class map from a file.

    Text: a name a line, in the model's order. JSON: a list of names in the model's order, or an object from a name to
    the model's index or name.

    Raises:
        DataError: The file cannot be read as one of these.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        values = json.loads(text) if path.suffix == ".json" else [line.strip() for line in text.splitlines()]
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"cannot read the classes in {path}: {reason}.") from None
    if isinstance(values, list) and path.suffix != ".json":
        while values and not values[-1]:
            values.pop()
    if isinstance(values, list) and values and all(isinstance(name, str) and name for name in values):
        if len({*values}) != len(values):
            twice = next(name for name in values if values.count(name) > 1)
            raise DataError(f"{path} names the class {twice!r} twice.")
        return {name: index for index, name in enumerate(values)}
    if isinstance(values, dict) and values and all(type(target) in (int, str) for target in values.values()):
        return values
    raise DataError(f"{path} is no list of class names, and no JSON object from a name to an index.")


def read_class_names(path: Path, num_classes: int) -> tuple[str, ...]:
    """The names of a model's classes from a file: text, a name a line; JSON, a list or an object from index to name.

    Raises:
        DataError: The file cannot be read.
        ConfigError: It does not name each class once.
    """
    pairs = read_class_map(path).items()
    # {"0": "cat"} or {"cat": 0}
    turned = all(isinstance(value, str) and key.isdecimal() for key, value in pairs)
    names = {int(key): str(value) for key, value in pairs} if turned else {value: key for key, value in pairs}
    if set(names) != set(range(num_classes)):
        raise ConfigError(f"{path} names {len(names)} classes; the model has {num_classes}, numbered from 0.")
    return tuple(str(names[index]) for index in range(num_classes))
