import json
import shutil

import pytest

from metaformer.core.errors import DataError
from metaformer.report.study.load import load_study


def edit(path, change):
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def test_a_study_is_read_in_the_order_of_its_table(study_folder):
    study = load_study(study_folder)
    assert [variant.name for variant in study.variants][:3] == ["pooling", "identity", "random"]
    assert study.seeds == (0, 1, 2)
    assert study.base == "pooling"
    assert all(list(runs) == [0, 1, 2] for runs in study.runs.values())
    assert study.unreadable == {}
    assert study.variants[-1].control


def test_absent_runs_are_missing_seeds(study_folder):
    shutil.rmtree(study_folder / "conv" / "seed1")
    shutil.rmtree(study_folder / "mlp")
    study = load_study(study_folder)
    assert study.missing_seeds("conv") == (1,)
    assert study.missing_seeds("mlp") == (0, 1, 2)
    assert study.missing_seeds("pooling") == ()


def test_broken_runs_are_named_and_the_rest_is_read(study_folder):
    (study_folder / "conv" / "seed0" / "run.json").write_text('{"kind": "train"')
    (study_folder / "conv" / "seed1" / "run.json").write_text("[]")
    edit(study_folder / "conv" / "seed2" / "run.json", lambda run: run.update(name="elsewhere"))
    edit(study_folder / "mlp" / "seed0" / "run.json", lambda run: run.update(seed=1))
    edit(study_folder / "mlp" / "seed2" / "run.json", lambda run: run.update(kind="bench"))
    study = load_study(study_folder)
    assert sorted(study.unreadable) == [
        "conv/seed0/run.json",
        "conv/seed1/run.json",
        "conv/seed2/run.json",
        "mlp/seed1/run.json",
        "mlp/seed2/run.json",
    ]
    assert "not a variant" in study.unreadable["conv/seed2/run.json"]
    assert "repeats 'mlp', seed 1" in study.unreadable["mlp/seed1/run.json"]
    assert study.missing_seeds("conv") == (0, 1, 2)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: shutil.rmtree(folder), "is not a folder"),
        (lambda folder: (folder / "run.json").unlink(), "holds no run.json"),
        (lambda folder: (folder / "run.json").write_text("{}"), "is missing"),
        (
            lambda folder: edit(folder / "run.json", lambda run: run.update(kind="training")),
            "of kind 'training', not 'study'",
        ),
        (
            lambda folder: edit(folder / "run.json", lambda run: run["result"].pop("variants")),
            "Study.variants is missing",
        ),
        (lambda folder: edit(folder / "run.json", lambda run: run["result"].update(variants=[3])), "Study.variants"),
        (
            lambda folder: edit(folder / "run.json", lambda run: run["result"].update(base="poling")),
            "its base 'poling' is not one of its variants",
        ),
        (
            lambda folder: edit(folder / "run.json", lambda run: run["result"]["variants"][1].update(name="pooling")),
            "with different names",
        ),
    ],
)
def test_a_wrong_folder_is_one_line(study_folder, spoil, says):
    spoil(study_folder)
    with pytest.raises(DataError, match=says) as raised:
        load_study(study_folder)
    assert "\n" not in str(raised.value)


def test_a_run_is_no_study(study_folder):
    with pytest.raises(DataError, match="of kind 'training', not 'study'"):
        load_study(study_folder / "pooling" / "seed0")
