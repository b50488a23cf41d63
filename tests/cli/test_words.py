"""What the program says of itself: the help of each option, and the options that its messages name."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import metaformer
from metaformer.cli.main import COMMANDS
from metaformer.recipes.table import RECIPES

SOURCE = Path(metaformer.__file__).parent
OPTION = re.compile(r"(?<![\w-])--[a-z][\w.-]*\w")
# Options of programs that are not ours, which messages and comments may name as well.
FOREIGN = {"--nproc-per-node", "--nnodes", "--rdzv-endpoint", "--head", "--help", "--version"}

LINES = [[*words] for words in COMMANDS if words != ("train",)] + [["train", recipe] for recipe in RECIPES]


# All helps from one process of their own: under pytest, functions wear the wrappers of the shape checks.
PRINT_HELPS = """
import contextlib, io, json, sys
from metaformer.cli.main import run
helps = []
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert run([*words, "--help"]) == 0
    helps.append(said.getvalue())
print(json.dumps(helps))
"""


@pytest.fixture(scope="module")
def helps():
    """Words of a command -> option -> its help; the words of a default left out."""
    done = subprocess.run(
        [sys.executable, "-c", PRINT_HELPS, json.dumps(LINES)],
        env=os.environ | {"COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=True,
    )
    return {" ".join(words): _options(text) for words, text in zip(LINES, json.loads(done.stdout), strict=True)}


def _options(text):
    options, name = {}, None
    # A flag's other half may stand on a line of its own.
    for line in re.sub(r",[│ ]*\n[│ ]*(?=--)", ", ", text).splitlines():
        inside = line.strip("│╭╰─╮╯ \t")
        if line.startswith(("╭", "╰")):
            name = None
        elif found := OPTION.match(inside):
            name = found[0]
            # What follows the option, its other spellings and its metavar.
            options[name] = re.split(r"  +", inside, maxsplit=1)[1:]
        elif name:
            options[name].append(inside)
    words = {name: " ".join(parts) for name, parts in options.items()}
    return {
        name: re.sub(r"\((default|required|optional|repeatable|fixed)\b.*", "", said).strip()
        for name, said in words.items()
    }


@pytest.fixture(scope="module")
def known(helps):
    options = {option for of_command in helps.values() for option in of_command}
    return options | {re.sub(r"^--((?:[\w-]+\.)*)", r"--\1no-", option) for option in options} | FOREIGN


@pytest.mark.parametrize("words", LINES, ids=" ".join)
def test_each_option_has_a_help_of_its_own(words, helps):
    options = helps[" ".join(words)]
    silent = [name for name, text in options.items() if not text]
    assert not silent, f"options without a word of help: {silent}"
    texts = list(options.values())
    shared = {text: [name for name in options if options[name] == text] for text in texts if texts.count(text) > 1}
    assert not shared, f"options with the help of another: {shared}"


def _messages(path):
    """(Line, text) of each string of a file that is no docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs
        # One word alone is no message, and what has a bracket right before its dashes is a colour of a page.
        if is_text and " " in node.value.strip() and "var(--" not in node.value:
            yield node.lineno, node.value


def test_every_option_that_a_message_names_exists(known):
    wrong = [
        f"{path.relative_to(SOURCE)}:{line}: {option}"
        for path in SOURCE.rglob("*.py")
        for line, text in _messages(path)
        for option in OPTION.findall(text)
        if option not in known
    ]
    assert not wrong, "\n".join(wrong)
