"""Mixed precision on a CPU: the plumbing; speed and range belong to GPUs."""

import copy
from dataclasses import replace

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision

from metaformer.core.errors import ConfigError
from metaformer.models.metaformer import MetaFormer
from metaformer.train.checkpoint import Checkpoints
from metaformer.train.config import Execution
from metaformer.train.divergence import DivergedError
from metaformer.train.loop import EpochResult, StepResult, train

CPU = Execution(device="cpu")
PRECISIONS = ["bf16-mixed", "16-mixed"]


def fabric_of(precision):
    """Fabric refuses float16 on a CPU by name; PyTorch can do it, slowly."""
    if precision != "16-mixed":
        return None
    return Fabric(accelerator="cpu", devices=1, plugins=MixedPrecision("16-mixed", "cpu"))


def test_float16_on_a_cpu_is_refused(tiny, stripes, short):
    message = r"^train\.precision '16-mixed' needs a GPU, and this training is on the CPU\. Try 'bf16-mixed'\.$"
    with pytest.raises(ConfigError, match=message):
        next(train(MetaFormer(tiny), stripes, replace(short, precision="16-mixed"), seed=0, execution=CPU))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("optimizer", ["adamw", "lamb", "sgd"])
@pytest.mark.parametrize("clip_grad_norm", [None, 0.5])
def test_it_trains_with_any_optimizer_and_clipping(tiny, stripes, short, precision, optimizer, clip_grad_norm):
    config = replace(short, precision=precision, optimizer=optimizer, clip_grad_norm=clip_grad_norm)
    model = MetaFormer(tiny)
    before = model.head.fc.weight.detach().clone()
    *_, last = train(model, stripes, config, seed=0, fabric=fabric_of(precision))
    assert all(torch.isfinite(torch.tensor(column)).all() for column in last.history.values())
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32}
    assert not torch.equal(model.head.fc.weight, before)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_loss_is_near_that_of_full_precision(tiny, stripes, short, precision):
    losses = []
    for name in ("32-true", precision):
        torch.manual_seed(0)
        results = train(MetaFormer(tiny), stripes, replace(short, precision=name), seed=0, fabric=fabric_of(name))
        losses.append([result.loss for result in results if isinstance(result, StepResult)])
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    assert losses[1] != losses[0]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_resumed_run_is_exact_and_keeps_the_loss_scale(tiny, stripes, recipe, tmp_path, precision):
    config = replace(recipe, precision=precision, clip_grad_norm=1.0)
    ends = []
    for folder in (None, tmp_path):
        fabric = fabric_of(precision)
        torch.manual_seed(0)
        model = MetaFormer(tiny)
        if folder:
            results = train(copy.deepcopy(model), stripes, config, seed=0, folder=folder, fabric=fabric)
            next(result for result in results if isinstance(result, EpochResult))
            results.close()
            scale = Checkpoints(folder).load()["precision"]
            assert bool(scale) is (precision == "16-mixed")
            fabric = fabric_of(precision)
        *_, last = train(model, stripes, config, seed=0, folder=folder, fabric=fabric)
        ends.append((last.history["train_loss"], model.state_dict()))
    assert ends[0][0] == ends[1][0]
    assert all(torch.equal(value, ends[1][1][name]) for name, value in ends[0][1].items())


@pytest.mark.parametrize("clip_grad_norm", [None, 1.0])
def test_an_overflow_of_float16_leaves_the_step_out_and_goes_on(tiny, stripes, short, clip_grad_norm):
    """The first gradients overflow by design: the scale begins high, and each overflow halves it."""
    model, num_calls = MetaFormer(tiny), 0

    def overflow(gradient):
        nonlocal num_calls
        num_calls += 1
        return gradient * (float("inf") if num_calls <= 2 else 1)

    model.head.fc.weight.register_hook(overflow)
    before = model.head.fc.weight.detach().clone()
    config = replace(short, precision="16-mixed", clip_grad_norm=clip_grad_norm)
    fabric = fabric_of("16-mixed")
    weights = []
    for result in train(model, stripes, config, seed=0, fabric=fabric):
        if isinstance(result, StepResult):
            weights.append(model.head.fc.weight.detach().clone())
    assert torch.equal(weights[1], before)
    assert not torch.equal(weights[2], before)
    assert torch.isfinite(weights[-1]).all()


def test_a_gradient_that_overflows_at_any_scale_is_divergence(tiny, stripes, recipe):
    model = MetaFormer(tiny)
    model.head.fc.weight.register_hook(lambda gradient: gradient * float("inf"))
    config = replace(recipe, epochs=8, precision="16-mixed", clip_grad_norm=1.0)
    with pytest.raises(DivergedError, match=r"^the gradient is not finite in epoch 8, step 2: "):
        list(train(model, stripes, config, seed=0, fabric=fabric_of("16-mixed")))
