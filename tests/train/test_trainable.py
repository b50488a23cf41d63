from dataclasses import replace

import pytest
import torch
from torch import nn

from metaformer.block.norm import BatchNormConfig
from metaformer.core.errors import ConfigError
from metaformer.models.metaformer import MetaFormer
from metaformer.train.config import TrainConfig
from metaformer.train.first_model import set_trainable, set_training_mode
from metaformer.train.loop import train

HEAD = TrainConfig(trainable="head")


@pytest.mark.parametrize("ema_decay", [None, 0.5])
def test_head_only_changes_nothing_else(tiny, stripes, short, ema_decay):
    model = MetaFormer(replace(tiny, norm=BatchNormConfig()))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    list(train(model, stripes, replace(short, trainable="head", ema_decay=ema_decay), seed=0))
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"head.fc.weight", "head.fc.bias"}


def test_head_only_drops_no_path_and_the_head_keeps_its_dropout(tiny):
    model = MetaFormer(replace(tiny, drop_path=0.9, head=replace(tiny.head, dropout=0.5)))
    set_trainable(model, HEAD)
    set_training_mode(model, HEAD)
    x = torch.randn(4, 1, 8, 8)
    assert torch.equal(model.forward_features(x), model.forward_features(x))
    assert not torch.equal(model(x), model(x))


def test_all_is_all(tiny):
    model = MetaFormer(tiny).eval()
    set_trainable(model, TrainConfig())
    set_training_mode(model, TrainConfig())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(module.training for module in model.modules())


def test_another_packages_model_has_its_classifier_trained():
    class Other(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.fc = nn.Linear(2, 2), nn.Linear(2, 2)

        def get_classifier(self):
            return self.fc

    model = Other()
    set_trainable(model, HEAD)
    set_training_mode(model, HEAD)
    assert [name for name, value in model.named_parameters() if value.requires_grad] == ["fc.weight", "fc.bias"]
    assert (model.body.training, model.fc.training) == (False, True)


@pytest.mark.parametrize("num_classes", [0, None])
def test_a_model_without_a_head_is_refused(tiny, num_classes):
    model = nn.Linear(2, 2) if num_classes is None else MetaFormer(replace(tiny, num_classes=0))
    with pytest.raises(
        ConfigError, match=r"^train\.trainable 'head' needs a model with a classifier; this one has none\.$"
    ):
        set_trainable(model, HEAD)
