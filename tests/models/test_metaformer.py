from dataclasses import replace

import pytest
import torch

from metaformer.block.channel_mlp import ChannelMLPConfig
from metaformer.block.norm import BatchNormConfig, NoNormConfig
from metaformer.block.residual import ResidualConfig
from metaformer.block.token_mixers import IdentityConfig, PoolingConfig, RandomMixingConfig
from metaformer.core.errors import ShapeError
from metaformer.models.config import DOWNSAMPLING, STEM, HeadConfig, MetaFormerConfig
from metaformer.models.create import create_model
from metaformer.models.metaformer import MetaFormer
from metaformer.models.zoo import list_models

CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def test_scores_and_features_have_their_shapes(any_model, images):
    assert any_model(images).shape == (2, 10)
    assert any_model.forward_features(images).shape == (2, any_model.num_features, *any_model.config.grids[-1])


def test_scores_are_finite_and_differ_between_images(any_model, images):
    scores = any_model(images)
    assert scores.isfinite().all()
    assert not torch.allclose(scores[0], scores[1])


def test_a_row_of_the_batch_is_scored_as_if_alone(any_model, images):
    torch.testing.assert_close(any_model(images)[1:], any_model(images[1:]), **CLOSE)


def test_channels_last_gives_the_same(any_model, images):
    expected = any_model(images)
    any_model.to(memory_format=torch.channels_last)
    torch.testing.assert_close(any_model(images.to(memory_format=torch.channels_last)), expected, **CLOSE)


def test_double_precision_agrees(any_model, images):
    expected = any_model(images)
    torch.testing.assert_close(any_model.double()(images.double()).float(), expected, **CLOSE)


def test_half_precision_runs_and_is_near(any_model, images):
    expected = any_model(images)
    actual = any_model.bfloat16()(images.bfloat16())
    assert actual.dtype == torch.bfloat16
    torch.testing.assert_close(actual.float(), expected, rtol=0, atol=0.1 * expected.abs().max().item())


def test_every_parameter_gets_a_gradient(any_model, images):
    any_model.train()
    (any_model(images) * torch.randn(2, 10)).sum().backward()
    for name, parameter in any_model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # Pooling takes away what the bias of the norm before it adds to all tokens.
        assert parameter.grad.abs().max() > 0 or name.endswith("norm1.bias"), name


def test_the_norms_bias_before_pooling_gets_a_zero_gradient(small, images):
    model = MetaFormer(small).double()
    (model(images.double()) * torch.randn(2, 10)).sum().backward()
    for stage in model.stages:
        norm = stage.blocks[0].norm1
        assert norm.bias.grad.abs().max() < 1e-12 * norm.weight.grad.abs().max()


@pytest.mark.parametrize("size", [(64, 64), (97, 65), (33, 160)], ids=str)
def test_images_may_be_oblong_and_odd(any_config, size):
    model = MetaFormer(replace(any_config, image_size=size)).eval()
    grid = model.config.grids[-1]
    assert model.forward_features(torch.randn(1, 3, *size)).shape == (1, model.num_features, *grid)


def test_models_that_are_not_tied_take_any_size_at_any_time(any_model):
    other = torch.randn(1, 3, 96, 70)
    if any_model.is_tied_to_grid:
        with pytest.raises(ShapeError, match="image_size"):
            any_model(other)
    else:
        assert any_model(other).shape == (1, 10)


@pytest.mark.parametrize("in_chans", [1, 3, 4])
def test_images_may_have_other_channels(any_config, in_chans):
    model = MetaFormer(replace(any_config, in_chans=in_chans)).eval()
    assert model(torch.randn(2, in_chans, 64, 64)).shape == (2, 10)


def test_without_classes_the_output_is_what_the_classifier_would_get(any_config, images):
    model = MetaFormer(replace(any_config, num_classes=0)).eval()
    expected = model.forward_head(model.forward_features(images), pre_logits=True)
    assert model(images).shape == (2, model.head_hidden_size)
    assert torch.equal(model(images), expected)


# Without the shape hook, which would refuse three axes first.
@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize("shape", [(2, 1, 64, 64), (2, 4, 64, 64), (3, 64, 64)], ids=str)
def test_the_wrong_number_of_channels_is_refused(small, shape):
    message = rf"^the model takes images as \(B, 3, H, W\); got \({', '.join(map(str, shape))}\)\.$"
    with pytest.raises(ShapeError, match=message):
        MetaFormer(small)(torch.randn(shape))


@pytest.mark.parametrize("size", [(31, 64), (64, 31)], ids=str)
def test_an_image_smaller_than_the_total_stride_is_refused(small, size):
    message = (
        r"^images must be at least 32x32 pixels, the model's total stride; "
        rf"got {size[0]}x{size[1]}\.$"
    )
    with pytest.raises(ShapeError, match=message):
        MetaFormer(small)(torch.randn(1, 3, *size))


def test_a_tied_model_names_where_it_is_tied(small):
    model = MetaFormer(replace(small, token_mixers=(*small.token_mixers[:3], RandomMixingConfig())))
    message = (
        r"^the random matrix of stages\.3\.blocks\.0 is built for a grid of 2x2 tokens; got 3x2\. "
        r"Create the model with the image_size of your images: weights of another size are resized on loading\.$"
    )
    with pytest.raises(ShapeError, match=message):
        model(torch.randn(1, 3, 96, 64))


@pytest.mark.parametrize("num_stages", [1, 2, 5])
def test_a_model_may_have_any_number_of_stages(num_stages):
    config = MetaFormerConfig(
        dims=(8,) * num_stages,
        depths=(1,) * num_stages,
        token_mixers=(PoolingConfig(),) * num_stages,
        patch_embeddings=(STEM, *[DOWNSAMPLING] * (num_stages - 1)),
        image_size=(64, 64),
        num_classes=5,
    )
    model = MetaFormer(config)
    assert model(torch.randn(1, 3, 64, 64)).shape == (1, 5)
    assert [info["reduction"] for info in model.feature_info] == [4, 8, 16, 32, 64][:num_stages]


def test_stochastic_depth_rises_linearly_from_0_over_the_blocks(small):
    model = MetaFormer(replace(small, depths=(2, 1, 3, 1), drop_path=0.3))
    blocks = [block for stage in model.stages for block in stage.blocks]
    rates = [block.residual1.drop_path for block in blocks]
    assert rates == pytest.approx([0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3])
    assert rates == [block.residual2.drop_path for block in blocks]


def test_stochastic_depth_acts_in_training_only(small, images):
    model = MetaFormer(replace(small, drop_path=0.9))
    assert not torch.equal(model(images), model(images))
    model.eval()
    assert torch.equal(model(images), model(images))


def test_head_dropout_acts_in_training_only(small, images):
    model = MetaFormer(replace(small, head=HeadConfig(dropout=0.5)))
    assert not torch.equal(model(images), model(images))
    model.eval()
    assert torch.equal(model(images), model(images))


def test_position_embeddings_sit_in_front_of_their_stage_only(small, images):
    model = MetaFormer(replace(small, position_embedding_stages=(1, 3)))
    names = [name for name, _ in model.named_parameters() if "position_embed" in name]
    assert names == ["stages.1.position_embed.weight", "stages.3.position_embed.weight"]
    before = model.forward_intermediates(images, intermediates_only=True)
    torch.nn.init.normal_(model.stages[1].position_embed.weight)
    after = model.forward_intermediates(images, intermediates_only=True)
    assert [torch.equal(*pair) for pair in zip(before, after, strict=True)] == [True, False, False, False]


# The rows of the paper's ablation that are no token mixer.
VARIANTS = {
    "no norm": {"norm": NoNormConfig()},
    "batch norm": {"norm": BatchNormConfig()},
    "no skip": {"residuals": (ResidualConfig(skip=False),)},
    "res scale": {"residuals": (ResidualConfig(res_scale_init=1.0),)},
    "no channel mlp": {"channel_mlp": None},
    "relu": {"channel_mlp": ChannelMLPConfig(activation="relu")},
    "star relu": {"channel_mlp": ChannelMLPConfig(activation="star_relu")},
}


@pytest.mark.parametrize("change", VARIANTS.values(), ids=VARIANTS)
def test_every_variant_of_the_block_trains(small, images, change):
    model = MetaFormer(replace(small, **change))
    (model(images) * torch.randn(2, 10)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_without_channel_mlp_no_block_has_parameters_of_the_second_sub_block(small):
    model = MetaFormer(replace(small, channel_mlp=None))
    parts = {name.split(".")[4] for name in model.state_dict() if ".blocks." in name}
    assert parts == {"norm1", "residual1"}


@pytest.mark.parametrize("drop_path", [0.0, 0.5])
def test_gradient_checkpointing_changes_neither_output_nor_gradients(any_config, images, drop_path):
    results = []
    for enable in (False, True):
        torch.manual_seed(0)
        model = MetaFormer(replace(any_config, drop_path=drop_path))
        model.set_grad_checkpointing(enable)
        scores = model(images)
        scores.square().sum().backward()
        results.append((scores, {name: parameter.grad for name, parameter in model.named_parameters()}))
    torch.testing.assert_close(*results)


def test_gradient_checkpointing_keeps_only_the_input_of_a_block(small, images):
    def saved_elements(enable):
        model = MetaFormer(small)
        model.set_grad_checkpointing(enable)
        total = 0

        def pack(tensor):
            nonlocal total
            total += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(images)
        return total

    assert saved_elements(True) < 0.5 * saved_elements(False)


def test_gradient_checkpointing_can_be_switched_off_again(small):
    model = MetaFormer(small)
    model.set_grad_checkpointing()
    assert [stage.grad_checkpointing for stage in model.stages] == [True] * 4
    model.set_grad_checkpointing(False)
    assert [stage.grad_checkpointing for stage in model.stages] == [False] * 4


def test_only_mixers_and_embeddings_of_a_grid_tie_a_model(small):
    def tied(**changes):
        return MetaFormer(replace(small, **changes)).is_tied_to_grid

    assert not tied()
    assert not tied(token_mixers=(IdentityConfig(),) * 4)
    assert tied(position_embedding_stages=(3,))
    assert tied(token_mixers=(*small.token_mixers[:3], RandomMixingConfig()))


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models())
def test_whole_models_run_and_train(name):
    model = create_model(name)
    scores = model(torch.randn(1, 3, 224, 224))
    assert scores.shape == (1, 1000)
    scores.square().sum().backward()
    for path, parameter in model.named_parameters():
        assert parameter.grad is not None, path
        assert parameter.grad.isfinite().all(), path
