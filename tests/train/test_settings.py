from dataclasses import replace

import pytest

from metaformer.core.errors import ConfigError
from metaformer.data.preparation import Preparation
from metaformer.models.metaformer import MetaFormer
from metaformer.train.config import TrainConfig
from metaformer.train.loop import EpochResult
from metaformer.train.run import Run, perform
from metaformer.train.settings import first_difference, run_settings


@pytest.mark.parametrize(
    ("there", "here", "expected"),
    [
        ({"a": 1}, {"a": 2}, "a: 1 there, 2 here"),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, "a.b[1]: 2 there, 3 here"),
        ({"a": [1]}, {"a": [1, 2]}, "a: [1] there, [1, 2] here"),
        ({"a": (1, 2)}, {"a": [3, 2]}, "a[0]: 1 there, 3 here"),
        ({}, {"new": True}, "new: None there, True here"),
        ({"old": True}, {}, "old: True there, None here"),
        ({"a": "x" * 100}, {"a": 1}, "a: '" + "x" * 56 + "... there, 1 here"),
    ],
    ids=str,
)
def test_the_first_difference_is_named_with_both_values(there, here, expected):
    assert first_difference(there, here) == expected


def test_all_that_decides_the_result_is_in_them(tiny, stripes):
    settings = run_settings(MetaFormer(tiny), stripes, TrainConfig(), seed=3, more={"asked": 1})
    assert settings.keys() == {"model", "data", "train", "seed", "asked"}
    assert settings["data"] == {"name": "stripes", "num_train": 40, "class_names": ["top", "middle", "bottom"]}


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        (
            {"preparation": Preparation(validation_fraction=0.2)},
            "asked.preparation.validation_fraction: 0.1 there, 0.2",
        ),
        ({"name": "other"}, None),
    ],
    ids=["augmentation", "name"],
)
def test_a_run_does_not_go_on_with_other_images(tiny, stripes, short, tmp_path, changes, difference):
    run = Run(name="run", model=tiny, data="stripes", train=short, seed=0)
    results = perform(run, stripes, tmp_path, command="")
    next(result for result in results if isinstance(result, EpochResult))
    results.close()
    again = perform(replace(run, **changes), stripes, tmp_path, command="")
    if difference is None:
        assert next(again).resumed
        again.close()
    else:
        with pytest.raises(ConfigError) as caught:
            next(again)
        assert difference in str(caught.value)
