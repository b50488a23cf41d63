from dataclasses import replace

import pytest

from metaformer.core.errors import ConfigError
from metaformer.data.preparation import Preparation
from metaformer.models.metaformer import MetaFormer
from metaformer.train.checkpoint import run_settings
from metaformer.train.config import Run, TrainConfig
from metaformer.train.loop import EpochResult
from metaformer.train.run import perform


def test_all_that_decides_the_result_is_in_them(tiny, stripes):
    settings = run_settings(MetaFormer(tiny), stripes, TrainConfig(), seed=3, more={"asked": 1})
    assert settings.keys() == {"model", "data", "train", "seed", "asked"}
    assert settings["data"] == {
        "num_train": 40,
        "class_names": ["top", "middle", "bottom"],
        "content": "stripes",
    }


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
