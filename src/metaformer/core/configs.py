"""Frozen dataclass configs to JSON and back; and as text, `pooling(pool_size=5)`.

A component is tagged by its name in its table, `{"type": "pooling", "pool_size": 3}`. A class that is in no table is
tagged `module:Class` and comes back only if the caller names the class: reading a file never imports code.
"""

import ast
import dataclasses
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin

import cattrs
from cattrs.errors import ClassValidationError, ForbiddenExtraKeysError, IterableValidationError

from metaformer.core.errors import ConfigError, did_you_mean, shown, unknown
from metaformer.core.registry import Registry

C = TypeVar("C")

_named: ContextVar[tuple[type, ...]] = ContextVar("_named", default=())


class _WrongTypeError(ConfigError):
    """Half a sentence: the place in the config comes before it."""


def _strict(kind: type, accepted: tuple[type, ...]) -> Any:
    def structure(value: Any, _: type) -> Any:
        if (isinstance(value, bool) and kind is not bool) or not isinstance(value, accepted):
            raise _WrongTypeError(f"must be {_a(kind)}; got {shown(value)}")
        return kind(value)

    return structure


def _a(kind: type) -> str:
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[kind]


_CONVERTER = cattrs.Converter(forbid_extra_keys=True)
for _kind, _accepted in {int: (int,), float: (int, float), bool: (bool,), str: (str,)}.items():
    _CONVERTER.register_structure_hook(_kind, _strict(_kind, _accepted))


def _is_plain_union(annotation: Any) -> bool:
    """Whether a field takes one of several kinds of plain values, as the cell of a table does."""
    kinds = set(get_args(annotation)) if get_origin(annotation) in (UnionType, Union) else set()
    return len(kinds - {NoneType}) > 1 and kinds <= {str, int, float, bool, NoneType}


def _structure_plain(value: Any, annotation: Any) -> Any:
    kinds = tuple(get_args(annotation))
    if not isinstance(value, (*kinds, int) if float in kinds else kinds):
        raise _WrongTypeError(
            f"must be {' or '.join(_a(kind) for kind in kinds if kind is not NoneType)}; got {value!r}"
        )
    return value


_CONVERTER.register_structure_hook_func(_is_plain_union, _structure_plain)


# A number for all axes of a grid, or one for each.
ONE_OR_MANY = int | tuple[int, ...]


def _structure_one_or_many(value: Any, _: Any) -> int | tuple[int, ...]:
    several = isinstance(value, list | tuple)
    return _CONVERTER.structure(value, tuple[int, ...]) if several else _CONVERTER.structure(value, int)


_CONVERTER.register_structure_hook_func(lambda cls: cls == ONE_OR_MANY, _structure_one_or_many)
_CONVERTER.register_unstructure_hook_func(lambda cls: cls == ONE_OR_MANY, lambda value: value)


def tag_of(config: object, table: Registry[type]) -> str:
    """The tag that stands for the class of `config` in JSON."""
    cls = type(config)
    return table.name_of(cls) or f"{cls.__module__}:{cls.__qualname__}"


def class_of(tag: str, table: Registry[type]) -> type:
    """The class behind a tag: a row of the table, or a class that the caller named."""
    if tag in table:
        return table[tag]
    for cls in _named.get():
        if f"{cls.__module__}:{cls.__qualname__}" == tag:
            return cls
    if ":" in tag:
        raise ConfigError(
            f"the {table.kind} {shown(tag, 120)} comes from outside this package, and a file never imports code. "
            f"Import the class yourself and name it: from_dict(..., named=[{tag.rpartition(':')[2]}])."
        )
    raise unknown(table.kind, tag, table)


def register_table(config_type: type, table: Registry[type]) -> None:
    """From now on, a field annotated `config_type` is written and read by its name in `table`."""

    def unstructure(config: Any) -> dict[str, Any]:
        return {"type": tag_of(config, table)} | _CONVERTER.unstructure(config, type(config))

    def structure(value: Any, _: type) -> Any:
        if isinstance(value, str):
            return parse_config(value, table)
        if not isinstance(value, dict) or "type" not in value:
            raise ConfigError(f"a {table.kind} must be a name or carry a 'type'; got {shown(value)}")
        options = {key: option for key, option in value.items() if key != "type"}
        return _CONVERTER.structure(options, class_of(value["type"], table))

    _CONVERTER.register_unstructure_hook_func(lambda cls: cls is config_type, unstructure)
    _CONVERTER.register_structure_hook_func(lambda cls: cls is config_type, structure)


def to_dict(config: object) -> dict[str, Any]:
    """A config as plain JSON values: what reading it back from a file gives."""
    return cast(dict[str, Any], json.loads(json.dumps(_CONVERTER.unstructure(config))))


def from_dict(cls: type[C], values: Any, *, named: Iterable[type] = ()) -> C:
    """The config that `to_dict` wrote.

    Args:
        cls: What to build.
        values: Plain JSON values.
        named: Classes from outside the package that the file may refer to.

    Raises:
        ConfigError: A field is unknown, missing, of the wrong type, or has a value that its class refuses.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{cls.__name__} must be a JSON object of its fields; got {shown(values)}.")
    with _allowing(named):
        try:
            return _CONVERTER.structure(values, cls)
        except (ClassValidationError, IterableValidationError, ForbiddenExtraKeysError) as error:
            raise _explain(error, cls.__name__) from None


@contextmanager
def _allowing(classes: Iterable[type]) -> Iterator[None]:
    token = _named.set((*_named.get(), *classes))
    try:
        yield
    finally:
        _named.reset(token)


def _explain(error: BaseException, place: str) -> ConfigError:
    """The first mistake inside a cattrs error group, with its place, as in `MetaFormerConfig.norm.eps`."""
    if isinstance(error, ForbiddenExtraKeysError):
        name = sorted(error.extra_fields)[0]
        known = [field.name for field in dataclasses.fields(error.cl)]
        hint = did_you_mean(name, known)
        return ConfigError(f"{place} has no field {shown(name)}.{hint} Fields: {', '.join(known) or 'none'}.")
    if isinstance(error, ClassValidationError):
        with_notes, without_notes = error.group_exceptions()
        if without_notes:
            return _explain(without_notes[0], place)
        inner, note = with_notes[0]
        return _explain(inner, f"{place}.{note.name}")
    if isinstance(error, IterableValidationError):
        of_items, of_the_list = error.group_exceptions()
        if of_the_list:
            return _explain(of_the_list[0], place)
        inner, item = of_items[0]
        return _explain(inner, f"{place}[{item.index}]")
    if isinstance(error, _WrongTypeError):
        return ConfigError(f"{place} {error}")
    if isinstance(error, ConfigError):
        # A new one, without the notes that cattrs left on it.
        return ConfigError(str(error))
    if isinstance(error, KeyError):
        return ConfigError(f"{place} is missing.")
    return ConfigError(f"{place}: {error}")


def parse_config(text: str, table: Registry[type]) -> Any:
    """The config written as `name` or `name(option=value, ...)`.

    Raises:
        ConfigError: The text does not have that form, or names nothing known.
    """
    configs = parse_configs(text, table)
    if len(configs) != 1:
        raise ConfigError(f"expected one {table.kind}; got {shown(text)}")
    return configs[0]


def parse_configs(text: str, table: Registry[type]) -> tuple[Any, ...]:
    """The configs written as a list with commas between, as in `pooling,pooling(pool_size=5),attention`."""
    try:
        body = ast.parse(f"[{text}]", mode="eval").body
        if not isinstance(body, ast.List):
            raise ValueError
        return tuple(_from_node(element, table) for element in body.elts)
    except (SyntaxError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(
            f"cannot read {shown(text)} as a list of {table.kind}s. Write it as name or name(option=value), "
            "with commas between."
        ) from None


def _from_node(node: ast.expr, table: Registry[type]) -> Any:
    call = node if isinstance(node, ast.Call) else None
    name = call.func if call else node
    if not isinstance(name, ast.Name) or (call and call.args):
        raise ValueError
    cls = table[name.id]
    options = {keyword.arg or "**": ast.literal_eval(keyword.value) for keyword in call.keywords} if call else {}
    return from_dict(cls, options)


def format_config(config: object, table: Registry[type]) -> str:
    """The shortest text that `parse_config` reads as `config`: options at their defaults are left out."""
    if not dataclasses.is_dataclass(config):
        return tag_of(config, table)
    options = [
        f"{field.name}={value!r}"
        for field in dataclasses.fields(config)
        if (value := getattr(config, field.name)) != field.default
    ]
    return tag_of(config, table) + (f"({', '.join(options)})" if options else "")
