import json
import shutil

from metaformer.report.study.load import load_study
from metaformer.report.study.provenance import (
    Setting,
    changed_settings,
    config_differences,
    flatten,
    places,
    same_speed,
)


def test_a_config_becomes_dotted_settings_and_a_component_one_of_them():
    config = {
        "train": {"epochs": 15, "mixup": None, "amp": True},
        "dims": [16, 32],
        "mixers": [{"type": "pooling"}, {"type": "pooling"}, {"type": "attention", "head_dim": 16}],
        "tags": [],
    }
    assert flatten(config) == {
        "train.epochs": "15",
        "train.mixup": "none",
        "train.amp": "yes",
        "dims": "16, 32",
        "mixers": "pooling x 2, attention(head_dim=16)",
        "tags": "none",
    }


def test_only_what_differs_is_listed(study_folder):
    differences = config_differences(load_study(study_folder))
    assert list(differences) == ["identity", "random", "conv", "hybrid", "mlp", "batch_norm", "no_mlp"]
    assert differences["hybrid"] == [
        Setting(path="model.token_mixers", base="pooling x 4", here="pooling x 2, attention x 2")
    ]


def test_a_part_left_out_is_one_difference(study_folder):
    for path in study_folder.glob("pooling/seed*/run.json"):
        run = json.loads(path.read_text())
        run["config"]["model"]["channel_mlp"] = {"ratio": 4.0, "bias": True}
        path.write_text(json.dumps(run))
    assert changed_settings(load_study(study_folder), "no_mlp") == [
        Setting(path="model.channel_mlp", base="ratio=4.0, bias=yes", here="none")
    ]


def test_a_variant_without_runs_is_known_by_its_plan(study_folder):
    path = study_folder / "run.json"
    study = json.loads(path.read_text())
    runs = {name: json.loads((study_folder / name / "seed0" / "run.json").read_text()) for name in ("pooling", "conv")}
    study["config"] = {
        "train": runs["conv"]["config"]["train"],
        "variants": [{"about": {"name": name}, "model": run["config"]["model"]} for name, run in runs.items()],
    }
    path.write_text(json.dumps(study))
    shutil.rmtree(study_folder / "conv")
    assert [setting.path for setting in changed_settings(load_study(study_folder), "conv")] == ["model.token_mixers"]


def test_machines_are_counted(study_folder):
    path = study_folder / "conv" / "seed0" / "run.json"
    run = json.loads(path.read_text())
    run["commit"] = None
    path.write_text(json.dumps(run))
    found = places(load_study(study_folder))
    assert [(place.num_runs, place.commit) for place in found] == [(23, "b3e3e1a00000"), (1, "unknown")]
    assert same_speed(found)
    assert found[0].facts["memory (GiB)"] == "16.0"
