from dataclasses import replace

import pytest
import torch

from metaformer.core.errors import ConfigError, DataError
from metaformer.deploy.classifier import (
    Classifier,
    choose_device,
    imagenet_names,
    imagenet_synsets,
    open_classifier,
    scorer,
)
from metaformer.models.metaformer import MetaFormer
from metaformer.models.weights import save_weights
from metaformer.models.zoo import ZOO


def test_a_run_folder_is_all_that_is_needed(digits_run):
    classifier = open_classifier(None, digits_run)
    assert classifier.class_names == tuple("0123456789")
    assert not classifier.model.training
    config = classifier.model.config
    transform = classifier.transform()
    assert (transform.image_size, transform.in_chans) == ((16, 16), 1)
    assert transform.model_input == config.model_input
    # The folder may stand where the model's name does.
    assert open_classifier(str(digits_run), None).class_names == classifier.class_names


def test_a_head_that_was_never_trained_is_refused(tmp_path, small):
    with pytest.raises(ConfigError, match=r"poolformer_s12 without --weights has a head that was never trained.*http"):
        open_classifier("poolformer_s12", None)
    save_weights(MetaFormer(replace(small, num_classes=0)), tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match="have no classifier"):
        open_classifier(None, tmp_path)
    with pytest.raises(ConfigError, match="no model: name one of the zoo"):
        open_classifier(None, None)


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("poolformer_s21", "x.pth", r"'poolformer_s21' is no model of the zoo. Did you mean 'poolformer_s24'\?"),
        ("runs/nothing", None, r"'runs/nothing' is no model of the zoo, and no folder with model.safetensors"),
        (None, "/nowhere", "no weights at /nowhere"),
    ],
)
def test_what_is_not_there_is_one_line(name, weights, message):
    with pytest.raises((ConfigError, DataError), match=message):
        open_classifier(name, weights)


def test_the_weights_of_another_model_are_refused(digits_run):
    with pytest.raises(ConfigError, match=r"do not fit poolformer_s12: .* leave the name out"):
        open_classifier("poolformer_s12", digits_run)


def test_foreign_weights_say_which_model_they_are(tmp_path):
    model = MetaFormer(ZOO["poolformer_s12"])
    torch.save(model.state_dict(), tmp_path / "poolformer_s12.pth")
    classifier = open_classifier(None, tmp_path / "poolformer_s12.pth")
    assert classifier.name == "poolformer_s12"
    assert classifier.class_names == ()
    named = imagenet_names(classifier)
    assert named.name_of(0) == "tench"
    assert len(named.class_names) == len(imagenet_synsets()) == 1000
    assert imagenet_synsets()[0] == "n01440764"


def test_names_of_ones_own_are_kept(small):
    classifier = Classifier(model=MetaFormer(small), class_names=tuple("abcdefghij"))
    assert imagenet_names(classifier) is classifier
    assert classifier.name_of(1) == "b"
    assert Classifier(model=MetaFormer(small)).name_of(1) == "1"


def test_devices():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(ConfigError, match=r"unknown device 'gpu0'"):
        choose_device("gpu0")


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_precisions_give_nearly_the_same_scores(small, precision, images):
    model = MetaFormer(small).train()
    exact = scorer(model, "32-true", fast=False)(images)
    scores = scorer(model, precision, fast=False)(images)
    assert scores.dtype == torch.float32
    assert model.training
    assert not scores.requires_grad
    torch.testing.assert_close(scores, exact, atol=0.05, rtol=0.05)
    assert torch.equal(scores, exact) is (precision == "32-true")
    # A faster form may be more exact than what was asked for.
    torch.testing.assert_close(scorer(model, precision)(images), exact, atol=0.05, rtol=0.05)


def test_an_unknown_precision_names_the_nearest(small):
    with pytest.raises(ConfigError, match=r"unknown precision 'bf16'. Did you mean 'bf16-mixed'"):
        scorer(MetaFormer(small), "bf16")
