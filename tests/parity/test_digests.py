"""Models of other families against digests of timm's logits: one class in 125, of weights by formula."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from metaformer.analysis.cost import profile
from metaformer.models.create import create_model
from metaformer.models.layouts import LAYOUTS, recognise
from metaformer.models.load_weights import load_weights
from metaformer.models.metaformer import MetaFormer
from metaformer.models.weights import Weights
from metaformer.models.zoo import ZOO

HERE = Path(__file__).parent
DIGESTS = json.loads((HERE / "timm_digests.json").read_text())
BOUND = 1e-5
# Layout of timm's keys, parameters, multiply-adds at 224: as published, in millions and in thousands of millions.
FACTS = {
    "deit_tiny_patch16_224": ("timm-vit", 5.7, 1.26),
    "deit_small_patch16_224": ("timm-vit", 22.1, 4.6),
    "deit_base_patch16_224": ("timm-vit", 86.6, 17.6),
    "vit_small_patch16_224": ("timm-vit", 22.1, 4.6),
    "vit_base_patch16_224": ("timm-vit", 86.6, 17.6),
    "resmlp_12_224": ("timm-mlp", 15.4, 3.0),
    "resmlp_24_224": ("timm-mlp", 30.0, 6.0),
    "resmlp_big_24_224": ("timm-mlp", 129.1, 100.2),
    "mixer_s16_224": ("timm-mlp", 18.5, 3.8),
    "mixer_b16_224": ("timm-mlp", 59.9, 12.6),
    "swin_tiny_patch4_window7_224": ("timm-swin", 28.3, 4.5),
    "swin_small_patch4_window7_224": ("timm-swin", 49.6, 8.75),
    "swin_base_patch4_window7_224": ("timm-swin", 87.8, 15.45),
}
QUICK = ("deit_tiny_patch16_224", "resmlp_12_224", "mixer_s16_224", "swin_tiny_patch4_window7_224")


def module(name):
    spec = importlib.util.spec_from_file_location(f"parity_{name}", HERE / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


formula, digest = module("formula"), module("digest")


def theirs(name):
    """Names and shapes of timm's tensors, as our layout has them: the hash says whether they are timm's."""
    with torch.device("meta"):
        model = MetaFormer(ZOO[name])
    state, left_out = LAYOUTS[FACTS[name][0]].export(model.state_dict(), model.config)
    assert left_out == []
    return {key: list(tensor.shape) for key, tensor in state.items()}


def weights_of(name):
    return Weights(source=name, state=formula.state_dict(digest.entries(theirs(name)), 1.0))


@pytest.mark.parametrize("name", FACTS)
def test_names_and_shapes_are_timms_and_the_cost_is_the_published_one(name):
    layout, params, macs = FACTS[name]
    shapes = theirs(name)
    assert digest.keys_hash(shapes) == DIGESTS[name]["keys_sha256"]
    assert recognise(shapes, name).name == layout
    with torch.device("meta"):
        model = MetaFormer(ZOO[name])
    cost = profile(model, 224)
    assert cost.params / 1e6 == pytest.approx(params, rel=0.005)
    assert cost.macs / 1e9 == pytest.approx(macs, rel=0.01)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in FACTS]
)
def test_logits_are_timms_and_weights_go_back(name, record_property):
    weights = weights_of(name)
    model = MetaFormer(ZOO[name]).eval()
    report = load_weights(model, weights)
    assert report.missing == report.unexpected == []
    back, _ = LAYOUTS[report.layout].export(model.state_dict(), model.config)
    assert back.keys() == weights.state.keys()
    assert all(torch.equal(back[key], tensor) for key, tensor in weights.state.items())
    for run, frozen in DIGESTS[name]["runs"].items():
        size = tuple(map(int, run.split("x")))
        sized = model if run == "224x224" else create_model(name, weights=weights, image_size=size).eval()
        with torch.no_grad():
            actual = sized(formula.image(*size))[:, :: digest.STEP]
        error = float((actual - torch.tensor(frozen["logits"])).square().mean().sqrt()) / frozen["std"]
        record_property(f"parity timm {name} {run}", error)
        assert error < BOUND


def test_every_model_of_these_families_is_proved():
    families = ("deit_", "vit_", "resmlp_", "mixer_", "swin_")
    assert {name for name in ZOO if name.startswith(families)} == FACTS.keys() == DIGESTS.keys()
