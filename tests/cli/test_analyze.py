"""`metaformer analyze` as a user runs it, and `mf.analyze`."""

import re
from dataclasses import replace

import pytest
import torch

import metaformer as mf
from metaformer.analysis import Inputs
from metaformer.cli.main import run
from metaformer.core.preprocessing import Preprocessing
from metaformer.core.records import read_record
from metaformer.core.records.analysis import Analysis
from metaformer.models.metaformer import MetaFormer
from metaformer.models.weights import save_weights
from metaformer.recipes.paper_scales import TINY_POOLFORMER

DIGITS = replace(TINY_POOLFORMER, in_chans=1, num_classes=10)


@pytest.fixture
def folder(tmp_path):
    """Of a training: weights of other statistics than the data's."""
    config = replace(DIGITS, preprocessing=Preprocessing(mean=(0.5,), std=(0.5,)))
    save_weights(MetaFormer(config), tmp_path / "pool" / "model.safetensors", class_names=tuple("0123456789"))
    return str(tmp_path / "pool")


def test_models_side_by_side_leave_a_record_and_go_on(folder, tmp_path, capsys):
    words = ["analyze", folder, "timm/resnet18", "--with", "similarity", "--num-images", "8", "--batch-size", "4"]
    assert run([*words, "--out", str(tmp_path / "out")]) == 0
    output = capsys.readouterr().out
    assert "pool, resnet18 on 8 images of digits" in output
    assert "Which layers see images alike?" in output
    record = read_record(tmp_path / "out", Analysis)
    assert record.measured.models == ("pool", "resnet18")
    assert len(record.measured.measurements[0].panels) == 3
    kept = (tmp_path / "out" / "probes" / "similarity" / "result.json").stat().st_mtime_ns
    assert run([*words, "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "probes" / "similarity" / "result.json").stat().st_mtime_ns == kept


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "error: no model: name run folders"),
        (["poolformer_s1"], "error: 'poolformer_s1' is no model of the zoo, .* Did you mean 'poolformer_s12'"),
        (["timm/resnet17"], "error: unknown timm model 'resnet17'. Did you mean 'resnet1"),
        (["FOLDER", "--with", "rank_colapse"], "error: unknown probe 'rank_colapse'. Did you mean 'rank_collapse'"),
        (["FOLDER", "--split", "train"], "error: split must be validation or test; got 'train'"),
        (["FOLDER", "--num-images", "0"], "error: num_images and batch_size must be at least 1; got 0 and 16"),
        (["FOLDER", "--num-images", "3", "--with", "similarity"], "error: CKA needs at least 4 images in every batch"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_odd_requests_get_one_line(folder, words, message, capsys):
    assert run(["analyze", *(folder if word == "FOLDER" else word for word in words)]) == 2
    errors = capsys.readouterr().err
    assert len(errors.splitlines()) == 1
    assert re.match(message, errors)


def test_modules_and_tensors_are_taken_from_python():
    images = torch.randn(8, 1, 16, 16)
    inputs = Inputs(batches=[(images, torch.zeros(8, dtype=torch.long))], num_batches=1)
    found = mf.analyze([MetaFormer(DIGITS)], data=inputs, probes="similarity,feature_frequencies")
    assert [measurement.name for measurement in found.measurements] == ["similarity", "feature_frequencies"]
    assert found.data == "given as tensors"


def test_a_trained_model_sees_its_own_normalisation(folder, monkeypatch):
    """The hook that renormalises makes no difference to what the model computes of the same pixels."""
    from metaformer.data.formats.digits import Digits
    from metaformer.deploy.exhibits import open_model

    facts = Digits().facts
    opened = open_model(folder, data=facts, device=torch.device("cpu"))
    pixels = torch.rand(2, 1, 16, 16)
    expected = opened.model((pixels - 0.5) / 0.5)
    exhibit = opened.exhibit(name="a", facts=facts)
    mean, std = (torch.tensor(values)[:, None, None] for values in (facts.mean, facts.std))
    torch.testing.assert_close(exhibit.model((pixels - mean) / std), expected, rtol=1e-4, atol=1e-5)
    assert exhibit.class_index == tuple(range(10))
