"""What is not exactly ours is left as its author made it, by folding and by fusing for training."""

import copy

import pytest
import torch
from torch import nn

from metaformer.block.channel_mlp import ChannelMLP
from metaformer.block.metaformer_block import MetaFormerBlock
from metaformer.block.norm import ModifiedLayerNorm
from metaformer.block.residual import Residual
from metaformer.block.token_mixers.pooling import Pooling
from metaformer.fast.backends import plain_backend
from metaformer.fast.for_training import for_training
from metaformer.fast.known import is_known, is_untouched
from metaformer.fast.stage import FoldedStage, folded
from metaformer.models.metaformer import MetaFormer, Stage
from metaformer.models.patch_embedding import PatchEmbedding


def doubled(kind):
    """A subclass whose forward gives something else."""

    class Theirs(kind):
        def forward(self, *inputs):
            return 1.5 * super().forward(*inputs)

    return Theirs


class Adapted(nn.Module):
    """A layer with a correction beside it, which still shows the layer's weight."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.correction = layer, nn.Conv2d(layer.in_channels, layer.out_channels, 1)

    @property
    def weight(self):
        return self.layer.weight

    @property
    def bias(self):
        return self.layer.bias

    def forward(self, x):
        return self.layer(x) + self.correction(x)


def become(*path, kind):
    def change(model):
        module = model.stages[1]
        for name in path:
            module = getattr(module, name) if isinstance(name, str) else module[name]
        module.__class__ = doubled(kind)

    return change


def adapt(model):
    mlp = model.stages[1].blocks[0].channel_mlp
    mlp.fc1 = Adapted(mlp.fc1)


def patch_forward(model):
    mixer = model.stages[1].blocks[0].token_mixer
    mixer.forward = lambda x: 0.5 * x


def foreign_block(model):
    dim = model.config.dims[1]
    model.stages[1].blocks[0] = nn.Conv2d(dim, dim, 3, padding=1)


def hook(model):
    model.stages[1].blocks[0].channel_mlp.fc1.register_forward_hook(lambda _module, _inputs, output: 1.5 * output)


CHANGES = {
    "pooling": become("blocks", 0, "token_mixer", kind=Pooling),
    "first norm": become("blocks", 0, "norm1", kind=ModifiedLayerNorm),
    "second norm": become("blocks", 0, "norm2", kind=ModifiedLayerNorm),
    "channel mlp": become("blocks", 0, "channel_mlp", kind=ChannelMLP),
    "activation": become("blocks", 0, "channel_mlp", "activation", kind=nn.GELU),
    "first residual": become("blocks", 0, "residual1", kind=Residual),
    "second residual": become("blocks", 0, "residual2", kind=Residual),
    "block": become("blocks", 0, kind=MetaFormerBlock),
    "patch embedding": become("patch_embed", kind=PatchEmbedding),
    "stage": become(kind=Stage),
    "adapted layer": adapt,
    "forward of one object": patch_forward,
    "foreign block": foreign_block,
    "hook": hook,
}


@pytest.fixture(params=list(CHANGES))
def changed(request, small, shake):
    """A model with one part that somebody changed; its outputs show it."""
    model = shake(MetaFormer(small)).eval()
    before = copy.deepcopy(model)
    CHANGES[request.param](model)
    images = torch.randn(1, 3, 64, 64)
    assert (model(images) - before(images)).abs().max() > 1e-3
    return model


def test_folding_keeps_what_somebody_changed(changed, images):
    with torch.no_grad():
        copied = folded(changed, plain_backend(torch.float32, sliced_pooling=False))
        torch.testing.assert_close(copied(images), changed(images), rtol=1e-4, atol=1e-5)
    assert type(copied.stages[0]) is FoldedStage


def test_fusing_for_training_keeps_what_somebody_changed(changed, images):
    expected = changed(images)
    torch.testing.assert_close(for_training(changed)(images), expected, rtol=1e-4, atol=1e-5)


def test_hooks_on_parts_fire_for_as_long_as_they_are_there(small, images):
    model, heard = for_training(MetaFormer(small)), []
    handles = [
        module.register_forward_hook(lambda module, _inputs, _output: heard.append(type(module)))
        for module in model.stages[0].blocks[0].modules()
    ]
    model(images)
    assert {Pooling, ModifiedLayerNorm, ChannelMLP, nn.GELU, Residual} <= set(heard)
    for handle in handles:
        handle.remove()
    heard.clear()
    model(images)
    assert not heard


def test_known_means_the_class_itself_and_everything_inside():
    assert is_known(nn.GELU(), nn.Conv2d(3, 4, 1))
    assert not is_known(nn.Tanh())
    assert not is_known(nn.Sequential(nn.GELU()))
    layer = nn.Linear(2, 2)
    assert is_untouched(layer)
    handle = layer.register_full_backward_hook(lambda *_: None)
    assert not is_known(nn.GELU(), layer)
    handle.remove()
    assert is_known(layer)
    nn.utils.parametrizations.weight_norm(layer)
    assert not is_known(layer)
