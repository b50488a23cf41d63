"""Names of files and classes as text that any terminal, table and file can hold."""

import os
from pathlib import Path


def printable(name: str | Path) -> str:
    r"""A name in one line of text that can be encoded, with what cannot be printed as Python writes it.

    A byte that is no UTF-8 becomes `\xe9`, a line break `\n`, the escape of a terminal `\x1b`.
    """
    # A name from elsewhere may hold half of a pair of surrogates, which is no byte of a file's name either.
    text = os.fspath(name).encode("utf-8", "surrogateescape" if _is_of_bytes(name) else "backslashreplace")
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode()
        for sign in text.decode("utf-8", "backslashreplace")
    )


def _is_of_bytes(name: str | Path) -> bool:
    return all("\udc80" <= sign <= "\udcff" for sign in os.fspath(name) if "\ud800" <= sign <= "\udfff")
