"""Options by tyro, its error box reduced to one line."""

import contextlib
import difflib
import functools
import io
import re
from collections.abc import Callable
from typing import TypeVar

import tyro

C = TypeVar("C")


class UsageError(Exception):
    """The command line is wrong."""


_REGISTRY = tyro.constructors.ConstructorRegistry()


@_REGISTRY.primitive_rule
def _side_or_sides(
    info: tyro.constructors.PrimitiveTypeInfo,
) -> tyro.constructors.PrimitiveConstructorSpec[tuple[int, ...]] | None:
    """An image size is one side of a square, or height and width, wherever one is asked for."""
    if info.type != tuple[int, int]:
        return None

    def read(words: list[str]) -> tuple[int, ...]:
        sides = tuple(int(word) for word in words)
        if len(sides) not in (1, 2):
            raise ValueError(f"one side, or height and width; got {len(sides)} numbers")
        return sides * 2 if len(sides) == 1 else sides

    return tyro.constructors.PrimitiveConstructorSpec(
        nargs="*",
        metavar="INT [INT]",
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, tuple) and len(value) == 2,
        str_from_instance=lambda sides: [str(side) for side in sides],
    )


def parse_and_call(command: Callable[..., int], words: list[str], *, prog: str) -> int:
    """Calls a command with the options of a command line; returns its exit code.

    Raises:
        UsageError: The options are wrong; one line.
    """
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box), _REGISTRY:
            call = tyro.cli(_deferred(command), args=words, prog=prog)
    except SystemExit as stop:
        if not stop.code:
            return 0
        raise UsageError(f"{_one_line(box.getvalue())} See: {prog} --help") from None
    return call()


def read_ahead(defaults: C, words: list[str]) -> C:
    """A few options of a command line, read before the others, because the defaults of those depend on them.

    What is wrong with a word is said when all are read.
    """
    with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(SystemExit):
        found, _ = tyro.cli(type(defaults), default=defaults, args=words, return_unknown_args=True, add_help=False)
        return found
    return defaults


def _deferred(command: Callable[..., int]) -> Callable[..., Callable[[], int]]:
    """The same signature and help, but the call is returned and not made: its own output is none of tyro's."""

    @functools.wraps(command)
    def defer(*args: object, **options: object) -> Callable[[], int]:
        return lambda: command(*args, **options)

    return defer


def _shortened(message: str) -> str:
    """The message with words that no person wrote cut short; the parser breaks them into pieces of a line's length."""
    return re.sub(r"(\S{40})\S{20,}(?: \S{60,})*(?: \S+(?=['\"]))?", r"\1...", message)


def _one_line(box: str) -> str:
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip("│|+ ") for line in box.splitlines()]
    # Sections are divided by rules; the first says what is wrong.
    sections: list[list[str]] = [[]]
    for line in lines:
        if re.match(r"^[╭╰─-]", line) and re.search(r"─|--{5,}", line):
            sections.append([])
        elif line:
            sections[-1].append(line)
    sections = [section for section in sections if section]
    # Where the terminal cannot show Unicode, the title is a section and not part of the rule.
    if "╭" not in box:
        sections = sections[1:]
    message = " ".join(sections[0]) if sections else "wrong options."
    message = re.sub(r"^Error parsing (--)?[\w.-]+: (?=\S+\.\S+ must|unknown )", "", message)
    message = re.sub(r"\. Got errors: .*", ".", message)
    message = re.sub(r"^Missing from [^:]*: (\S+).*", r"\1 is missing.", message)
    meant = [" ".join(section) for section in sections if section[0].startswith("Perhaps you meant")]
    names = re.findall(r"(--[\w.-]+)", " ".join(meant))
    wrong = re.search(r"--[\w.-]+", message)
    if names and wrong:
        # tyro's order of equally long beginnings is not that of nearness.
        names.sort(key=lambda name: difflib.SequenceMatcher(None, name, wrong[0]).ratio(), reverse=True)
    message = _shortened(message)
    message = message if message.endswith((".", "?")) else f"{message}."
    return f"{message} Did you mean {names[0]}?" if names else message
