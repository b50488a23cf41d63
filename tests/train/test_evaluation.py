import math

import pytest
import torch
from torch import nn

from metaformer.core.errors import DataError
from metaformer.data.source import evaluation_batches_of
from metaformer.train.evaluation import evaluate


class ImagesAreLogits(nn.Module):
    """Class scores that a test writes by hand, as images of one pixel."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.dropout = nn.Dropout(0.9)
        self.batch_sizes = []

    def forward(self, x):
        self.batch_sizes.append(len(x))
        return self.dropout(self.scale * x.flatten(1))


def as_images(scores):
    return torch.tensor(scores)[:, :, None, None]


SCORES = as_images([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 2.0, 0.0], [2.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
LABELS = torch.tensor([0, 1, 1, 1, 0])  # right, right, right, wrong, wrong


def batches(batch_size=250):
    return evaluation_batches_of(SCORES, LABELS, batch_size=batch_size)


def test_accuracy_and_loss_equal_those_by_hand():
    result = evaluate(ImagesAreLogits(), batches())
    assert result.accuracy == pytest.approx(60)
    log_sum = math.log(math.exp(2) + 2)
    assert result.loss == pytest.approx((3 * (log_sum - 2) + 2 * log_sum) / 5, rel=1e-6)


def test_accuracy_by_class_equals_that_by_hand():
    per_class = evaluate(ImagesAreLogits(), batches()).per_class_accuracy
    # The last class has no images, so nothing of it was missed.
    assert per_class == pytest.approx((50, 200 / 3, 100))


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_the_batch_size_decides_nothing(batch_size):
    model = ImagesAreLogits()
    expected = evaluate(model, batches())
    model.batch_sizes.clear()
    assert evaluate(model, batches(batch_size)) == expected
    assert max(model.batch_sizes) == min(batch_size, 5)
    assert sum(model.batch_sizes) == 5


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_in_its_mode_and_evaluated_without_dropout(training):
    model = ImagesAreLogits().train(training)
    assert evaluate(model, batches()).accuracy == pytest.approx(60)
    assert model.training is model.dropout.training is training


def test_no_gradient_is_left():
    model = ImagesAreLogits()
    evaluate(model, batches())
    assert model.scale.grad is None


def test_no_image_at_all_is_an_error():
    with pytest.raises(DataError, match="no image to evaluate on"):
        evaluate(ImagesAreLogits(), [])


def test_scores_that_are_no_numbers_are_counted_and_never_right():
    scores = as_images([[0.0, math.nan, 0.0], [2.0, 0.0, 0.0], [math.inf, 0.0, 0.0]])
    result = evaluate(ImagesAreLogits(), evaluation_batches_of(scores, torch.tensor([1, 0, 0]), batch_size=2))
    assert (result.num_without_scores, result.num_images) == (2, 3)
    assert result.accuracy == pytest.approx(100 / 3)
    assert math.isnan(result.loss)


def test_the_five_likeliest_count_where_there_are_more_classes():
    scores = torch.eye(7)[:, :, None, None] + torch.arange(7.0)[None, :, None, None] / 10
    result = evaluate(ImagesAreLogits(), evaluation_batches_of(scores, torch.zeros(7).long(), batch_size=4))
    expected = sum(0 in row.topk(5).indices for row in scores.flatten(1))
    assert result.top5 == pytest.approx(100 * expected / 7)
    assert evaluate(ImagesAreLogits(), batches()).top5 is None
