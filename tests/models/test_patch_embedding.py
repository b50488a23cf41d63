import pytest
import torch
import torch.nn.functional as F

from metaformer.block.norm import LayerNormConfig
from metaformer.core.errors import ConfigError, ShapeError
from metaformer.models.config import DOWNSAMPLING, STEM, PatchEmbeddingConfig
from metaformer.models.patch_embedding import PatchEmbedding, PositionEmbedding


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (64, 40)], ids=str)
@pytest.mark.parametrize(
    "config",
    [
        *(STEM, DOWNSAMPLING, PatchEmbeddingConfig(kernel_size=16, stride=16, padding=0)),
        *(PatchEmbeddingConfig(stride=1, max_pool=3), PatchEmbeddingConfig(kernel_size=2, stride=2, max_pool=2)),
    ],
)
def test_the_config_knows_the_grid_that_comes_out(config, size):
    out = PatchEmbedding(3, 8, config)(torch.randn(2, 3, *size))
    assert out.shape == (2, 8, *config.grid(size))


def test_it_is_a_strided_convolution():
    embedding = PatchEmbedding(3, 8, STEM)
    x = torch.randn(1, 3, 32, 32)
    expected = F.conv2d(x, embedding.conv.weight, embedding.conv.bias, stride=4, padding=2)
    assert torch.equal(embedding(x), expected)


def test_norms_sit_before_and_after_the_convolution():
    config = PatchEmbeddingConfig(pre_norm=LayerNormConfig(eps=0.1), post_norm=LayerNormConfig(eps=0.2))
    embedding = PatchEmbedding(3, 8, config)
    x = torch.randn(2, 3, 9, 9)
    normed = F.layer_norm(x.movedim(1, -1), (3,), eps=0.1).movedim(-1, 1)
    conved = F.conv2d(normed, embedding.conv.weight, embedding.conv.bias, stride=2, padding=1)
    expected = F.layer_norm(conved.movedim(1, -1), (8,), eps=0.2).movedim(-1, 1)
    torch.testing.assert_close(embedding(x), expected)


def test_the_maximum_comes_before_the_norm_and_the_activation_last():
    config = PatchEmbeddingConfig(stride=1, max_pool=2, post_norm=LayerNormConfig(), activation="relu")
    embedding = PatchEmbedding(3, 8, config)
    x = torch.randn(2, 3, 9, 10)
    pooled = F.conv2d(x, embedding.conv.weight, embedding.conv.bias, padding=1)[..., :8, :].unfold(2, 2, 2)
    pooled = pooled.unfold(3, 2, 2).amax(dim=(-2, -1))
    expected = F.layer_norm(pooled.movedim(1, -1), (8,), eps=config.post_norm.eps).movedim(-1, 1).clamp(min=0)
    torch.testing.assert_close(embedding(x), expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_pool": 0}, r"^PatchEmbeddingConfig\.max_pool must be at least 1; got 0\.$"),
        ({"kernel_size": 0}, r"^PatchEmbeddingConfig\.kernel_size must be at least 1; got 0\.$"),
        ({"stride": 0}, r"^PatchEmbeddingConfig\.stride must be at least 1; got 0\.$"),
        ({"padding": -1}, r"^PatchEmbeddingConfig\.padding must be at least 0; got -1\.$"),
        ({"activation": "gelo"}, r"gelo.*Did you mean 'gelu'"),
    ],
    ids=str,
)
def test_a_patch_embedding_refuses_what_it_cannot_build(changes, message):
    with pytest.raises(ConfigError, match=message):
        PatchEmbeddingConfig(**changes)


def test_a_position_embedding_starts_at_zero():
    x = torch.randn(2, 4, 3, 5)
    assert torch.equal(PositionEmbedding(4, (3, 5), "stages.0")(x), x)


def test_a_position_embedding_is_added_to_each_sample():
    embedding = PositionEmbedding(4, (3, 5), "stages.0")
    torch.nn.init.normal_(embedding.weight)
    out = embedding(torch.zeros(2, 4, 3, 5))
    assert torch.equal(out, embedding.weight.expand_as(out))


def test_a_position_embedding_refuses_another_grid():
    message = (
        r"^the position embedding of stages\.2 is built for a grid of 3x5 tokens; got 5x3\. "
        r"Create the model with the image_size of your images"
    )
    with pytest.raises(ShapeError, match=message):
        PositionEmbedding(4, (3, 5), "stages.2")(torch.zeros(1, 4, 5, 3))


def test_a_resized_position_embedding_is_the_interpolated_map():
    ramp = torch.linspace(0, 1, 4)[None, None, :, None].expand(1, 2, 4, 6)
    resized = PositionEmbedding.resize({"weight": ramp}, (4, 6), (8, 3))["weight"]
    assert resized.shape == (1, 2, 8, 3)
    torch.testing.assert_close(resized, resized[:, :1, :, :1].expand_as(resized))
    assert (resized[0, 0, :, 0].diff() > -1e-2).all()
    assert resized.mean().item() == pytest.approx(0.5, abs=1e-5)
