import json
import re
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaformer.block.activation import ACTIVATIONS
from metaformer.block.channel_mlp import ChannelMLPConfig
from metaformer.block.norm import NORMS, BatchNormConfig, LayerNormConfig, ModifiedLayerNormConfig, NoNormConfig
from metaformer.block.residual import ResidualConfig
from metaformer.block.token_mixers import (
    TOKEN_MIXERS,
    AttentionConfig,
    ConvolutionConfig,
    DepthwiseConvConfig,
    IdentityConfig,
    PoolingConfig,
    RandomMixingConfig,
    SeparableConvConfig,
    SpatialMLPConfig,
)
from metaformer.core.configs import format_config, from_dict, parse_config, parse_configs, tag_of, to_dict
from metaformer.core.errors import ConfigError
from metaformer.models.config import HeadConfig, MetaFormerConfig, PatchEmbeddingConfig, Preprocessing
from metaformer.models.zoo import ZOO

ODD = st.integers(0, 5).map(lambda n: 2 * n + 1)
RATES = st.floats(0, 1, exclude_max=True)
POSITIVE = st.floats(min_value=1e-12, max_value=1e4)

MIXERS = st.one_of(
    st.builds(IdentityConfig),
    st.builds(RandomMixingConfig),
    st.builds(PoolingConfig, pool_size=ODD),
    st.builds(DepthwiseConvConfig, kernel_size=ODD, bias=st.booleans()),
    st.builds(ConvolutionConfig, kernel_size=ODD, groups=st.integers(1, 64), bias=st.booleans()),
    st.builds(SpatialMLPConfig, bias=st.booleans()),
    st.builds(
        SeparableConvConfig,
        kernel_size=ODD,
        expansion=POSITIVE,
        activation=st.sampled_from(list(ACTIVATIONS)),
        bias=st.booleans(),
    ),
    st.builds(
        AttentionConfig,
        head_dim=st.integers(1, 256),
        qkv_bias=st.booleans(),
        proj_bias=st.booleans(),
        attention_dropout=RATES,
        proj_dropout=RATES,
    ),
)
AFFINE_NORMS = [
    st.builds(norm, eps=POSITIVE, bias=st.booleans()) for norm in (ModifiedLayerNormConfig, LayerNormConfig)
]
NORM_CONFIGS = st.one_of(
    *AFFINE_NORMS, st.builds(BatchNormConfig, eps=POSITIVE, momentum=RATES), st.builds(NoNormConfig)
)
CHANNEL_MLPS = st.builds(
    ChannelMLPConfig,
    ratio=POSITIVE,
    activation=st.sampled_from(list(ACTIVATIONS)),
    bias=st.booleans(),
    dropout=RATES,
)
RESIDUALS = st.one_of(
    st.builds(ResidualConfig, layer_scale_init=st.none() | POSITIVE, res_scale_init=st.none() | POSITIVE),
    st.builds(ResidualConfig, skip=st.just(False), layer_scale_init=st.none() | POSITIVE),
)


# Fields, not configs: beartype draws random numbers where it checks a tuple, which hypothesis forbids in a strategy.
@st.composite
def metaformer_fields(draw):
    stages = draw(st.integers(1, 5))

    def each(values):
        return draw(st.tuples(*[values] * stages))

    return {
        "dims": each(st.integers(1, 512)),
        "depths": each(st.integers(1, 48)),
        "token_mixers": each(MIXERS),
        "patch_embeddings": each(
            st.builds(
                PatchEmbeddingConfig,
                stride=st.integers(1, 4),
                pre_norm=st.none() | NORM_CONFIGS,
                post_norm=st.none() | NORM_CONFIGS,
            )
        ),
        "norm": draw(NORM_CONFIGS),
        "channel_mlp": draw(st.none() | CHANNEL_MLPS),
        "residuals": draw(st.tuples(RESIDUALS) | st.tuples(*[RESIDUALS] * stages)),
        "drop_path": draw(RATES),
        "position_embedding_stages": tuple(draw(st.sets(st.integers(0, stages - 1)))),
        "head": HeadConfig(
            norm=draw(st.none() | NORM_CONFIGS),
            norm_after_pooling=draw(st.booleans()),
            hidden_ratio=draw(st.none() | POSITIVE),
            dropout=draw(RATES),
        ),
        "num_classes": draw(st.integers(0, 10**6)),
        "in_chans": draw(st.integers(1, 12)),
        "image_size": draw(st.tuples(st.integers(1024, 4096), st.integers(1024, 4096))),
    }


# The shape checker looks at one entry of a list, drawn at random.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module")
@given(metaformer_fields(), st.floats(0.1, 1))
def test_any_config_comes_back_from_json(fields, crop_fraction):
    config = MetaFormerConfig(**fields, preprocessing=Preprocessing(crop_fraction=crop_fraction))
    assert from_dict(MetaFormerConfig, json.loads(json.dumps(to_dict(config)))) == config


@pytest.mark.parametrize("name", ZOO)
def test_the_zoo_comes_back_from_json(name):
    assert from_dict(MetaFormerConfig, json.loads(json.dumps(to_dict(ZOO[name])))) == ZOO[name]


def test_a_component_is_tagged_by_its_name():
    values = to_dict(ZOO["poolformer_s12"])
    assert values["token_mixers"][0] == {"type": "pooling", "pool_size": 3}
    assert values["norm"] == {"type": "modified_layer_norm", "eps": 1e-5, "bias": True}


@given(st.lists(MIXERS, min_size=1, max_size=6))
def test_any_list_of_mixers_comes_back_from_text(mixers):
    text = ",".join(format_config(mixer, TOKEN_MIXERS) for mixer in mixers)
    assert parse_configs(text, TOKEN_MIXERS) == tuple(mixers)


@given(NORM_CONFIGS)
def test_any_norm_comes_back_from_text(norm):
    # "none" is the name of a row, so text is read as names and never as Python's None.
    assert parse_config(format_config(norm, NORMS), NORMS) == norm


def test_text_names_only_what_differs_from_the_default():
    assert format_config(PoolingConfig(), TOKEN_MIXERS) == "pooling"
    assert format_config(PoolingConfig(pool_size=5), TOKEN_MIXERS) == "pooling(pool_size=5)"


def test_text_with_spaces_and_a_last_comma_is_read():
    mixers = (PoolingConfig(), AttentionConfig(head_dim=16, qkv_bias=True), IdentityConfig())
    assert parse_configs(" pooling( ), attention(head_dim=16, qkv_bias=True) ,identity,", TOKEN_MIXERS) == mixers


@pytest.mark.parametrize(
    "text",
    ["pooling(3)", "pooling(", "pooling pooling", "3", "a.b", "*pooling", "pooling(pool_size=x)", "lambda: 0", "\0"],
)
def test_text_of_another_form_is_refused(text):
    form = "as a list of token mixers. Write it as name or name(option=value), with commas between."
    with pytest.raises(ConfigError, match=rf"^cannot read {re.escape(repr(text))} {re.escape(form)}$"):
        parse_configs(text, TOKEN_MIXERS)


@pytest.mark.parametrize("text", ["pooling]+[pooling", "pooling]*0+[identity"])
def test_text_that_leaves_its_brackets_is_refused(text):
    with pytest.raises(ConfigError, match=r"^cannot read "):
        parse_configs(text, TOKEN_MIXERS)


def test_text_is_never_run(tmp_path):
    with pytest.raises(ConfigError):
        parse_configs(f"pooling(pool_size=open({str(tmp_path / 'made')!r}, 'w'))", TOKEN_MIXERS)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_option_names_the_nearest():
    message = "PoolingConfig has no field 'pool'. Did you mean 'pool_size'? Fields: pool_size."
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        parse_configs("pooling(pool=3)", TOKEN_MIXERS)


def test_an_option_of_a_mixer_without_options_is_refused():
    with pytest.raises(ConfigError, match=r"^IdentityConfig has no field 'x'\. Fields: none\.$"):
        parse_configs("identity(x=1)", TOKEN_MIXERS)


def test_an_unknown_token_mixer_names_the_nearest():
    message = f"unknown token mixer 'poling'. Did you mean 'pooling'? Known: {', '.join(TOKEN_MIXERS)}."
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        parse_configs("poling", TOKEN_MIXERS)


def test_an_option_of_the_wrong_type_is_refused():
    with pytest.raises(ConfigError, match=r"^PoolingConfig\.pool_size must be a whole number; got 'big'$"):
        parse_configs("pooling(pool_size='big')", TOKEN_MIXERS)


@pytest.mark.parametrize("text", ["", "pooling,identity"])
def test_one_config_means_one(text):
    with pytest.raises(ConfigError, match=rf"^expected one token mixer; got '{text}'$"):
        parse_config(text, TOKEN_MIXERS)


WRONG = {
    "unknown field": ({"dim": 1}, "MetaFormerConfig has no field 'dim'. Did you mean 'dims'? Fields: dims, depths,"),
    "unknown inner field": (
        {"norm": {"type": "layer_norm", "epss": 1}},
        "MetaFormerConfig.norm has no field 'epss'. Did you mean 'eps'? Fields: eps, bias.",
    ),
    "text for a number": ({"drop_path": "0"}, "MetaFormerConfig.drop_path must be a number; got '0'"),
    "null for a number": ({"num_classes": None}, "MetaFormerConfig.num_classes must be a whole number; got None"),
    "number for a whole one": ({"in_chans": 3.0}, "MetaFormerConfig.in_chans must be a whole number; got 3.0"),
    "true for a number": ({"in_chans": True}, "MetaFormerConfig.in_chans must be a whole number; got True"),
    "text for true": (
        {"residuals": [{"skip": "no"}]},
        "MetaFormerConfig.residuals[0].skip must be true or false; got 'no'",
    ),
    "number for text": (
        {"channel_mlp": {"activation": 1}},
        "MetaFormerConfig.channel_mlp.activation must be text; got 1",
    ),
    "inside a list": ({"dims": [8, "a", 8, 8]}, "MetaFormerConfig.dims[1] must be a whole number; got 'a'"),
    "inside a mixer": (
        {"token_mixers": ["pooling", {"type": "pooling", "pool_size": 3.5}] * 2},
        "MetaFormerConfig.token_mixers[1].pool_size must be a whole number; got 3.5",
    ),
    "number for a list": ({"dims": 5}, "MetaFormerConfig.dims: "),
    "unknown mixer": ({"token_mixers": ["poling"] * 4}, "unknown token mixer 'poling'. Did you mean 'pooling'?"),
    "unknown norm": ({"norm": "layer_norms"}, "unknown norm 'layer_norms'. Did you mean 'layer_norm'?"),
    "untagged mixer": (
        {"token_mixers": [{"pool_size": 3}] * 4},
        "a token mixer must be a name or carry a 'type'; got {'pool_size': 3}",
    ),
    "bad value of a mixer": (
        {"token_mixers": [{"type": "pooling", "pool_size": 4}] * 4},
        "PoolingConfig.pool_size must be odd",
    ),
}


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG)
def test_wrong_json_is_refused_and_says_where(change, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        from_dict(MetaFormerConfig, to_dict(ZOO["poolformer_s12"]) | change)


@pytest.mark.parametrize("values", [5, None, [], "x"], ids=str)
def test_json_that_is_no_object_is_refused(values):
    message = f"MetaFormerConfig must be a JSON object of its fields; got {values!r}."
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        from_dict(MetaFormerConfig, values)


def test_a_missing_field_is_named():
    values = to_dict(ZOO["poolformer_s12"])
    del values["dims"]
    with pytest.raises(ConfigError, match=r"^MetaFormerConfig\.dims is missing\.$"):
        from_dict(MetaFormerConfig, values)


def test_fields_with_a_default_may_be_left_out():
    minimal = {"dims": [8], "depths": [1], "token_mixers": ["pooling"], "patch_embeddings": [{}]}
    config = from_dict(MetaFormerConfig, minimal)
    assert config.norm == ModifiedLayerNormConfig()
    assert config.patch_embeddings == (PatchEmbeddingConfig(),)


def test_a_whole_number_serves_as_a_number():
    config = from_dict(ResidualConfig, {"layer_scale_init": 1})
    assert isinstance(config.layer_scale_init, float)


def test_json_may_name_a_mixer_as_text():
    values = to_dict(ZOO["poolformer_s12"]) | {"token_mixers": ["identity", "pooling(pool_size=5)"] * 2}
    assert from_dict(MetaFormerConfig, values).token_mixers[:2] == (IdentityConfig(), PoolingConfig(pool_size=5))


@dataclass(frozen=True)
class OutsideConfig:
    strength: float = 1.0

    def build(self, site):
        raise NotImplementedError


TAG = f"{__name__}:OutsideConfig"
OUTSIDE = replace(ZOO["poolformer_s12"], token_mixers=(OutsideConfig(strength=0.5),) * 4)


def test_a_class_in_no_table_is_tagged_by_where_it_is():
    assert tag_of(OutsideConfig(), TOKEN_MIXERS) == TAG
    assert to_dict(OUTSIDE)["token_mixers"][0] == {"type": TAG, "strength": 0.5}


def test_a_class_from_outside_does_not_load_by_itself():
    message = (
        f"the token mixer {TAG!r} comes from outside this package, and a file never imports code. "
        "Import the class yourself and name it: from_dict(..., named=[OutsideConfig])."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        from_dict(MetaFormerConfig, to_dict(OUTSIDE))


def test_a_class_from_outside_loads_when_the_caller_names_it():
    assert from_dict(MetaFormerConfig, json.loads(json.dumps(to_dict(OUTSIDE))), named=[OutsideConfig]) == OUTSIDE


def test_a_named_class_is_forgotten_after_the_call():
    from_dict(MetaFormerConfig, to_dict(OUTSIDE), named=[OutsideConfig])
    with pytest.raises(ConfigError, match="never imports code"):
        from_dict(MetaFormerConfig, to_dict(OUTSIDE))


def test_a_tag_never_imports_a_module(tmp_path, monkeypatch):
    (tmp_path / "evil_mixer.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    values = to_dict(OUTSIDE) | {"token_mixers": [{"type": "evil_mixer:Config"}] * 4}
    with pytest.raises(ConfigError, match="never imports code"):
        from_dict(MetaFormerConfig, values, named=[OutsideConfig])


@pytest.mark.usefixtures("own_token_mixer_table")
def test_a_registered_class_loads_by_its_name():
    TOKEN_MIXERS.add("outside", OutsideConfig)
    values = to_dict(OUTSIDE)
    assert values["token_mixers"][0] == {"type": "outside", "strength": 0.5}
    assert from_dict(MetaFormerConfig, values) == OUTSIDE
    assert parse_configs("outside(strength=0.25)", TOKEN_MIXERS) == (OutsideConfig(strength=0.25),)


@pytest.mark.usefixtures("own_token_mixer_table")
def test_a_name_in_the_table_cannot_be_taken():
    with pytest.raises(ConfigError, match=r"^the token mixer 'pooling' exists already\. Choose another name\.$"):
        TOKEN_MIXERS.add("pooling", OutsideConfig)
