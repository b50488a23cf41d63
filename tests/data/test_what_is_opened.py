"""Folder trees, tables and shards made at random: what is opened is what was made, or one line says why not."""

import io
import os
import tarfile
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from PIL import Image

from metaformer.core.errors import ConfigError, DataError
from metaformer.data.found import Found
from metaformer.data.held.hold import open_splits
from metaformer.data.preparation import Preparation
from metaformer.data.sources import find_data

NAMES = (
    "cat",
    "Dog",
    "2",
    "10",
    "a b",
    "test",
    "val",
    "images",
    ".hidden",
    "__MACOSX",
    "caf\u00e9",
    "x\udcff",
    "@eaDir",
)
FILES = ("a.png", "b.JPG", "c.2.png", "._d.png", "e.txt", "f.heic", "Thumbs.db", "g", "h.webp")
LABELS = st.one_of(
    st.none(),
    st.sampled_from([-1, 0, 1, 2, 9, 10**12, True, 0.0, 1.5, float("nan")]),
    st.sampled_from(["cat", "dog", "0", "1", "", "\u00e9"]),
    st.sampled_from([[0], [0, 1]]),
)
SPLITS = ("train", "Train", "val", "valid", "test", "dev")


def png() -> bytes:
    file = io.BytesIO()
    Image.new("L", (1, 1)).save(file, "PNG")
    return file.getvalue()


PNG = png()


def opened(place):
    """Images of each class in each split, and what was said; or the line that says why not."""
    try:
        found = find_data(str(place))
        assert isinstance(found, Found)
        sets = {split: images() for split, images in found.splits.items()}
        if "train" not in sets:
            raise ConfigError("no training split")
        splits, agreed = open_splits(sets, Preparation(validation_fraction=0.5), name=str(place))
    except (ConfigError, DataError) as error:
        said = str(error)
    else:
        said = ""
    if said:
        assert "\n" not in said
        event("refused")
        return None
    event("opened")
    counts = Counter()
    for part in (splits.train, splits.validation, splits.test):
        if part is not None:
            counts.update(splits.class_names[label] for label in part.labels.tolist())
            assert len([*part]) == len(part)
    notes = [*found.notes, *(note for images in sets.values() for note in images.notes), *agreed]
    return counts, notes


def tree(folder, files):
    for place in files:
        path = Path(folder, *place)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(PNG)


def is_counted(place):
    return not any(part.startswith((".", "__MACOSX", "@eaDir")) for part in place) and place[-1].lower().endswith(
        ("png", "jpg", "webp")
    )


PLACES = st.lists(
    st.tuples(st.lists(st.sampled_from(NAMES), max_size=3), st.sampled_from(FILES)).map(
        lambda pair: (*pair[0], pair[1])
    ),
    min_size=1,
    max_size=14,
    unique=True,
)


def check_folders(places, link):
    with tempfile.TemporaryDirectory() as folder:
        try:
            tree(folder, places)
            if link and (Path(folder) / places[0][0]).is_dir():
                (Path(folder) / places[0][0] / "loop").symlink_to(folder)
        # A file where another place wants a folder.
        except (FileExistsError, NotADirectoryError):
            return
        result = opened(folder)
        if result is None:
            return
        counts, notes = result
        made = sum(is_counted(place) for place in places)
        left_out = sum(note.count for note in notes)
        # Nothing is read twice, and what is not read is told.
        assert counts.total() <= made
        assert counts.total() + left_out >= made
        first = {place[0] for place in places if is_counted(place) and len(place) > 1}
        if not notes:
            assert {*counts} == {os.fsencode(name).decode(errors="backslashreplace") for name in first}


def check_shards(members):
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(Path(folder, "0.tar"), "w") as shard:
            for name, content in members:
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                shard.addfile(entry, io.BytesIO(content))
        result = opened(folder)
        if result is None:
            return
        counts, notes = result
        images = {name.rpartition(".")[0] for name, _ in members if name.endswith((".png", ".jpg"))}
        assert counts.total() + sum(note.count for note in notes) >= len(images)
        labels = {name.rpartition(".")[0] for name, _ in members if name.endswith(".cls")}
        assert counts.total() <= len(images | labels)


def check_tables(labels, split):
    arrow, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    try:
        column = arrow.array(labels)
    # A mixture that no table holds.
    except (arrow.ArrowInvalid, arrow.ArrowTypeError, arrow.ArrowException):
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = [{"bytes": PNG, "path": None} for _ in labels]
        pq.write_table(arrow.table({"image": rows, "label": column}), Path(folder, f"{split}.parquet"))
        result = opened(folder)
        if result is None:
            return
        counts, _ = result
        assert split.lower() == "train"
        assert counts.total() == len(labels)
        expected = Counter(str(int(label)) if type(label) is float else str(label) for label in column.to_pylist())
        assert {name: count for name, count in counts.items() if count} == expected


KEYS = st.sampled_from(["a", "b", "c", "d.v1", "d.v2", "e/a", "a.mask", "._b", "\u00e9"])
MEMBERS = st.lists(
    st.one_of(
        st.tuples(KEYS.map(lambda key: f"{key}.cls"), st.sampled_from([b"0", b"1", b"cat", b"", b"\xff", b"5"])),
        st.tuples(KEYS.map(lambda key: f"{key}.png"), st.just(PNG)),
        st.tuples(
            KEYS.map(lambda key: f"{key}.json"), st.sampled_from([b'{"label": 1}', b"{", b"[]", b'{"label": [1]}'])
        ),
        st.tuples(KEYS.map(lambda key: f"{key}.heic"), st.just(b"x")),
    ),
    max_size=10,
)


def tries(number):
    return settings(max_examples=number, deadline=None, suppress_health_check=list(HealthCheck), database=None)


CHECKS = {
    "folders": (check_folders, {"places": PLACES, "link": st.booleans()}),
    "shards": (check_shards, {"members": MEMBERS}),
    "tables": (check_tables, {"labels": st.lists(LABELS, max_size=6), "split": st.sampled_from(SPLITS)}),
}


@pytest.mark.parametrize("kind", list(CHECKS))
@pytest.mark.parametrize("number", [25, pytest.param(500, marks=pytest.mark.slow)])
def test_what_is_opened_is_what_was_made(kind, number):
    if kind == "shards":
        pytest.importorskip("webdataset")
    check, made = CHECKS[kind]
    outcomes = Counter()

    def counting(**drawn):
        outcomes["tried"] += 1
        check(**drawn)

    tries(number)(given(**made)(counting))()
    assert outcomes["tried"] >= number // 2
    print(f"{kind}: {outcomes['tried']} examples, no traceback and no silent loss")  # noqa: T201 (the count is the result)
