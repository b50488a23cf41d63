import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from metaformer.block.norm import LayerNormConfig
from metaformer.core.errors import ConfigError
from metaformer.models.config import HeadConfig
from metaformer.models.head import Head


@pytest.fixture
def x():
    return torch.randn(2, 6, 3, 5)


def test_it_classifies_the_mean_over_the_grid(x):
    head = Head(6, 4, HeadConfig())
    torch.testing.assert_close(head(x), x.mean(dim=(2, 3)) @ head.fc.weight.T + head.fc.bias)


def test_pre_logits_are_what_the_classifier_gets(x):
    head = Head(6, 4, HeadConfig())
    torch.testing.assert_close(head(x, pre_logits=True), x.mean(dim=(2, 3)))
    torch.testing.assert_close(head.fc(head(x, pre_logits=True)), head(x))


def test_dropout_acts_in_training_only(x):
    head = Head(6, 4, HeadConfig(dropout=0.5))
    assert not torch.equal(head(x), head(x))
    head.eval()
    assert torch.equal(head(x), head(x))


def test_without_classes_there_is_no_classifier(x):
    head = Head(6, 0, HeadConfig())
    assert isinstance(head.fc, nn.Identity)
    torch.testing.assert_close(head(x), x.mean(dim=(2, 3)))


def test_the_norm_may_come_after_the_mean(x):
    head, norm = Head(6, 4, HeadConfig()), LayerNormConfig().build(6)
    pooled = F.layer_norm(x.mean(dim=(2, 3)), (6,))
    torch.testing.assert_close(head(x, pre_logits=True, norm=norm), pooled)
    torch.testing.assert_close(head(x, norm=norm), head.fc(pooled))


def test_an_mlp_head_is_linear_squared_relu_norm_linear(x):
    head = Head(6, 4, HeadConfig(hidden_ratio=4.0, hidden_norm_eps=0.5))
    hidden = F.relu(x.mean(dim=(2, 3)) @ head.hidden.fc.weight.T + head.hidden.fc.bias) ** 2
    expected = F.layer_norm(hidden, (24,), eps=0.5)
    torch.testing.assert_close(head(x, pre_logits=True), expected)
    torch.testing.assert_close(head(x), expected @ head.fc.weight.T + head.fc.bias)
    head.reset(9)
    assert head.fc.weight.shape == (9, 24)


def test_reset_makes_a_new_classifier(x):
    head = Head(6, 4, HeadConfig())
    head.reset(9)
    assert head(x).shape == (2, 9)
    assert head.fc.weight.std() < 0.05
    assert torch.count_nonzero(head.fc.bias) == 0


def test_reset_to_0_classes_without_pooling_keeps_the_grid(x):
    head = Head(6, 4, HeadConfig())
    head.reset(0, "")
    assert torch.equal(head(x), x)


def test_reset_keeps_the_pooling_unless_told(x):
    head = Head(6, 0, HeadConfig())
    head.reset(0, "")
    head.reset(0)
    assert head(x).shape == x.shape
    head.reset(3, "avg")
    assert head(x).shape == (2, 3)


def test_a_classifier_after_a_kept_grid_brings_the_mean_back(x):
    head = Head(6, 0, HeadConfig())
    head.reset(0, "")
    head.reset(3)
    assert head(x).shape == (2, 3)


def test_a_classifier_on_the_grid_is_refused():
    message = (
        "global_pool='' keeps the grid, and a classifier of 3 classes needs one vector an image. "
        "Set num_classes=0, or global_pool='avg'."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        Head(6, 4, HeadConfig()).reset(3, "")


def test_an_unknown_pooling_is_refused_and_changes_nothing(x):
    head = Head(6, 4, HeadConfig())
    with pytest.raises(ConfigError, match=r"^global_pool must be 'avg' or '' \(keep the grid\); got 'max'\.$"):
        head.reset(9, "max")
    assert head(x).shape == (2, 4)
