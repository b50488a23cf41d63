import re
from dataclasses import replace

import pytest
import torch

from metaformer.core.errors import ConfigError, DataError
from metaformer.core.preprocessing import Preprocessing
from metaformer.models.create import create_model
from metaformer.models.metaformer import MetaFormer
from metaformer.models.timm_model import TimmModelConfig
from metaformer.models.weights import save_weights
from metaformer.models.zoo import ZOO, list_models


@pytest.fixture
def stored(small, tmp_path):
    """A model with facts that differ from every default, and the folder of its weights."""
    config = replace(small, num_classes=7, in_chans=4, image_size=(96, 64))
    model = MetaFormer(replace(config, preprocessing=Preprocessing(mean=(0.1,) * 4, std=(0.2,) * 4))).eval()
    save_weights(model, tmp_path / "model.safetensors")
    return model, tmp_path


@pytest.mark.parametrize("name", list_models())
def test_every_name_gives_the_model_of_its_row(name):
    with torch.device("meta"):
        model = create_model(name)
    assert model.config == ZOO[name]
    assert (model.config.num_classes, model.config.in_chans) == (1000, 3)


def test_an_unknown_model_names_the_nearest():
    message = f"unknown model 'poolfomer_s12'. Did you mean 'poolformer_s12'? Known: {', '.join(list_models())}."
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        create_model("poolfomer_s12")


def test_a_config_does_as_well_as_a_name(small):
    assert create_model(small).config == small


def test_what_is_given_changes_the_config(small):
    model = create_model(small, num_classes=5, in_chans=1, image_size=(96, 128), drop_path=0.25)
    assert model.config == replace(small, num_classes=5, in_chans=1, image_size=(96, 128), drop_path=0.25)
    assert model(torch.randn(2, 1, 96, 128)).shape == (2, 5)


def test_one_side_means_a_square(small):
    assert create_model(small, image_size=96).config.image_size == (96, 96)


def test_0_classes_are_not_the_default(small):
    assert create_model(small, num_classes=0).num_classes == 0


def test_an_image_smaller_than_the_total_stride_is_refused():
    message = (
        r"^MetaFormerConfig\.image_size must be at least 32x32 pixels, the total stride; "
        r"got 16x16\.$"
    )
    with pytest.raises(ConfigError, match=message):
        create_model("poolformer_s12", image_size=16)


def test_a_misspelt_option_fails(small):
    with pytest.raises(TypeError, match="unexpected keyword argument 'num_class'"):
        create_model(small, num_class=5)


def test_what_is_not_given_comes_from_the_weights(small, stored):
    model, folder = stored
    created = create_model(small, weights=folder).eval()
    assert created.config == model.config
    x = torch.randn(2, 4, 96, 64)
    assert torch.equal(created(x), model(x))


def test_the_file_itself_may_be_named(small, stored):
    model, folder = stored
    created = create_model(small, weights=str(folder / "model.safetensors"))
    assert torch.equal(created.head.fc.weight, model.head.fc.weight)


def test_the_classifier_is_replaced_only_for_another_number_of_classes(small, stored):
    model, folder = stored
    kept, replaced = (create_model(small, weights=folder, num_classes=num) for num in (7, 3))
    assert torch.equal(kept.head.fc.weight, model.head.fc.weight)
    assert replaced.head.fc.weight.shape == (3, 64)
    assert torch.equal(replaced.stages[0].patch_embed.conv.weight, model.stages[0].patch_embed.conv.weight)


def test_without_classes_the_classifier_of_the_weights_is_dropped(small, stored):
    model, folder = stored
    created = create_model(small, weights=folder, num_classes=0).eval()
    x = torch.randn(1, 4, 96, 64)
    torch.testing.assert_close(created(x), model.forward_head(model.forward_features(x), pre_logits=True))


def test_another_size_than_that_of_the_weights_may_be_asked(small, stored):
    _, folder = stored
    created = create_model(small, weights=folder, image_size=128)
    assert created.config.image_size == (128, 128)


def test_weights_of_another_number_of_channels_are_adapted(small, stored):
    model, folder = stored
    grey = create_model(small, weights=folder, in_chans=1).eval()
    x = torch.randn(2, 1, 96, 64)
    torch.testing.assert_close(grey(x), model(x.expand(2, 4, 96, 64)), rtol=1e-4, atol=1e-5)


def test_weights_of_another_architecture_do_not_fit(small, stored):
    _, folder = stored
    message = r"do not fit the model: missing stages\.0\.blocks\.1\."
    with pytest.raises(ConfigError, match=message):
        create_model(replace(small, depths=(2, 1, 1, 1)), weights=folder)


def test_missing_weights_are_a_data_error(small, tmp_path):
    message = rf"^no weights at {re.escape(str(tmp_path / 'model.safetensors'))}: there is no such file\.$"
    with pytest.raises(DataError, match=message):
        create_model(small, weights=tmp_path)


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"num_classes": "10"},
            "MetaFormerConfig.num_classes must be a whole number; got '10'. 0 leaves the classifier out.",
        ),
        (
            {"num_classes": 10**9},
            "MetaFormerConfig.num_classes must be at most 100,000,000; got 1000000000. 0 leaves the",
        ),
        ({"image_size": 224.0}, "MetaFormerConfig.image_size[0] must be a whole number; got 224.0."),
        ({"image_size": "224"}, "MetaFormerConfig.image_size[0] must be a whole number; got '224'."),
        ({"image_size": (224, 224, 3)}, "MetaFormerConfig.image_size must be at least 32x32x32 pixels"),
        ({"in_chans": 3.0}, "MetaFormerConfig.in_chans must be a whole number; got 3.0. RGB has 3."),
        ({"drop_path": "0.1"}, "MetaFormerConfig.drop_path must be a number; got '0.1'."),
        ({"drop_path": float("nan")}, "MetaFormerConfig.drop_path must be a finite number; got nan."),
        ({"weights": 5}, "weights must be a path, a URL or a hub id (hf://owner/name); got 5."),
    ],
    ids=str,
)
def test_a_value_of_the_wrong_kind_is_one_line(small, options, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        create_model(small, **options)


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize("what", [5, None, TimmModelConfig(name="resnet18")], ids=["number", "nothing", "timm"])
def test_what_is_no_model_is_one_line(what):
    with pytest.raises(
        ConfigError, match=r"^a model is a name of the zoo \(see list_models\(\)\) or a MetaFormerConfig; got "
    ):
        create_model(what)
