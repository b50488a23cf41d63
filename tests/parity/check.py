"""Check that the fixtures are healthy: noise floor, sensitivity to every tensor, eps.

python check.py --poolformer SRC --metaformer SRC --out fixtures [--only SUBSTRING]
"""

import argparse
import copy
import json
import re
import sys
from pathlib import Path

import freeze
import torch
from freeze import formula
from safetensors.torch import load_file
from torch import Tensor, nn


def call(model: nn.Module, image: Tensor) -> Tensor:
    """Return the logits of a model."""
    output = model(image)
    return getattr(output, "logits", output)


def relative(a: Tensor, b: Tensor) -> float:
    """Return the root mean square difference over the standard deviation of `b`."""
    return float((a.double() - b.double()).pow(2).mean().sqrt() / b.double().std())


def bump(key: str, value: Tensor) -> Tensor:
    """Return a change of about 10 percent (at least 0.005) for one tensor."""
    shape = torch.from_numpy(formula.wave("bump " + key, value.numel())).reshape(value.shape).float()
    shape = shape / shape.pow(2).mean().sqrt()
    return shape * max(0.1 * float(value.pow(2).mean().sqrt()), 0.005)


def sensitivity(model: nn.Module, image: Tensor) -> dict[str, float]:
    """Estimate by gradients how far a bump of each tensor moves the logits, relative to their spread."""
    parameters = dict(model.named_parameters())
    for value in parameters.values():
        value.requires_grad_(True)
    logits = call(model, image)
    moved = dict.fromkeys(parameters, 0.0)
    for seed in range(3):
        probe = torch.from_numpy(formula.wave(f"probe {seed}", logits.numel())).float().reshape(logits.shape)
        probe = probe / probe.pow(2).mean().sqrt()
        grads = torch.autograd.grad((logits * probe).sum(), list(parameters.values()), retain_graph=True)
        for (key, value), grad in zip(parameters.items(), grads, strict=True):
            step = float((grad * bump(key, value.detach())).sum())
            moved[key] = max(moved[key], abs(step) / float(logits.detach().std()) / logits.numel() ** 0.5)
    return moved


def main() -> None:
    """Run the checks on all cases that have outputs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--poolformer", type=Path, required=True)
    parser.add_argument("--metaformer", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    freeze.install_stubs()
    sys.path[:0] = [str(arguments.poolformer), str(arguments.metaformer)]
    frozen = load_file(arguments.out / "logits.safetensors")
    for layout, models in freeze.CASES.items():
        for name, sizes in models.items():
            if not sizes or arguments.only not in f"{layout}__{name}":
                continue
            fixture = json.loads((arguments.out / f"{layout}__{name}.json").read_text())
            model = freeze.build(layout, name)
            print(f"== {layout} {name}")
            for run, output in fixture["outputs"].items():
                model.load_state_dict(formula.state_dict(fixture["keys"], output["gain"]))
                image = formula.image(output["height"], output["width"])
                with torch.no_grad():
                    saved = frozen[output["tensor"]]
                    exact = call(copy.deepcopy(model).double(), image.double())
                    line = f"  {run}: std {saved.std():.3f} between samples {relative(saved[0], saved[1]):.3f}"
                    line += f" noise rms {relative(saved, exact):.1e}"
                    line += f" max {float((saved - exact).abs().max()):.1e}"
                    kinds: dict[str, list[nn.Module]] = {}
                    for path, module in model.named_modules():
                        if isinstance(getattr(module, "eps", None), float):
                            kind = re.sub(r"\d+\.\d+", "i.j", path)
                            kind = re.sub(r"blocks\.\d+", "blocks.j", kind)
                            kind = re.sub(r"\.\d+\.", ".k.", kind)
                            kinds.setdefault(f"{kind}@{module.eps:.0e}", []).append(module)
                    changes = []
                    for kind, modules in kinds.items():
                        for module in modules:
                            module.eps = 1.1e-5 - module.eps
                        changes.append(f"{kind} {relative(call(model, image), saved):.1e}")
                        for module in modules:
                            module.eps = 1.1e-5 - module.eps
                print(line, "\n    eps swapped:", "; ".join(changes), flush=True)
            run, output = next(iter(fixture["outputs"].items()))
            model.load_state_dict(formula.state_dict(fixture["keys"], output["gain"]))
            small = len(sizes) > 1
            image = formula.image(*((96, 64) if small else (224, 224)))
            moved = sensitivity(model, image)
            worst = sorted(moved.items(), key=lambda pair: pair[1])
            zero = [key for key, value in worst if value < 1e-6]
            weak = [(key, f"{value:.1e}") for key, value in worst if 1e-6 <= value < 1e-4]
            print(f"  {len(moved)} tensors; median effect {worst[len(worst) // 2][1]:.1e}; zero {zero}; weak {weak}")
            with torch.no_grad():
                base = call(model, image)
                seen: dict[str, list[str]] = {}
                for key in model.state_dict():
                    seen.setdefault(re.sub(r"\d+", "#", key), []).append(key)
                spots = []
                for keys in seen.values():
                    for key in {keys[0], keys[len(keys) // 2], keys[-1]} if small else {keys[len(keys) // 2]}:
                        value = model.state_dict()[key]
                        before = value.clone()
                        value.add_(bump(key, before))
                        spots.append((relative(call(model, image), base), key))
                        value.copy_(before)
                spots.sort()
                print("  true bumps, least:", [(f"{v:.1e}", k) for v, k in spots[:8]], f"of {len(spots)}", flush=True)


if __name__ == "__main__":
    main()
