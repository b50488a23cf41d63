"""The command line that makes a result again, as its record says it."""

import shlex
import sys
from collections.abc import Mapping
from typing import Any


def given_command() -> str:
    """The command line of this process, as a user would type it."""
    return shlex.join(["metaformer", *sys.argv[1:]])


def command_of(command: str, name: str, settings: Mapping[str, Any]) -> str:
    """The command line that asks for these settings, whoever called the command's function.

    Flags are True or left out; None is left out.
    """
    words = ["metaformer", command, name]
    for key, value in settings.items():
        if value is None or value is False:
            continue
        values = [] if value is True else value if isinstance(value, list) else [value]
        # An empty list is said too: the option's default may be another.
        words += [f"--{key.replace('_', '-')}", *map(str, values)]
    return shlex.join(words)
