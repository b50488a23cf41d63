import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from metaformer.core.records import failure_of
from metaformer.models.metaformer import MetaFormer
from metaformer.train.checkpoint import Checkpoints
from metaformer.train.config import Execution
from metaformer.train.divergence import DivergedError, first_non_finite, non_finite_parameter
from metaformer.train.loop import train


class Overflow(nn.Module):
    def forward(self, x):
        return x * math.inf


def images(num=2):
    return torch.randn(num, 1, 8, 8)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_first_weight_that_is_not_finite_is_named(tiny, value):
    model = MetaFormer(tiny)
    with torch.no_grad():
        model.head.fc.weight[0, 0] = value
        model.stages[1].blocks[0].channel_mlp.fc1.weight[0, 0] = value
    assert first_non_finite(model, images()) == "stages.1.blocks.0.channel_mlp.fc1.weight is not finite"
    assert non_finite_parameter(model) == "stages.1.blocks.0.channel_mlp.fc1.weight"


def test_the_first_output_that_is_not_finite_is_named(tiny):
    model = MetaFormer(tiny)
    model.stages[0].blocks[0].token_mixer = Overflow()
    assert first_non_finite(model, images()) == "the output of stages.0.blocks.0.token_mixer is not finite"


def test_images_come_before_layers_and_finite_layers_are_said_to_be(tiny):
    model, broken = MetaFormer(tiny), images()
    assert first_non_finite(model, broken) == "every layer is finite: the loss alone is not"
    broken[1, 0, 3, 3] = math.nan
    assert first_non_finite(model, broken) == "the images of the batch are not finite"
    assert not any(module._forward_hooks for module in model.modules())


def test_running_statistics_count_as_weights():
    model = nn.Sequential(nn.BatchNorm2d(2))
    assert non_finite_parameter(model) is None
    model[0].running_var[1] = math.inf
    assert non_finite_parameter(model) == "0.running_var"


@pytest.mark.parametrize("micro_batch_size", [None, 2, 3])
def test_the_loop_names_the_layer_also_where_a_step_is_taken_in_parts(tiny, stripes, short, tmp_path, micro_batch_size):
    model, num_calls = MetaFormer(tiny), 0

    def overflow(module, inputs, output):
        nonlocal num_calls
        num_calls += module.training
        # In the second epoch, from the second part of a step on.
        return output * (math.inf if num_calls >= 5 * math.ceil(8 / (micro_batch_size or 8)) + 2 else 1)

    model.stages[1].blocks[0].norm1.register_forward_hook(overflow)
    step = 1 if micro_batch_size else 2
    with pytest.raises(
        DivergedError,
        match=rf"^the loss became (nan|inf) in epoch 2, step {step}: the output of stages\.1\.blocks\.0\.norm1 is not",
    ):
        list(
            train(
                model, stripes, short, seed=0, folder=tmp_path, execution=Execution(micro_batch_size=micro_batch_size)
            )
        )
    assert all(residual.drop_path_noise is None for residual in model.modules() if hasattr(residual, "drop_path_noise"))


@pytest.mark.parametrize("step", [2, 5, 7, 10])
@pytest.mark.parametrize("checkpoint_steps", [None, 1])
def test_no_weights_that_are_not_finite_are_ever_saved(
    tiny, stripes, short, tmp_path, monkeypatch, step, checkpoint_steps
):
    """The loss is finite; the update of one step breaks a weight. The last step of an epoch is among them."""
    num_steps = 0
    plain = torch.optim.SGD.step

    def break_a_weight(optimizer, closure=None):
        nonlocal num_steps
        plain(optimizer, closure)
        num_steps += 1
        if num_steps == step:
            with torch.no_grad():
                optimizer.param_groups[-1]["params"][0].view(-1)[0] = math.nan

    monkeypatch.setattr(torch.optim.SGD, "step", break_a_weight)
    config = replace(short, optimizer="momentum", final_weights="best")
    execution = Execution(checkpoint_steps=checkpoint_steps, keep_checkpoints=100)
    with pytest.raises(DivergedError, match=r"is not finite$"):
        list(train(MetaFormer(tiny), stripes, config, seed=0, folder=tmp_path, execution=execution))
    files = list(tmp_path.glob("*.pt"))
    for path in files:
        state = torch.load(path, weights_only=True)
        assert all(torch.isfinite(value).all() for value in state["model"].values()), path
    last = Checkpoints(tmp_path).load()
    good = step - 1 if checkpoint_steps else (step - 1) // 5 * 5
    assert (last["epoch"] * 5 + last["step"] if last else 0) == good


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_gradient_that_is_not_finite_is_named_where_it_is_clipped(tiny, stripes, short, tmp_path, value):
    model, num_calls = MetaFormer(tiny), 0

    def break_it(gradient):
        nonlocal num_calls
        num_calls += 1
        return gradient * (value if num_calls == 3 else 1)

    model.head.fc.weight.register_hook(break_it)
    config = replace(short, clip_grad_norm=1.0)
    with pytest.raises(
        DivergedError, match=r"^the norm of the gradient became (nan|inf) in epoch 1, step 3:"
    ) as caught:
        list(train(model, stripes, config, seed=0, folder=tmp_path))
    name = "head.fc.weight" if value == math.inf else "some parameter"
    assert str(caught.value).endswith(f"that of {name} is not finite")
    error = caught.value
    assert (error.epoch, error.step, math.isfinite(error.value), error.failure_kind) == (1, 3, False, "diverged")
    assert failure_of(error).is_final


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_scores_that_are_not_finite_only_in_validation_are_divergence(tiny, stripes, short, tmp_path, value):
    model = MetaFormer(tiny)
    model.head.register_forward_hook(lambda module, _, output: output if module.training else output * value)
    with pytest.raises(DivergedError, match=r"^the validation loss became nan in epoch 1, step 5: "):
        list(train(model, stripes, short, seed=0, folder=tmp_path))
    assert not Checkpoints(tmp_path).paths()


def test_a_loss_that_is_none_at_the_first_step(tiny, stripes, short):
    model = MetaFormer(tiny)
    with torch.no_grad():
        model.head.fc.bias[0] = math.nan
    with pytest.raises(DivergedError, match=r"^the loss became nan in epoch 1, step 1: head\.fc\.bias is not finite"):
        list(train(model, stripes, short, seed=0))
