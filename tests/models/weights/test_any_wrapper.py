"""Weights are found in any wrapper that a training script puts around them; what is no tensor stays inert."""

import argparse
import collections
import datetime
import enum
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from torch import nn

from metaformer.core.errors import DataError
from metaformer.models.create import create_model
from metaformer.models.layouts import LAYOUTS, recognise
from metaformer.models.metaformer import MetaFormer
from metaformer.models.weights import read_weights
from metaformer.models.zoo import ZOO

NAME_OF = {
    "metaformer": "poolformer_s12",
    "sail-sg/poolformer": "poolformer_s12",
    "sail-sg/metaformer": "caformer_s18",
    "timm": "convformer_s18",
    "timm-vit": "deit_small_patch16_224",
    "timm-mlp": "mixer_s16_224",
    "timm-swin": "swin_tiny_patch4_window7_224",
    "microsoft/Swin-Transformer": "swin_tiny_patch4_window7_224",
    "huggingface": "poolformer_s12",
    "mmpretrain": "poolformer_s12",
}


def small(layout):
    config = ZOO[NAME_OF[layout]]
    mixers = tuple(replace(one, head_dim=8) if hasattr(one, "head_dim") else one for one in config.token_mixers)
    num = config.num_stages
    sizes = {"dims": (8, 8, 16, 16)[:num], "depths": (1,) * num, "token_mixers": mixers}
    return replace(config, num_classes=4, head=LAYOUTS[layout].head(config.head), **sizes)


def state_in(layout):
    torch.manual_seed(0)
    model = MetaFormer(small(layout))
    theirs, _ = LAYOUTS[layout].export(model.state_dict(), model.config)
    return {name: tensor.clone() for name, tensor in theirs.items()}


STATES = {layout: state_in(layout) for layout in LAYOUTS}


class Colour(enum.Enum):
    RED = 1


@dataclass
class Settings:
    lr: float = 0.1


class Bag(dict):
    """A kind of dict of its own."""


ODD_VALUES = {
    "numpy number": np.float64(81.2),
    "numpy array": np.arange(3),
    "defaultdict": collections.defaultdict(list, a=[1]),
    "deque": collections.deque([1, 2], maxlen=3),
    "counter": collections.Counter("aab"),
    "path": PurePosixPath("runs"),
    "date": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
    "namespace": argparse.Namespace(lr=0.1, out=Path("x")),
    "enum": Colour.RED,
    "settings": Settings(),
    "set": {1, "a"},
    "dtype": torch.bfloat16,
    "size": torch.Size((2, 3)),
    "device": torch.device("cpu"),
    "generator state": torch.get_rng_state(),
    "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]},
    "class": Settings,
    "complex": 1j,
    "nothing": None,
}
PREFIXES = st.lists(
    st.sampled_from(["_orig_mod", "module", "model", "net", "backbone", "encoder", "student", "teacher"]), max_size=4
)
CONTAINERS = st.lists(
    st.sampled_from(
        ["state_dict", "model_state_dict", "model", "net", "teacher", "state_dict_ema", "model_ema", "weights", "ckpt"]
    ),
    max_size=3,
)
EXTRAS = st.lists(st.sampled_from(list(ODD_VALUES)), max_size=3, unique=True)


@dataclass
class Case:
    layout: str
    prefix: str
    containers: list[str]
    extras: list[str]
    dtype: torch.dtype
    protocol: int
    as_zip: bool
    with_classifier: bool
    container: type


CASES = st.builds(
    Case,
    layout=st.sampled_from(list(LAYOUTS)),
    prefix=PREFIXES.map(lambda words: "".join(f"{word}." for word in words)),
    containers=CONTAINERS,
    extras=EXTRAS,
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    protocol=st.integers(2, 5),
    as_zip=st.booleans(),
    with_classifier=st.booleans(),
    container=st.sampled_from([dict, collections.OrderedDict, Bag]),
)


def what_is_saved_is_what_is_opened(case):
    model = small(case.layout)
    classifier = {LAYOUTS[case.layout].key(f"head.fc.{part}", model) for part in ("weight", "bias")}
    saved = {
        name: tensor.to(case.dtype)
        for name, tensor in STATES[case.layout].items()
        if case.with_classifier or name not in classifier
    }
    loaded = case.container((f"{case.prefix}{name}", tensor) for name, tensor in saved.items())
    for name in reversed(case.containers):
        loaded = {f"extra {extra}": ODD_VALUES[extra] for extra in case.extras} | {name: loaded}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.pth"
        torch.save(loaded, path, pickle_protocol=case.protocol, _use_new_zipfile_serialization=case.as_zip)
        weights = read_weights(path)
        built = create_model(model, weights=path)
    assert weights.state.keys() == saved.keys()
    assert all(torch.equal(weights.state[name], saved[name]) for name in saved)
    assert recognise(weights.state, "x").name == case.layout
    assert weights.doubts == ()
    assert built.num_classes == (4 if case.with_classifier else 0)
    said = " ".join(weights.notes)
    assert all(name in said for name in case.containers)
    assert case.prefix in said


@hypothesis.settings(max_examples=25)
@hypothesis.given(case=CASES)
def test_what_is_saved_is_what_is_opened(case):
    what_is_saved_is_what_is_opened(case)


@pytest.mark.slow
@hypothesis.settings(max_examples=500)
@hypothesis.given(case=CASES)
def test_what_is_saved_is_what_is_opened_500_times(case):
    what_is_saved_is_what_is_opened(case)


def saved(loaded, tmp_path):
    torch.save(loaded, tmp_path / "x.pth")
    return tmp_path / "x.pth"


def plus(state, number):
    return {name: tensor + number for name, tensor in state.items()}


SEVERAL = {
    "averaged": (lambda a, b: {"state_dict": a, "state_dict_ema": b}, "'state_dict_ema'", "'state_dict'"),
    "our own average": (lambda a, b: {"model": a, "average": b}, "'average'", "'model'"),
    "a teacher": (lambda a, b: {"student": a, "teacher": b}, "'teacher'", "'student'"),
    "behind prefixes": (
        lambda a, b: {f"student.{k}": v for k, v in a.items()} | {f"teacher.backbone.{k}": v for k, v in b.items()},
        "'teacher.backbone.'",
        "'student.'",
    ),
}


@pytest.mark.parametrize(("wrap", "taken", "other"), SEVERAL.values(), ids=SEVERAL)
def test_of_several_weights_it_is_said_which_were_taken(tmp_path, caplog, wrap, taken, other):
    state = STATES["timm"]
    path = saved(wrap(state, plus(state, 1)), tmp_path)
    weights = read_weights(path)
    assert torch.equal(weights.state["stem.conv.weight"], state["stem.conv.weight"] + 1)
    assert weights.doubts == (f"took {taken} of several weights in the file; the others: {other}",)
    create_model(small("timm"), weights=path)
    assert f"took {taken} of several weights" in caplog.text


def test_what_is_not_behind_the_prefix_is_named(tmp_path):
    wrapped = {f"encoder.{name}": tensor for name, tensor in STATES["timm"].items()} | {
        "projector.weight": torch.ones(1)
    }
    assert read_weights(saved(wrapped, tmp_path)).doubts == (
        "left out what is not behind 'encoder.': projector.weight",
    )


class Wrapper(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner


def test_a_whole_pickled_model_gives_its_weights_without_its_code(tmp_path):
    model = MetaFormer(small("metaformer"))
    weights = read_weights(saved({"model": Wrapper(model)}, tmp_path))
    assert weights.state.keys() == model.state_dict().keys()
    assert all(torch.equal(weights.state[name], tensor) for name, tensor in model.state_dict().items())
    assert weights.notes == ("read from 'model'", "prefix 'inner.' removed")


def test_backbones_of_other_libraries_are_known_by_their_own_names(tmp_path):
    bare = {name.removeprefix("poolformer."): one for name, one in STATES["huggingface"].items()}
    backbone = {name: one for name, one in bare.items() if name.startswith("encoder.")}
    model = create_model(small("huggingface"), weights=saved(backbone, tmp_path), num_classes=2)
    assert torch.equal(model.stages[0].patch_embed.conv.weight, next(iter(backbone.values())))
    bare = {name.removeprefix("backbone."): one for name, one in STATES["mmpretrain"].items() if "head" not in name}
    assert recognise(read_weights(saved(bare, tmp_path)).state, "x").name == "mmpretrain"
    features = {name.replace("stages.", "stages_"): one for name, one in STATES["timm"].items()}
    assert read_weights(saved(features, tmp_path)).state.keys() == STATES["timm"].keys()


def test_weights_without_a_layout_are_named_by_their_keys(tmp_path):
    with pytest.raises(DataError, match=r"holds no weights \(it holds .*Settings\).*torch\.save\(model\.state_dict"):
        read_weights(saved({"settings": Settings()}, tmp_path))


def test_reading_never_touches_a_class_of_this_process(tmp_path):
    class State:
        def __reduce_ex__(self, protocol):
            return (torch.nn.Parameter, (torch.ones(1),), (None, {"patched": True}))

    torch.save({"state_dict": STATES["timm"], "x": State()}, tmp_path / "x.pth")
    read_weights(tmp_path / "x.pth")
    assert not hasattr(torch.nn.Parameter, "patched")


def test_a_weights_file_of_equal_content_is_equal_in_bytes(tmp_path):
    from metaformer.models.export import export_weights

    model = MetaFormer(small("metaformer"))
    for suffix in (".safetensors", ".pth"):
        files = [tmp_path / f"{name}{suffix}" for name in "abcdef"]
        for file in files:
            export_weights(model, file, class_names=("x", "\u00fcber", "z", "\u732b"))
        assert len({file.read_bytes() for file in files}) == 1
    assert read_weights(tmp_path / "a.safetensors").class_names == ("x", "\u00fcber", "z", "\u732b")
