import re
import shutil

import pytest

from metaformer.core.errors import DataError
from metaformer.report.pages import export_files
from metaformer.report.pages.export_files import export_study
from metaformer.report.study.load import load_study
from metaformer.report.study.report import load_report
from metaformer.report.study.summary import summarize
from metaformer.report.study.table import latex, to_latex

HAS_BROWSER = any(shutil.which(name) for name in export_files.BROWSERS)


def test_without_a_browser_texts_are_written_and_it_says_why_no_pictures(study_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(export_files, "BROWSERS", ("no-such-browser",))
    files, why = export_study(load_report(study_folder), tmp_path / "out")
    assert sorted(path.name for path in files) == sorted(
        [f"{name}.{ending}" for name in ("claims", "table") for ending in ("csv", "md", "tex")]
    )
    assert all(path.stat().st_size > 0 for path in files)
    assert why.startswith("SVG and PNG need a browser on this machine: no-such-browser")


def test_a_browser_that_fails_is_named(study_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(export_files, "BROWSERS", ("false",))
    _, why = export_study(load_report(study_folder), tmp_path / "out")
    assert re.search(r"false did not draw the charts: no word$", why)


def test_a_file_in_place_of_the_folder_is_refused(study_folder, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="cannot write into"):
        export_study(load_report(study_folder), tmp_path / "file")


@pytest.mark.slow
@pytest.mark.skipif(not HAS_BROWSER, reason="no browser on this machine")
def test_every_chart_is_drawn_as_svg_and_png(study_folder, tmp_path):
    files, why = export_study(load_report(study_folder), tmp_path / "out")
    assert why == ""
    by_ending = {ending: [path for path in files if path.suffix == ending] for ending in (".svg", ".png")}
    assert {path.stem for path in by_ending[".svg"]} == {path.stem for path in by_ending[".png"]}
    assert {"difference", "macs", "params", "classes"} <= {path.stem for path in by_ending[".svg"]}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in by_ending[".png"])
    for path in by_ending[".svg"]:
        text = path.read_text(encoding="utf-8")
        assert text.startswith("<svg")
        assert "var(--" not in text


def test_latex_has_a_line_a_row_and_no_bare_signs(study_folder):
    text = to_latex(summarize(load_study(study_folder)))
    lines = text.splitlines()
    assert lines[0].startswith(r"\begin{tabular}{lrrl")
    assert sum(line.endswith(r"\\") for line in lines) == 9
    assert not re.search(r"(?<!\\)[%_#]", text)
    assert "\N{MINUS SIGN}" not in text


def test_latex_of_hostile_text():
    assert latex(r"a_b & 50% \input{x} ~^#$") == (
        r"a\_b \& 50\% \textbackslash{}input\{x\} \textasciitilde{}\textasciicircum{}\#\$"
    )
