"""Freeze logits of other repositories' models as parity fixtures.

Builds every reference model from its own source, fills it with the closed-form
weights of `fixtures/formula.py`, and writes per case one JSON file (keys, shapes,
rules, outputs) plus one safetensors file with the logits of all cases.

    python freeze.py --poolformer SRC --metaformer SRC --out fixtures
"""

import argparse
import importlib
import json
import re
import sys
import types
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent / "fixtures"))
import formula

REPOSITORIES = {
    "poolformer": "https://github.com/sail-sg/poolformer@a075575b8b3dc3c76ecc5c49985d156167372bfa",
    "metaformer": "https://github.com/sail-sg/metaformer@64c534ab8f65105fd21713b38e3393a449ca742d",
}
# First match wins; a floating tensor of two or more dimensions that matches nothing is a matrix.
COMMON = [
    (r"^(head|head\.fc|head\.fc2|head\.fc\.fc2|classifier)\.weight$", "classifier"),
    (r"(^|\.)(norm\d?|pre_norm|post_norm|before_norm|after_norm)\.weight$", "norm_weight"),
    (r"\.bias$", "bias"),
]
SCALES = [
    (r"\.layer_scale[12]\.scale$", "layer_scale"),
    (r"\.(res_scale[12]|act|act1)\.scale$", "scale"),
]
RULES: dict[str, list[tuple[str, str]]] = {
    "poolformer": [(r"\.pos_embed$", "pos_embed"), (r"\.layer_scale_[12]$", "layer_scale"), *COMMON],
    "metaformer": [(r"\.random_matrix$", "random_matrix"), *SCALES, *COMMON],
    "timm": [*SCALES, *COMMON],
    "huggingface": [(r"\.layer_scale_[12]$", "layer_scale"), *COMMON],
}
SQUARE, OBLONG = (224, 224), (160, 256)
FAINT = 0.05
# layout -> model -> sizes; no sizes means key list only.
CASES: dict[str, dict[str, tuple[tuple[int, int], ...]]] = {
    "poolformer": {
        "poolformer_s12": (SQUARE, OBLONG),
        "metaformer_id_s12": (SQUARE, OBLONG),
        "metaformer_pppa_s12_224": (SQUARE,),
        "metaformer_ppaa_s12_224": (SQUARE,),
        "metaformer_pppf_s12_224": (SQUARE,),
        "metaformer_ppff_s12_224": (SQUARE,),
        "poolformer_m36": (),
    },
    "metaformer": {
        "identityformer_s12": (SQUARE, OBLONG),
        "randformer_s12": (SQUARE,),
        "poolformerv2_s12": (SQUARE, OBLONG),
        "convformer_s18": (SQUARE, OBLONG),
        "caformer_s18": (SQUARE, OBLONG),
        "caformer_b36": (),
    },
    "timm": {
        "poolformer_s12": (SQUARE, OBLONG),
        "poolformerv2_s12": (SQUARE, OBLONG),
        "convformer_s18": (SQUARE, OBLONG),
        "caformer_s18": (SQUARE, OBLONG),
        "poolformer_m36": (),
        "caformer_b36": (),
    },
    "huggingface": {"poolformer_s12": (SQUARE, OBLONG)},
}


def install_stubs() -> None:
    """Provide the old timm modules that the official code imports."""
    layers = importlib.import_module("timm.layers")
    importlib.import_module("timm.models")

    def unregistered(function: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        """Leave the function alone, so that timm's own registry stays as it is."""
        return function

    contents: dict[str, dict[str, Any]] = {
        "timm.models.layers": {"DropPath": layers.DropPath, "trunc_normal_": layers.trunc_normal_},
        "timm.models.layers.helpers": {"to_2tuple": layers.to_2tuple},
        "timm.models.registry": {"register_model": unregistered},
    }
    for name, attributes in contents.items():
        module = types.ModuleType(name)
        vars(module).update(attributes)
        sys.modules[name] = module


def build(layout: str, model: str) -> nn.Module:
    """Build a reference model with 1000 classes, in eval mode."""
    built: nn.Module
    if layout == "poolformer":
        built = getattr(importlib.import_module("models"), model)()
    elif layout == "metaformer":
        built = getattr(importlib.import_module("metaformer_baselines"), model)()
    elif layout == "timm":
        built = importlib.import_module("timm").create_model(model)
    else:
        hub = importlib.import_module("transformers")
        built = hub.PoolFormerForImageClassification(hub.PoolFormerConfig(num_labels=1000))
    return built.eval()


def source(layout: str) -> str:
    """Say where the reference of a layout comes from."""
    package = {"timm": "timm", "huggingface": "transformers"}.get(layout)
    return f"{package}=={version(package)}" if package else REPOSITORIES[layout]


def rule_of(layout: str, key: str, tensor: Tensor) -> str:
    """Name the rule that fills one key."""
    if not tensor.is_floating_point():
        raise ValueError(f"{key!r} is not floating; no rule covers it")
    for pattern, rule in RULES[layout]:
        if re.search(pattern, key):
            return rule
    if tensor.ndim < 2:
        raise ValueError(f"no rule for {key!r} of shape {tuple(tensor.shape)}")
    return "matrix"


def describe(layout: str, model: nn.Module) -> dict[str, formula.Entry]:
    """List the keys of a model with shape and rule."""
    return {
        key: {"shape": list(tensor.shape), "rule": rule_of(layout, key, tensor)}
        for key, tensor in model.state_dict().items()
    }


@torch.inference_mode()
def logits_of(model: nn.Module, height: int, width: int) -> Tensor:
    """Run the fixed image through a model and return its logits."""
    output = model(formula.image(height, width))
    logits: Tensor = getattr(output, "logits", output)
    return logits.contiguous()


def write(path: Path, fixture: dict[str, Any]) -> None:
    """Write a fixture as JSON with one key per line."""
    compact = (",", ":")
    keys = ",\n".join(f"{json.dumps(k)}:{json.dumps(v, separators=compact)}" for k, v in fixture["keys"].items())
    head = json.dumps({k: v for k, v in fixture.items() if k != "keys"}, separators=compact)
    path.write_text(f'{head[:-1]},"keys":{{\n{keys}\n}}}}\n', encoding="ascii")


def freeze(layout: str, name: str, out: Path) -> dict[str, Tensor]:
    """Freeze one case: write its JSON and return its logits by tensor name."""
    sizes = CASES[layout][name]
    model = build(layout, name)
    keys = describe(layout, model)
    runs = {f"{h}x{w}": (h, w, 1.0) for h, w in sizes}
    if sizes:
        runs["224x224_faint"] = (*SQUARE, FAINT)
    logits: dict[str, Tensor] = {}
    outputs: dict[str, dict[str, str | int | float]] = {}
    for run, (height, width, gain) in runs.items():
        model.load_state_dict(formula.state_dict(keys, gain), strict=True)
        tensor_name = f"{layout}__{name}__{run}"
        logits[tensor_name] = logits_of(model, height, width)
        outputs[run] = {"logits_file": "logits.safetensors", "tensor": tensor_name}
        outputs[run] |= {"height": height, "width": width, "gain": gain}
    fixture = {"layout": layout, "model": name, "source": source(layout), "outputs": outputs, "keys": keys}
    write(out / f"{layout}__{name}.json", fixture)
    return logits


def main() -> None:
    """Freeze all cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, meaning in {"poolformer": "checkout", "metaformer": "checkout", "out": "output folder"}.items():
        parser.add_argument(f"--{name}", type=Path, required=True, help=meaning)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    install_stubs()
    sys.path[:0] = [str(arguments.poolformer), str(arguments.metaformer)]
    logits: dict[str, Tensor] = {}
    for layout, models in CASES.items():
        for name in models:
            logits |= freeze(layout, name, arguments.out)
    for tensor_name, value in logits.items():
        print(f"{tensor_name}: mean {value.mean():+.4f} std {value.std():.4f}")
    file = arguments.out / "logits.safetensors"
    save_file(logits, file)
    file.chmod(0o644)


if __name__ == "__main__":
    main()
