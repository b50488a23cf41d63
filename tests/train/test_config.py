import re

import pytest

from metaformer.core.configs import from_dict, to_dict
from metaformer.core.errors import ConfigError
from metaformer.train.config import TrainConfig

NAN = float("nan")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "train.epochs must be at least 1; got 0."),
        ({"batch_size": 0}, "train.batch_size must be at least 1; got 0."),
        ({"batch_size": -3}, "train.batch_size must be at least 1; got -3."),
        ({"lr": -1.0}, "train.lr must be at least 0; got -1.0."),
        ({"lr": NAN}, "train.lr must be a finite number; got nan."),
        ({"min_lr": -1.0}, "train.min_lr must be at least 0; got -1.0."),
        ({"warmup_lr": -1.0}, "train.warmup_lr must be at least 0; got -1.0."),
        ({"warmup_epochs": -1.0}, "train.warmup_epochs must be at least 0, or None; got -1.0."),
        ({"weight_decay": -0.1}, "train.weight_decay must be at least 0; got -0.1."),
        (
            {"epochs": 2, "warmup_epochs": 2.0},
            "train.warmup_epochs must be below train.epochs (2); got 2. Try --train.warmup-epochs 0.2.",
        ),
        (
            {"epochs": 5, "warmup_epochs": 7.5},
            "train.warmup_epochs must be below train.epochs (5); got 7.5. Try --train.warmup-epochs 0.5.",
        ),
        ({"label_smoothing": 1.0}, "train.label_smoothing must be in [0, 1); got 1.0."),
        ({"label_smoothing": -0.1}, "train.label_smoothing must be in [0, 1); got -0.1."),
        ({"clip_grad_norm": 0.0}, "train.clip_grad_norm must be above 0, or None; got 0.0."),
        ({"clip_grad_norm": NAN}, "train.clip_grad_norm must be a finite number; got nan."),
        (
            {"precision": "bf16"},
            "unknown train.precision 'bf16'. Did you mean 'bf16-mixed'? Known: 32-true, bf16-mixed, 16-mixed.",
        ),
    ],
    ids=str,
)
def test_a_wrong_value_is_named_with_what_is_allowed(options, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        TrainConfig(**options)


@pytest.mark.parametrize(
    "options",
    [{}, {"epochs": 1, "warmup_epochs": 0.0}, {"clip_grad_norm": 1.0, "precision": "bf16-mixed", "lr": 0.0}],
    ids=str,
)
def test_a_recipe_comes_back_from_json(options):
    config = TrainConfig(**options)
    assert from_dict(TrainConfig, to_dict(config)) == config


def test_the_fix_that_the_warm_up_error_offers_works():
    TrainConfig(epochs=2, warmup_epochs=0.2)


def test_the_warm_up_is_a_tenth_of_the_epochs_unless_said():
    assert TrainConfig(epochs=20).num_warmup_epochs == 2
    assert TrainConfig(epochs=2).num_warmup_epochs == 0.2
    assert TrainConfig(epochs=20, warmup_epochs=5.0).num_warmup_epochs == 5
