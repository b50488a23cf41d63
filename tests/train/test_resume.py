"""An interrupted run ends where an uninterrupted one does, bit for bit."""

import re
from dataclasses import replace

import pytest
import torch

from metaformer.core.errors import ConfigError, DataError
from metaformer.models.metaformer import MetaFormer
from metaformer.train.checkpoint import Checkpoints
from metaformer.train.loop import EpochResult, train


def without_speed(history):
    return {name: column for name, column in history.items() if name not in ("images_per_second", "seconds")}


def finish(model, data, config, folder):
    return epochs(train(model, data, config, seed=7, folder=folder))


def epochs(results):
    return [result for result in results if isinstance(result, EpochResult)]


def take_epochs(results, num):
    """Goes on until so many epochs are done, then stops."""
    for _ in range(num):
        next(result for result in results if isinstance(result, EpochResult))
    results.close()


def newest(folder):
    return Checkpoints(folder).paths()[-1]


def same_weights(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.fixture
def start(tiny):
    """The same first weights as often as asked for."""

    def build():
        torch.manual_seed(0)
        return MetaFormer(tiny)

    return build


@pytest.fixture
def uninterrupted(start, stripes, recipe):
    model = start()
    return model, finish(model, stripes, recipe, None)[-1].history


@pytest.mark.parametrize("num_epochs", [1, 2, 3])
def test_a_run_stopped_between_epochs(start, stripes, recipe, tmp_path, uninterrupted, num_epochs):
    results = train(start(), stripes, recipe, seed=7, folder=tmp_path)
    take_epochs(results, num_epochs)
    # Other first weights and another state of the generator: all must come from the checkpoint and the keys.
    torch.manual_seed(99)
    model = MetaFormer(start().config)
    resumed = finish(model, stripes, recipe, tmp_path)
    assert [result.epoch for result in resumed] == list(range(num_epochs, 5))
    assert without_speed(resumed[-1].history) == without_speed(uninterrupted[1])
    assert same_weights(model, uninterrupted[0])


def test_a_run_stopped_in_the_middle_of_an_epoch(start, stripes, recipe, tmp_path, uninterrupted):
    model, num_steps = start(), 0

    def interrupt(module, inputs):
        nonlocal num_steps
        num_steps += module.training
        if num_steps == 13:
            raise KeyboardInterrupt

    model.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        finish(model, stripes, recipe, tmp_path)
    again = start()
    history = finish(again, stripes, recipe, tmp_path)[-1].history
    assert without_speed(history) == without_speed(uninterrupted[1])
    assert same_weights(again, uninterrupted[0])


def test_a_run_stopped_twice(start, stripes, recipe, tmp_path, uninterrupted):
    for _ in range(2):
        results = train(start(), stripes, recipe, seed=7, folder=tmp_path)
        take_epochs(results, 2)
    model = start()
    resumed = finish(model, stripes, recipe, tmp_path)
    assert resumed[0].epoch == 3
    assert without_speed(resumed[-1].history) == without_speed(uninterrupted[1])
    assert same_weights(model, uninterrupted[0])


def test_a_run_whose_epochs_are_all_done_says_so_and_trains_no_more(start, stripes, recipe, tmp_path, uninterrupted):
    finish(start(), stripes, recipe, tmp_path)
    before = newest(tmp_path).stat().st_mtime_ns
    model = start()
    results = finish(model, stripes, recipe, tmp_path)
    assert [result.epoch for result in results] == [4]
    assert same_weights(model, uninterrupted[0])
    assert newest(tmp_path).stat().st_mtime_ns == before


def test_a_folder_changes_nothing(start, stripes, recipe, tmp_path, uninterrupted):
    model = start()
    assert without_speed(finish(model, stripes, recipe, tmp_path)[-1].history) == without_speed(uninterrupted[1])
    assert same_weights(model, uninterrupted[0])


@pytest.mark.parametrize("what", ["seed", "recipe", "model", "data", "classes"])
def test_a_folder_with_a_run_of_other_settings_is_refused(start, stripes, short, tmp_path, what):
    take_epochs(train(start(), stripes, short, seed=7, folder=tmp_path), 1)
    before = newest(tmp_path).read_bytes()
    model, config, seed = start(), short, 7
    differs = {"seed": "seed: 7 there, 8 here", "recipe": "train.lr: 0.005 there, 0.001 here"}
    differs |= {"classes": "data.class_names[0]: 'top' there, 'middle' here"}
    differs |= {"model": "model.dims[1]: 8 there, 12 here", "data": "data.content: 'stripes' there, 'spots' here"}
    if what == "seed":
        seed = 8
    elif what == "recipe":
        config = replace(short, lr=1e-3)
    elif what == "model":
        model = MetaFormer(replace(model.config, dims=(4, 12)))
    elif what == "classes":
        stripes.facts = replace(stripes.facts, class_names=("middle", "top", "bottom"))
    else:
        stripes.facts = replace(stripes.facts, fingerprint="spots")
    with pytest.raises(
        ConfigError,
        match=re.escape(f"holds a run with other settings ({differs[what]}). Choose another folder, or delete it"),
    ):
        next(train(model, stripes, config, seed=seed, folder=tmp_path))
    assert newest(tmp_path).read_bytes() == before


def test_a_run_goes_on_where_its_data_lie_elsewhere(start, stripes, recipe, tmp_path, uninterrupted):
    take_epochs(train(start(), stripes, recipe, seed=7, folder=tmp_path), 1)
    stripes.facts = replace(stripes.facts, name="/another/place/stripes")
    model = start()
    finish(model, stripes, recipe, tmp_path)
    assert same_weights(model, uninterrupted[0])


@pytest.mark.parametrize("bit", [0, 3, 6])
def test_a_run_whose_newest_checkpoint_has_a_flipped_bit_ends_bit_for_bit(
    start, stripes, recipe, tmp_path, uninterrupted, bit
):
    take_epochs(train(start(), stripes, recipe, seed=7, folder=tmp_path), 2)
    raw = bytearray(newest(tmp_path).read_bytes())
    weight = Checkpoints(tmp_path).load()["model"]["head.fc.weight"]
    raw[bytes(raw).index(weight.numpy().tobytes()) + 2] ^= 1 << bit
    newest(tmp_path).write_bytes(bytes(raw))
    model = start()
    assert finish(model, stripes, recipe, tmp_path)[0].epoch == 1
    assert same_weights(model, uninterrupted[0])


def test_a_damaged_state_is_refused_before_anything_is_overwritten(start, stripes, short, tmp_path):
    (tmp_path / "checkpoint-0001-000000.pt").write_bytes(b"damaged")
    with pytest.raises(DataError, match="cannot read the checkpoint"):
        take_epochs(train(start(), stripes, short, seed=7, folder=tmp_path), 1)
    assert newest(tmp_path).read_bytes() == b"damaged"
