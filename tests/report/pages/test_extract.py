import json

import pytest

from metaformer.core.errors import DataError
from metaformer.report.pages.extract import extract_records
from metaformer.report.report import report


def files(folder):
    return {path.relative_to(folder).as_posix(): json.loads(path.read_text()) for path in folder.rglob("run.json")}


def test_a_page_gives_back_the_records_it_was_made_of(study_folder, tmp_path):
    made = report(report(study_folder).page, extract=tmp_path / "back")
    assert files(tmp_path / "back") == files(study_folder)
    assert len(made.files) == 25
    # The page made of them is the same page.
    assert report(tmp_path / "back").page.read_text() == (study_folder / "report.html").read_text()


def test_a_page_of_several_trainings_gives_back_each(make_training, tmp_path):
    folders = [make_training("a"), make_training("b")]
    report(report(folders[0], folders[1:]).page, extract=tmp_path / "back")
    assert set(files(tmp_path / "back")) == {"1-a/run.json", "2-b/run.json"}


def test_a_page_of_two_studies_gives_back_both(make_study, tmp_path):
    one = make_study().rename(tmp_path / "one")
    two = make_study()
    report(report(one, [two]).page, extract=tmp_path / "back")
    assert files(tmp_path / "back" / "one") == files(one)
    assert files(tmp_path / "back" / "quick") == files(two)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("<p>hello</p>", "embeds no records"),
        ('<script type="application/json" id="data-records">{</script>', "cannot be read"),
        ('<script type="application/json" id="data-records">[{"folder": "a", "record": 3}]</script>', "cannot be read"),
        ('<script type="application/json" id="data-records">[{"folder": "../x", "record": {}}]</script>', "outside"),
        ('<script type="application/json" id="data-records">[{"folder": "/x", "record": {}}]</script>', "outside"),
    ],
    ids=["none", "broken", "odd", "above", "elsewhere"],
)
def test_what_is_no_page_of_ours_is_one_line_and_writes_nothing(tmp_path, text, says):
    (tmp_path / "page.html").write_text(text)
    with pytest.raises(DataError, match=says) as raised:
        extract_records(tmp_path / "page.html", tmp_path / "out")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path.parent / "x").exists()


def test_a_folder_that_holds_something_is_left_alone(study_folder, tmp_path):
    page = report(study_folder).page
    with pytest.raises(DataError, match="is not an empty folder"):
        extract_records(page, study_folder)
