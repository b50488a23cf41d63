"""Our models against frozen outputs of the authors' own code, of timm and of transformers."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from metaformer.models.layouts import LAYOUTS, recognise
from metaformer.models.load_weights import load_weights
from metaformer.models.metaformer import MetaFormer
from metaformer.models.weights import Weights
from metaformer.models.zoo import ZOO

HERE = Path(__file__).parent
LAYOUT_NAMES = {"metaformer": "sail-sg/metaformer", "poolformer": "sail-sg/poolformer"}
FIXTURES = {path.stem: json.loads(path.read_text()) for path in sorted(HERE.glob("*__*.json"))}
FROZEN = [name for name, fixture in FIXTURES.items() if fixture["outputs"]]
# Relative to the logits' standard deviation. In the faint run activations are small, so that every epsilon shows; and
# so does the noise of float32, most in PoolFormerV2 (README.md beside this file).
BOUND, FAINT_BOUND, FAINT_POOLFORMERV2_BOUND = 1e-5, 5e-5, 2e-4

spec = importlib.util.spec_from_file_location("parity_formula", HERE / "formula.py")
formula = importlib.util.module_from_spec(spec)
spec.loader.exec_module(formula)


@pytest.fixture(scope="module")
def logits():
    return load_file(HERE / "logits.safetensors")


def build(name, gain):
    """The model of a fixture with its weights, ready for any size that the architecture allows."""
    fixture = FIXTURES[name]
    weights = Weights(source=name, state=formula.state_dict(fixture["keys"], gain))
    config = ZOO[fixture["model"]]
    model = MetaFormer(replace(config, head=recognise(weights.state, name).head(config.head))).eval()
    report = load_weights(model, weights)
    assert report.missing == report.unexpected == []
    return model, weights


def relative_error(model, output, logits):
    """Root mean square of the difference, over the standard deviation of the logits."""
    with torch.no_grad():
        actual = model(formula.image(output["height"], output["width"]))
    expected = logits[output["tensor"]]
    return float((actual - expected).square().mean().sqrt() / expected.std())


@pytest.mark.parametrize("name", FROZEN)
def test_logits_and_exported_weights_equal_the_original(name, logits, record_property):
    model, weights = build(name, gain=1.0)
    outputs = {run: output for run, output in FIXTURES[name]["outputs"].items() if output["gain"] == 1.0}
    assert len(outputs) == (1 if model.is_tied_to_grid else 2)
    errors = {run: relative_error(model, output, logits) for run, output in outputs.items()}
    for run, error in errors.items():
        record_property(f"parity {name} {run}", error)
    assert max(errors.values()) < BOUND, errors
    theirs, _ = LAYOUTS[recognise(weights.state, name).name].export(model.state_dict(), model.config)
    assert theirs.keys() == weights.state.keys()
    assert all(torch.equal(theirs[key], tensor) for key, tensor in weights.state.items())


@pytest.mark.slow
@pytest.mark.parametrize("name", FROZEN)
def test_every_epsilon_is_the_original_one(name, logits):
    outputs = [output for output in FIXTURES[name]["outputs"].values() if output["gain"] != 1.0]
    assert outputs
    for output in outputs:
        model, _ = build(name, output["gain"])
        bound = FAINT_POOLFORMERV2_BOUND if "poolformerv2" in name else FAINT_BOUND
        assert relative_error(model, output, logits) < bound


@pytest.mark.parametrize("name", FIXTURES)
def test_layout_is_recognised_and_every_key_has_a_place(name):
    fixture = FIXTURES[name]
    layout = recognise(fixture["keys"], name)
    assert layout.name == LAYOUT_NAMES.get(fixture["layout"], fixture["layout"])
    config = replace(ZOO[fixture["model"]], head=layout.head(ZOO[fixture["model"]].head))
    with torch.device("meta"):
        state = MetaFormer(config).state_dict()
    theirs, left_out = layout.export(state, config)
    assert left_out == []
    assert {key: list(tensor.shape) for key, tensor in theirs.items()} == {
        key: entry["shape"] for key, entry in fixture["keys"].items()
    }


def test_every_layout_but_mmpretrain_and_ours_is_proved():
    proved = {LAYOUT_NAMES.get(fixture["layout"], fixture["layout"]) for fixture in FIXTURES.values()}
    # The others are proved by digests of logits (test_digests.py), the authors' Swin by its round trip.
    elsewhere = {"timm-vit", "timm-mlp", "timm-swin", "microsoft/Swin-Transformer"}
    assert proved == set(LAYOUTS) - {"metaformer", "mmpretrain"} - elsewhere
