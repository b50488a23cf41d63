from dataclasses import replace

import pytest

from metaformer.block.token_mixers import AttentionConfig, DepthwiseConvConfig, SeparableConvConfig, SpatialMLPConfig
from metaformer.core.errors import ConfigError
from metaformer.core.records import Variant
from metaformer.data.sources import open_data
from metaformer.models.config import DOWNSAMPLING
from metaformer.models.timm_model import TimmModelConfig
from metaformer.recipes.paper_scales import TINY_POOLFORMER
from metaformer.study.config import PlannedVariant, StudyConfig
from metaformer.study.matching import NEAR, TOLERANCE, cost_of, matched
from metaformer.train.config import TrainConfig

RESNET = TimmModelConfig(
    name="resnet",
    options={"layers": [1, 1, 1, 1], "channels": [16, 32, 64, 128], "stem_width": 16},
    width_options=("channels", "stem_width"),
    width_multiple=2,
)
FIXED = TimmModelConfig(name="resnet", options={"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8], "stem_width": 8})


# Two stages, to be counted quickly.
BASE = replace(
    TINY_POOLFORMER,
    dims=(32, 64),
    depths=(1, 1),
    token_mixers=TINY_POOLFORMER.token_mixers[:2],
    patch_embeddings=(DOWNSAMPLING,) * 2,
)


@pytest.fixture(scope="module")
def data():
    return open_data("cluttered-digits")


@pytest.fixture(scope="module")
def wide_study():
    """Rows that cost more, less, and the same as the base."""

    def row(name, model, **facts):
        return PlannedVariant(about=Variant(name=name, title=name, change=name), model=model, **facts)

    def mixer(config):
        return replace(BASE, token_mixers=(config,) * 2)

    variants = (
        row("pooling", BASE),
        row("separable", mixer(SeparableConvConfig())),
        row("depthwise", mixer(DepthwiseConvConfig())),
        row("attention", mixer(AttentionConfig(head_dim=8))),
        row("mlp", mixer(SpatialMLPConfig())),
        row("no_mlp", replace(BASE, channel_mlp=None)),
        row("resnet", RESNET, match="macs"),
        row("fixed", FIXED),
        row("broken", mixer(AttentionConfig(head_dim=7))),
    )
    return StudyConfig(
        name="wide",
        title="Wide",
        question="How wide?",
        base="pooling",
        variants=variants,
        data="cluttered-digits",
        train=TrainConfig(),
        seeds=(0,),
    )


@pytest.fixture(scope="module")
def after(wide_study, data):
    """Measure -> the rows at equal cost."""
    return {measure: matched(wide_study, measure, data) for measure in ("macs", "params", "")}


@pytest.mark.parametrize("measure", ["macs", "params"])
def test_rows_cost_what_the_base_costs(wide_study, after, data, measure):
    def cost(row):
        counted = cost_of(row.model, data)
        return counted.macs if measure == "macs" else counted.params + counted.frozen

    target = cost(wide_study.variants[0])
    for row, new in zip(wide_study.variants[1:-2], after[measure].variants[1:-2], strict=True):
        if row.match not in ("", measure):
            continue
        error = abs(cost(new) / target - 1)
        if abs(cost(row) / target - 1) <= NEAR:
            assert new is row
            continue
        assert new.model != row.model
        assert "for equal " in new.about.change
        assert error <= (0.05 if "is the nearest" in new.about.change else TOLERANCE)
        assert error < abs(cost(row) / target - 1)


def test_base_and_what_cannot_change_stay(wide_study, after):
    for old, new in zip(wide_study.variants, after["macs"].variants, strict=True):
        assert (new is old) == (old.name in ("pooling", "fixed", "broken", "depthwise"))


def test_dims_stay_multiples_of_the_heads(after):
    (row,) = [row for row in after["params"].variants if row.name == "attention"]
    assert all(dim % 8 == 0 for dim in row.model.dims)


def test_a_row_keeps_the_measure_that_it_asks_for_whatever_is_asked_of_the_others(after, data):
    by_params, by_macs = ({row.name: row for row in after[measure].variants} for measure in ("params", "macs"))
    assert by_params["resnet"] == by_macs["resnet"]
    assert by_params["separable"] != by_macs["separable"]


def test_without_a_measure_only_rows_that_ask_are_changed(wide_study, after):
    changed = [new.name for new, old in zip(after[""].variants, wide_study.variants, strict=True) if new is not old]
    assert changed == ["resnet"]


def test_what_costs_the_same_is_not_changed_again(after, data):
    once = after["macs"]
    kept = tuple(row for row in once.variants if "is the nearest" not in row.about.change)
    assert matched(replace(once, variants=kept), "macs", data).variants == kept


def test_an_unknown_measure_names_the_known(wide_study, data):
    with pytest.raises(
        ConfigError, match=r"^unknown measure to match 'mac'\. Did you mean 'macs'\? Known: params, macs"
    ):
        matched(wide_study, "mac", data)
