"""The recipes' figures are the papers'."""

import pytest

from metaformer.core.configs import from_dict, to_dict
from metaformer.core.errors import ConfigError
from metaformer.models.zoo import ZOO
from metaformer.recipes import metaformer_baselines_imagenet as second_paper
from metaformer.recipes import poolformer_imagenet as first_paper
from metaformer.recipes.metaformer_baselines_imagenet import metaformer_baselines_imagenet
from metaformer.recipes.poolformer_imagenet import poolformer_imagenet
from metaformer.recipes.table import RECIPES
from metaformer.train.config import Run


@pytest.mark.parametrize("name", list(RECIPES))
def test_a_recipe_is_a_run_that_comes_back_from_json_and_says_what_it_takes(name):
    run = RECIPES[name]()
    assert from_dict(Run, to_dict(run)) == run
    for word in ("Command:", "Hardware:", "Time:", "Result"):
        assert word in RECIPES[name].__doc__


@pytest.mark.parametrize(
    ("size", "drop_path", "layer_scale", "crop"),
    [
        ("s12", 0.1, 1e-5, 0.9),
        ("s24", 0.1, 1e-5, 0.9),
        ("s36", 0.2, 1e-6, 0.9),
        ("m36", 0.3, 1e-6, 0.95),
        ("m48", 0.4, 1e-6, 0.95),
    ],
)
def test_the_first_paper(size, drop_path, layer_scale, crop):
    run = poolformer_imagenet(f"poolformer_{size}")
    assert run.model.drop_path == drop_path
    assert {residual.layer_scale_init for residual in run.model.residuals} == {layer_scale}
    train, augmentation = run.train, run.preparation.augmentation
    assert (train.optimizer, train.weight_decay, train.batch_size) == ("adamw", 0.05, 4096)
    assert train.peak_lr == 4e-3
    assert (train.warmup_epochs, train.warmup_lr, train.min_lr, train.schedule) == (5, 1e-6, 1e-5, "cosine")
    assert train.epochs - train.cooldown_epochs == 300
    assert train.label_smoothing == 0.1
    assert (train.mixing.mixup, train.mixing.cutmix, train.mixing.switch) == (0.8, 1.0, 0.5)
    assert (augmentation.auto_augment, augmentation.erasing) == ("rand-m9-mstd0.5-inc1", 0.25)
    assert (train.ema_decay, train.clip_grad_norm) == (None, None)
    assert (run.preparation.image_size, run.preparation.crop_fraction) == ((224, 224), crop)


def test_the_learning_rate_of_the_first_paper_follows_the_batch():
    train = poolformer_imagenet().train
    assert type(train)(lr=train.lr, lr_batch_size=train.lr_batch_size, batch_size=1024).peak_lr == 1e-3


@pytest.mark.parametrize("name", ["metaformer_ppaa_s12_224", "metaformer_pppa_s12_224"])
def test_attention_hybrids_take_a_smaller_batch(name):
    train = poolformer_imagenet(name).train
    assert (train.batch_size, train.peak_lr) == (1024, 1e-3)


@pytest.mark.parametrize(
    ("name", "optimizer", "lr", "warmup", "drop_path", "dropout"),
    [
        ("identityformer_s12", "adamw", 4e-3, 5, 0.1, 0.0),
        ("randformer_m48", "adamw", 4e-3, 5, 0.3, 0.0),
        ("poolformerv2_m48", "adamw", 4e-3, 5, 0.4, 0.0),
        ("convformer_s18", "adamw", 4e-3, 20, 0.2, 0.0),
        ("convformer_b36", "adamw", 4e-3, 20, 0.6, 0.0),
        ("caformer_s18", "lamb", 8e-3, 20, 0.15, 0.0),
        ("caformer_s36", "lamb", 8e-3, 20, 0.3, 0.4),
        ("caformer_m36", "lamb", 8e-3, 20, 0.4, 0.4),
        ("caformer_b36", "lamb", 8e-3, 20, 0.6, 0.5),
    ],
)
def test_the_second_paper(name, optimizer, lr, warmup, drop_path, dropout):
    run = metaformer_baselines_imagenet(name)
    assert (run.train.optimizer, run.train.peak_lr, run.train.warmup_epochs) == (optimizer, lr, warmup)
    assert (run.model.drop_path, run.model.head.dropout) == (drop_path, dropout)
    assert run.train.epochs - run.train.cooldown_epochs == 300
    assert run.preparation.crop_fraction == 1.0


@pytest.mark.parametrize(("name", "lr"), [("convformer_s18_384", 5e-5), ("caformer_m36_384", 1e-4)])
def test_fine_tuning_at_384(name, lr):
    run = metaformer_baselines_imagenet(name)
    train = run.train
    assert (train.epochs, train.schedule, train.peak_lr, train.ema_decay) == (30, "constant", lr, 0.9999)
    assert not train.mixing.is_on
    assert run.preparation.image_size == (384, 384)


@pytest.mark.parametrize("recipe", [first_paper, second_paper], ids=["first", "second"])
def test_every_model_of_a_recipe_is_in_the_zoo(recipe):
    assert recipe.MODELS
    assert set(recipe.MODELS) <= set(ZOO)


def test_a_model_of_another_recipe_is_refused_and_the_nearest_named():
    with pytest.raises(ConfigError, match=r"^unknown model of the recipe poolformer-imagenet 'convformer_s12'.*Known:"):
        poolformer_imagenet("convformer_s12")
    with pytest.raises(ConfigError, match="unknown model of the recipe metaformer-baselines-imagenet"):
        metaformer_baselines_imagenet("poolformer_s12")
