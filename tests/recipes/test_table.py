import pytest
import torch

import metaformer as mf
from metaformer.block.token_mixers import IdentityConfig, PoolingConfig
from metaformer.core.errors import ConfigError
from metaformer.models.weights import save_weights
from metaformer.recipes.table import recipe, with_token_mixers


def test_weights_say_which_model_a_recipe_trains(tmp_path):
    torch.manual_seed(0)
    model = mf.MetaFormer(recipe("cifar10-small").model)
    save_weights(model, tmp_path / "mine.safetensors")
    run = recipe("finetune", weights=str(tmp_path / "mine.safetensors"))
    assert run.model == model.config
    assert run.name == "mine.safetensors"


def test_a_model_is_named_as_in_the_zoo():
    assert recipe("finetune", model="poolformer_s24").model.depths == (4, 4, 12, 4)
    with pytest.raises(ConfigError, match="Did you mean 'poolformer_s12'"):
        recipe("finetune", model="poolfromer_s12")
    with pytest.raises(ConfigError, match="Did you mean 'finetune'"):
        recipe("fintune")


def test_token_mixers_are_one_for_all_stages_or_one_a_stage():
    run = recipe("cifar10-small")
    assert with_token_mixers(run, "identity").model.token_mixers == (IdentityConfig(),) * 3
    assert with_token_mixers(run, "identity,pooling,pooling").model.token_mixers[1:] == (PoolingConfig(),) * 2
    with pytest.raises(ConfigError, match="token_mixers"):
        with_token_mixers(run, "identity,pooling")
