import base64
import importlib
import itertools
import json
import re
import sys
import time
from html.parser import HTMLParser

import pytest

from metaformer.core.errors import DataError, MissingExtraError
from metaformer.report.report import report

PNG = base64.b64encode(
    bytes.fromhex(
        "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b550000000a49444154789c63680000008200817744b3f50000000049454e44ae426082"
    )
).decode()
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7 * 7 }}\"'&"


class Page(HTMLParser):
    """What the page consists of: elements, attributes, and the text of each script."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.scripts, self.styles, self.text, self._open = [], {}, "", "", None
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._open = (tag, dict(attrs).get("id", f"{tag} {len(self.scripts)}"))

    def handle_endtag(self, tag):
        self._open = None

    def handle_data(self, data):
        if self._open is None:
            self.text += f"{data} "
        elif self._open[0] == "script":
            self.scripts[self._open[1]] = self.scripts.get(self._open[1], "") + data
        else:
            self.styles += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def edit(path, change):
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def test_the_page_is_one_file_beside_the_records(study_folder):
    target = report(study_folder).page
    assert target == study_folder / "report.html"
    assert 4e6 < target.stat().st_size < 7e6
    assert not list(study_folder.glob(".report*"))


def test_the_page_loads_nothing(make_study):
    page = Page(report(make_study(samples_png=PNG)).page)
    loaded = [
        value
        for tag, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "srcset", "data", "poster", "action") or (name == "href" and tag != "a")
    ]
    assert loaded == [f"data:image/png;base64,{PNG}"]
    assert "url(" not in page.styles
    assert "@import" not in page.styles
    assert not re.search(r"https?://", page.scripts["script 0"])
    links = [attributes["href"] for attributes in page.all("a") if not attributes["href"].startswith("#")]
    assert links == ["https://arxiv.org/abs/2111.11418"]
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "http" not in policy


def test_plotly_is_embedded_once(study_folder):
    assert report(study_folder).page.read_text(encoding="utf-8").count("* plotly.js v") == 1


def test_the_page_says_what_was_found(study_folder):
    page = Page(report(study_folder).page)
    text = " ".join(page.text.split())
    assert "Does it matter which token mixer sits in the block?" in text
    assert "On cluttered digits, of five other token mixers" in text
    assert "metaformer study quick --out runs/quick" in text
    assert "Example CPU 3000" in text
    assert "b3e3e1a00000" in text
    assert "drawn towards the spread of all 7 comparable rows as far as they agree" in text
    assert "corrected among themselves" in text
    assert "Missing and failed runs" not in text
    assert len([a for a in page.all("tr") if "data-name" in a]) == 8


def test_the_page_is_accessible(make_study):
    page = Page(report(make_study(samples_png=PNG)).page)
    headings = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(headings))
    assert all(attributes.get("alt") for attributes in page.all("img"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(attributes.get("aria-label") for attributes in page.all("div") if "data-chart" in attributes)
    assert page.all("html")[0]["lang"] == "en"
    ids = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    assert len(ids) == len(set(ids))
    targets = {a["href"][1:] for a in page.all("a") if a["href"].startswith("#")}
    assert targets <= set(ids)


def test_records_come_with_the_page(study_folder):
    page = Page(report(study_folder).page)
    records = json.loads(page.scripts["data-records"])
    assert (records[0]["folder"], records[0]["record"]["name"]) == ("", "quick")
    assert len(records) == 1 + 24
    assert json.loads(page.scripts["data-csv"]).startswith("variant,title,")


def test_hostile_text_stays_text(study_folder):
    harmless = Page(report(study_folder).page)

    def spoil(run):
        run["result"]["variants"][1].update(title=HOSTILE, change=HOSTILE, paper_note=HOSTILE)
        run["result"]["data"].update(title=HOSTILE, description=HOSTILE)
        run["result"].update(title=HOSTILE, question=HOSTILE, samples_png=HOSTILE)
        run.update(command=HOSTILE, name=HOSTILE)

    edit(study_folder / "run.json", spoil)
    edit(
        study_folder / "conv" / "seed0" / "run.json",
        lambda run: run.update(result=None, failure={"kind": "error", "message": HOSTILE}, commit=HOSTILE),
    )
    edit(study_folder / "pooling" / "seed0" / "run.json", lambda run: run["config"].update({HOSTILE: HOSTILE}))
    edit(
        study_folder / "pooling" / "seed0" / "run.json",
        lambda run: run["result"].update(class_names=[HOSTILE] * 10),
    )
    page = Page(report(study_folder).page)
    assert len(page.all("script")) == len(harmless.all("script"))
    assert page.all("img") == []
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert HOSTILE in page.text
    assert "49" not in re.findall(r"img src=x onerror=alert\(2\)>(.{2})", page.text)
    for name in ("data-charts", "data-records", "data-csv"):
        assert "<" not in page.scripts[name]
        json.loads(page.scripts[name])


def fail(run):
    run.update(result=None, failure={"kind": "diverged", "message": "loss became NaN"})


def test_an_incomplete_study_opens_and_says_what_is_missing(study_folder):
    (study_folder / "conv" / "seed1" / "run.json").unlink()
    (study_folder / "mlp" / "seed0" / "run.json").write_text("{")
    edit(study_folder / "identity" / "seed2" / "run.json", fail)
    text = " ".join(Page(report(study_folder).page).text.split())
    assert "3 runs missing, failed or unreadable" in text
    assert "Depthwise convolution, seed 1 no record" in text
    assert "Identity, seed 2 failed: loss became NaN" in text
    assert "mlp/seed0/run.json cannot read" in text


@pytest.mark.parametrize("num_seeds", [1, 2])
def test_few_seeds(make_study, num_seeds):
    text = " ".join(Page(report(make_study(num_seeds=num_seeds)).page).text.split())
    assert ("one seed, so no interval" in text) == (num_seeds == 1)
    assert "There are none yet: at least 3 common seeds are needed" in text
    assert f"no verdict: {num_seeds} common seed{'s' * (num_seeds == 2)}, and a verdict needs 3" in text


def test_a_study_without_any_run_still_opens(study_folder):
    for path in study_folder.glob("*/seed*/run.json"):
        path.unlink()
    page = Page(report(study_folder).page)
    assert "there is no answer yet" in page.text
    assert [a for a in page.all("div") if "data-chart" in a] == []


def test_runs_of_different_machines_are_pointed_out(study_folder):
    edit(study_folder / "conv" / "seed0" / "run.json", lambda run: run["machine"].update(processor="Other CPU"))
    text = Page(report(study_folder).page).text
    assert "more than one machine" in text
    assert "Other CPU" in text


def test_a_picture_that_is_no_png_is_left_out(make_study):
    fake = base64.b64encode(b"GIF89a").decode()
    assert Page(report(make_study(samples_png=fake)).page).all("img") == []


def test_a_hundred_runs_take_a_moment(make_study):
    folder = make_study(
        rows=[
            (f"row{index}", f"Row {index}", ["pooling"] * 4, None, 70.0 + index, 1000, 1e6 + index, 900, False)
            for index in range(20)
        ],
        num_seeds=5,
    )
    # Time of this process, so that a busy machine does not count.
    start = time.process_time()
    target = report(folder).page
    assert time.process_time() - start < 10
    assert target.stat().st_size < 8e6


def test_a_folder_that_is_no_study_is_refused(tmp_path):
    with pytest.raises(DataError, match="is not a study"):
        report(tmp_path)


@pytest.mark.parametrize(
    ("absent", "module"),
    [
        ("plotly", "charts.style"),
        ("plotly", "pages.html"),
        ("jinja2", "pages.html"),
        ("scipy", "stats.statistics"),
    ],
)
def test_a_library_that_is_not_installed_is_named(monkeypatch, absent, module):
    for name in [name for name in sys.modules if name.startswith("metaformer.report.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(MissingExtraError, match="pip install 'metaformer\\[report\\]'"):
        importlib.import_module(f"metaformer.report.{module}")
