import re
from dataclasses import replace

import pytest

from metaformer.block.norm import LayerNormConfig
from metaformer.block.residual import ResidualConfig
from metaformer.block.token_mixers import AttentionConfig, IdentityConfig
from metaformer.core.errors import ConfigError
from metaformer.core.preprocessing import ModelInput, Preprocessing
from metaformer.models.config import DOWNSAMPLING, STEM, HeadConfig, PatchEmbeddingConfig
from metaformer.models.zoo import POOLFORMER_S12

WRONG = {
    "one depth too few": (
        {"depths": (2, 2, 6)},
        "MetaFormerConfig.depths must have one entry a stage: 4, as dims has; got 3.",
    ),
    "one mixer for all": (
        {"token_mixers": (IdentityConfig(),)},
        "MetaFormerConfig.token_mixers must have one entry a stage: 4, as dims has; got 1.",
    ),
    "too few patch embeddings": (
        {"patch_embeddings": (STEM,)},
        "MetaFormerConfig.patch_embeddings must have one entry a stage: 4, as dims has; got 1.",
    ),
    "no stage": (
        {"dims": (), "depths": (), "token_mixers": (), "patch_embeddings": ()},
        "MetaFormerConfig.dims must name at least one stage; got ().",
    ),
    "no channels": (
        {"dims": (64, 0, 320, 512)},
        "MetaFormerConfig.dims[1] must be at least 1; got 0.",
    ),
    "no blocks": ({"depths": (2, 2, 0, 2)}, "MetaFormerConfig.depths[2] must be at least 1; got 0."),
    "drop path of 1": ({"drop_path": 1.0}, "MetaFormerConfig.drop_path must be in [0, 1); got 1.0."),
    "two residuals for four stages": (
        {"residuals": (ResidualConfig(),) * 2},
        "MetaFormerConfig.residuals must have one entry for all stages or one a stage: 4; got 2.",
    ),
    "negative classes": (
        {"num_classes": -1},
        "MetaFormerConfig.num_classes must be at least 0; got -1. 0 leaves the classifier out.",
    ),
    "no image channels": ({"in_chans": 0}, "MetaFormerConfig.in_chans must be at least 1; got 0. RGB has 3."),
    "small image": (
        {"image_size": (224, 31)},
        "MetaFormerConfig.image_size must be at least 32x32 pixels, the total stride; got 224x31.",
    ),
    "four axes": (
        {"image_size": (64,) * 4},
        "MetaFormerConfig.image_size must have one, two or three axes; got 4: (64, 64, 64, 64).",
    ),
    "a stride for two axes of three": (
        {"image_size": (64,) * 3, "patch_embeddings": (replace(STEM, stride=(1, 2)), *(DOWNSAMPLING,) * 3)},
        "MetaFormerConfig.patch_embeddings[0].stride must be one number, or one for each of the 3 axes of image_size; "
        "got (1, 2).",
    ),
    "embedding in no stage": (
        {"position_embedding_stages": (2, 4)},
        "MetaFormerConfig.position_embedding_stages must be in 0..3; got (2, 4).",
    ),
}


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG)
def test_wrong_values_are_refused(change, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        replace(POOLFORMER_S12, **change)


def test_a_misspelt_field_fails():
    with pytest.raises(TypeError, match="unexpected keyword argument 'dim'"):
        replace(POOLFORMER_S12, dim=(1,))


@pytest.mark.parametrize(
    ("image_size", "grids"),
    [
        ((224, 224), ((56, 56), (28, 28), (14, 14), (7, 7))),
        ((32, 32), ((8, 8), (4, 4), (2, 2), (1, 1))),
        ((97, 160), ((24, 40), (12, 20), (6, 10), (3, 5))),
    ],
    ids=str,
)
def test_grids_follow_from_the_image_size(image_size, grids):
    assert replace(POOLFORMER_S12, image_size=image_size).grids == grids


def test_grids_follow_from_the_patch_embeddings():
    embeddings = (PatchEmbeddingConfig(kernel_size=16, stride=16, padding=0),)
    config = replace(
        POOLFORMER_S12, dims=(8,), depths=(1,), token_mixers=(IdentityConfig(),), patch_embeddings=embeddings
    )
    assert (config.grids, config.total_stride, config.num_stages) == (((14, 14),), (16, 16), 1)


def test_the_papers_strides():
    assert (STEM.stride, DOWNSAMPLING.stride, POOLFORMER_S12.total_stride) == (4, 2, (32, 32))


def test_a_block_config_has_the_mixer_of_its_stage():
    config = replace(POOLFORMER_S12, token_mixers=(*POOLFORMER_S12.token_mixers[:3], AttentionConfig()))
    assert config.block(3).token_mixer == AttentionConfig()
    assert config.block(0).token_mixer == POOLFORMER_S12.token_mixers[0]
    assert config.block(3).residual == config.residuals[0]
    assert replace(config, norm=LayerNormConfig(), channel_mlp=None).block(1).norm == LayerNormConfig()
    assert replace(config, channel_mlp=None).block(1).channel_mlp is None


def test_residuals_may_differ_from_stage_to_stage():
    residuals = tuple(ResidualConfig(res_scale_init=value) for value in (None, None, 0.5, 1.0))
    config = replace(POOLFORMER_S12, residuals=residuals)
    assert tuple(config.block(stage).residual for stage in range(4)) == residuals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dropout": 1.0}, "HeadConfig.dropout must be in [0, 1); got 1.0."),
        (
            {"hidden_ratio": 0.0},
            "HeadConfig.hidden_ratio must be above 0, or None; got 0.0. None leaves the hidden layer out.",
        ),
    ],
    ids=["dropout", "hidden_ratio"],
)
def test_a_head_that_cannot_work_is_refused(options, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        HeadConfig(**options)


def test_a_model_takes_other_images_as_a_whole():
    other = ModelInput(image_size=(64, 96), in_chans=1, preprocessing=Preprocessing(interpolation="bilinear"))
    changed = POOLFORMER_S12.with_input(other)
    assert changed.model_input == other
    assert changed.with_input(POOLFORMER_S12.model_input) == POOLFORMER_S12
