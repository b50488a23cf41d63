import dataclasses

import pytest
import torch

from metaformer.block.token_mixers import TOKEN_MIXERS
from metaformer.core.configs import from_dict, to_dict
from metaformer.data.sources import open_data
from metaformer.models.metaformer import MetaFormer
from metaformer.recipes.study_quick import study_quick
from metaformer.study.config import StudyConfig
from metaformer.train.first_model import fit_to_data

STUDY = study_quick()
VARIANTS = {variant.name: variant for variant in STUDY.variants}
BASE = VARIANTS[STUDY.base].model

POOL = {"type": "pooling", "pool_size": 3}
ATTENTION = {
    "type": "attention",
    "head_dim": 16,
    "qkv_bias": False,
    "proj_bias": True,
    "attention_dropout": 0.0,
    "proj_dropout": 0.0,
}
# variant -> the fields of its model that differ from the base, and what they are
CHANGES = {
    "pooling": {},
    "identity": {"token_mixers": [{"type": "identity"}] * 4},
    "random": {"token_mixers": [{"type": "random"}] * 4},
    "depthwise_conv": {"token_mixers": [{"type": "depthwise_conv", "kernel_size": 3, "bias": True}] * 4},
    "ppaa": {"token_mixers": [POOL, POOL, ATTENTION, ATTENTION], "position_embedding_stages": [2]},
    "ppff": {"token_mixers": [POOL, POOL] + [{"type": "spatial_mlp", "bias": False}] * 2},
    "no_channel_mlp": {"channel_mlp": None},
    "no_residual": {"residuals": [{"skip": False, "layer_scale_init": 1e-5, "res_scale_init": None}]},
    "no_residual_scale_1": {"residuals": [{"skip": False, "layer_scale_init": 1.0, "res_scale_init": None}]},
}
PAPER_TOP1 = {
    "pooling": 77.2,
    "identity": 74.3,
    "random": 75.8,
    "depthwise_conv": 78.1,
    "ppaa": 81.0,
    "ppff": 77.9,
    "no_channel_mlp": 5.7,
    "no_residual": 0.1,
    "no_residual_scale_1": 0.1,
}


@pytest.fixture(scope="module")
def data():
    return open_data(STUDY.data)


def test_the_study_has_the_rows_that_it_should():
    assert list(VARIANTS) == list(CHANGES)
    assert len(STUDY.variants) == 9
    assert STUDY.base == "pooling"
    assert STUDY.seeds == (0, 1, 2)
    assert [name for name, variant in VARIANTS.items() if variant.about.control] == list(CHANGES)[-3:]


@pytest.mark.parametrize("name", list(CHANGES))
def test_nothing_but_the_named_part_differs_from_the_base(name):
    base, model = to_dict(BASE), to_dict(VARIANTS[name].model)
    differing = {key: model[key] for key in base if model[key] != base[key]}
    assert differing == CHANGES[name]


def test_the_base_is_a_poolformer():
    base = to_dict(BASE)
    assert base["token_mixers"] == [POOL] * 4
    assert base["residuals"] == [{"skip": True, "layer_scale_init": 1.0, "res_scale_init": None}]
    assert base["channel_mlp"]["ratio"] == 4
    assert base["depths"] == [1, 1, 1, 1]


@pytest.mark.parametrize("name", list(PAPER_TOP1))
def test_the_papers_figures_are_those_of_its_table_5(name):
    assert VARIANTS[name].about.paper_top1_percent == PAPER_TOP1[name]
    assert "arXiv:2111.11418, Table 5" in VARIANTS[name].about.paper_note


def test_titles_and_changes_are_said_and_differ():
    for column in ("title", "change"):
        texts = [getattr(variant.about, column) for variant in STUDY.variants]
        assert all(texts)
        assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("name", list(CHANGES))
def test_every_stage_has_tokens_to_mix(name, data):
    # On a grid of one token, pooling, identity and attention are the same thing.
    grids = fit_to_data(VARIANTS[name].model, data).grids
    assert all(min(grid) > 1 for grid in grids)


@pytest.mark.parametrize("source", ["cluttered-digits", "digits"])
@pytest.mark.parametrize("name", list(CHANGES))
def test_every_variant_builds_for_the_data_and_gives_finite_scores(name, source):
    data = open_data(source)
    model = MetaFormer(fit_to_data(VARIANTS[name].model, data))
    images, _ = next(data.evaluation_batches("validation"))
    for scores in (model(images[:8]), model.eval()(images[:8])):
        assert scores.shape == (8, 10)
        assert torch.isfinite(scores).all()


@pytest.mark.parametrize("name", list(CHANGES))
def test_every_parameter_of_a_variant_gets_a_gradient(name, data):
    model = MetaFormer(fit_to_data(VARIANTS[name].model, data))
    images, labels = next(data.evaluation_batches("validation"))
    torch.nn.functional.cross_entropy(model(images[:16]), labels[:16]).backward()
    assert [path for path, parameter in model.named_parameters() if parameter.grad is None] == []


def test_the_study_comes_back_from_json():
    assert from_dict(StudyConfig, to_dict(STUDY)) == STUDY


def test_the_study_is_the_same_each_time():
    assert study_quick() == STUDY
    assert dataclasses.is_dataclass(STUDY)


def test_every_token_mixer_of_the_paper_is_compared():
    mixers = {TOKEN_MIXERS.name_of(type(mixer)) for variant in STUDY.variants for mixer in variant.model.token_mixers}
    assert mixers == {"pooling", "identity", "random", "depthwise_conv", "attention", "spatial_mlp"}
