from dataclasses import replace

import pytest
import torch
from timm.layers import DropPath

from metaformer.block.token_mixers import TOKEN_MIXERS
from metaformer.core.configs import from_dict, to_dict
from metaformer.core.errors import ConfigError
from metaformer.data.sources import open_data
from metaformer.models.config import MetaFormerConfig
from metaformer.models.timm_model import TimmModelConfig, build_model
from metaformer.models.zoo import ZOO
from metaformer.recipes.study_paper import SCALES, limited, scale_of, scaling_subjects, study_paper
from metaformer.report.claims.rules import COMPARATORS
from metaformer.study.config import StudyConfig
from metaformer.study.scaling_record import ScalingConfig
from metaformer.train.first_model import fit_to_data

# Row -> the paper's top-1: Table 5 and 2 of the first paper, Table 1 of the second.
PAPER = {
    "pooling": 77.2,
    "identity": 74.3,
    "random": 75.8,
    "depthwise_conv": 78.1,
    "pool_5": 77.2,
    "pool_7": 77.1,
    "pool_9": 76.8,
    "layer_norm": 76.5,
    "batch_norm": 76.4,
    "relu": 76.4,
    "silu": 77.2,
    "no_norm": 46.1,
    "no_residual": 0.1,
    "no_residual_no_scale": 0.1,
    "no_channel_mlp": 5.7,
    "pppa": 78.3,
    "ppaa": 81.0,
    "pppf": 77.5,
    "ppff": 77.9,
    "identityformer": 74.6,
    "randformer": 76.6,
    "poolformerv2": 78.0,
    "convformer": 83.0,
    "caformer": 83.6,
    "resnet": 70.6,
    "resmlp": 76.6,
    "vit": None,
}


@pytest.fixture(scope="module", params=list(SCALES))
def study(request):
    return study_paper(request.param)


@pytest.fixture(scope="module")
def small_study():
    return study_paper("digits")


@pytest.fixture(scope="module")
def data(small_study):
    return open_data(small_study.data)


def rows(study):
    return {row.name: row for row in study.variants}


def test_every_row_is_there_with_the_papers_figure(study):
    assert {row.name: row.about.paper_top1_percent for row in study.variants} == PAPER
    assert all("arXiv:" in row.about.paper_note for row in study.variants)
    assert len({row.about.title for row in study.variants}) == len(PAPER)
    assert all(row.about.change for row in study.variants)


def test_the_study_comes_back_from_json(study):
    assert from_dict(StudyConfig, to_dict(study)) == study


def test_controls_are_the_rows_that_are_meant_to_fail(study):
    controls = [row.name for row in study.variants if row.about.control]
    assert controls == ["no_norm", "no_residual", "no_residual_no_scale", "no_channel_mlp"]


def test_an_ablation_changes_one_part(study):
    """Nothing but the named settings differs from the base."""
    allowed = {
        "token_mixers": {"identity", "random", "depthwise_conv", "pool_5", "pool_7", "pool_9", "pppf", "ppff"},
        "norm": {"layer_norm", "batch_norm", "no_norm"},
        "channel_mlp": {"relu", "silu", "no_channel_mlp"},
        "residuals": {"no_residual", "no_residual_no_scale"},
    }
    base = to_dict(rows(study)["pooling"].model)
    for part, names in allowed.items():
        for name in names:
            model = to_dict(rows(study)[name].model)
            assert [key for key in base if model[key] != base[key]] == [part], name


def test_hybrids_with_attention_are_as_in_the_zoo():
    for name, zoo in (("pppa", "metaformer_pppa_s12_224"), ("ppaa", "metaformer_ppaa_s12_224")):
        ours, theirs = rows(study_paper("imagenet"))[name], ZOO[zoo]
        assert replace(ours.model, drop_path=0.0, preprocessing=theirs.preprocessing) == theirs
        # They were trained with smaller batches and the rate that goes with them.
        assert (ours.train.batch_size, ours.train.peak_lr) == (1024, 1e-3)


def test_the_second_papers_block_is_that_of_the_zoo():
    ours = rows(study_paper("imagenet"))
    for name, zoo in (
        ("identityformer", "identityformer_s12"),
        ("randformer", "randformer_s12"),
        ("poolformerv2", "poolformerv2_s12"),
        ("convformer", "convformer_s18"),
        ("caformer", "caformer_s18"),
    ):
        theirs = replace(ZOO[zoo], depths=(2, 2, 6, 2), drop_path=0.1)
        assert replace(ours[name].model, preprocessing=theirs.preprocessing) == theirs


def test_the_imagenet_recipe_is_the_papers():
    study = study_paper("imagenet", data="imagenet")
    train, preparation = study.train, study.preparation
    assert (train.epochs, train.batch_size, train.peak_lr, train.warmup_epochs) == (300, 4096, 4e-3, 5)
    assert (train.mixing.mixup, train.mixing.cutmix, train.label_smoothing) == (0.8, 1.0, 0.1)
    assert preparation.augmentation.auto_augment == "rand-m9-mstd0.5-inc1"
    assert (preparation.augmentation.erasing, preparation.image_size) == (0.25, (224, 224))
    assert rows(study)["pooling"].model.drop_path == 0.1
    assert study.data == "imagenet"


def test_comparators_ask_for_equal_macs_and_others_do_not(study):
    asked = {row.name: row.match for row in study.variants if row.match}
    assert asked == {"resnet": "macs", "resmlp": "macs", "vit": "macs"}
    assert all(isinstance(rows(study)[name].model, TimmModelConfig) for name in asked)


@pytest.mark.parametrize("name", list(PAPER))
def test_every_row_trains_on_the_embedded_data(small_study, data, name):
    model = build_model(fit_to_data(rows(small_study)[name].model, data))
    images, labels = next(data.evaluation_batches("validation", batch_size=16))
    torch.nn.functional.cross_entropy(model(images), labels).backward()
    without = [path for path, parameter in model.named_parameters() if parameter.grad is None]
    assert without == []


def test_on_every_stage_there_are_tokens_to_mix(small_study, data):
    for row in small_study.variants:
        if isinstance(row.model, MetaFormerConfig):
            assert all(min(grid) > 1 for grid in fit_to_data(row.model, data).grids)


def test_a_budget_reaches_every_recipe():
    study = limited(study_paper("imagenet"), epochs=30, lr=2e-3, max_train_images=1000)
    recipes = [row.train or study.train for row in study.variants]
    assert {recipe.epochs for recipe in recipes} == {30}
    assert {recipe.lr for recipe in recipes} == {2e-3}
    assert {recipe.warmup_epochs for recipe in recipes} == {0.5}
    assert study.preparation.max_train_images == 1000


def test_warm_up_and_cooldown_keep_their_shares_of_the_epochs(small_study):
    train = replace(small_study.train, epochs=10, warmup_epochs=2.0, cooldown_epochs=3.0)
    shorter = limited(replace(small_study, train=train), epochs=5).train
    assert (shorter.epochs, shorter.warmup_epochs, shorter.cooldown_epochs) == (5, 1.0, 1.5)


def test_without_a_budget_nothing_changes(small_study):
    assert limited(small_study) == small_study


@pytest.mark.parametrize(
    ("data", "scale"),
    [
        ("", "digits"),
        ("digits", "digits"),
        ("cluttered-digits", "digits"),
        ("cifar10:/somewhere", "cifar10"),
        ("torch/cifar10:/somewhere", "cifar10"),
        ("/data/imagenet", "imagenet"),
    ],
)
def test_the_data_choose_the_scale(data, scale):
    assert scale_of(data) == scale


def test_an_unknown_scale_names_the_nearest():
    with pytest.raises(ConfigError, match=r"^unknown scale 'cifar'\. Did you mean 'cifar10'\?"):
        study_paper("cifar")


def test_every_mixer_is_measured_alone_and_in_a_model():
    subjects = scaling_subjects("cifar10", ScalingConfig(dim=32))
    assert {(one.name, one.level) for one in subjects} == {
        (name, level) for name in TOKEN_MIXERS for level in ("mixer", "model")
    }
    for one in subjects:
        module, x = one.build(8)
        assert module(x).shape[0] == 1


def test_the_names_that_claims_know_are_those_of_the_rows(small_study):
    assert {*COMPARATORS, "ppaa", "ppff"} <= set(rows(small_study))


def test_rows_whose_figures_are_of_larger_models_say_so():
    others = {row.name for row in study_paper().variants if not row.about.paper_same_size}
    assert others == {"convformer", "caformer", "resmlp", "vit"}


@pytest.mark.parametrize("scale", SCALES)
def test_the_architectures_that_are_compared_have_the_drop_path_of_the_base(scale):
    study = study_paper(scale, data="digits")
    rows = {row.name: row.model for row in study.variants}
    rate = rows["pooling"].drop_path
    for name in COMPARATORS:
        with torch.device("meta"):
            model = build_model(rows[name])
        rates = [module.drop_prob for module in model.modules() if isinstance(module, DropPath)]
        assert max(rates, default=0.0) == pytest.approx(rate)
