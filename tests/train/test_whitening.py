"""The patch embedding that begins with whitened patches."""

from dataclasses import replace

import pytest
import torch

from metaformer.core.errors import ConfigError
from metaformer.data.batch_plan import BatchPlan
from metaformer.data.sources import open_data
from metaformer.models.config import PatchEmbeddingConfig
from metaformer.models.timm_model import TimmModelConfig
from metaformer.recipes.digits_quick import digits_quick
from metaformer.train.first_model import first_model


@pytest.fixture(scope="module")
def digits():
    return open_data("digits")


def whitened_run(embedding=None, **settings):
    run = digits_quick()
    model = run.model
    if embedding:
        embeddings = (embedding, *model.patch_embeddings[1:])
        model = replace(model, dims=(24, *model.dims[1:]), patch_embeddings=embeddings)
    changed = {"model": model, "train": replace(run.train, whitening=True)} | settings
    return replace(run, **changed)


def responses(conv, digits):
    """Of each channel to the training images, without bias: (channels, places)."""
    images = torch.cat([images for images, _ in digits.train_batches(BatchPlan(seed=0, epoch=0, batch_size=256))])
    with torch.no_grad():
        return torch.nn.functional.conv2d(images, conv.weight, stride=conv.stride).transpose(0, 1).flatten(1)


def test_channels_are_uncorrelated_and_equally_strong_and_come_with_both_signs(digits):
    embedding = PatchEmbeddingConfig(kernel_size=3, stride=1, padding=1)
    conv = first_model(whitened_run(embedding), digits).stages[0].patch_embed.conv
    num = 9  # one channel, 3x3 pixels
    assert torch.equal(conv.weight[num : 2 * num], -conv.weight[:num])
    assert not conv.bias[: 2 * num].any()
    found = responses(conv, digits)[:num]
    second_moments = found @ found.T / found.shape[1]
    # Below 1 by what is added to the variance of the weak directions.
    strengths = second_moments.diagonal()
    assert strengths[0] == pytest.approx(1, abs=0.05)
    assert bool((strengths[1:] <= strengths[:-1] + 0.05).all())
    assert float((second_moments - strengths.diag()).abs().max()) < 0.05
    # Left over: as they would be without.
    run = whitened_run(embedding)
    plain = first_model(replace(run, train=replace(run.train, whitening=False)), digits)
    assert torch.equal(conv.weight[2 * num :], plain.stages[0].patch_embed.conv.weight[2 * num :])
    assert bool((conv.weight[: 2 * num] != plain.stages[0].patch_embed.conv.weight[: 2 * num]).any())


def test_few_channels_take_the_strongest_directions(digits):
    embedding = PatchEmbeddingConfig(kernel_size=7, stride=2, padding=3)
    conv = first_model(whitened_run(embedding), digits).stages[0].patch_embed.conv
    num = conv.out_channels // 2
    assert num < 49
    assert torch.equal(conv.weight[num:], -conv.weight[:num])
    # A direction's length is the inverse root of its variance: strongest first.
    lengths = conv.weight[:num].flatten(1).norm(dim=1)
    assert bool((lengths[1:] >= lengths[:-1] - 1e-5).all())


def test_the_same_seed_gives_the_same_weights(digits):
    one, two = (first_model(whitened_run(), digits).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_what_cannot_be_whitened_is_named(digits):
    with pytest.raises(ConfigError, match="whitening needs a model with a patch embedding of ours; got ResNet"):
        first_model(whitened_run(model=TimmModelConfig(name="resnet18")), digits)
    with pytest.raises(ConfigError, match="weights to start from are given"):
        first_model(whitened_run(weights="x.safetensors"), digits)
