"""What timm's users and tools expect of a model."""

from dataclasses import replace

import pytest
import timm.data
import timm.models
import timm.optim
import torch
from torch import nn

from metaformer.core.errors import ConfigError
from metaformer.models.metaformer import MetaFormer


@pytest.fixture
def model(small):
    return MetaFormer(small).eval()


def test_forward_is_features_then_head(any_model, images):
    assert torch.equal(any_model.forward_head(any_model.forward_features(images)), any_model(images))


def test_pre_logits_are_what_the_classifier_gets(any_model, images):
    features = any_model.forward_features(images)
    pre_logits = any_model.forward_head(features, pre_logits=True)
    assert pre_logits.shape == (2, any_model.head_hidden_size)
    torch.testing.assert_close(any_model.get_classifier()(pre_logits), any_model(images))


def patches_of(model, features):
    """Features without a class token, on the grid of the patches."""
    return features[:, :, 1:].unflatten(2, (4, 4)) if model.config.class_token else features


def test_the_last_intermediate_is_the_features(any_model, images):
    final, features = any_model.forward_intermediates(images, norm=True)
    assert torch.equal(final, any_model.forward_features(images))
    assert torch.equal(features[-1], patches_of(any_model, final))


def test_intermediates_have_the_shapes_that_feature_info_says(any_model, images):
    features = any_model.forward_intermediates(images, intermediates_only=True)
    for feature, info in zip(features, any_model.feature_info, strict=True):
        side = 64 // info["reduction"]
        assert feature.shape == (2, info["num_chs"], side, side)


def test_feature_info_names_modules_that_make_the_intermediates(any_model, images):
    caught = []
    for info in any_model.feature_info:
        module = any_model.get_submodule(info["module"])
        module.register_forward_hook(lambda _module, _args, out: caught.append(out))
    features = any_model.forward_intermediates(images, intermediates_only=True)
    assert all(torch.equal(patches_of(any_model, out), two) for out, two in zip(caught, features, strict=True))


@pytest.mark.parametrize(
    ("indices", "stages"),
    [(None, [0, 1, 2, 3]), (1, [3]), (2, [2, 3]), (4, [0, 1, 2, 3]), ([0, 2], [0, 2]), ([-1], [3]), ((-4, -2), [0, 2])],
    ids=str,
)
def test_indices_choose_stages(model, images, indices, stages):
    every = model.forward_intermediates(images, intermediates_only=True)
    chosen = model.forward_intermediates(images, indices, intermediates_only=True)
    assert len(chosen) == len(stages)
    assert all(torch.equal(feature, every[stage]) for feature, stage in zip(chosen, stages, strict=True))


@pytest.mark.parametrize("indices", [0, 5, [4], [-5], [], [0, 9]], ids=str)
def test_stages_that_do_not_exist_are_refused(model, images, indices):
    with pytest.raises(ConfigError, match=r"^indices must be .*; got "):
        model.forward_intermediates(images, indices)


def test_without_norm_the_last_intermediate_is_what_the_norm_gets(model, images):
    final, features = model.forward_intermediates(images, norm=False)
    assert not torch.equal(features[-1], final)
    torch.testing.assert_close(model.norm(features[-1]), final)


def test_norm_changes_the_last_stage_only(model, images):
    plain = model.forward_intermediates(images, norm=False, intermediates_only=True)
    normed = model.forward_intermediates(images, norm=True, intermediates_only=True)
    assert [torch.equal(*pair) for pair in zip(plain, normed, strict=True)] == [True, True, True, False]


def test_stop_early_does_not_run_the_stages_after_the_last_chosen(model, images):
    expected = model.forward_intermediates(images, [0, 1], intermediates_only=True)
    model.stages[2].register_forward_pre_hook(lambda *_: pytest.fail("stage 2 ran"))
    final, features = model.forward_intermediates(images, [0, 1], stop_early=True)
    assert torch.equal(final, features[-1])
    assert all(torch.equal(*pair) for pair in zip(features, expected, strict=True))


def test_stopping_after_the_last_stage_is_no_stop(model, images):
    final, _ = model.forward_intermediates(images, [3], stop_early=True)
    assert torch.equal(final, model.forward_features(images))


def test_intermediates_come_channels_last_on_request(model, images):
    first = model.forward_intermediates(images, intermediates_only=True)
    last = model.forward_intermediates(images, output_fmt="NHWC", intermediates_only=True)
    assert all(torch.equal(a.permute(0, 2, 3, 1), b) for a, b in zip(first, last, strict=True))


def test_an_unknown_format_is_refused(model, images):
    with pytest.raises(ConfigError, match=r"^output_fmt must be 'NCHW' or 'NHWC'; got 'NLC'\.$"):
        model.forward_intermediates(images, output_fmt="NLC")


@pytest.mark.parametrize(("indices", "kept"), [(1, [3]), ([1], [1]), ([-3, 0], [1, 0]), (2, [2, 3])], ids=str)
def test_pruning_keeps_the_stages_up_to_the_last_chosen(model, images, indices, kept):
    every = model.forward_intermediates(images, intermediates_only=True)
    assert model.prune_intermediate_layers(indices) == kept
    assert len(model.stages) == max(kept) + 1
    features = model.forward_intermediates(images, sorted(kept), intermediates_only=True)
    expected = [every[stage] for stage in sorted(kept)]
    assert all(torch.equal(*pair) for pair in zip(features, expected, strict=True))


def test_a_pruned_model_gives_the_features_of_its_last_stage(model, images):
    expected = model.forward_intermediates(images, [1], intermediates_only=True)[0]
    model.prune_intermediate_layers([1])
    assert torch.equal(model(images), expected)


def test_pruning_the_norm_leaves_the_features_as_they_are(model, images):
    expected = model.forward_intermediates(images, [3], intermediates_only=True)[0]
    model.prune_intermediate_layers(1, prune_norm=True)
    assert torch.equal(model(images), expected)


def test_pruning_may_keep_the_head(model, images):
    expected = model(images)
    model.prune_intermediate_layers(1, prune_head=False)
    assert torch.equal(model(images), expected)


def test_a_new_classifier_has_the_asked_classes(any_model, images):
    any_model.reset_classifier(42)
    assert any_model(images).shape == (2, 42)
    assert (any_model.num_classes, any_model.config.num_classes) == (42, 42)
    assert any_model.pretrained_cfg["num_classes"] == 42


def test_0_classes_leave_the_pooled_features(any_model, images):
    pooled = any_model.forward_head(any_model.forward_features(images), pre_logits=True)
    any_model.reset_classifier(0)
    assert torch.equal(any_model(images), pooled)
    assert isinstance(any_model.get_classifier(), nn.Identity)


def test_0_classes_without_pooling_leave_the_features(any_model, images):
    any_model.reset_classifier(0, "")
    # A norm that comes after the mean stays too.
    features = any_model.forward_features(images)
    expected = any_model.norm(features) if any_model.config.head.norm_after_pooling else features
    assert torch.equal(any_model(images), expected)


def test_a_refused_classifier_changes_nothing(model, images):
    before = model(images)
    with pytest.raises(ConfigError, match="needs one vector an image"):
        model.reset_classifier(5, "")
    assert torch.equal(model(images), before)
    assert model.num_classes == 10


@pytest.mark.parametrize("first", [5, 0], ids=["from a classifier", "from none"])
def test_a_new_classifier_has_the_models_dtype(model, images, first):
    model.double()
    model.reset_classifier(first)
    model.reset_classifier(3)
    assert model(images.double()).dtype == torch.float64


def test_the_classifier_is_found(model):
    assert model.get_classifier() is model.head.fc


def test_widths_are_those_of_the_features_and_of_the_classifiers_input(any_model):
    assert any_model.num_features == any_model.config.dims[-1]
    assert any_model.head_hidden_size == any_model.get_classifier().in_features


@pytest.mark.parametrize("coarse", [False, True], ids=["fine", "coarse"])
def test_groups_cover_every_parameter_from_the_stem_up(any_model, coarse):
    groups = timm.models.group_parameters(any_model, any_model.group_matcher(coarse=coarse))
    names = [name for group in sorted(groups) for name in groups[group]]
    assert sorted(names) == sorted(name for name, _ in any_model.named_parameters())
    assert names[0] == "stages.0.patch_embed.conv.weight"
    assert names[-1] == "head.fc.bias"


def test_groups_follow_the_order_of_the_blocks(small):
    model = MetaFormer(replace(small, depths=(2, 1, 3, 1), position_embedding_stages=(1,)))
    groups = timm.models.group_parameters(model, model.group_matcher(), reverse=True)

    def group_of(prefix):
        (group,) = {groups[name] for name in groups if name.startswith(prefix)}
        return group

    path = [f"stages.{stage}.blocks.{block}." for stage, depth in enumerate((2, 1, 3, 1)) for block in range(depth)]
    order = [group_of(prefix) for prefix in path]
    assert order == sorted(set(order))
    assert group_of("stages.1.patch_embed") == group_of("stages.1.position_embed")
    assert group_of("stages.0.blocks.1.") < group_of("stages.1.patch_embed") < group_of("stages.1.blocks.0.")
    assert group_of("norm.") == group_of("stages.3.blocks.0.")


def test_coarse_groups_are_the_stages(model):
    groups = timm.models.group_parameters(model, model.group_matcher(coarse=True), reverse=True)
    assert groups["stages.2.patch_embed.conv.weight"] == groups["stages.2.blocks.0.norm1.weight"]
    assert groups["stages.1.blocks.0.norm1.weight"] < groups["stages.2.blocks.0.norm1.weight"]


def test_layer_wise_decay_of_timm_takes_the_groups(model):
    groups = timm.optim.param_groups_layer_decay(model, weight_decay=0.05, layer_decay=0.5)
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    scales = {id(parameter): group["lr_scale"] for group in groups for parameter in group["params"]}
    assert scales[id(model.stages[0].patch_embed.conv.weight)] < scales[id(model.head.fc.weight)] == 1


def test_pretrained_cfg_names_modules_of_the_model(any_model):
    state = any_model.state_dict()
    for key in ("first_conv", "classifier"):
        assert f"{any_model.pretrained_cfg[key]}.weight" in state


def test_pretrained_cfg_says_what_the_model_takes(any_model):
    facts = any_model.pretrained_cfg
    assert facts["input_size"] == (3, 64, 64)
    assert facts["pool_size"] == any_model.config.patch_grids[-1]
    assert facts["fixed_input_size"] == any_model.is_tied_to_grid
    assert facts["crop_pct"] == any_model.config.preprocessing.crop_fraction
    own = any_model.config.preprocessing
    assert (facts["mean"], facts["std"]) == (own.mean, own.std)
    assert any_model.default_cfg == facts


def test_timm_resolves_the_data_config(model):
    resolved = timm.data.resolve_model_data_config(model)
    assert resolved["input_size"] == (3, 64, 64)
    assert resolved["interpolation"] == "bicubic"
    assert resolved["crop_pct"] == 0.9
