"""Our models in timm: created, described, taken apart, loaded and saved by timm itself."""

import copy
import json
from dataclasses import replace

import pytest
import timm
import timm.data
import timm.models
import timm.optim
import torch
from safetensors.torch import save_file
from timm.models import _registry
from timm.models._features import FeatureGetterNet

import metaformer as mf
from metaformer.core.errors import ConfigError
from metaformer.integrations import timm as ours
from metaformer.models.layouts import LAYOUTS
from metaformer.models.metaformer import MetaFormer
from metaformer.models.zoo import ZOO


def small(name):
    """A model of the zoo with one narrow block a stage."""
    config = ZOO[name]
    return replace(
        config,
        dims=(8, 16, 40, 64)[: config.num_stages],
        depths=(1,) * config.num_stages,
        token_mixers=tuple(
            replace(mixer, head_dim=8) if hasattr(mixer, "head_dim") else mixer for mixer in config.token_mixers
        ),
        image_size=(64, 64),
        num_classes=10,
    )


@pytest.fixture
def register(monkeypatch):
    """Registers small models in timm; what was registered is gone afterwards."""
    tables = {name: table for name, table in vars(_registry).items() if isinstance(table, dict | set)}
    for name, table in tables.items():
        monkeypatch.setattr(_registry, name, copy.copy(table))
    monkeypatch.setitem(_registry._module_to_models, "timm", set(_registry._module_to_models["timm"]))
    monkeypatch.setattr(ours, "default_cfgs", dict(ours.default_cfgs))
    monkeypatch.setattr(ours, "__all__", list(ours.__all__))

    def register(name):
        ours.register(f"small_{name}", small(name))
        return f"mf_small_{name}"

    return register


def trained(model):
    """The model with every number drawn at random, so that nothing is hidden by a zero or a one."""
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if "random_matrix" not in name:
                tensor.copy_(torch.rand_like(tensor) * 0.4 + 0.05)
    return model.eval()


def test_timm_lists_the_models_of_the_zoo():
    assert timm.list_models("mf_*") == sorted(f"mf_{name}" for name in ZOO)
    assert timm.list_models("mf_*", pretrained=True) == []
    assert not {f"mf_{name}" for name in ZOO} - set(ours.__all__)


def test_importing_says_nothing_and_draws_nothing_and_may_happen_twice(run_python):
    code = """
import importlib, warnings
warnings.simplefilter("error")
import torch
state = torch.get_rng_state()
import metaformer.integrations.timm as ours
importlib.reload(ours)
assert torch.equal(state, torch.get_rng_state())
"""
    assert run_python(code) == ""


def test_timm_creates_a_model_of_the_zoo():
    model = timm.create_model("mf_poolformer_s12", features_only=True, num_classes=10, in_chans=1)
    features = model(torch.randn(1, 1, 64, 64))
    assert [tuple(feature.shape) for feature in features] == [
        (1, 64, 16, 16),
        (1, 128, 8, 8),
        (1, 320, 4, 4),
        (1, 512, 2, 2),
    ]


def test_the_zoo_says_which_models_are_tied_to_a_grid():
    tied = {name for name in ZOO if timm.get_pretrained_cfg_value(f"mf_{name}", "fixed_input_size")}
    expected = (
        "randformer",
        "metaformer_pppa",
        "metaformer_ppaa",
        "metaformer_pppf",
        "metaformer_ppff",
        "deit",
        "vit",
        "resmlp",
        "mixer",
    )
    assert tied == {name for name in ZOO if name.startswith(expected)}


def test_a_model_says_what_the_registry_says(any_config):
    model = MetaFormer(any_config)
    assert ours._is_tied_to_grid(any_config) == model.is_tied_to_grid


def test_timm_notes_what_it_built_from(register):
    name = register("poolformer_s12")
    model = timm.create_model(name, num_classes=7)
    assert model.pretrained_cfg["architecture"] == name
    assert model.pretrained_cfg == model.default_cfg
    # The source's facts, as in all of timm's models: not those of the model as it is.
    assert (model.pretrained_cfg["num_classes"], model.num_classes) == (10, 7)
    assert timm.data.resolve_model_data_config(model)["input_size"] == (3, 64, 64)


def test_options_reach_the_model(register):
    name = register("caformer_s18")
    model = timm.create_model(
        name, num_classes=7, in_chans=5, img_size=96, drop_rate=0.3, drop_path_rate=0.2, dtype=torch.float64
    )
    config = model.config
    assert (config.num_classes, config.in_chans, config.image_size) == (7, 5, (96, 96))
    assert (config.head.dropout, model.head.dropout.p, config.drop_path) == (0.3, 0.3, 0.2)
    assert (model.num_classes, model.in_chans) == (7, 5)
    assert model(torch.randn(1, 5, 96, 64, dtype=torch.float64)).shape == (1, 7)


def test_without_options_the_config_decides():
    config = replace(small("caformer_s18"), drop_path=0.2, head=replace(small("caformer_s18").head, dropout=0.3))
    assert ours.build(config).config == config


def test_image_sizes_may_be_oblong(register):
    model = timm.create_model(register("metaformer_ppaa_s12_224"), img_size=(64, 96))
    assert model(torch.randn(1, 3, 64, 96)).shape == (1, 10)


def test_the_pooling_may_be_left_out(register):
    name = register("caformer_s18")
    model = timm.create_model(name, num_classes=0, global_pool="")
    assert model(torch.randn(1, 3, 64, 64)).shape == (1, 64, 2, 2)
    with pytest.raises(ConfigError, match=r"^global_pool='' keeps the grid, and a classifier of 10 classes needs"):
        timm.create_model(name, global_pool="")


def test_models_are_built_on_the_device(register):
    model = timm.create_model(register("randformer_s12"), device="meta")
    assert {tensor.device.type for tensor in model.state_dict().values()} == {"meta"}


@pytest.mark.parametrize("option", ["image_size", "drop_path", "num_class"])
def test_an_unknown_option_is_refused_and_the_nearest_named(register, option):
    name = register("poolformer_s12")
    nearest = {"image_size": "img_size", "drop_path": "drop_path_rate", "num_class": "num_classes"}[option]
    expected = rf"^unknown option '{option}'\. Did you mean '{nearest}'\? Known: num_classes, .*, feature_cls\.$"
    with pytest.raises(ConfigError, match=expected):
        timm.create_model(name, **{option: 2})
    with pytest.raises(TypeError):  # what timm's own tests expect
        timm.create_model(name, **{option: 2})


def test_an_option_of_feature_models_needs_one(register):
    with pytest.raises(ConfigError, match=r"^out_indices chooses features, so it needs features_only=True\.$"):
        timm.create_model(register("poolformer_s12"), out_indices=(1, 2))


def test_a_name_is_registered_once(register):
    register("poolformer_s12")
    with pytest.raises(ConfigError, match=r"^timm has a model 'mf_small_poolformer_s12' already\. Choose another"):
        register("poolformer_s12")


def test_weights_that_nobody_published_are_refused(register):
    name = register("poolformer_s12")
    with pytest.raises(RuntimeError, match="No pretrained weights exist"):
        timm.create_model(name, pretrained=True)


# Features


@pytest.mark.parametrize("feature_cls", ["getter", "list", "dict", "hook", "fx"])
def test_every_feature_model_of_timm_gives_the_features(register, no_shape_checks, feature_cls):
    name = register("caformer_s18")
    torch.manual_seed(0)
    whole = timm.create_model(name).eval()
    torch.manual_seed(0)
    model = timm.create_model(name, features_only=True, feature_cls=feature_cls, out_indices=(1, 3)).eval()
    x = torch.randn(2, 3, 64, 96)
    features = model(x)
    features = list(features.values()) if isinstance(features, dict) else features
    expected = whole.forward_intermediates(x, [1, 3], intermediates_only=True)
    assert all(torch.equal(*pair) for pair in zip(features, expected, strict=True))
    assert model.feature_info.channels() == [16, 64]
    assert model.feature_info.reduction() == [8, 32]


@pytest.fixture
def staged_model(any_model):
    """A model with stages to choose from."""
    if any_model.config.num_stages == 1:
        pytest.skip("a model with one stage has one feature, which is tested below")
    return any_model


def test_a_model_with_one_stage_has_one_feature_on_the_grid_of_its_patches(register, images):
    for name in ("deit_tiny_patch16_224", "resmlp_12_224", "mixer_s16_224"):
        model = timm.create_model(register(name), features_only=True)
        (feature,) = model(images)
        assert feature.shape == (2, 8, 4, 4)
        assert model.feature_info.reduction() == [16]
        feature.pow(2).sum().backward()
        assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("out_indices", [(0, 1, 2, 3), (-3, 2), 2], ids=str)
@pytest.mark.parametrize("norm", [False, True], ids=["plain", "normed"])
def test_the_feature_getter_gives_the_intermediates(staged_model, images, out_indices, norm):
    getter = FeatureGetterNet(copy.deepcopy(staged_model), out_indices=out_indices, norm=norm)
    every = staged_model.forward_intermediates(images, norm=norm, intermediates_only=True)
    stages = range(4 - out_indices, 4) if isinstance(out_indices, int) else sorted(i % 4 for i in out_indices)
    features = getter(images)
    assert all(torch.equal(feature, every[stage]) for feature, stage in zip(features, stages, strict=True))
    assert getter.feature_info.channels(list(stages)) == [feature.shape[1] for feature in features]


def test_the_feature_getter_gives_channels_last(staged_model, images):
    first = FeatureGetterNet(copy.deepcopy(staged_model), out_indices=(1, 3))(images)
    last = FeatureGetterNet(copy.deepcopy(staged_model), out_indices=(1, 3), output_fmt="NHWC")(images)
    assert all(torch.equal(a.permute(0, 2, 3, 1), b) for a, b in zip(first, last, strict=True))


@pytest.mark.parametrize("out_indices", [(1,), (0, 1, 2, 3)], ids=str)
def test_a_feature_model_has_no_parameter_without_a_gradient(staged_model, images, out_indices):
    getter = FeatureGetterNet(staged_model.train(), out_indices=out_indices)
    sum(feature.pow(2).sum() for feature in getter(images)).backward()
    assert [name for name, parameter in getter.named_parameters() if parameter.grad is None] == []


def test_a_cut_model_ends_in_its_last_stage(staged_model, images):
    expected = staged_model.forward_intermediates(images, [1], intermediates_only=True)[0]
    staged_model.prune_intermediate_layers([1], prune_head=False)
    assert torch.equal(staged_model(images), expected)
    assert staged_model.num_features == staged_model.head_hidden_size == 16
    assert staged_model.num_classes == 0
    staged_model.reset_classifier(5)
    assert staged_model(images).shape == (2, 5)


def test_grad_checkpointing_changes_no_intermediate(any_model, images):
    expected = any_model.forward_intermediates(images, intermediates_only=True)
    any_model.set_grad_checkpointing()
    any_model.train()
    features = any_model.forward_intermediates(images, intermediates_only=True)
    for pair in zip(features, expected, strict=True):
        torch.testing.assert_close(*pair)


# Fine-tuning


def test_layer_wise_decay_grows_from_the_stem_to_the_head(register):
    model = timm.create_model(register("caformer_s18"))
    groups = timm.optim.param_groups_layer_decay(model, weight_decay=0.05, layer_decay=0.5)
    scales = {id(parameter): group["lr_scale"] for group in groups for parameter in group["params"]}
    path = [model.stages[0].patch_embed.conv, *(stage.blocks[0].channel_mlp.fc1 for stage in model.stages)]
    found = [scales[id(module.weight)] for module in (*path, model.head.fc)]
    assert found == sorted(set(found))
    assert found[-1] == 1


def test_timm_makes_an_optimizer_of_the_groups(register):
    model = timm.create_model(register("poolformer_s12"))
    optimizer = timm.optim.create_optimizer_v2(model, opt="adamw", lr=1e-3, weight_decay=0.05, layer_decay=0.75)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))


def test_a_new_classifier_is_in_the_mode_of_the_model(register):
    model = timm.create_model(register("caformer_s18"), drop_rate=0.5).eval()
    model.reset_classifier(4)
    assert not any(module.training for module in model.modules())


def test_a_classifier_after_a_kept_grid_brings_the_mean_back(any_model, images):
    any_model.reset_classifier(0, "")
    any_model.reset_classifier(4)
    assert any_model(images).shape == (2, 4)


# Weights


def weights_file(config, layout, path):
    """Weights as another repository would save them, and the model in our layout that they belong to."""
    model = trained(MetaFormer(replace(config, head=LAYOUTS[layout].head(config.head))))
    state, left_over = LAYOUTS[layout].export(model.state_dict(), config)
    assert left_over == []
    if path.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    else:
        torch.save({"state_dict": state, "epoch": 3}, path)
    return model


LAYOUT_OF = [
    ("metaformer", "randformer_s12"),
    ("sail-sg/poolformer", "metaformer_ppaa_s12_224"),
    ("sail-sg/metaformer", "caformer_s18"),
    ("timm", "poolformer_s12"),
    ("timm", "caformer_s18"),
    ("huggingface", "poolformer_s12"),
    ("mmpretrain", "poolformer_s12"),
]


@pytest.mark.parametrize("suffix", [".safetensors", ".pth.tar"])
@pytest.mark.parametrize(("layout", "name"), LAYOUT_OF)
def test_weights_of_every_layout_load_through_timm(register, tmp_path, images, layout, name, suffix):
    file = tmp_path / f"weights{suffix}"
    expected = weights_file(small(name), layout, file)
    model = timm.create_model(register(name), pretrained=True, pretrained_cfg_overlay={"file": str(file)}).eval()
    assert torch.equal(model(images), expected(images))
    assert torch.equal(mf.create_model(small(name), weights=file).eval()(images), expected(images))


@pytest.mark.parametrize(("layout", "name"), LAYOUT_OF)
def test_weights_are_adapted_to_classes_and_channels(register, tmp_path, images, layout, name):
    file = tmp_path / "weights.safetensors"
    expected = weights_file(small(name), layout, file)
    overlay = {"file": str(file)}
    model = timm.create_model(
        register(name), pretrained=True, pretrained_cfg_overlay=overlay, in_chans=1, num_classes=4
    )
    grey = images[:, :1]
    assert model.eval()(grey).shape == (2, 4)
    features = expected.forward_features(grey.expand(-1, 3, -1, -1))
    torch.testing.assert_close(model.forward_features(grey), features, rtol=1e-3, atol=1e-3)
    headless = timm.create_model(
        f"mf_small_{name}", pretrained=True, pretrained_cfg_overlay=overlay, num_classes=0
    ).eval()
    pooled = expected.forward_head(expected.forward_features(images), pre_logits=True)
    assert torch.equal(headless(images), pooled)


def test_weights_may_lie_inside_a_checkpoint(register, images):
    model = trained(MetaFormer(small("poolformer_s12")))
    checkpoint = {"state_dict": {f"module.{name}": tensor for name, tensor in model.state_dict().items()}, "epoch": 3}
    name = register("poolformer_s12")
    loaded = timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"state_dict": checkpoint})
    assert torch.equal(loaded.eval()(images), model(images))


def test_feature_models_load_weights(register, tmp_path, images):
    file = tmp_path / "weights.safetensors"
    expected = weights_file(small("caformer_s18"), "timm", file)
    model = timm.create_model(
        register("caformer_s18"), pretrained=True, pretrained_cfg_overlay={"file": str(file)}, features_only=True
    )
    features = expected.forward_intermediates(images, intermediates_only=True)
    assert all(torch.equal(*pair) for pair in zip(model.eval()(images), features, strict=True))


def test_weights_tied_to_a_grid_are_resized(register, tmp_path):
    config = small("metaformer_ppaa_s12_224")
    file = tmp_path / "weights.safetensors"
    weights_file(config, "sail-sg/poolformer", file)
    name = register("metaformer_ppaa_s12_224")
    model = timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"file": str(file)}, img_size=(96, 128))
    expected = mf.create_model(config, weights=file, image_size=(96, 128))
    x = torch.randn(1, 3, 96, 128)
    assert torch.equal(model.eval()(x), expected.eval()(x))


def test_weights_of_another_model_are_refused(register, tmp_path):
    file = tmp_path / "weights.safetensors"
    weights_file(small("poolformer_s12"), "timm", file)
    name = register("poolformerv2_s12")
    with pytest.raises(ConfigError, match=r"weights\.safetensors do not fit the model"):
        timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"file": str(file)}, num_classes=4)


def test_weights_for_other_classes_than_timm_was_told_are_refused(register, tmp_path):
    file = tmp_path / "weights.safetensors"
    weights_file(replace(small("poolformer_s12"), num_classes=6), "timm", file)
    name = register("poolformer_s12")
    with pytest.raises(RuntimeError, match=r"size mismatch for head\.fc\.weight"):
        timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"file": str(file)})
    overlay = {"file": str(file), "num_classes": 6}
    assert timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay).num_classes == 6


# The hub, as a folder


def saved(model, folder, **options):
    timm.models.save_for_hf(model, str(folder), **options)
    return f"local-dir:{folder}"


@pytest.mark.parametrize("safe_serialization", [False, True], ids=["pickle", "safetensors"])
@pytest.mark.parametrize("name", ["poolformer_s12", "metaformer_ppff_s12_224", "randformer_s12", "caformer_s18"])
def test_a_model_comes_back_from_a_folder(register, tmp_path, images, name, safe_serialization):
    model = trained(timm.create_model(register(name), num_classes=6))
    source = saved(model, tmp_path, safe_serialization=safe_serialization)
    assert json.loads((tmp_path / "config.json").read_text())["architecture"] == f"mf_small_{name}"
    back = timm.create_model(source, pretrained=True).eval()
    assert torch.equal(back(images), model(images))
    assert back.config == model.config


def test_a_model_of_the_zoo_comes_back_from_a_folder(tmp_path):
    model = timm.create_model("mf_poolformer_s12", num_classes=3).eval()
    back = timm.create_model(saved(model, tmp_path), pretrained=True).eval()
    assert json.loads((tmp_path / "config.json").read_text())["architecture"] == "mf_poolformer_s12"
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(back(x), model(x))


def test_a_model_of_this_package_goes_to_timm(register, tmp_path):
    architecture = {"pretrained_cfg": {"architecture": register("metaformer_ppaa_s12_224")}}
    config = replace(small("metaformer_ppaa_s12_224"), image_size=(64, 96), num_classes=4)
    model = trained(MetaFormer(config))
    source = saved(model, tmp_path, model_config=architecture)
    x = torch.randn(1, 3, 64, 96)
    assert torch.equal(timm.create_model(source, pretrained=True).eval()(x), model(x))


def test_a_changed_model_comes_back_as_it_was_saved(register, tmp_path):
    model = timm.create_model(register("metaformer_ppff_s12_224"), img_size=(64, 96), in_chans=2)
    model.reset_classifier(5)
    source = saved(trained(model), tmp_path)
    x = torch.randn(1, 2, 64, 96)
    assert torch.equal(timm.create_model(source, pretrained=True).eval()(x), model(x))
    # And may change once more: the grid it was trained for stands in its config.json.
    other = timm.create_model(source, pretrained=True, img_size=(96, 96), in_chans=1, num_classes=0)
    assert other(torch.randn(1, 1, 96, 96)).shape == (1, 64)


def test_a_model_without_a_classifier_comes_back_with_one(register, tmp_path, images):
    source = saved(timm.create_model(register("caformer_s18"), num_classes=0), tmp_path)
    assert timm.create_model(source, pretrained=True, num_classes=4)(images).shape == (2, 4)


def test_a_model_that_took_the_head_of_timm_keeps_it(register, tmp_path, images):
    file = tmp_path / "weights.safetensors"
    expected = weights_file(small("poolformer_s12"), "timm", file)
    overlay = {"file": str(file)}
    model = timm.create_model(register("poolformer_s12"), pretrained=True, pretrained_cfg_overlay=overlay)
    source = saved(model, tmp_path / "hub")
    assert torch.equal(timm.create_model(source, pretrained=True).eval()(images), expected(images))
    assert model.config.head.norm_after_pooling
