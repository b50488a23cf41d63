"""What the parts of a report card are called, and when a folder is refused."""

from dataclasses import replace

import pytest

from metaformer.core.errors import ConfigError
from metaformer.recipes.card import card
from metaformer.study.card import ACCURACY, beside_references, card_study, check_source, study_name
from metaformer.study.load_mixer import load_mixer
from metaformer.study.runner import run_study

OWN = replace(load_mixer("identity"), name="shift", title="Shift", source_sha256="0123456789abcdef")


def names(mixer):
    return [row.name for row in card_study(mixer, card()).variants]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("pooling", "pooling"),
        ("pooling(pool_size=3)", "pooling"),
        ("pooling(pool_size=5)", "own_pooling"),
        ("attention(head_dim=16)", "attention"),
        ("attention(head_dim=8)", "own_attention"),
        ("identity", "identity"),
    ],
)
def test_a_card_compares_with_every_reference_but_its_own_mixer(text, name):
    mixer = beside_references(load_mixer(text), head_dim=16)
    assert mixer.name == name
    assert names(mixer) == list(dict.fromkeys([name, "pooling", "depthwise_conv", "attention"]))


def test_the_study_is_called_after_the_version_of_the_file():
    assert study_name(OWN) == "card-shift-01234567"
    assert card_study(OWN, card()).name == study_name(OWN)
    assert study_name(load_mixer("pooling")) == "card-pooling"


def test_a_folder_of_another_version_is_refused(tmp_path):
    check_source(OWN, tmp_path)
    events = run_study(replace(card_study(OWN, card()), data="digits"), out=tmp_path / ACCURACY, command="")
    next(events)
    events.close()
    check_source(OWN, tmp_path)
    with pytest.raises(ConfigError, match=r"holds the card of shift as it was before its file was edited"):
        check_source(replace(OWN, source_sha256="f" * 64), tmp_path)
    # Another mixer's folder is refused with more words, by the study.
    check_source(load_mixer("pooling"), tmp_path)
