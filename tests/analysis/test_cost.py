import re
from dataclasses import replace
from functools import cache
from math import prod

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from metaformer.analysis.cost import profile
from metaformer.block.token_mixers import DepthwiseConvConfig, RandomMixingConfig, SpatialMLPConfig
from metaformer.core.errors import ConfigError, ShapeError
from metaformer.fast.backends import native_backend, plain_backend
from metaformer.fast.for_training import for_training
from metaformer.fast.stage import folded
from metaformer.models.create import create_model
from metaformer.models.metaformer import MetaFormer
from metaformer.models.zoo import POOLFORMER_S12, ZOO
from metaformer.ops.native.library import library_or_reason


@cache
def cost_of(config, image_size=224):
    with torch.device("meta"):
        model = MetaFormer(config)
    return profile(model, image_size)


# Millions of parameters and billions of multiply-adds: arXiv:2111.11418, Tables 1 and 5.
PAPER = {
    "poolformer_s12": (11.9, 1.82),
    "poolformer_s24": (21.4, 3.41),
    "poolformer_s36": (30.9, 5.00),
    "poolformer_m36": (56.2, 8.80),
    "poolformer_m48": (73.5, 11.59),
    "metaformer_id_s12": (11.9, 1.82),
    "metaformer_pppa_s12_224": (14.0, 1.92),
    "metaformer_ppaa_s12_224": (16.5, 2.55),
    "metaformer_pppf_s12_224": (11.9, 1.82),
    "metaformer_ppff_s12_224": (12.2, 1.90),
}


@pytest.mark.parametrize("name", PAPER)
def test_costs_are_the_papers(name):
    cost = cost_of(ZOO[name])
    params, macs = PAPER[name]
    assert cost.params / 1e6 == pytest.approx(params, abs=0.051)
    assert cost.macs / 1e9 == pytest.approx(macs, abs=0.0055)
    assert cost.frozen == 0


# The same in arXiv:2210.13452, as the authors' README prints it: trained and frozen parameters, multiply-adds.
SECOND_PAPER = {
    "identityformer_s12": (11.9, 0, 1.8),
    "identityformer_s24": (21.3, 0, 3.4),
    "identityformer_s36": (30.8, 0, 5.0),
    "identityformer_m36": (56.1, 0, 8.8),
    "identityformer_m48": (73.3, 0, 11.5),
    "randformer_s12": (11.9, 0.2, 1.9),
    "randformer_s24": (21.3, 0.5, 3.5),
    "randformer_s36": (30.8, 0.7, 5.2),
    "randformer_m36": (56.1, 0.7, 9.0),
    "randformer_m48": (73.3, 0.9, 11.9),
    "poolformerv2_s12": (11.9, 0, 1.8),
    "poolformerv2_s24": (21.3, 0, 3.4),
    "poolformerv2_s36": (30.8, 0, 5.0),
    "poolformerv2_m36": (56.1, 0, 8.8),
    "poolformerv2_m48": (73.3, 0, 11.5),
    "convformer_s18": (27, 0, 3.9),
    "convformer_s18_384": (27, 0, 11.6),
    "convformer_s36": (40, 0, 7.6),
    "convformer_s36_384": (40, 0, 22.4),
    "convformer_m36": (57, 0, 12.8),
    "convformer_m36_384": (57, 0, 37.7),
    "convformer_b36": (100, 0, 22.6),
    "convformer_b36_384": (100, 0, 66.5),
    "caformer_s18": (26, 0, 4.1),
    "caformer_s18_384": (26, 0, 13.4),
    "caformer_s36": (39, 0, 8.0),
    "caformer_s36_384": (39, 0, 26.0),
    "caformer_m36": (56, 0, 13.2),
    "caformer_m36_384": (56, 0, 42.0),
    "caformer_b36": (99, 0, 23.2),
    "caformer_b36_384": (99, 0, 72.2),
}


# A family's larger sizes differ in numbers of channels and blocks alone.
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if "36" in name or "48" in name else ()) for name in SECOND_PAPER],
)
def test_costs_are_the_second_papers(name):
    cost = cost_of(ZOO[name], ZOO[name].image_size)
    params, frozen, macs = SECOND_PAPER[name]
    # Norms are written out in that code, so that its authors' count leaves them out.
    of_norms = sum(macs for path, macs in cost.macs_by_module.items() if path.endswith(("norm1", "norm2")))
    assert round(cost.params / 1e6, 0 if isinstance(params, int) else 1) == params
    assert round(cost.frozen / 1e6, 1) == frozen
    assert round((cost.macs - of_norms) / 1e9, 1) == macs


# Models of other papers, as timm's tables of benchmarks print them.
OTHER_PAPERS = {
    "deit_tiny_patch16_224": (5.72, 1.26),
    "deit_small_patch16_224": (22.05, 4.61),
    "deit_base_patch16_224": (86.57, 17.58),
    "vit_small_patch16_224": (22.05, 4.61),
    "vit_base_patch16_224": (86.57, 17.58),
    "resmlp_12_224": (15.35, 3.01),
    "resmlp_24_224": (30.02, 5.96),
    "resmlp_big_24_224": (129.14, 100.23),
    "mixer_s16_224": (18.53, 3.79),
    "mixer_b16_224": (59.88, 12.62),
    "swin_tiny_patch4_window7_224": (28.29, 4.51),
    "swin_small_patch4_window7_224": (49.61, 8.77),
    "swin_base_patch4_window7_224": (87.77, 15.47),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if "ba" in name or "big" in name else ()) for name in OTHER_PAPERS],
)
def test_costs_are_the_other_papers(name):
    cost = cost_of(ZOO[name])
    params, macs = OTHER_PAPERS[name]
    assert cost.params / 1e6 == pytest.approx(params, abs=0.0051)
    # That count takes layer norms in, at five operations a number; ours names them only.
    of_norms = 5 * cost.not_counted.get("native_layer_norm", 0)
    assert (cost.macs + of_norms) / 1e9 == pytest.approx(macs, abs=0.0051)
    assert cost.frozen == 0


def test_every_model_of_the_zoo_is_compared_with_a_paper():
    assert set(ZOO) == set(PAPER) | set(SECOND_PAPER) | set(OTHER_PAPERS)


ABLATIONS = {
    "random": ({"token_mixers": (RandomMixingConfig(),) * 4}, 11_915_176, 21_133_602, 3_315_063_296),
    "depthwise conv": ({"token_mixers": (DepthwiseConvConfig(),) * 4}, 11_948_456, 0, 1_831_936_000),
    "no channel mlp": ({"channel_mlp": None}, 2_451_368, 0, 237_593_600),
    "spatial mlp": ({"token_mixers": (SpatialMLPConfig(),) * 4}, 11_915_176 + 21_133_602, 0, 3_315_063_296),
}


@pytest.mark.parametrize(("change", "params", "frozen", "macs"), ABLATIONS.values(), ids=ABLATIONS)
def test_costs_of_the_ablation(change, params, frozen, macs):
    cost = cost_of(replace(POOLFORMER_S12, **change))
    assert (cost.params, cost.frozen, cost.macs) == (params, frozen, macs)


@pytest.mark.parametrize(
    ("name", "params", "macs"),
    [
        ("metaformer_pppa_s12_224", 14_038_440, 1_919_944_704),
        ("metaformer_ppaa_s12_224", 16_535_592, 2_549_151_744),
        ("metaformer_pppf_s12_224", 11_919_978, 1_825_137_152),
        ("metaformer_ppff_s12_224", 12_150_474, 1_898_895_872),
        ("poolformer_s12", 11_915_176, 1_822_678_528),
    ],
)
def test_costs_to_the_last_digit(name, params, macs):
    cost = cost_of(ZOO[name])
    assert (cost.params, cost.macs) == (params, macs)


def test_the_macs_of_a_convolution():
    cost = profile(nn.Conv2d(3, 8, 5, stride=2, padding=2), (32, 16))
    assert cost.input_shape == (3, 32, 16)
    assert cost.macs == 8 * 16 * 8 * 3 * 5 * 5
    assert cost.activations == 8 * 16 * 8
    assert cost.params == 3 * 8 * 25 + 8


def test_the_macs_of_a_grouped_convolution():
    assert profile(nn.Conv2d(6, 12, 3, padding=1, groups=3), 10).macs == 12 * 100 * 2 * 9


def test_the_macs_of_a_matrix_product():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 7))
    assert profile(model, 4, in_chans=3).macs == 48 * 7


@pytest.mark.parametrize(
    ("norm", "per_element"),
    [(nn.GroupNorm(1, 6), 5), (nn.BatchNorm2d(6), 2), (nn.GroupNorm(6, 6), 5)],
    ids=["group norm", "batch norm", "instance norm"],
)
def test_norms_cost_what_fvcore_says(norm, per_element):
    assert profile(norm, 10, in_chans=6).macs == per_element * 600


class SelfAttention(nn.Module):
    """N = 64 tokens of C = 32 channels; nothing but attention."""

    def forward(self, x):
        heads = x.flatten(2).mT.unflatten(2, (4, 8)).transpose(1, 2)
        return F.scaled_dot_product_attention(heads, heads, heads)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_attention_costs_2_n_n_c_on_every_device(device):
    model = nn.Sequential(nn.Conv2d(32, 32, 1, bias=False, device=device), SelfAttention())
    cost = profile(model, 8)
    assert cost.macs_by_module == {"0": 64 * 32 * 32, "1": 2 * 64 * 64 * 32}


def test_torchs_own_attention_layer_is_counted():
    layer = nn.TransformerEncoderLayer(32, 4, dim_feedforward=64, batch_first=True)
    model = nn.Sequential(nn.Conv2d(3, 32, 1), nn.Flatten(2), Transpose(), layer)
    attention = 4 * 64 * 32 * 32 + 2 * 64 * 64 * 32
    assert profile(model, 8).macs == 64 * 3 * 32 + attention + 2 * 64 * 32 * 64


class Transpose(nn.Module):
    def forward(self, x):
        return x.mT


def test_the_switches_for_fused_attention_are_put_back():
    before = torch.backends.mha.get_fastpath_enabled(), torch.backends.cuda.flash_sdp_enabled()
    profile(nn.Conv2d(3, 4, 1), 4)
    assert (torch.backends.mha.get_fastpath_enabled(), torch.backends.cuda.flash_sdp_enabled()) == before


def test_macs_by_module_sum_to_the_macs(any_model):
    cost = profile(any_model, 64)
    assert sum(cost.macs_by_module.values()) == cost.macs
    assert set(cost.macs_by_module) <= {path for path, _ in any_model.named_modules()}


def test_macs_under_a_path_are_those_of_all_inside(any_model):
    cost = profile(any_model, 64)
    num_stages = len(any_model.stages)
    parts = [f"stages.{stage}" for stage in range(num_stages)] + ["norm", "head"]
    assert sum(cost.macs_under(part) for part in parts) == cost.macs
    block = f"stages.{num_stages - 1}.blocks.0"
    num_tokens = prod(any_model.config.grids[-1])
    assert cost.macs_under(f"{block}.channel_mlp") == 2 * 4 * any_model.num_features**2 * num_tokens
    assert cost.macs_under(block) > cost.macs_under(f"{block}.channel_mlp")


def test_a_path_is_no_prefix_of_a_longer_number():
    model = nn.Sequential(*[nn.Conv2d(2, 2, 1, bias=False) for _ in range(11)])
    assert profile(model, 3).macs_under("1") == 9 * 4


def test_what_is_not_counted_is_named(small):
    not_counted = profile(MetaFormer(small), 64).not_counted
    assert {"avg_pool2d", "gelu", "mean", "add", "sub", "mul"} == set(not_counted)
    assert not_counted["avg_pool2d"] == 16**2 * 8 + 8**2 * 16 + 4**2 * 40 + 2**2 * 64


def test_layer_norm_is_named_and_not_counted():
    with torch.device("meta"):
        cost = profile(create_model("metaformer_pppa_s12_224"))
    assert "native_layer_norm" in cost.not_counted
    assert not any("norm" in path for path in cost.macs_by_module)


def test_the_model_is_left_as_it_was(any_model, images):
    expected = any_model(images)
    any_model.train()
    any_model.stages[-1].eval()
    modes = [module.training for module in any_model.modules()]
    state = {name: tensor.clone() for name, tensor in any_model.state_dict().items()}
    profile(any_model, 64)
    assert [module.training for module in any_model.modules()] == modes
    torch.testing.assert_close(dict(any_model.state_dict()), state, rtol=0, atol=0)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in any_model.modules())
    assert all(parameter.grad is None for parameter in any_model.parameters())
    assert torch.equal(any_model.eval()(images), expected)


def test_running_statistics_do_not_move():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train()
    profile(model, 8)
    assert model[1].num_batches_tracked == 0
    assert torch.equal(model[1].running_mean, torch.zeros(4))


def test_an_error_leaves_the_model_as_it_was(small):
    model = MetaFormer(replace(small, token_mixers=(RandomMixingConfig(),) * 4))
    with pytest.raises(ShapeError):
        profile(model, 96)
    assert model.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_tied_model_refuses_another_image_size(small):
    model = MetaFormer(replace(small, token_mixers=(SpatialMLPConfig(),) * 4))
    message = (
        "the spatial MLP of stages.0.blocks.0 is built for a grid of 16x16 tokens; got 24x24. "
        "Create the model with the image_size of your images"
    )
    with pytest.raises(ShapeError, match=f"^{re.escape(message)}"):
        profile(model, 96)


def test_the_real_model_costs_what_it_costs_on_the_meta_device(any_config):
    assert profile(MetaFormer(any_config), 64) == cost_of(any_config, (64, 64))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_the_dtype_does_not_matter(small, dtype):
    assert profile(MetaFormer(small).to(dtype), 64) == profile(MetaFormer(small), 64)


def test_costs_grow_with_the_pixels(small):
    sizes = [cost_of(small, size).macs for size in (64, 128, (64, 256))]
    # The classifier alone does not grow.
    assert sizes[1] - sizes[0] == 3 * (sizes[0] - 64 * 10)
    assert sizes[2] == sizes[1]


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_model_of_torchvision_can_be_profiled(device):
    with torch.device(device):
        model = torchvision.models.resnet18()
    cost = profile(model)
    assert cost.params == 11_689_512
    assert cost.frozen == 0
    assert cost.macs / 1e9 == pytest.approx(1.82, abs=0.005)
    assert cost.macs_under("layer1") > 0


def test_frozen_parameters_are_counted_apart(small):
    model = MetaFormer(small)
    everything = profile(model, 64).params
    model.stages[0].requires_grad_(False)
    cost = profile(model, 64)
    num_frozen = sum(parameter.numel() for parameter in model.stages[0].parameters())
    assert (cost.params, cost.frozen) == (everything - num_frozen, num_frozen)


def test_the_channels_of_the_first_convolution_are_taken(small):
    assert profile(MetaFormer(replace(small, in_chans=4)), 64).input_shape == (4, 64, 64)


def test_without_a_convolution_the_channels_must_be_given():
    message = "in_chans must be given: the model has no convolution that tells how many channels images have."
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        profile(nn.Sequential(nn.Flatten(), nn.Linear(48, 2)), 4)


def test_two_paths_of_one_module_are_both_counted():
    conv = nn.Conv2d(2, 2, 1, bias=False)
    assert profile(nn.Sequential(conv, conv), 3).macs == 2 * 9 * 4


@pytest.mark.parametrize("way", ["plain", "native", "compiled", "for training"])
def test_fused_operators_cost_what_the_model_costs(small, way):
    model = MetaFormer(small).eval()
    expected = profile(model, 64)
    if way == "for training":
        made = for_training(model)
    elif way == "native":
        library = library_or_reason()
        if isinstance(library, str):
            pytest.skip(f"no C++ operators here: {library}")
        made = folded(model, native_backend(library))
    else:
        made = folded(model, plain_backend(torch.float32, sliced_pooling=False))
        made = torch.compile(made) if way == "compiled" else made
    found = profile(made, 64)
    # A norm that is folded away in PyTorch is not counted.
    assert found.macs == pytest.approx(expected.macs, rel=0.05 if way in ("plain", "compiled") else 1e-3)
    assert sum(found.macs_by_module.values()) == found.macs
