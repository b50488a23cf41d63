"""Layers, blocks and axes of any model."""

import pytest
import torch
from torch import nn

from metaformer.analysis import BLOCK_FORMS, BlockForm
from metaformer.analysis.anatomy.blocks import find_blocks
from metaformer.analysis.anatomy.features import grid_of
from metaformer.analysis.anatomy.paths import find_module, match_paths
from metaformer.analysis.anatomy.recording import outputs_of
from metaformer.analysis.anatomy.redraw import redraw
from metaformer.core.errors import ConfigError
from metaformer.models.metaformer import MetaFormer

IMAGES = torch.zeros(2, 3, 64, 64)


def test_a_layer_that_is_not_there_names_the_nearest(small):
    model = MetaFormer(small)
    assert find_module(model, "stages.0.blocks.0.norm1") is model.stages[0].blocks[0].norm1
    with pytest.raises(
        ConfigError, match=r"no layer 'stages.0.blocks.0.norm_1'.* Did you mean 'stages.0.blocks.0.norm"
    ):
        find_module(model, "stages.0.blocks.0.norm_1")
    with pytest.raises(ConfigError, match=r"no layer 'zzz' in the model. Its parts: stages, norm, head"):
        match_paths(model, ["zzz"])


def test_patterns_find_paths_in_the_order_of_the_model(small):
    paths = match_paths(MetaFormer(small), ["stages.*.token_mixer"])
    assert paths == tuple(f"stages.{stage}.blocks.0.token_mixer" for stage in range(4))


def test_blocks_of_every_model_of_ours_are_found(any_model):
    expected = [f"stages.{stage}.blocks.0" for stage in range(len(any_model.stages))]
    assert [block.path for block in find_blocks(any_model)] == expected


def test_blocks_and_maps_of_timms_models_are_found(timm_model):
    paths = tuple(block.path for block in find_blocks(timm_model))
    channels = {"ResNet": [64, 64, 128, 128, 256, 256, 512, 512], "VisionTransformer": [192] * 6}.get(
        type(timm_model).__name__, [96, 96, 192, 192] + [384] * 6 + [768, 768]
    )
    assert len(paths) == len(channels)
    for (x, layout), dim in zip(outputs_of(timm_model, paths, IMAGES).values(), channels, strict=True):
        maps = layout.maps(x)
        assert maps.shape[:2] == (2, dim)
        assert maps.shape[2] == maps.shape[3]
        torch.testing.assert_close(layout.restore(maps, x), x)


def test_a_class_token_is_no_place(timm_model):
    if type(timm_model).__name__ == "VisionTransformer":
        x, layout = outputs_of(timm_model, ("blocks.0",), IMAGES)["blocks.0"]
        assert (layout.num_prefix, layout.grid) == (1, (4, 4))
        assert layout.tokens(x).shape == (2, 17, 192)


@pytest.mark.parametrize(
    ("num_tokens", "image_size", "expected"),
    [
        (197, (224, 224), (1, (14, 14))),
        (196, (224, 224), (0, (14, 14))),
        (198, (224, 224), (2, (14, 14))),
        (99, (112, 224), (1, (7, 14))),
        (49, (100, 100), (0, (7, 7))),
        (31, (64, 64), (6, (5, 5))),
        (60, (64, 64), (0, ())),
    ],
)
def test_the_grid_of_tokens_in_rows_has_the_proportions_of_the_image(num_tokens, image_size, expected):
    assert grid_of(num_tokens, image_size) == expected


def test_models_of_other_names_get_a_row(monkeypatch):
    class Mine(nn.Module):
        def __init__(self):
            super().__init__()
            self.ln_mix, self.mix = nn.Identity(), nn.Identity()

        def forward(self, x):
            return x + self.mix(self.ln_mix(x))

    model = nn.Sequential(Mine(), Mine())
    with pytest.raises(ConfigError, match="no residual blocks found in Sequential"):
        find_blocks(model)
    monkeypatch.setattr(BLOCK_FORMS, "_entries", dict(BLOCK_FORMS._entries))
    BLOCK_FORMS.add("mine", BlockForm(entry="ln_mix", mixer="mix"))
    assert [block.mixer for block in find_blocks(model)] == ["0.mix", "1.mix"]


def test_redrawn_weights_are_others_of_the_same_size(timm_model):
    before = {name: tensor.clone() for name, tensor in timm_model.named_parameters()}
    nn.init.normal_(timm_model.get_parameter(next(iter(before))))
    redraw(timm_model)
    for name, tensor in timm_model.named_parameters():
        if tensor.ndim > 1:
            assert not torch.equal(tensor, before[name]), name
            assert tensor.isfinite().all()
