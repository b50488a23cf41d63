import re
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from metaformer.block.token_mixers import PoolingConfig
from metaformer.core.errors import ConfigError
from metaformer.study.load_mixer import load_mixer

SOURCE = """
from dataclasses import dataclass
from torch import nn

@dataclass(frozen=True, kw_only=True)
class MyMixerConfig:
    step: int = 1

    def build(self, site):
        return nn.Identity()

@dataclass(frozen=True, kw_only=True)
class PoolingConfig:
    def build(self, site):
        return nn.Identity()

@dataclass(frozen=True, kw_only=True)
class Bare:
    pass

number = 3
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """A module of the user's, in the folder where the command runs."""
    (tmp_path / "own_mixers.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(tmp_path)])
    yield tmp_path
    sys.modules.pop("own_mixers", None)


@pytest.mark.parametrize("place", ["own_mixers", "own_mixers.py", "./own_mixers.py"])
def test_a_class_of_the_users_own_file(own_module, place):
    named = load_mixer(f"{place}:MyMixerConfig(step=3)")
    assert (named.name, named.title) == ("my_mixer", "My mixer")
    assert named.config.step == 3
    assert load_mixer(f"{place}:MyMixerConfig").config.step == 1


def test_a_name_that_is_taken_is_marked(own_module):
    named = load_mixer("own_mixers:PoolingConfig")
    assert (named.name, named.title) == ("own_pooling", "Own pooling")


def test_a_known_name_with_options():
    named = load_mixer("pooling(pool_size=5)")
    assert (named.name, named.title, named.config) == ("pooling", "Pooling (pool_size=5)", PoolingConfig(pool_size=5))
    assert load_mixer("depthwise_conv").title == "Depthwise conv"


def test_the_file_of_a_mixer_is_known_by_its_content(own_module):
    named = load_mixer("own_mixers:MyMixerConfig")
    assert named.source_sha256 == sha256(SOURCE.encode()).hexdigest()
    # The package's own files are known by its commit.
    assert load_mixer("pooling").source_sha256 == ""


def test_what_the_documentation_writes_can_be_loaded():
    root = Path(__file__).parents[2]
    text = (root / "docs" / "card.md").read_text()
    calls = set(re.findall(r"BlurPoolConfig\([^)]*\)", text))
    assert calls
    for call in calls:
        assert load_mixer(f"{root}/examples/card_of_own_mixer.py:{call}").name == "blur_pool"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("poling", "unknown token mixer 'poling'. Did you mean 'pooling'?"),
        ("own_mixers:MyMixer", "own_mixers:MyMixer does not exist; "),
        ("own_mixers:MyMixr", "Did you mean 'MyMixerConfig'?"),
        ("own_mixers:number", "own_mixers:number is no dataclass"),
        ("own_mixers:Bare", "own_mixers:Bare has no build(site)"),
        ("own_mixers:MyMixerConfig(steps=1)", "MyMixerConfig has no field 'steps'. Did you mean 'step'?"),
        ("own_mixers:MyMixerConfig(step='x')", "MyMixerConfig.step must be a whole number; got 'x'"),
        ("own_mixers:MyMixerConfig(1)", "cannot read 'own_mixers:MyMixerConfig(1)' as a token mixer."),
        ("own_mixers:", "cannot read 'own_mixers:' as a token mixer."),
        ("no_such_module:X", "there is no module 'no_such_module' in "),
        ("no_such.py:X", "there is no file 'no_such.py'."),
        ("raising:X", "cannot import 'raising': ZeroDivisionError: division by zero"),
        ("needing:X", "cannot import 'needing': it needs 'no_such_library', which is not installed."),
    ],
)
def test_what_cannot_be_loaded_says_why(own_module, text, message):
    (own_module / "raising.py").write_text("1 / 0")
    (own_module / "needing.py").write_text("import no_such_library")
    with pytest.raises(ConfigError) as caught:
        load_mixer(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
