"""What a GPU should show, in under 8 minutes on a bare machine: python benchmarks/gpu.py [--out FOLDER] [--dry-run].

Kernels against their definitions first, then inference, training and memory beside timm. Each step leaves a record of
its own as soon as it is done, so that a run that is cut off counts. `--dry-run` goes through all of it on the CPU under
Triton's interpreter, with small models: it shows that the script works, and no times.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

DRY_RUN = "--dry-run" in sys.argv
if DRY_RUN:
    # Read when Triton is imported.
    os.environ["TRITON_INTERPRET"] = "1"

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaformer.block.token_mixers import AttentionConfig
from metaformer.core.atomic_write import write_json
from metaformer.core.errors import one_line
from metaformer.core.machine import provenance
from metaformer.fast.backends import choose_launches, triton_backend
from metaformer.fast.bench.peers import BenchCase, bench_case, timm_state
from metaformer.fast.contest import Applied, Call, NotHereError, Rules, hold_contest
from metaformer.fast.for_training import for_training
from metaformer.fast.stage import folded
from metaformer.fast.verify import TOLERANCE
from metaformer.models.metaformer import MetaFormer
from metaformer.models.zoo import ZOO
from metaformer.ops.norm_mlp import triton as mlp_kernels
from metaformer.ops.norm_mlp.reference import NormMLP, norm_mlp
from metaformer.ops.norm_mlp.training import trained_norm_mlp
from metaformer.ops.norm_mlp.training_triton import InTriton
from metaformer.ops.norm_pool import triton as pool_kernels
from metaformer.ops.norm_pool.reference import NormPool, norm_pool
from metaformer.ops.norm_pool.training import PoolInTriton, trained_norm_pool
from metaformer.ops.normalise import sample_moments

DEVICE = torch.device("cpu" if DRY_RUN else "cuda")
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
SHAPES = (
    ((2, 20, 3, 5), (3, 33, 1, 4)) if DRY_RUN else ((2, 64, 56, 56), (3, 320, 14, 13), (5, 500, 7, 9), (1, 33, 1, 4))
)
BATCH_SIZES = (1,) if DRY_RUN else (1, 64)
TRAINING_BATCH = 1 if DRY_RUN else 64
OURS = "ours, Triton"
SAMPLE = (64, 56, 56)
LARGE = 2**31 // (64 * 56 * 56) + 1  # samples, more than 2^31 numbers


@dataclass(frozen=True)
class Step:
    """A part of the run."""

    name: str
    run: Callable[[], Any]


def kernel_errors() -> list[dict[str, Any]]:
    """Both kernels, forward and backward, against the definitions in float64: difference over the largest number."""
    return [
        {"kernel": name, "shape": list(shape), "dtype": str(dtype), **errors(shape, dtype)}
        for dtype in DTYPES
        for shape in SHAPES
        for name, errors in (("norm_pool", pool_errors), ("norm_mlp", mlp_errors))
    ]


def pool_errors(shape: tuple[int, ...], dtype: torch.dtype) -> dict[str, float]:
    """Of the pooling sub-block."""
    x, scale, res_scale = made(shape, dtype), made(shape[1:2]), made(shape[1:2])
    mine = [x.clone().requires_grad_(), scale.clone().requires_grad_()]
    y, _ = trained_norm_pool(mine[0], NormPool(scale=mine[1], res_scale=res_scale), PoolInTriton(pool_kernels))
    wide = [x.double().requires_grad_(), scale.double().requires_grad_()]
    expected, _ = norm_pool(wide[0], NormPool(scale=wide[1], res_scale=res_scale.double()))
    return compared(y, expected, mine, wide)


def mlp_errors(shape: tuple[int, ...], dtype: torch.dtype) -> dict[str, float]:
    """Of the channel MLP sub-block."""
    channels, hidden = shape[1], 2 * shape[1]
    x, first = made(shape, dtype), made((hidden, channels)) / channels**0.5
    rest: Any = {
        "bias1": made((hidden,)),
        "weight2": made((channels, hidden)) / hidden**0.5,
        "bias2": made((channels,)),
    }
    mine = [x.clone().requires_grad_(), first.clone().requires_grad_()]
    y = trained_norm_mlp(mine[0], NormMLP(weight1=mine[1], **rest), InTriton(mlp_kernels, dtype))
    wide = [x.double().requires_grad_(), first.double().requires_grad_()]
    expected, _ = norm_mlp(wide[0], NormMLP(weight1=wide[1], **{name: value.double() for name, value in rest.items()}))
    return compared(y, expected, mine, wide)


def compared(y: Tensor, expected: Tensor, mine: list[Tensor], wide: list[Tensor]) -> dict[str, float]:
    """Of the result, and of the gradients of features and weight."""
    seed = made(tuple(y.shape))
    grads = torch.autograd.grad(y, mine, seed.to(y.dtype))
    its = torch.autograd.grad(expected, wide, seed.double())
    pairs = {"forward": (y, expected), "grad_x": (grads[0], its[0]), "grad_weight": (grads[1], its[1])}
    return {name: float((a - b).detach().abs().max() / b.detach().abs().max()) for name, (a, b) in pairs.items()}


def made(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """Random numbers; features with the channels together."""
    x = torch.randn(shape, device=DEVICE).to(dtype)
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


@torch.no_grad()
def beyond_32_bits() -> dict[str, float | str]:
    """More than 2^31 numbers in a batch of one repeated sample: the last result is that of the first."""
    if DRY_RUN:
        return {"skipped": "it takes a GPU"}
    one = made((1, *SAMPLE), torch.float16)
    many = one.expand(LARGE, *SAMPLE).contiguous(memory_format=torch.channels_last)
    moments = sample_moments(one).expand(LARGE, 2).contiguous()
    pool = triton_backend(torch.float16).build(NormPool(scale=made((64,)), pool_size=3)).to(DEVICE)
    y, _ = pool(many, moments)
    found = {"norm_pool": float((y[-1] - y[0]).abs().max())}
    del y
    weights = {"weight1": made((128, 64)), "bias1": made((128,)), "weight2": made((64, 128)), "bias2": made((64,))}
    mlp = triton_backend(torch.float16).build(NormMLP(**weights)).to(DEVICE)
    z, _ = mlp(many, moments)
    return {**found, "norm_mlp": float((z[-1] - z[0]).abs().max()), "numbers": float(many.numel())}


def on_device(name: str, batch_size: int, dtype: torch.dtype) -> BenchCase:
    """A model of the zoo with its batch, both on the device."""
    if DRY_RUN:
        # The interpreter is slow.
        config = replace(ZOO[name], dims=(8, 8, 16, 16), depths=(1,) * 4, image_size=(32, 32), num_classes=5)
        mixers = tuple(
            replace(one, head_dim=8) if isinstance(one, AttentionConfig) else one for one in config.token_mixers
        )
        with torch.random.fork_rng(devices=[]):
            # The same model each time.
            torch.manual_seed(0)
            model = MetaFormer(replace(config, token_mixers=mixers)).eval().requires_grad_(False)
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        return BenchCase(name=name, model=model, example=torch.randn(batch_size, 3, 32, 32), dtype=dtype)
    one = bench_case(name, batch_size=batch_size, image_size=None, dtype=dtype)
    return replace(one, model=one.model.to(DEVICE), example=one.example.to(DEVICE))


def timm_model(one: BenchCase) -> nn.Module:
    """The same model of timm."""
    if DRY_RUN:
        raise NotHereError("timm has no model as small as a dry run's")
    model = timm.create_model(one.name).eval().requires_grad_(False)
    model.load_state_dict(timm_state(one.name, one.model))
    return model.to(DEVICE)


def ours_in_triton(one: BenchCase) -> nn.Module:
    """Folded, by our kernels, launched as is best for this batch."""
    model = folded(one.model, triton_backend(one.dtype)).to(one.dtype)
    choose_launches(model, one.example.to(one.dtype))
    return model


def resnet18(_one: BenchCase) -> nn.Module:
    """The yardstick at equal multiply-adds."""
    return timm.create_model("resnet18").eval().requires_grad_(False).to(DEVICE)


def compiled(build: Callable[[BenchCase], nn.Module], mode: str | None) -> Callable[[BenchCase], nn.Module]:
    """What `build` makes, compiled; as it is in a dry run."""
    return build if DRY_RUN else lambda one: torch.compile(build(one).to(one.dtype), mode=mode, dynamic=False)  # type: ignore[return-value]


# Contestant -> model, memory format, whether its launches are recorded once and replayed.
INFERENCE: dict[str, tuple[Callable[[BenchCase], nn.Module], torch.memory_format, bool]] = {
    OURS: (ours_in_triton, torch.channels_last, False),
    "ours, Triton, CUDA graph": (ours_in_triton, torch.channels_last, True),
    "ours, eager": (lambda one: one.model, torch.contiguous_format, False),
    "timm, eager": (timm_model, torch.contiguous_format, False),
    "timm, channels last": (timm_model, torch.channels_last, False),
    "timm, CUDA graph": (timm_model, torch.channels_last, True),
    "timm, compiled, max-autotune": (compiled(timm_model, "max-autotune"), torch.channels_last, False),
    "resnet18, compiled": (compiled(resnet18, "max-autotune"), torch.channels_last, False),
}


def inference(name: str, batch_size: int, dtype: torch.dtype, budget_s: float) -> dict[str, Any]:
    """Checks and times all, in turns."""
    one = on_device(name, batch_size, dtype)
    with torch.no_grad():
        expected = one.model(one.example)

        def call(build: Callable[[BenchCase], nn.Module], memory_format: torch.memory_format, is_graph: bool) -> Call:
            model = build(replace(one, model=on_device(name, 1, dtype).model)).to(dtype, memory_format=memory_format)
            x = one.example.to(dtype, memory_format=memory_format)
            return graphed(model, x) if is_graph else Applied(model, x)

        def difference(run: Call) -> float:
            return float((run().float() - expected).abs().max() / expected.abs().max())

        makers = {who: partial(call, *how) for who, how in INFERENCE.items()}
        rules = Rules(
            base=OURS, allowed=TOLERANCE[dtype], unchecked=("resnet18, compiled",), rounds=3 if DRY_RUN else 20,
            budget_s=budget_s,
        )  # fmt: skip
        outcome = hold_contest(makers, difference, rules)
    return {who: asdict(cell) for who, cell in outcome.cells.items()}


def graphed(model: nn.Module, x: Tensor) -> Call:
    """The model's launches, recorded once and replayed."""
    if DRY_RUN:
        return Applied(model, x)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            model(x)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = model(x)

    def replay() -> Tensor:
        graph.replay()
        return y

    return replay


TRAINING: dict[str, Callable[[BenchCase], nn.Module]] = {
    "ours, for_training": lambda one: for_training(one.model, products=one.dtype).to(memory_format=torch.channels_last),
    "timm, channels last": lambda one: timm_model(one).to(memory_format=torch.channels_last),
    "timm, channels last, compiled": compiled(timm_model, None),
}


def training(dtype: torch.dtype, budget_s: float) -> dict[str, Any]:
    """Forward, backward and AdamW's step under autocast; and the most memory that a step held."""
    peaks: dict[str, float] = {}

    def make(who: str) -> Call:
        one = on_device("poolformer_s12", TRAINING_BATCH, dtype)
        model = TRAINING[who](one).requires_grad_(True).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=not DRY_RUN)
        labels = torch.arange(TRAINING_BATCH, device=DEVICE) % one.model.num_classes
        images = one.example.contiguous(memory_format=torch.channels_last)

        def step() -> Tensor:
            with torch.autocast(DEVICE.type, dtype, enabled=dtype != torch.float32):
                loss = F.cross_entropy(model(images).float(), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            return loss.detach()

        step()
        if not DRY_RUN:
            torch.cuda.reset_peak_memory_stats()
            step()
            peaks[who] = torch.cuda.max_memory_allocated() / 2**20
        return step

    rules = Rules(
        base="ours, for_training",
        allowed=0.0,
        unchecked=tuple(TRAINING),
        rounds=3 if DRY_RUN else 20,
        budget_s=budget_s,
    )
    outcome = hold_contest({who: partial(make, who) for who in TRAINING}, lambda _call: 0.0, rules)
    return {"cells": {who: asdict(cell) for who, cell in outcome.cells.items()}, "peak_mib": peaks}


def steps() -> Iterator[Step]:
    """What is done, in this order."""
    yield Step("kernels", kernel_errors)
    yield Step("beyond_32_bits", beyond_32_bits)
    for name in ("poolformer_s12", "caformer_s18"):
        for batch_size in BATCH_SIZES:
            run = partial(inference, name, batch_size, torch.float32 if DRY_RUN else torch.bfloat16, 10.0)
            yield Step(f"inference_{name}_{batch_size}", run)
    yield Step("training", partial(training, torch.bfloat16, 20.0))


def main() -> None:
    """Runs each step, prints a line for it, and writes its record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/bench/gpu"), help="folder of the records")
    parser.add_argument("--minutes", type=float, default=8.0, help="no step begins after so long")
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, under Triton's interpreter")
    options = parser.parse_args()
    torch.manual_seed(0)
    started = time.perf_counter()
    for number, step in enumerate(steps()):
        left_s = 60 * options.minutes - (time.perf_counter() - started)
        if left_s <= 0:
            print(f"{step.name}: no time left")
            continue
        clock, result, error = time.perf_counter(), None, None
        try:
            result = step.run()
        # What one step cannot do must not keep the others from being recorded.
        except Exception as failure:
            error = one_line(failure, 300)
        seconds = time.perf_counter() - clock
        record = {"step": step.name, "dry_run": DRY_RUN, "seconds": seconds, "result": result, "error": error}
        write_json(options.out / f"{number}_{step.name}.json", record | provenance())
        print(f"{step.name}: {f'failed: {error}' if error else 'done'} in {seconds:.1f} s", flush=True)


if __name__ == "__main__":
    main()
