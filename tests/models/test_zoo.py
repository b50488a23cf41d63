import pytest

from metaformer.block.channel_mlp import ChannelMLPConfig
from metaformer.block.norm import LayerNormConfig, ModifiedLayerNormConfig
from metaformer.models.zoo import ZOO, list_models

FIRST_PAPER = [
    "poolformer_s12",
    "poolformer_s24",
    "poolformer_s36",
    "poolformer_m36",
    "poolformer_m48",
    "metaformer_id_s12",
    "metaformer_pppa_s12_224",
    "metaformer_ppaa_s12_224",
    "metaformer_pppf_s12_224",
    "metaformer_ppff_s12_224",
]
SECOND_PAPER = [
    *(
        f"{family}_{size}"
        for family in ("identityformer", "randformer", "poolformerv2")
        for size in ("s12", "s24", "s36", "m36", "m48")
    ),
    *(
        f"{family}_{size}{resolution}"
        for family in ("convformer", "caformer")
        for size in ("s18", "s36", "m36", "b36")
        for resolution in ("", "_384")
    ),
]
OTHER_FAMILIES = [
    *(f"deit_{size}_patch16_224" for size in ("tiny", "small", "base")),
    *(f"vit_{size}_patch16_224" for size in ("small", "base")),
    *(f"resmlp_{size}_224" for size in ("12", "24", "big_24")),
    *(f"mixer_{size}_224" for size in ("s16", "b16")),
    *(f"swin_{size}_patch4_window7_224" for size in ("tiny", "small", "base")),
]


def test_the_published_names():
    assert list_models() == FIRST_PAPER + SECOND_PAPER + OTHER_FAMILIES


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("poolformer_", FIRST_PAPER[:5]),
        ("metaformer*_224", FIRST_PAPER[6:]),
        ("poolformer_m[34]?", FIRST_PAPER[3:5]),
        ("m[34]?", []),
        ("no such model", []),
    ],
)
def test_names_are_found_by_pattern(pattern, names):
    assert list_models(pattern) == names


@pytest.mark.parametrize(
    ("name", "dims", "depths", "layer_scale", "crop"),
    [
        ("poolformer_s12", (64, 128, 320, 512), (2, 2, 6, 2), 1e-5, 0.9),
        ("poolformer_s24", (64, 128, 320, 512), (4, 4, 12, 4), 1e-5, 0.9),
        ("poolformer_s36", (64, 128, 320, 512), (6, 6, 18, 6), 1e-6, 0.9),
        ("poolformer_m36", (96, 192, 384, 768), (6, 6, 18, 6), 1e-6, 0.95),
        ("poolformer_m48", (96, 192, 384, 768), (8, 8, 24, 8), 1e-6, 0.95),
    ],
)
def test_poolformers_are_the_papers(name, dims, depths, layer_scale, crop):
    config = ZOO[name]
    assert (config.dims, config.depths) == (dims, depths)
    assert config.residuals[0].layer_scale_init == layer_scale
    assert config.preprocessing.crop_fraction == crop
    assert config.norm == ModifiedLayerNormConfig()
    assert config.channel_mlp.ratio == 4


@pytest.mark.parametrize("name", SECOND_PAPER)
def test_models_of_the_second_paper_share_its_block(name):
    config = ZOO[name]
    assert config.channel_mlp == ChannelMLPConfig(activation="star_relu", bias=False)
    assert config.norm.bias is False
    assert [residual.res_scale_init for residual in config.residuals] == [None, None, 1, 1]
    assert all(residual.layer_scale_init is None for residual in config.residuals)
    assert config.head.norm_after_pooling
    assert (config.head.hidden_ratio == 4) == name.startswith(("convformer", "caformer"))
    assert config.image_size == ((384, 384) if name.endswith("_384") else (224, 224))


LETTERS = {
    "P": "PoolingConfig",
    "A": "AttentionConfig",
    "F": "SpatialMLPConfig",
    "I": "IdentityConfig",
    "R": "RandomMixingConfig",
    "C": "SeparableConvConfig",
}


@pytest.mark.parametrize(
    ("family", "mixers"),
    [
        ("identityformer", "IIII"),
        ("randformer", "IIRR"),
        ("poolformerv2", "PPPP"),
        ("convformer", "CCCC"),
        ("caformer", "CCAA"),
    ],
)
def test_each_family_of_the_second_paper_has_its_mixers(family, mixers):
    for name in list_models(f"{family}_*"):
        assert [type(mixer).__name__ for mixer in ZOO[name].token_mixers] == [LETTERS[letter] for letter in mixers]


@pytest.mark.parametrize(
    ("name", "mixers", "embeddings", "layer_norm"),
    [
        ("metaformer_id_s12", "IIII", (), False),
        ("metaformer_pppa_s12_224", "PPPA", (3,), True),
        ("metaformer_ppaa_s12_224", "PPAA", (2,), True),
        ("metaformer_pppf_s12_224", "PPPF", (), False),
        ("metaformer_ppff_s12_224", "PPFF", (), False),
    ],
)
def test_ablations_differ_from_poolformer_in_their_mixers(name, mixers, embeddings, layer_norm):
    config = ZOO[name]
    assert [type(mixer).__name__ for mixer in config.token_mixers] == [LETTERS[letter] for letter in mixers]
    assert config.position_embedding_stages == embeddings
    assert isinstance(config.norm, LayerNormConfig) == layer_norm
    assert (config.dims, config.depths) == (ZOO["poolformer_s12"].dims, ZOO["poolformer_s12"].depths)
