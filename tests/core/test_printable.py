import os
from pathlib import Path

import pytest

from metaformer.core.printable import printable


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plain.png", "plain.png"),
        (Path("über/猫.png"), "über/猫.png"),
        (os.fsdecode(b"caf\xe9.png"), r"caf\xe9.png"),
        ("a\nb\r\t\x1b[31m\x00.png", r"a\nb\r\t\x1b[31m\x00.png"),
        ("\u2028\u202e\x9b", r"\u2028\u202e\x9b"),
        ("\ud800", r"\ud800"),
        ("x" * 255, "x" * 255),
    ],
    ids=ascii,
)
def test_a_name_is_one_line_that_can_be_encoded(name, expected):
    assert printable(name) == expected
    assert printable(name).isprintable()
    printable(name).encode("utf-8")
