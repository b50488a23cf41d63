import csv
import io

import pytest
from rich.console import Console

from metaformer.report.number_text import count, plain, seconds, signed, with_half_width
from metaformer.report.study.load import load_study
from metaformer.report.study.summary import summarize
from metaformer.report.study.table import rich_table, seeds_hint, to_csv, to_markdown

MINUS, PLUS_MINUS = "\N{MINUS SIGN}", "\N{PLUS-MINUS SIGN}"


def rows_of(folder):
    return summarize(load_study(folder))


def test_markdown_has_a_line_for_each_row_and_equal_columns(study_folder):
    lines = to_markdown(rows_of(study_folder)).splitlines()
    assert len(lines) == 2 + 8
    assert len({line.count("|") for line in lines}) == 1
    assert lines[0].startswith("| Variant | Seeds | Test accuracy (%) | vs Pooling 3x3 (points) |")
    assert f"{MINUS}3.7 {PLUS_MINUS} 0.8, worse" in lines[3]
    assert lines[3].endswith("| 74.3 |")


def test_markdown_escapes_what_would_break_the_table(make_study):
    from_file = rows_of(make_study(rows=[("pooling", "a|b <i>\n*c*", ["p"] * 4, None, 80.0, 1, 1, 1, False)]))
    assert "| a\\|b &lt;i> \\*c\\* |" in to_markdown(from_file)


def test_csv_keeps_all_digits_and_leaves_absent_numbers_empty(study_folder):
    rows = rows_of(study_folder)
    table = list(csv.DictReader(io.StringIO(to_csv(rows))))
    assert [line["variant"] for line in table] == [row.name for row in rows]
    assert float(table[3]["test_accuracy_percent"]) == rows[3].accuracy
    assert table[0]["difference_points"] == ""
    assert table[1]["verdict"] == "worse"


def test_the_terminal_shows_titles_as_they_are(make_study):
    rows = rows_of(make_study(rows=[("pooling", "[red]x[/red] [/]", ["p"] * 4, 77.2, 80.0, 1, 1, 1, False)]))
    console = Console(width=200, file=io.StringIO())
    console.print(rich_table(rows))
    assert "[red]x[/red] [/]" in console.file.getvalue()


def test_an_incomplete_study_has_dashes_and_says_what_is_missing(study_folder):
    (study_folder / "conv" / "seed0" / "run.json").unlink()
    assert "| 2 (1 missing) |" in to_markdown(rows_of(study_folder))
    for seed in (1, 2):
        (study_folder / "conv" / f"seed{seed}" / "run.json").unlink()
    line = to_markdown(rows_of(study_folder)).splitlines()[5]
    assert "| 0 (3 missing) | \N{EN DASH} | no verdict | \N{EN DASH} |" in line


def test_a_hint_on_seeds_only_where_it_says_something(study_folder):
    hints = {row.name: seeds_hint(row) for row in rows_of(study_folder)}
    assert hints["mlp"].startswith("needs about ")
    assert hints["conv"] == hints["pooling"] == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (999, "999"), (3136, "3.14 k"), (11_915_176, "11.9 M"), (999_950, "1.00 M"), (1.82e9, "1.82 G")],
)
def test_counts(value, text):
    assert count(value) == text


def test_signs():
    assert plain(-0.04) == "0.0"
    assert signed(-1.25, 2) == f"{MINUS}1.25"
    assert signed(0.5) == "+0.5"
    assert signed(0.04) == "0.0"
    assert with_half_width(0.5, None, sign=True) == "+0.5"
    assert with_half_width(81.234, 0.04) == f"81.23 {PLUS_MINUS} 0.04"


def test_durations():
    assert [seconds(value) for value in (3.2, 41, 200, 7320)] == ["3.2 s", "41 s", "3 min 20 s", "2 h 2 min"]
