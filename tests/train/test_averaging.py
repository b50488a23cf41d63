from dataclasses import replace

import torch

from metaformer.models.metaformer import MetaFormer
from metaformer.train.config import TrainConfig
from metaformer.train.evaluation import evaluate
from metaformer.train.loop import StepResult, train
from metaformer.train.optimizer import make_average


def test_none_where_the_recipe_wants_none(tiny):
    assert make_average(MetaFormer(tiny), TrainConfig()) is None


def test_the_average_decays_by_step(tiny):
    model = MetaFormer(tiny)
    average = make_average(model, TrainConfig(ema_decay=0.75))
    weight, start = model.head.fc.weight, model.head.fc.weight.detach().clone()
    for step in range(1, 4):
        with torch.no_grad():
            weight.copy_(start + step)
        average.update(model)
    # start + 1 * 0.25 * 0.75^2 + 2 * 0.25 * 0.75 + 3 * 0.25
    torch.testing.assert_close(average.module.head.fc.weight, start + 1.265625)


def test_training_evaluates_and_ends_with_the_average(tiny, stripes, short):
    recipe = replace(short, ema_decay=0.8)
    model, plain = MetaFormer(tiny), MetaFormer(tiny)
    plain.load_state_dict(model.state_dict())
    expected = make_average(plain, recipe)
    for result in train(plain, stripes, short, seed=0):
        if isinstance(result, StepResult):
            expected.update(plain)
    *_, last = train(model, stripes, recipe, seed=0)
    for name, value in expected.module.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value)
    assert last.history["validation_loss"][-1] == evaluate(model, stripes.evaluation_batches("validation")).loss
    assert not torch.equal(model.head.fc.weight, plain.head.fc.weight)
