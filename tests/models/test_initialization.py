from dataclasses import replace

import pytest
import torch
from torch import nn

from metaformer.block.token_mixers import AttentionConfig, PoolingConfig
from metaformer.models.metaformer import MetaFormer
from metaformer.models.zoo import ZOO


def state_of(config, seed=0):
    torch.manual_seed(seed)
    return MetaFormer(config).state_dict()


def differing(first, second):
    return {name for name in first.keys() & second.keys() if not torch.equal(first[name], second[name])}


def test_the_seed_decides_every_weight(any_config):
    assert differing(state_of(any_config), state_of(any_config)) == set()


def test_another_seed_gives_other_weights(any_config):
    changed = differing(state_of(any_config, seed=0), state_of(any_config, seed=1))
    assert {name for name in changed if name.endswith("conv.weight") and "patch_embed" in name} == {
        f"stages.{stage}.patch_embed.conv.weight" for stage in range(any_config.num_stages)
    }


def test_models_that_differ_in_the_token_mixer_alone_share_every_other_weight(small, mixer_config):
    pooling = state_of(small)
    other = state_of(replace(small, token_mixers=(mixer_config,) * 4))
    assert pooling.keys() <= other.keys()
    assert differing(pooling, other) == set()


def test_a_mixer_in_one_stage_leaves_the_mixers_of_other_stages_alone(small):
    attention = AttentionConfig(head_dim=8)
    hybrid = state_of(replace(small, token_mixers=(PoolingConfig(), PoolingConfig(), PoolingConfig(), attention)))
    full = state_of(replace(small, token_mixers=(attention,) * 4))
    assert hybrid.keys() < full.keys()
    assert differing(hybrid, full) == set()


def test_more_classes_or_a_deeper_last_stage_leave_the_other_weights_alone(small):
    changed = replace(small, num_classes=7, depths=(1, 1, 1, 3))
    assert differing(state_of(small), state_of(changed)) == {"head.fc.weight", "head.fc.bias"}


def test_two_blocks_of_a_stage_draw_different_weights(small):
    state = state_of(replace(small, depths=(2, 1, 1, 1)))
    first, second = (state[f"stages.0.blocks.{block}.channel_mlp.fc1.weight"] for block in range(2))
    assert not torch.equal(first, second)


def test_first_weights_are_the_papers(any_config):
    for name, module in MetaFormer(any_config).named_modules():
        pointwise = isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1)
        if isinstance(module, nn.Linear) or pointwise:
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.2), name
            assert module.weight.abs().max() < 0.02 * 6, name
            assert module.bias is None or torch.count_nonzero(module.bias) == 0, name


def test_without_a_fixed_spread_it_follows_the_fan_in(any_config):
    for name, module in MetaFormer(replace(any_config, init_std=None)).named_modules():
        pointwise = isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1)
        if (isinstance(module, nn.Linear) or pointwise) and module.weight.numel() >= 256:
            fan_in = module.weight.shape[1]
            assert module.weight.std().item() == pytest.approx(fan_in**-0.5, rel=0.2), name


@pytest.mark.parametrize(
    "name", ["identityformer_s12", "randformer_s12", "poolformerv2_s12", "convformer_s18", "caformer_s18"]
)
def test_every_convolution_of_the_second_papers_models_starts_as_its_authors_have_it(name):
    for path, module in MetaFormer(replace(ZOO[name], depths=(1,) * 4)).named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.1), path
            assert module.bias is None or torch.count_nonzero(module.bias) == 0, path


def test_convolutions_of_the_first_papers_models_keep_pytorchs_first_weights():
    stem = MetaFormer(replace(ZOO["poolformer_s12"], depths=(1,) * 4)).stages[0].patch_embed.conv
    assert stem.weight.std().item() == pytest.approx((3 * 3 * 7 * 7) ** -0.5, rel=0.1)
    assert torch.count_nonzero(stem.bias) == stem.bias.numel()


def test_building_seeds_nothing_for_later(small):
    torch.manual_seed(0)
    MetaFormer(small)
    first = torch.rand(1)
    torch.manual_seed(1)
    MetaFormer(small)
    assert not torch.equal(torch.rand(1), first)


def test_patch_embeddings_keep_pytorchs_first_weights(small):
    conv = MetaFormer(small).stages[0].patch_embed.conv
    bound = (1 / (3 * 7 * 7)) ** 0.5
    assert conv.weight.abs().max() <= bound
    assert conv.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)
    assert torch.count_nonzero(conv.bias) == conv.bias.numel()


def test_a_model_can_be_built_on_the_meta_device(small):
    with torch.device("meta"):
        model = MetaFormer(small)
    assert {tensor.device.type for tensor in model.state_dict().values()} == {"meta"}
