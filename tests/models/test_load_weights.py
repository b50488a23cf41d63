import re
from dataclasses import dataclass, replace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from metaformer.block.token_mixers import RandomMixingConfig, SpatialMLPConfig
from metaformer.core.errors import ConfigError, DataError
from metaformer.models.create import create_model
from metaformer.models.load_weights import load_weights, tied_modules
from metaformer.models.metaformer import MetaFormer
from metaformer.models.weights import Weights, save_weights


@pytest.fixture
def file(tmp_path):
    return tmp_path / "model.safetensors"


def saved(model, file):
    save_weights(model, file)
    return file


@pytest.fixture
def tied(small):
    """Position embeddings, a random matrix and a spatial MLP in one model; built for 64x64 pixels."""
    mixers = (*small.token_mixers[:2], RandomMixingConfig(), SpatialMLPConfig(bias=True))
    return replace(small, token_mixers=mixers, position_embedding_stages=(1,))


FIRST = "stages.0.patch_embed.conv.weight"
TIED = [
    "stages.1.position_embed.weight",
    "stages.2.blocks.0.token_mixer.random_matrix",
    "stages.3.blocks.0.token_mixer.fc.weight",
    "stages.3.blocks.0.token_mixer.fc.bias",
]


def test_a_model_scores_as_the_one_that_was_saved(any_model, images, file):
    other = MetaFormer(any_model.config).eval()
    report = load_weights(other, saved(any_model, file))
    assert torch.equal(other(images), any_model(images))
    assert report.matched == list(any_model.state_dict())
    assert (report.resized, report.missing, report.unexpected) == ({}, [], [])


def test_the_report_reads_as_text(small, file):
    model = MetaFormer(small)
    report = load_weights(model, saved(model, file))
    num_tensors = len(model.state_dict())
    assert str(report) == f"source   {file}\nlayout   metaformer\nmatched  {num_tensors} tensors as they are"


@pytest.mark.parametrize("image_size", [(96, 96), (128, 64), (32, 32)], ids=str)
def test_what_is_tied_to_a_grid_is_resized_and_reported(tied, file, image_size):
    saved(MetaFormer(tied), file)
    model = MetaFormer(replace(tied, image_size=image_size)).eval()
    report = load_weights(model, file)
    assert list(report.resized) == TIED
    assert set(report.matched) == set(model.state_dict()) - set(TIED)
    assert (report.missing, report.unexpected) == ([], [])
    old, new = tied.grids[1], model.config.grids[1]
    assert report.resized[TIED[0]] == f"grid {old[0]}x{old[1]} to {new[0]}x{new[1]}"
    assert re.search(rf"^resized {TIED[0]} +grid 8x8 to {new[0]}x{new[1]}$", str(report), re.MULTILINE)
    assert model(torch.randn(2, 3, *image_size)).isfinite().all()


def test_each_part_is_resized_by_its_own_rule(tied, file):
    old = MetaFormer(tied)
    nn.init.normal_(old.stages[1].position_embed.weight)
    saved(old, file)
    new = create_model(tied, weights=file, image_size=96)
    for (path, source), (_, target) in zip(tied_modules(old), tied_modules(new), strict=True):
        expected = source.resize(source.state_dict(), source.grid, target.grid)
        torch.testing.assert_close(dict(target.state_dict()), expected, msg=path)


def test_resizing_keeps_what_a_smooth_embedding_says(tied, file):
    old = MetaFormer(tied)
    with torch.no_grad():
        old.stages[1].position_embed.weight.copy_(torch.linspace(-1, 1, 8)[:, None].expand(8, 8))
    new = create_model(tied, weights=saved(old, file), image_size=128)
    assert new.stages[1].position_embed.weight.mean(dim=(0, 1, 3)).diff().min() > 0


def test_a_resized_random_matrix_still_averages(tied, file):
    new = create_model(tied, weights=saved(MetaFormer(tied), file), image_size=(96, 64))
    matrix = new.stages[2].blocks[0].token_mixer.random_matrix
    torch.testing.assert_close(matrix.sum(dim=-1), torch.ones(24))


def test_a_resized_position_embedding_still_learns(tied, file):
    new = create_model(tied, weights=saved(MetaFormer(tied), file), image_size=96)
    new(torch.randn(1, 3, 96, 96)).sum().backward()
    assert new.stages[1].position_embed.weight.grad is not None


def test_a_turned_grid_is_another_grid_though_it_has_as_many_tokens(tied, file):
    saved(MetaFormer(replace(tied, image_size=(128, 64))), file)
    model = MetaFormer(replace(tied, image_size=(64, 128)))
    assert load_weights(model, file).resized == {
        TIED[0]: "grid 16x8 to 8x16",
        TIED[1]: "grid 8x4 to 4x8",
        TIED[2]: "grid 4x2 to 2x4",
        TIED[3]: "grid 4x2 to 2x4",
    }


def test_weights_without_a_config_are_taken_to_be_square(tied, file):
    old = MetaFormer(tied)
    save_file({name: tensor.contiguous() for name, tensor in old.state_dict().items()}, file)
    with_config = create_model(tied, weights=saved(old, file.with_name("b.safetensors")), image_size=(96, 64))
    without = create_model(tied, weights=file, image_size=(96, 64))
    torch.testing.assert_close(without.state_dict(), with_config.state_dict())


def test_weights_without_a_config_keep_a_grid_of_as_many_tokens(tied, file):
    oblong = MetaFormer(replace(tied, image_size=(128, 64), position_embedding_stages=()))
    save_file({name: tensor.contiguous() for name, tensor in oblong.state_dict().items()}, file)
    assert load_weights(MetaFormer(oblong.config), file).resized == {}


def test_weights_without_a_config_for_an_unknown_oblong_grid_are_refused(tied, file):
    oblong = MetaFormer(replace(tied, image_size=(128, 64)))
    save_file({name: tensor.contiguous() for name, tensor in oblong.state_dict().items()}, file)
    message = (
        "weights for 32 tokens do not say which grid they are for, and 32 is no square. "
        "Create the model with the image_size they were trained at."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        load_weights(MetaFormer(tied), file)


def test_a_classifier_for_other_classes_is_left_out_and_reported(small, images, file):
    old, new = MetaFormer(small).eval(), MetaFormer(replace(small, num_classes=3)).eval()
    first = new.head.fc.weight.clone()
    report = load_weights(new, saved(old, file))
    assert report.missing == ["head.fc.weight", "head.fc.bias"]
    assert report.unexpected == []
    assert torch.equal(new.head.fc.weight, first)
    assert torch.equal(new.forward_features(images), old.forward_features(images))
    assert report.notes == ["classifier of 10 classes left out; the model has its own, untrained"]


def test_more_channels_repeat_the_given_ones_scaled_and_reported(small, file):
    old, new = MetaFormer(small), MetaFormer(replace(small, in_chans=4))
    report = load_weights(new, saved(old, file))
    torch.testing.assert_close(new.state_dict()[FIRST], old.state_dict()[FIRST][:, [0, 1, 2, 0]] * 3 / 4)
    assert report.resized == {FIRST: "3 channels to 4"}


def test_a_missing_tensor_is_refused(small, file):
    state = MetaFormer(small).state_dict()
    del state["norm.weight"]
    save_file(state, file)
    message = f"the weights of {file} do not fit the model: missing norm.weight. Create the model that they come from."
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        load_weights(MetaFormer(small), file)


def test_an_unexpected_tensor_is_refused(small, file):
    save_file(MetaFormer(small).state_dict() | {"extra": torch.ones(1)}, file)
    with pytest.raises(ConfigError, match=r"do not fit the model: unexpected extra\. Create"):
        load_weights(MetaFormer(small), file)


def test_a_model_without_a_classifier_takes_weights_that_have_one(small, images, file):
    old, new = MetaFormer(small).eval(), MetaFormer(replace(small, num_classes=0)).eval()
    report = load_weights(new, saved(old, file))
    assert sorted(report.unexpected) == ["head.fc.bias", "head.fc.weight"]
    assert report.missing == []
    assert torch.equal(new.forward_features(images), old.forward_features(images))


def test_a_new_classifier_takes_weights_that_have_none(small, file):
    saved(MetaFormer(replace(small, num_classes=0)), file)
    report = load_weights(MetaFormer(small), file)
    assert report.missing == ["head.fc.weight", "head.fc.bias"]


def test_a_backbone_without_a_classifier_is_fine_and_reported(small, file):
    state = {name: tensor for name, tensor in MetaFormer(small).state_dict().items() if "head" not in name}
    save_file(state, file)
    report = load_weights(MetaFormer(small), file)
    assert report.missing == ["head.fc.weight", "head.fc.bias"]
    assert report.notes == ["no classifier in the file; the model has its own, untrained"]
    assert create_model(small, weights=file).num_classes == 0
    assert create_model(small, weights=file, num_classes=3).num_classes == 3


def test_half_a_classifier_is_refused(small, file):
    state = MetaFormer(small).state_dict()
    del state["head.fc.bias"]
    save_file(state, file)
    with pytest.raises(ConfigError, match=r"missing head\.fc\.bias\."):
        load_weights(MetaFormer(small), file)


def test_many_mistakes_are_counted(small, file):
    state = MetaFormer(small).state_dict()
    save_file({"norm.weight": state["norm.weight"], FIRST: state[FIRST], "extra": torch.ones(1)}, file)
    # A head that is not there at all is the model's own.
    num_more = len(state) - 2 + 1 - 3 - 3
    with pytest.raises(ConfigError, match=rf"missing [\w.]+, missing [\w.]+, missing [\w.]+ and {num_more} more\."):
        load_weights(MetaFormer(small), file)


def test_weights_of_no_known_model_are_refused(small, file):
    save_file({"extra": torch.ones(1)}, file)
    with pytest.raises(ConfigError, match=r"have none of the layouts that are known \(metaformer, .*: they hold extra"):
        load_weights(MetaFormer(small), file)


def test_not_strict_loads_what_fits_and_reports_the_rest(small, file):
    source = MetaFormer(small)
    state = source.state_dict() | {"extra": torch.ones(1)}
    del state["norm.weight"]
    save_file(state, file)
    model = MetaFormer(small)
    report = load_weights(model, file, strict=False)
    assert (report.missing, report.unexpected) == (["norm.weight"], ["extra"])
    assert torch.equal(model.head.fc.weight, source.head.fc.weight)


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "not strict"])
def test_a_tensor_of_another_shape_is_refused_always(small, file, strict):
    saved(MetaFormer(replace(small, dims=(8, 16, 40, 72))), file)
    message = (
        f"the weights of {file} do not fit the model: stages.3.patch_embed.conv.weight is 72x40x3x3 there and "
        "64x40x3x3 here. Create the model that they come from."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        load_weights(MetaFormer(small), file, strict=strict)


def test_a_refused_file_leaves_the_model_as_it_was(small, file):
    save_file(MetaFormer(small).state_dict() | {"extra": torch.ones(1)}, file)
    model = MetaFormer(small)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ConfigError):
        load_weights(model, file)
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)


def test_weights_already_read_may_be_given(small):
    source, model = MetaFormer(small), MetaFormer(small)
    load_weights(model, Weights(source="memory", state=source.state_dict(), config=None))
    torch.testing.assert_close(model.state_dict(), source.state_dict(), rtol=0, atol=0)


def test_weights_of_another_precision_are_converted(small, file):
    source = MetaFormer(small)
    saved(source.half(), file)
    model = MetaFormer(small)
    load_weights(model, file)
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}
    assert torch.equal(model.head.fc.weight, source.head.fc.weight.float())


@dataclass(frozen=True)
class OutsideConfig:
    def build(self, site):
        return nn.Dropout2d(0.0)


def test_a_mixer_from_outside_is_named_by_the_model_that_has_it(small, file):
    config = replace(small, token_mixers=(OutsideConfig(),) * 4)
    model = create_model(config, weights=saved(MetaFormer(config), file))
    assert load_weights(model, file).missing == []


def test_a_mixer_from_outside_that_the_model_has_not_is_refused(small, file):
    saved(MetaFormer(replace(small, token_mixers=(OutsideConfig(),) * 4)), file)
    with pytest.raises(DataError, match="comes from outside this package, and a file never imports code"):
        create_model(small, weights=file)


def test_a_damaged_file_leaves_the_model_as_it_was(small, file):
    saved(MetaFormer(small), file)
    file.write_bytes(file.read_bytes()[:-100])
    model = MetaFormer(small)
    before = model.head.fc.weight.clone()
    with pytest.raises(DataError):
        load_weights(model, file)
    assert torch.equal(model.head.fc.weight, before)
