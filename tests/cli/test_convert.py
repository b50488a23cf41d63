"""`metaformer convert` as a user types it."""

from dataclasses import replace

import pytest
import torch

from metaformer.cli.main import run
from metaformer.models.create import create_model
from metaformer.models.export import export_weights
from metaformer.models.metaformer import MetaFormer
from metaformer.models.weights import save_weights
from metaformer.models.zoo import ZOO


@pytest.fixture
def ours(tmp_path):
    """A small model of ours as a file, and the model."""
    model = MetaFormer(replace(ZOO["poolformer_s12"], dims=(8, 8, 8, 8), depths=(1,) * 4, image_size=(64, 64)))
    save_weights(model, tmp_path / "ours.safetensors", class_names=("a", "b"))
    return tmp_path / "ours.safetensors", model


def test_ours_to_theirs_and_the_report(ours, tmp_path, capsys):
    file, model = ours
    assert run(["convert", str(file), str(tmp_path / "theirs.pth"), "--to", "sail-sg/poolformer"]) == 0
    out = capsys.readouterr().out
    assert "layout   metaformer" in out
    assert "layout sail-sg/poolformer" in out
    state = torch.load(tmp_path / "theirs.pth", weights_only=True)
    assert torch.equal(state["network.0.0.mlp.fc1.weight"], model.stages[0].blocks[0].channel_mlp.fc1.weight)


def test_a_file_that_is_there_is_kept_unless_forced(ours, tmp_path, capsys):
    file, _ = ours
    target = tmp_path / "there.pth"
    target.write_text("mine")
    assert run(["convert", str(file), str(target)]) == 2
    assert target.read_text() == "mine"
    assert "--force" in capsys.readouterr().err
    assert run(["convert", str(file), str(target), "--force"]) == 0
    assert target.stat().st_size > 1000


def test_an_ambiguous_model_must_be_named(tmp_path, capsys):
    export_weights(create_model("poolformer_s12"), tmp_path / "x.pth", "timm")
    words = ["convert", str(tmp_path / "x.pth"), str(tmp_path / "y.safetensors")]
    assert run(words) == 2
    error = capsys.readouterr().err
    assert "poolformer_s12, metaformer_id_s12" in error
    assert "Say which, as poolformer_s12." in error
    assert run([*words, "--model", "poolformer_s12"]) == 0
    assert create_model("poolformer_s12", weights=tmp_path / "y.safetensors").config.head.norm_after_pooling
