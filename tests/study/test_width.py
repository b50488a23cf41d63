from dataclasses import replace

import pytest

from metaformer.block.token_mixers import AttentionConfig, PoolingConfig
from metaformer.models.timm_model import TimmModelConfig
from metaformer.study.width import describe, scaled, with_dims

VIT = TimmModelConfig(
    name="vit",
    options={"patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2},
    width_options=("embed_dim",),
    width_multiple=6,
)


@pytest.mark.parametrize(("width", "dims"), [(0.5, (4, 8, 20, 32)), (1.1, (8, 16, 44, 72)), (0.01, (4, 4, 4, 4))])
def test_channels_stay_multiples_of_four_and_above_zero(small, width, dims):
    assert scaled(small, width).dims == dims


def test_a_stage_with_heads_keeps_whole_heads(small):
    mixers = (PoolingConfig(), PoolingConfig(), AttentionConfig(head_dim=10), AttentionConfig(head_dim=16))
    wider = scaled(replace(small, dims=(8, 16, 40, 64), token_mixers=mixers), 1.3)
    assert wider.dims == (12, 20, 60, 80)


def test_a_width_of_one_is_the_same_config(small):
    assert scaled(small, 1.0) is small
    assert with_dims(small, small.dims) is small


def test_only_the_named_options_of_a_timm_model_change():
    assert scaled(VIT, 2.2).options == VIT.options | {"embed_dim": 36}
    lists = TimmModelConfig(name="resnet", options={"channels": [8, 16], "layers": [1, 1]}, width_options=("channels",))
    assert scaled(lists, 1.5).options == {"channels": [12, 24], "layers": [1, 1]}


def test_widths_in_words(small):
    assert describe(small) == "dims 8, 16, 40, 64"
    assert describe(VIT) == "embed_dim 16"
