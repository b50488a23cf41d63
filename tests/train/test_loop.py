from dataclasses import replace

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from metaformer.block.channel_mlp import ChannelMLPConfig
from metaformer.block.token_mixers import IdentityConfig
from metaformer.core.errors import ConfigError
from metaformer.data.sources import open_data
from metaformer.models.metaformer import MetaFormer
from metaformer.recipes.paper_scales import TINY_POOLFORMER
from metaformer.train.config import TrainConfig
from metaformer.train.divergence import DivergedError
from metaformer.train.evaluation import evaluate
from metaformer.train.first_model import fit_to_data
from metaformer.train.loop import EpochResult, train

COLUMNS = {
    "epoch",
    "learning_rate",
    "train_loss",
    "validation_loss",
    "validation_accuracy",
    "images_per_second",
    "seconds",
}


def epochs(results):
    return [result for result in results if isinstance(result, EpochResult)]


def final(model, data, config, *, seed=0, **options):
    """The history of a whole run."""
    return epochs(train(model, data, config, seed=seed, **options))[-1].history


def test_digits_are_learned_in_a_few_epochs():
    data = open_data("digits")
    model = MetaFormer(fit_to_data(replace(TINY_POOLFORMER, dims=(8, 16, 24, 32)), data))
    history = final(model, data, TrainConfig(epochs=4, batch_size=32, lr=1e-2, warmup_epochs=0.5))
    assert history["train_loss"] == sorted(history["train_loss"], reverse=True)
    assert history["train_loss"][-1] < 1.2
    assert history["validation_accuracy"][-1] > 80
    assert evaluate(model, data.evaluation_batches("test")).accuracy > 80


def test_the_history_has_one_value_an_epoch_in_each_column(tiny, stripes, recipe):
    results = epochs(train(MetaFormer(tiny), stripes, recipe, seed=0))
    assert [result.epoch for result in results] == [1, 2, 3, 4]
    for result in results:
        assert result.history.keys() == COLUMNS
        assert all(len(column) == result.epoch for column in result.history.values())
    assert results[-1].history["epoch"] == [1, 2, 3, 4]


def test_a_result_that_was_handed_out_does_not_change(tiny, stripes, short):
    results = (r for r in train(MetaFormer(tiny), stripes, short, seed=0) if isinstance(r, EpochResult))
    first = next(results)
    next(results)
    assert len(first.history["epoch"]) == 1


def test_the_last_row_of_the_history_is_the_model_in_hand(tiny, stripes, short):
    model = MetaFormer(tiny)
    history = final(model, stripes, short)
    again = evaluate(model, stripes.evaluation_batches("validation"))
    assert history["validation_accuracy"][-1] == again.accuracy
    assert history["validation_loss"][-1] == again.loss


def test_the_test_split_is_not_read(tiny, stripes, short):
    final(MetaFormer(tiny), stripes, short)
    assert stripes.num_test_reads == 0


def test_the_same_seed_gives_the_same_weights_whatever_the_global_generator_did(tiny, stripes, short):
    models = []
    for noise in (1, 2):
        torch.manual_seed(0)
        models.append(MetaFormer(tiny))
        torch.manual_seed(noise)
        final(models[-1], stripes, short)
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(one, other)


def test_every_model_sees_the_same_batches(tiny, stripes, short):
    seen = {}
    for name, mixer in {"pooling": tiny.token_mixers[0], "identity": IdentityConfig()}.items():
        model = MetaFormer(replace(tiny, token_mixers=(mixer,) * 2))
        batches = seen.setdefault(name, [])

        def keep(module, inputs, batches=batches):
            if module.training:
                batches.append(inputs[0].clone())

        model.register_forward_pre_hook(keep)
        final(model, stripes, short)
    assert len(seen["pooling"]) == len(seen["identity"]) == 2 * 5
    assert all(torch.equal(one, other) for one, other in zip(*seen.values(), strict=True))


def test_a_batch_larger_than_the_data_is_one_step(tiny, stripes, short):
    history = final(MetaFormer(tiny), stripes, replace(short, batch_size=1000))
    assert len(history["epoch"]) == 2


def test_the_learning_rate_warms_up_linearly_and_falls_as_a_cosine(tiny, stripes):
    # One step an epoch, so that the history holds the rate of every step.
    config = TrainConfig(epochs=20, batch_size=40, lr=1e-2, min_lr=1e-3, warmup_lr=2e-3, warmup_epochs=4.0)
    rates = final(MetaFormer(tiny), stripes, config)["learning_rate"]
    assert rates[:4] == pytest.approx([2e-3, 4e-3, 6e-3, 8e-3])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert max(rates) == rates[4]
    expected = [1e-3 + 0.5 * 9e-3 * (1 + torch.cos(torch.tensor(torch.pi * step / 20)).item()) for step in range(4, 20)]
    assert rates[4:] == pytest.approx(expected)
    assert rates[-1] < 1.1e-3


def test_without_warm_up_the_first_rate_is_the_highest(tiny, stripes):
    config = TrainConfig(epochs=3, batch_size=40, lr=1e-2, warmup_epochs=0.0)
    assert final(MetaFormer(tiny), stripes, config)["learning_rate"][0] == pytest.approx(1e-2)


def gradient_norms(model, data, config):
    norms = []

    def measure(optimizer, args, kwargs):
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norms.append(float(torch.stack([gradient.norm() for gradient in gradients]).norm()))

    hook = register_optimizer_step_pre_hook(measure)
    try:
        final(model, data, config)
    finally:
        hook.remove()
    return norms


def test_clip_grad_norm_bounds_the_gradient(tiny, stripes, short):
    free = gradient_norms(MetaFormer(tiny), stripes, short)
    clipped = gradient_norms(MetaFormer(tiny), stripes, replace(short, clip_grad_norm=0.05))
    assert min(free) > 0.05
    assert clipped == pytest.approx([0.05] * len(free), rel=1e-3)


def test_weight_decay_spares_norms_biases_and_scales(tiny, stripes, short):
    groups = []
    hook = register_optimizer_step_pre_hook(lambda optimizer, args, kwargs: groups.append(optimizer.param_groups))
    try:
        final(MetaFormer(tiny), stripes, short)
    finally:
        hook.remove()
    decay_of = {group["weight_decay"]: group["params"] for group in groups[0]}
    assert decay_of.keys() == {0.0, 0.05}
    assert all(parameter.ndim <= 1 for parameter in decay_of[0.0])
    assert all(parameter.ndim > 1 for parameter in decay_of[0.05])


def test_bf16_mixed_precision_runs_and_keeps_float32_weights(tiny, stripes, short):
    model = MetaFormer(tiny)
    history = final(model, stripes, replace(short, precision="bf16-mixed"))
    assert all(torch.isfinite(torch.tensor(history["train_loss"])))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    torch.manual_seed(0)
    full = final(MetaFormer(tiny), stripes, short)
    assert history["train_loss"] != full["train_loss"]


def test_the_memory_format_decides_speed_alone(tiny, stripes, short):
    # Without dropout: its masks are drawn in the order of memory.
    plain = replace(tiny, channel_mlp=ChannelMLPConfig())
    losses = []
    for channels_last in (True, False):
        torch.manual_seed(0)
        losses.append(final(MetaFormer(plain), stripes, replace(short, channels_last=channels_last))["train_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "lamb"])
def test_other_optimizers_of_timm_train(tiny, stripes, short, optimizer):
    assert final(MetaFormer(tiny), stripes, replace(short, optimizer=optimizer))["epoch"] == [1, 2]


def test_an_unknown_optimizer_names_the_nearest(tiny, stripes, short):
    with pytest.raises(
        ConfigError,
        match=r"^train\.optimizer must be one that .* works here; got 'adamww'\. Did you mean 'adamw'\? Known:",
    ):
        final(MetaFormer(tiny), stripes, replace(short, optimizer="adamww"))


def test_a_loss_that_is_no_number_stops_the_run_and_names_epoch_and_step(tiny, stripes, short, monkeypatch):
    draw = stripes.train_epoch

    def poisoned(*, seed, epoch):
        images, labels = draw(seed=seed, epoch=epoch)
        if epoch == 1:
            images[17] = float("nan")
        return images, labels

    monkeypatch.setattr(stripes, "train_epoch", poisoned)
    with pytest.raises(
        DivergedError, match=r"^the loss became nan in epoch 2, step 3: the images of the batch are not finite$"
    ):
        final(MetaFormer(tiny), stripes, short)


def test_a_run_with_far_too_high_a_learning_rate_diverges(tiny, stripes):
    config = TrainConfig(epochs=2, batch_size=8, optimizer="sgd", lr=1e30, warmup_epochs=0.0)
    with pytest.raises(
        DivergedError, match=r"^the (loss became (nan|inf)|weights diverged) in epoch 1, step \d: .* is not finite$"
    ):
        final(MetaFormer(tiny), stripes, config)
