import re
from dataclasses import replace

import pytest

from metaformer.core.configs import from_dict, to_dict
from metaformer.core.errors import ConfigError
from metaformer.study.config import StudyConfig, choose_variants, parse_seeds
from metaformer.study.folder import plan


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("1", (0,)),
        ("3", (0, 1, 2)),
        (" 2 ", (0, 1)),
        ("0,7,9", (0, 7, 9)),
        ("7,0", (7, 0)),
        (" 4, 5", (4, 5)),
    ],
)
def test_seeds_are_a_number_or_a_list(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "0", "-1", "x", "1.5", "1,x", "1,1", "0,-1", ",", "3,", "1 2", "1;2"])
def test_other_seeds_are_refused_with_what_is_allowed(text):
    message = (
        f"seeds must be a number of seeds from 1 to 1000, or different seeds with commas between; got {text!r}. "
        "Try 3, or 0,1,2."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        parse_seeds(text)


def test_variants_are_chosen_by_name_in_the_order_of_the_study(study):
    chosen = choose_variants(study, ("identity", "pooling", "identity"))
    assert [variant.name for variant in chosen] == ["pooling", "identity"]
    assert choose_variants(study, ("identity",)) == study.variants[1:]


def test_an_unknown_variant_names_the_nearest(study):
    with pytest.raises(
        ConfigError, match=r"^unknown variant 'identiti'\. Did you mean 'identity'\? Known: pooling, identity\.$"
    ):
        choose_variants(study, ("pooling", "identiti"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda study: {"variants": ()}, "StudyConfig.variants must name at least one variant."),
        (
            lambda study: {"variants": study.variants * 2},
            "StudyConfig.variants must have different names; got pooling, identity, pooling, identity.",
        ),
        (
            lambda study: {"seeds": ()},
            "StudyConfig.seeds must be different whole numbers from 0 up, at least one; got none.",
        ),
        (
            lambda study: {"seeds": (1, 1)},
            "StudyConfig.seeds must be different whole numbers from 0 up, at least one; got 1, 1.",
        ),
        (
            lambda study: {"seeds": (-1,)},
            "StudyConfig.seeds must be different whole numbers from 0 up, at least one; got -1.",
        ),
    ],
    ids=["no variant", "same name", "no seed", "same seed", "negative seed"],
)
def test_a_study_that_cannot_be_is_refused(study, change, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        replace(study, **change(study))


def test_every_variant_comes_with_the_first_seed_before_any_with_the_next(study):
    runs = plan(replace(study, seeds=(7, 2)))
    assert [(run.name, run.seed) for run in runs] == [
        ("pooling", 7),
        ("identity", 7),
        ("pooling", 2),
        ("identity", 2),
    ]


def test_all_runs_of_a_plan_share_data_and_recipe(study):
    for run in plan(study):
        assert (run.data, run.train) == (study.data, study.train)
        assert run.model == {variant.name: variant.model for variant in study.variants}[run.name]


def test_a_study_comes_back_from_json(study):
    assert from_dict(StudyConfig, to_dict(study)) == study
