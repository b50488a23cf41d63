"""A step taken in parts is the same step."""

from dataclasses import replace

import pytest
import torch

from metaformer.block.channel_mlp import ChannelMLPConfig
from metaformer.models.metaformer import MetaFormer
from metaformer.train.config import Execution, TrainConfig
from metaformer.train.loop import StepResult, train
from metaformer.train.mixing import MixingConfig

MIXING = MixingConfig(mixup=0.8, cutmix=1.0)


@pytest.mark.parametrize("micro_batch_size", [1, 3, 100])
@pytest.mark.parametrize(
    "options",
    [{}, {"mixing": MIXING}, {"clip_grad_norm": 0.1}, {"optimizer": "lamb", "ema_decay": 0.9}],
    ids=["plain", "mixing", "clipping", "lamb and average"],
)
def test_parts_of_a_batch_equal_the_whole(tiny, stripes, recipe, micro_batch_size, options):
    # With drop path, whose numbers belong to samples; without dropout, whose numbers belong to a process.
    config = replace(tiny, drop_path=0.4, channel_mlp=ChannelMLPConfig())
    results, sizes = [], []
    for size in (None, micro_batch_size):
        torch.manual_seed(0)
        model = MetaFormer(config).double()
        model.register_forward_pre_hook(lambda m, inputs: sizes.append(len(inputs[0])) if m.training else None)
        model.register_forward_pre_hook(lambda m, inputs: (inputs[0].double(),))
        steps = train(
            model, stripes, replace(recipe, epochs=2, **options), seed=0, execution=Execution(micro_batch_size=size)
        )
        losses = [result.loss for result in steps if isinstance(result, StepResult)]
        results.append((losses, model))
    assert results[1][0] == pytest.approx(results[0][0], rel=1e-6)
    for expected, actual in zip(results[0][1].parameters(), results[1][1].parameters(), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)
    assert max(sizes[10:]) == min(micro_batch_size, 8)


def test_drop_path_matters_in_that_comparison(tiny, stripes):
    losses = []
    for drop_path in (0.0, 0.4):
        torch.manual_seed(0)
        model = MetaFormer(replace(tiny, drop_path=drop_path, channel_mlp=ChannelMLPConfig()))
        steps = train(model, stripes, TrainConfig(epochs=1, batch_size=8), seed=0)
        losses.append([result.loss for result in steps if isinstance(result, StepResult)])
    assert losses[0] != losses[1]
