import re
from dataclasses import replace

import pytest
import torch

from metaformer.core.configs import from_dict, to_dict
from metaformer.core.errors import ConfigError
from metaformer.models.metaformer import MetaFormer
from metaformer.models.timm_model import TimmModelConfig, build_model

RESNET = TimmModelConfig(
    name="resnet",
    options={"layers": (1, 1, 1, 1), "channels": (8, 16, 24, 32), "stem_width": 8, "stem_pool": False},
    width_options=("channels", "stem_width"),
    num_classes=10,
    in_chans=1,
    image_size=(32, 32),
)
RESMLP = TimmModelConfig(
    name="resmlp",
    options={"patch_size": 4, "embed_dim": 16, "num_blocks": 2},
    image_size_option="img_size",
    num_classes=10,
    in_chans=1,
    image_size=(32, 24),
)
VIT = replace(RESMLP, name="vit", options={"patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2})
BY_NAME = TimmModelConfig(name="resnet18", num_classes=10, in_chans=1, image_size=(32, 32))


@pytest.mark.parametrize("config", [RESNET, RESMLP, VIT, BY_NAME], ids=lambda config: config.name)
def test_a_model_takes_the_images_and_classes_of_its_config(config):
    model = build_model(config).eval()
    assert model(torch.randn(2, 1, *config.image_size)).shape == (2, 10)
    assert model.config == config


@pytest.mark.parametrize("config", [RESNET, VIT, BY_NAME], ids=lambda config: config.name)
def test_a_config_comes_back_from_json(config):
    again = from_dict(TimmModelConfig, to_dict(config))
    assert again == config
    assert hash(again) == hash(config)


def test_a_resmlp_mixes_tokens_by_linear_layers_and_has_no_attention():
    kinds = {type(module).__name__ for module in RESMLP.build().modules()}
    assert "ResBlock" in kinds
    assert not {"Attention", "Conv2d"} >= kinds


def test_the_stem_of_a_resnet_keeps_small_images():
    grids = []
    for config in (RESNET, replace(RESNET, options={**RESNET.options, "stem_pool": True})):
        model = config.build().eval()
        grids.append(model.forward_features(torch.randn(1, 1, 32, 32)).shape[-1])
    assert grids == [2, 1]
    slow = replace(RESNET, options={**RESNET.options, "stem_stride": 1}).build().eval()
    assert slow.forward_features(torch.randn(1, 1, 32, 32)).shape[-1] == 4


def test_a_metaformer_config_builds_a_metaformer(small):
    assert isinstance(build_model(small), MetaFormer)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "resnet1"}, "unknown timm model 'resnet1'. Did you mean 'resnet10t'?|Did you mean 'resnet"),
        ({"width_options": ("channel",)}, "unknown width option 'channel'. Did you mean 'channels'?"),
        ({"width_multiple": 0}, "TimmModelConfig.width_multiple must be at least 1; got 0."),
        ({"num_classes": 0}, "TimmModelConfig.num_classes and in_chans must be at least 1; got 0 and 1."),
        ({"options": {"layers": torch.ones(1)}, "width_options": ()}, "TimmModelConfig.options must hold numbers"),
    ],
    ids=["name", "width option", "multiple", "classes", "not JSON"],
)
def test_a_config_that_cannot_be_is_refused(change, message):
    with pytest.raises(ConfigError, match="|".join(re.escape(part) for part in message.split("|"))):
        replace(RESNET, **change)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embed_dims": 3}, "timm cannot build 'vit' with embed_dims=3: "),
        ({"embed_dim": 15, "num_heads": 2}, "timm cannot build 'vit' with embed_dim=15, num_heads=2: "),
    ],
    ids=["misspelt", "heads"],
)
def test_what_timm_refuses_is_said_in_one_line(options, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}[^\n]+$"):
        replace(VIT, options=options).build()


def test_an_unknown_block_names_the_known_ones():
    with pytest.raises(ConfigError, match=r"unknown block 'basc'\. Did you mean 'basic'\?"):
        replace(RESNET, options={**RESNET.options, "block": "basc"}).build()
