import copy
import re
from dataclasses import replace

import pytest
import torch

from metaformer.core.errors import ConfigError
from metaformer.models.metaformer import MetaFormer
from metaformer.train.config import TrainConfig
from metaformer.train.loop import EpochResult, train
from metaformer.train.optimizer import check_optimizer, list_optimizers, make_optimizer, make_scheduler

RECIPE = TrainConfig(epochs=10, lr=1.0, min_lr=0.1, warmup_lr=0.2, warmup_epochs=2.0)


def rates(config, *, steps_per_epoch=2):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=config.peak_lr)
    scheduler = make_scheduler(optimizer, config, steps_per_epoch)
    found = []
    for step in range(config.epochs * steps_per_epoch):
        scheduler.step_update(step)
        found.append(optimizer.param_groups[0]["lr"])
    return found


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_the_rate_rises_linearly_to_the_peak(schedule):
    found = rates(replace(RECIPE, schedule=schedule))
    assert found[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert max(found) <= 1.0


@pytest.mark.parametrize("cooldown", [0.0, 3.0])
def test_cosine(cooldown):
    found = rates(replace(RECIPE, cooldown_epochs=cooldown))
    end = 20 - round(2 * cooldown)
    steps = torch.arange(4, end)
    expected = 0.1 + 0.45 * (1 + torch.cos(torch.pi * steps / end))
    assert found[4:] == pytest.approx([*expected.tolist(), *[0.1] * (20 - end)], rel=1e-5)


@pytest.mark.parametrize("cooldown", [0.0, 3.0])
def test_linear(cooldown):
    found = rates(replace(RECIPE, schedule="linear", cooldown_epochs=cooldown))
    end = 20 - round(2 * cooldown)
    expected = [1 - 0.9 * (step - 4) / (end - 4) for step in range(4, end)] + [0.1] * (20 - end)
    assert found[4:] == pytest.approx(expected)


def test_constant():
    assert rates(replace(RECIPE, schedule="constant"))[4:] == pytest.approx([1.0] * 16)


def test_constant_has_no_cooldown():
    message = (
        "train.cooldown_epochs needs a train.schedule that falls to train.min_lr; got 3 with 'constant'. "
        "Try --train.cooldown-epochs 0."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        replace(RECIPE, schedule="constant", cooldown_epochs=3.0)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("steps_per_epoch", [1, 2, 3])
def test_a_schedule_of_almost_no_steps_works(schedule, steps_per_epoch):
    config = replace(RECIPE, schedule=schedule, epochs=1, warmup_epochs=0.6, cooldown_epochs=0.3)
    assert all(0.1 <= rate <= 1 for rate in rates(config, steps_per_epoch=steps_per_epoch))


def test_lr_batch_size_scales_the_rate():
    assert TrainConfig(lr=1e-3, batch_size=4096, lr_batch_size=1024).peak_lr == pytest.approx(4e-3)
    assert TrainConfig(lr=1e-3, batch_size=4096).peak_lr == 1e-3


def test_the_model_gets_the_scaled_rate(tiny):
    config = TrainConfig(lr=1e-3, batch_size=16, lr_batch_size=64)
    assert {group["lr"] for group in make_optimizer(MetaFormer(tiny), config).param_groups} == {2.5e-4}


def test_layer_decay_scales_each_layer_by_the_next(tiny):
    model = MetaFormer(replace(tiny, depths=(1, 2)))
    config = TrainConfig(lr=1.0, layer_decay=0.5, warmup_epochs=0.0)
    optimizer = make_optimizer(model, config)
    make_scheduler(optimizer, config, 10).step_update(0)
    names = {id(value): name for name, value in model.named_parameters()}
    rate = {names[id(value)]: group["lr"] for group in optimizer.param_groups for value in group["params"]}
    # From the classifier down; the final norm belongs to the last block.
    layers = ["head.fc.weight", "norm.weight", *(f"stages.1.blocks.{i}.channel_mlp.fc1.weight" for i in (1, 0))]
    layers += ["stages.1.patch_embed.conv.bias", "stages.0.blocks.0.norm1.weight", "stages.0.patch_embed.conv.weight"]
    assert [rate[name] for name in layers] == pytest.approx([1, 1 / 2, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32])
    # The log shows the rate of the last group: the head's.
    assert optimizer.param_groups[-1]["lr"] == pytest.approx(1.0)


def test_adamw_is_fused_but_where_it_would_clip_a_scaled_gradient(tiny):
    model = MetaFormer(tiny)
    assert make_optimizer(model, TrainConfig()).defaults["fused"]
    assert make_optimizer(model, TrainConfig(precision="16-mixed")).defaults["fused"]
    assert not make_optimizer(model, TrainConfig(precision="16-mixed", clip_grad_norm=1.0)).defaults["fused"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("adahessian", "it needs the curvature, a second backward pass through the gradients"),
        ("kron", "it draws random numbers that no checkpoint holds"),
        ("bnbadamw8bit", "it needs an NVIDIA GPU and bitsandbytes"),
        ("fusedadamw", "it needs an NVIDIA GPU and apex"),
    ],
)
def test_an_optimizer_that_cannot_work_here_says_why(name, reason, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=f"got '{name}': {reason}"):
        check_optimizer(TrainConfig(optimizer=name))
    assert name not in list_optimizers()


def test_on_a_gpu_the_library_behind_an_optimizer_must_be_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="it needs apex, which is not installed"):
        check_optimizer(TrainConfig(optimizer="fusedlamb"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: "there")
    check_optimizer(TrainConfig(optimizer="fusedlamb"))


@pytest.mark.slow
@pytest.mark.parametrize("name", list_optimizers())
def test_every_optimizer_that_is_offered_trains_and_goes_on_bit_for_bit(tiny, stripes, short, tmp_path, name):
    config, ends = replace(short, optimizer=name, lr=1e-3, warmup_epochs=0.0), []
    for folder in (None, tmp_path):
        torch.manual_seed(0)
        model = MetaFormer(tiny)
        if folder:
            results = train(copy.deepcopy(model), stripes, config, seed=0, folder=folder)
            next(result for result in results if isinstance(result, EpochResult))
            results.close()
        list(train(model, stripes, config, seed=0, folder=folder))
        ends.append(model.state_dict())
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())
    assert all(torch.isfinite(value).all() for value in ends[0].values())


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_a_schedule_of_one_step_takes_it_at_its_peak_and_says_nothing(tiny, caplog, schedule):
    config = TrainConfig(epochs=1, lr=0.5, warmup_epochs=0.0, schedule=schedule)
    optimizer = make_optimizer(MetaFormer(tiny), config)
    make_scheduler(optimizer, config, steps_per_epoch=1).step_update(0)
    assert optimizer.param_groups[0]["lr"] == 0.5
    assert not caplog.records
