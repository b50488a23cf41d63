"""The examples run, and the documentation shows what they are."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_it_runs_without_a_warning(path):
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_it_is_short(path):
    assert len(path.read_text().splitlines()) <= 40


def test_the_walk_to_a_card_shows_the_examples_code():
    text = (ROOT / "docs" / "card.md").read_text()
    shown = text.split("```python\n")[1].split("```")[0]
    assert code(shown) == code((ROOT / "examples" / "card_of_own_mixer.py").read_text())


def test_the_code_of_the_documentation_is_python():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for block in page.read_text().split("```python\n")[1:]:
            ast.parse(block.split("```")[0])


def code(text: str) -> list[str]:
    """Statements without docstrings, and without what runs when the file is a program."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        match getattr(node, "body", None):
            case [ast.Expr(value=ast.Constant()), *rest]:
                node.body = rest
    return [ast.dump(node) for node in tree.body if not isinstance(node, ast.If)]
