import csv
import itertools
import json
import os
import resource
from pathlib import Path

import pytest
import torch
from PIL import Image

from metaformer.core.errors import ConfigError
from metaformer.data.formats.digits import Digits
from metaformer.deploy.classifier import open_classifier
from metaformer.deploy.prediction import NOT_NUMBERS, Guess, Prediction, find_images, predict
from metaformer.deploy.prediction_text import CSV_COLUMNS, lines_of


@pytest.fixture
def classifier(named_run):
    return open_classifier(None, named_run)


def test_predictions_are_those_of_the_model(classifier, scans):
    images, labels = Digits().test()
    with torch.inference_mode():
        expected = classifier.model(images).softmax(dim=1)
    predictions = {prediction.image[-8:-4]: prediction for prediction in predict(classifier, [scans], top_k=3)}
    assert len(predictions) == len(labels)
    for number, row in enumerate(expected):
        guesses = predictions[f"{number:04}"].guesses
        assert len(guesses) == 3
        assert [guess.probability for guess in guesses] == sorted((g.probability for g in guesses), reverse=True)
        for guess in guesses:
            # Files have 256 levels of grey, the embedded scans more.
            assert guess.probability == pytest.approx(row[guess.index].item(), abs=0.02)
            assert guess.name == classifier.class_names[guess.index]


def test_images_in_folders_are_found_in_order(tmp_path):
    for name in ("b/2.png", "b/10.JPEG", "a.gif", "b/c/1.webp", ".hidden/1.png", "b/.2.png", "b/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [str(path.relative_to(tmp_path)) for path in find_images([tmp_path])]
    assert found == ["a.gif", "b/10.JPEG", "b/2.png", "b/c/1.webp"]
    # What is named is taken, whatever its suffix, and there or not.
    assert [path.name for path in find_images([tmp_path / "b/notes.txt", "absent"])] == ["notes.txt", "absent"]


def test_a_broken_image_does_not_stop_the_rest(classifier, scans, tmp_path):
    good = sorted(scans.rglob("*.png"))[:3]
    (tmp_path / "broken.png").write_bytes(good[0].read_bytes()[:60])
    paths = [good[0], tmp_path / "broken.png", good[1], tmp_path / "absent.png", good[2]]
    predictions = list(predict(classifier, paths, batch_size=2))
    assert [prediction.image for prediction in predictions] == [str(path) for path in paths]
    assert [prediction.error is None for prediction in predictions] == [True, False, True, False, True]
    assert predictions[3].error == "no such file or directory"
    assert predictions[3].guesses == ()
    alone = [next(predict(classifier, [path])) for path in good]
    for one, among in zip(alone, predictions[::2], strict=True):
        assert [guess.index for guess in one.guesses] == [guess.index for guess in among.guesses]


def test_an_endless_stream_is_read_as_it_comes(classifier, scans):
    file = next(scans.rglob("*.png"))
    predictions = list(itertools.islice(predict(classifier, itertools.repeat(file), top_k=1, batch_size=8), 50))
    assert len({prediction.guesses[0].name for prediction in predictions}) == 1


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_memory_does_not_grow_with_the_number_of_images(classifier, tmp_path):
    Image.effect_noise((400, 400), 50).save(tmp_path / "noise.jpg")

    def resident_mib():
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20

    predictions = predict(classifier, itertools.repeat(tmp_path / "noise.jpg", 1000), batch_size=16, num_threads=2)
    sizes = [resident_mib() for index, _ in enumerate(predictions) if index % 100 == 99]
    # Decoded, the thousand take 150 MiB.
    assert max(sizes[2:]) - sizes[1] < 20


def test_top_k_is_no_more_than_the_classes_and_no_less_than_one(classifier, scans):
    file = next(scans.rglob("*.png"))
    guesses = next(predict(classifier, [file], top_k=99)).guesses
    assert sum(guess.probability for guess in guesses) == pytest.approx(1, abs=1e-4)
    assert len(guesses) == 10
    with pytest.raises(ConfigError, match="top_k must be at least 1; got 0"):
        next(predict(classifier, [file], top_k=0))


PREDICTIONS = [
    Prediction(
        image="a, b.png",
        guesses=(Guess(index=3, name='cat, "tom"', probability=0.75), Guess(index=0, name="dog", probability=0.25)),
    ),
    Prediction(image="\x1b[31mred\n.png", error="the file is empty"),
]


def test_csv_comes_back():
    rows = list(csv.DictReader(lines_of(PREDICTIONS, "csv")))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert [row["class"] for row in rows] == ['cat, "tom"', "dog", ""]
    assert [row["rank"] for row in rows] == ["1", "2", ""]
    assert rows[0]["image"] == "a, b.png"
    assert rows[2]["error"] == "the file is empty"


def test_json_lines_come_back():
    first, second = (json.loads(line) for line in lines_of(PREDICTIONS, "jsonl"))
    assert first["predictions"][0] == {"class": 'cat, "tom"', "index": 3, "probability": 0.75}
    assert second == {"image": "\x1b[31mred\n.png", "error": "the file is empty"}


def test_the_table_says_the_image_once_and_keeps_to_its_columns():
    long = Prediction(image="folder/" * 20 + "end.png", guesses=PREDICTIONS[0].guesses)
    lines = list(lines_of([*PREDICTIONS, long], "table"))
    assert lines[0].split() == ["image", "probability", "class"]
    assert lines[1].split("  ")[0] == "a, b.png"
    assert lines[2].startswith(" ")
    assert lines[3].startswith("...")
    assert "end.png " in lines[3]
    assert {line.index("%") for line in lines[1:]} == {lines[1].index("%")}
    assert not any("\x1b" in line for line in lines)


def test_an_unknown_format_names_the_nearest():
    with pytest.raises(ConfigError, match=r"unknown format 'json'. Did you mean 'jsonl'"):
        lines_of([], "json")


def test_a_file_name_that_is_no_text_is_printed_all_the_same(classifier, tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    (prediction,) = predict(classifier, [tmp_path / name])
    assert prediction.image.endswith(r"caf\xe9.png")
    prediction.image.encode("utf-8")


def test_names_of_every_kind_are_one_line_of_the_table_and_of_csv(classifier, tmp_path):
    names = [b"caf\xe9.png", b"new\nline.png", b"\x1b[2J.png", b"x" * 251 + b".png"]
    files = [tmp_path / os.fsdecode(name) for name in names]
    for file in files:
        Image.new("L", (16, 16)).save(file, "PNG")
    predictions = list(predict(classifier, [tmp_path], top_k=1))
    assert [prediction.error for prediction in predictions] == [None] * 4
    for form in ("table", "csv", "jsonl"):
        lines = list(lines_of(predictions, form))
        assert len(lines) == 4 + (form != "jsonl")
        assert all(line.isprintable() and line.encode() for line in lines)
    # JSON keeps what a name has, as far as it is text.
    assert {Path(json.loads(line)["image"]).name for line in lines_of(predictions, "jsonl")} >= {"new\nline.png"}


def test_what_cannot_be_a_file_is_named_and_the_rest_run(classifier, tmp_path):
    Image.new("L", (16, 16)).save(tmp_path / "good.png")
    os.mkfifo(tmp_path / "pipe.png")
    words = ["x" * 300, "a\0b", "", "http://127.0.0.1:1/a.png", tmp_path]
    errors = [prediction.error for prediction in predict(classifier, words)]
    assert errors[:3] == ["file name too long", "embedded null byte", "is a directory"]
    assert errors[3].startswith("the download failed: ")
    assert errors[4:] == [None, "a pipe (fifo), not a file"]


def test_links_are_followed_and_circles_end(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.png").touch()
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "round").symlink_to(tmp_path / "given")
    (tmp_path / "given" / "broken.png").symlink_to("nowhere")
    found = [str(path.relative_to(tmp_path)) for path in find_images([tmp_path / "given"])]
    assert found == ["given/broken.png", "given/link/a.png"]


def test_scores_that_are_no_numbers_are_no_answer(classifier, scans):
    file = next(scans.rglob("*.png"))
    with torch.no_grad():
        next(classifier.model.parameters()).fill_(float("nan"))
    (prediction,) = predict(classifier, [file])
    assert (prediction.guesses, prediction.error) == ((), NOT_NUMBERS)
