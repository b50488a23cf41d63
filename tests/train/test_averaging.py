from dataclasses import replace

import torch

from metaformer.models.metaformer import MetaFormer
from metaformer.train.config import TrainConfig
from metaformer.train.evaluation import evaluate
from metaformer.train.loop import StepResult, train
from metaformer.train.optimizer import make_average


def test_none_where_the_recipe_wants_none(tiny):
    assert make_average(MetaFormer(tiny), TrainConfig()) is None


def test_the_average_warms_up_to_its_decay(tiny):
    model = MetaFormer(tiny)
    average = make_average(model, TrainConfig(ema_decay=0.12))
    weight, start = model.head.fc.weight, model.head.fc.weight.detach().clone()
    expected = start
    # The first update takes the weights as they are; then the decay is 1/11, 2/12, 3/13, ..., and 0.12 at most.
    for step, decay in enumerate([0, 1 / 11, 0.12, 0.12], start=1):
        with torch.no_grad():
            weight.copy_(start + step)
        average.update(model, step)
        expected = decay * expected + (1 - decay) * (start + step)
    torch.testing.assert_close(average.module.head.fc.weight, expected)


def test_an_average_of_a_short_run_is_not_judged_by_its_first_weights(tiny, stripes, recipe):
    accuracies = []
    for decay in (None, 0.9999):
        torch.manual_seed(0)
        *_, last = train(MetaFormer(tiny), stripes, replace(recipe, epochs=8, ema_decay=decay), seed=0)
        accuracies.append(last.history["validation_accuracy"][-1])
    assert accuracies[1] >= accuracies[0] - 10


def test_training_evaluates_and_ends_with_the_average(tiny, stripes, short):
    recipe = replace(short, ema_decay=0.8)
    model, plain = MetaFormer(tiny), MetaFormer(tiny)
    plain.load_state_dict(model.state_dict())
    expected = make_average(plain, recipe)
    num_steps = 0
    for result in train(plain, stripes, short, seed=0):
        if isinstance(result, StepResult):
            num_steps += 1
            expected.update(plain, num_steps)
    *_, last = train(model, stripes, recipe, seed=0)
    for name, value in expected.module.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value)
    assert last.history["validation_loss"][-1] == evaluate(model, stripes.evaluation_batches("validation")).loss
    assert not torch.equal(model.head.fc.weight, plain.head.fc.weight)
