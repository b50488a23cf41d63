"""Weights files of strangers: odd tensors, configs of other models, damage, and pickles that would run code."""

import copy
import json
import os
import pickle
import random
import zipfile
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from metaformer.core.configs import to_dict
from metaformer.core.errors import ConfigError, DataError
from metaformer.deploy.classifier import open_classifier
from metaformer.models.create import create_model
from metaformer.models.export import export_weights
from metaformer.models.metaformer import MetaFormer
from metaformer.models.weights import CONFIG_KEY, read_weights, save_weights
from metaformer.models.zoo import ZOO

CONFIG = replace(ZOO["poolformer_s12"], depths=(1,) * 4, dims=(16, 16, 24, 24), num_classes=4, image_size=(64, 64))
REFUSED = ConfigError | DataError
KEY, FIRST = "stages.0.blocks.0.channel_mlp.fc1.weight", "stages.0.patch_embed.conv.weight"


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    return MetaFormer(CONFIG).state_dict()


def must_refuse(kind, name, call):
    """One line, and no model that was silently built from it."""
    result = kind.run(name, call, limit_s=5)
    if not isinstance(result, Exception):
        kind.note(name, False, "accepted")


def odd_tensors(w):
    return {
        "sparse": w.to_sparse(),
        "sparse rows": w.flatten(1).to_sparse_csr(),
        "quantised": torch.quantize_per_tensor(w, 0.1, 0, torch.qint8),
        "meta": w.to("meta"),
        "complex": torch.complex(w, w),
        "complex half": torch.complex(w, w).to(torch.complex32),
        "nested": torch.nested.nested_tensor([w, w]),
        "a scalar": torch.tensor(1.0),
        "empty": torch.empty(64, 0, 1, 1),
        "int8": w.to(torch.int8),
        "int64": w.to(torch.int64),
        "bool": w.to(torch.bool),
        "one axis": w.flatten(),
        "five axes": w[None],
        "expanded": torch.zeros(1).expand(w.shape),
        "a billion": torch.zeros(1).expand(10**9, 16),
        "too large for float32": w.double() + 1e300,
        "transposed": w.movedim(0, 1),
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("key", [KEY, FIRST, "head.fc.weight"])
def test_odd_tensors(tries, state, tmp_path, key):
    kind = tries("weights: odd tensors")
    for name, tensor in odd_tensors(state[key]).items():
        torch.save(state | {key: tensor}, tmp_path / "x.pth")
        if name == "transposed" and tensor.shape == state[key].shape:
            continue
        must_refuse(kind, f"{name} as {key}", lambda: create_model(CONFIG, weights=tmp_path / "x.pth"))


NUMBERS = (-1, 0, 10**9, 10**30, float("nan"), float("inf"), -1e300, "7", None, True, [], {})
# Settings that only training or preparation reads may have any value in bounds.
SETTINGS = (
    ("dims", 0),
    ("depths", 0),
    ("num_classes",),
    ("in_chans",),
    ("image_size", 0),
    ("channel_mlp", "ratio"),
    ("channel_mlp", "activation"),
    ("token_mixers", 0, "pool_size"),
    ("patch_embeddings", 0, "kernel_size"),
    ("patch_embeddings", 1, "stride"),
    ("norm", "eps"),
    ("head", "hidden_ratio"),
    ("preprocessing", "crop_fraction"),
    ("preprocessing", "std", 0),
)


def test_configs_that_are_not_of_their_tensors(tries, state, tmp_path):
    kind = tries("weights: configs")
    plain = to_dict(CONFIG)
    texts = {"5000 digits": '{"dims": ' + "9" * 5000 + "}", "deep": "[" * 9999, "null": "null", "no JSON": "{"}
    for way in SETTINGS:
        for value in NUMBERS:
            changed = copy.deepcopy(plain)
            place = changed
            for part in way[:-1]:
                place = place[part]
            place[way[-1]] = value
            texts[f"{way} = {value!r}"] = json.dumps(changed)
    harmless = {
        "('norm', 'eps') = 0",
        "('norm', 'eps') = 1000000000",
        "('head', 'hidden_ratio') = None",
        "('preprocessing', 'std', 0) = 1000000000",
    }
    for name, text in texts.items():
        save_file(state, tmp_path / "x.safetensors", metadata={CONFIG_KEY: text})
        call = lambda: open_classifier(None, tmp_path / "x.safetensors")  # noqa: E731
        if name in harmless:
            kind.run(name, call, limit_s=5)
        else:
            must_refuse(kind, name, call)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".bin"])
def test_damaged_files(tries, tmp_path, suffix):
    kind = tries("weights: damage")
    whole = tmp_path / f"whole{suffix}"
    torch.manual_seed(0)
    export_weights(MetaFormer(CONFIG), whole)
    if suffix == ".bin":
        torch.save(torch.load(whole), whole, _use_new_zipfile_serialization=False)
    content = whole.read_bytes()
    rng = random.Random(0)
    for index in range(30):
        damaged = bytearray(content)
        if index % 3 == 0:
            del damaged[rng.randrange(len(damaged)) :]
        for _ in range(index % 3):
            # Where the header or the pickle is.
            damaged[rng.randrange(min(len(damaged), 3000))] = rng.randrange(256)
        (tmp_path / f"x{suffix}").write_bytes(damaged)
        kind.run(f"{suffix} {index}", lambda: create_model(CONFIG, weights=tmp_path / f"x{suffix}"), limit_s=5)


class Call:
    """Runs something where an ordinary unpickler reads it."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def test_pickles_that_would_run_code(tries, state, tmp_path, monkeypatch):
    kind = tries("weights: pickles that run code")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.pth"
    touch = f"open({str(tmp_path / 'ran')!r}, 'w')"
    attacks = [
        Call(eval, touch),
        Call(exec, touch),
        Call(os.system, f"touch {tmp_path}/ran"),
        Call(open, str(tmp_path / "ran"), "w"),
        Call(__import__, "antigravity"),
        Call(getattr, 1, "real"),
        Call(pickle.loads, pickle.dumps(Call(eval, touch))),
        Call(torch.load, str(tmp_path / "ran")),
        Call(torch.hub.load, "x/y", "z"),
        Call(bytearray, 10**12),
        Call(list, range(10**12)),
        Call(torch.UntypedStorage, 10**13),
    ]
    for index, attack in enumerate(attacks):
        for protocol in (2, 4):
            for loaded in (attack, state | {"x": attack}, {"state_dict": state, "y": [attack]}, {"state_dict": attack}):
                torch.save(loaded, path, pickle_protocol=protocol)
                kind.run(f"attack {index}", lambda: create_model(CONFIG, weights=path), limit_s=5)
                kind.note(f"attack {index}", not (tmp_path / "ran").exists(), "it ran")


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_other_containers(tries, state, tmp_path):
    kind = tries("weights: containers")
    path = tmp_path / "x.pth"
    contents = {
        "page": b"<html></html>",
        "empty": b"",
        "zeros": bytes(10**6),
        "tar": bytes(257) + b"ustar" + bytes(250),
    }
    for name, content in contents.items():
        path.write_bytes(content)
        must_refuse(kind, name, lambda: read_weights(path))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**8))
    must_refuse(kind, "a zip bomb", lambda: read_weights(path))
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))
    must_refuse(kind, "TorchScript", lambda: read_weights(path))
    for name, nothing in {"a list": [1], "a tensor": torch.ones(3), "a number": 5, "text": "x", "empty": {}}.items():
        torch.save(nothing, path)
        must_refuse(kind, name, lambda: read_weights(path))
    loop: dict = {}
    loop["model"] = loop
    torch.save(loop, path)
    must_refuse(kind, "a loop", lambda: read_weights(path))
    wide = [1]
    for _ in range(60):
        wide = [wide, wide]
    torch.save({"a": wide, "state_dict": state}, path)
    kind.run("lists of lists", lambda: create_model(CONFIG, weights=path))
    save_weights(MetaFormer(CONFIG), tmp_path / "x.safetensors")
    for name in ("/proc/x", "/dev/null", "x" * 300, "a\0b", "", "."):
        must_refuse(kind, f"path {name[:9]!r}", lambda name=name: read_weights(name))
