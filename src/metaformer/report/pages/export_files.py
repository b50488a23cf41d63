"""Table, claims and charts as files for a paper or a slide."""

import base64
import csv
import io
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

from metaformer.core.atomic_write import write_text
from metaformer.core.errors import DataError
from metaformer.report.claims.claims import is_tested
from metaformer.report.claims.tables import claims_csv, claims_latex, claims_markdown
from metaformer.report.pages.record_page import RecordPage, panels_by_id, record_html
from metaformer.report.pages.study_page import study_html
from metaformer.report.pages.trainings import CHARTS, COLUMNS, Trainings
from metaformer.report.study.report import StudyReport
from metaformer.report.study.table import markdown, to_csv, to_latex, to_markdown

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "msedge")
TIMEOUT_S = 300
FLAGS = (
    "--headless",
    # Only our own file is opened, and a container has no sandbox to offer.
    "--no-sandbox",
    "--no-first-run",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--virtual-time-budget=600000",
)
# Leaves every picture in the document, which the browser then prints.
SCRIPT = """
window.metaformerPictures().then((pictures) => {
  const note = document.body.appendChild(document.createElement("pre"));
  note.id = "pictures-as-text";
  note.textContent = btoa(unescape(encodeURIComponent(JSON.stringify(pictures))));
});
"""


def export_study(report: StudyReport, folder: Path) -> tuple[list[Path], str]:
    """Writes `table` and `claims` as CSV, Markdown and LaTeX, and every chart as SVG and PNG.

    Args:
        report: What to show.
        folder: Where the files go; files of these names are replaced.

    Returns:
        The files, and why there are no pictures ("" where there are): those need a browser to draw them.

    Raises:
        DataError: The folder cannot be written.
    """
    rows, judged = report.rows, report.claims
    texts = {"table.csv": to_csv(rows), "table.md": to_markdown(rows), "table.tex": to_latex(rows)}
    if is_tested(judged):
        texts |= {"claims.csv": claims_csv(judged), "claims.md": claims_markdown(judged)}
        texts |= {"claims.tex": claims_latex(judged)}
    return _write(texts, study_html(report), folder)


def export_trainings(trainings: Trainings, page: RecordPage, folder: Path) -> tuple[list[Path], str]:
    """Writes the table as CSV and Markdown, each epoch of each training as CSV, and every curve as SVG and PNG.

    Args:
        trainings: What to show.
        page: Their page, whose charts are drawn.
        folder: Where the files go; files of these names are replaced.

    Returns:
        As `export_study`.

    Raises:
        DataError: The folder cannot be written.
    """
    rows = [["Run", *COLUMNS], *trainings.rows()]
    texts = {"trainings.csv": _csv(rows), "trainings.md": _markdown(rows), "epochs.csv": _csv(_epochs(trainings))}
    names = {place: _stem(panel.title) for place, panel in panels_by_id(page).items()}
    return _write(texts, record_html(page), folder, names)


def _renamed(file: str, names: Mapping[str, str]) -> str:
    place, dot, suffix = file.rpartition(".")
    return names.get(place, place) + dot + suffix


def _stem(title: str) -> str:
    """The name of a chart's files: its title without the unit, as in validation-accuracy."""
    return "-".join(re.findall(r"\w+", re.sub(r"\(.*?\)", "", title).lower()))


def _write(
    texts: Mapping[str, str], page: str, folder: Path, names: Mapping[str, str] | None = None
) -> tuple[list[Path], str]:
    """Writes texts and the page's charts, each under the id of its place there or the name that is given for it."""
    try:
        for name, text in texts.items():
            write_text(folder / name, text)
        drawn, why_none = draw(page)
        pictures = {_renamed(name, names or {}): content for name, content in drawn.items()}
        for name, content in pictures.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        raise DataError(f"cannot write into {folder}: {error.strerror or error}.") from None
    return [folder / name for name in (*texts, *pictures)], why_none


def _epochs(trainings: Trainings) -> list[list[str]]:
    columns = ("epoch", "seconds", *CHARTS)
    rows = [["run", *columns]]
    for name, run in zip(trainings.names, trainings.runs, strict=True):
        values = [getattr(run.measured.history, column) for column in columns]
        rows += [[name, *("" if one is None else str(one) for one in row)] for row in zip(*values, strict=True)]
    return rows


def _csv(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    rules = ["---", *["---:"] * len(COLUMNS)]
    lines = [rows[0], rules, *([markdown(cell) for cell in row] for row in rows[1:])]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def draw(page: str) -> tuple[dict[str, bytes], str]:
    """Every chart of a page as SVG and PNG, drawn by a browser of this machine; and why there are none."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        return (
            {},
            f"SVG and PNG need a browser on this machine: {', '.join(BROWSERS[:3])}. The page's buttons save them too",
        )
    with tempfile.TemporaryDirectory(prefix="metaformer-") as place:
        target = Path(place) / "page.html"
        target.write_text(page.replace("</body>", f"<script>{SCRIPT}</script></body>"), encoding="utf-8")
        command = [browser, *FLAGS, f"--user-data-dir={place}/profile", "--window-size=1200,900", "--dump-dom"]
        try:
            done = subprocess.run(
                [*command, target.as_uri()],
                capture_output=True,
                text=True,
                encoding="utf-8",
                timeout=TIMEOUT_S,
                env=os.environ | {"LC_ALL": "C.UTF-8"},
                check=False,
            )
        except (OSError, subprocess.SubprocessError) as error:
            return {}, f"{browser} did not draw the charts: {error}"
    printed = re.search(r'<pre id="pictures-as-text">([^<]*)</pre>', done.stdout)
    if not printed:
        return {}, f"{browser} did not draw the charts: {(done.stderr.strip().splitlines() or ['no word'])[-1]}"
    pictures = json.loads(base64.b64decode(printed[1]))
    return {name: _content(address) for name, address in pictures.items()}, ""


def _content(address: str) -> bytes:
    """The bytes behind a data: address."""
    head, _, body = address.partition(",")
    return base64.b64decode(body) if head.endswith(";base64") else unquote(body).encode()
