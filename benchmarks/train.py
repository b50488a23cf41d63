"""How fast a training step is beside the plain eager loop and beside timm, in one interleaved run.

    python benchmarks/train.py small            # 32x32, B=256: ours against the plain eager fp32 loop
    python benchmarks/train.py s12              # poolformer_s12 at 224, B=16: ours against timm in every setting

Each row is timed once a round, all rows in turn, so that a slow moment of the machine hits them alike; the median and
the spread of the ratios to the first row count, not the seconds. Peak memory is that of a process of its own.
"""

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from metaformer.block.norm import ModifiedLayerNormConfig
from metaformer.core.machine import provenance
from metaformer.models.create import create_model
from metaformer.models.metaformer import MetaFormer
from metaformer.recipes.cifar10_small import SMALL_METAFORMER
from metaformer.train.memory import peak_memory_mib

Step = Callable[[], None]

# The small net of the baselines: 444k parameters, 15 million multiply-adds.
SMALL = replace(
    SMALL_METAFORMER,
    dims=(32, 64, 128),
    norm=ModifiedLayerNormConfig(),
    channel_mlp=replace(SMALL_METAFORMER.channel_mlp, ratio=4.0),
    patch_embeddings=(
        replace(SMALL_METAFORMER.patch_embeddings[0], kernel_size=3, padding=1),
        *SMALL_METAFORMER.patch_embeddings[1:],
    ),
)


def small(_name: str) -> nn.Module:
    """The small net, ours."""
    return MetaFormer(SMALL)


def small_batch_norm(_name: str) -> nn.Module:
    """The same with batch norm, as the CIFAR-10 recipe has it."""
    return MetaFormer(replace(SMALL, norm=SMALL_METAFORMER.norm))


def ours(name: str) -> nn.Module:
    """A model of our zoo."""
    return create_model(name)


def ours_fast(name: str) -> nn.Module:
    """The same with fused operators in its blocks."""
    from metaformer.fast import for_training

    return for_training(create_model(name))


def timms(name: str) -> nn.Module:
    """The model of the same name in timm."""
    import timm

    return timm.create_model(name)


ROWS: dict[str, dict[str, dict[str, Any]]] = {
    "small": {
        "plain eager NCHW": {"build": small},
        "channels_last": {"build": small, "channels_last": True},
        "channels_last, compiled": {"build": small, "channels_last": True, "compile": True},
        "channels_last, compiled, fused AdamW": {
            "build": small,
            "channels_last": True,
            "compile": True,
            "fused": True,
        },
        "batch norm, channels_last, fused AdamW": {
            "build": small_batch_norm,
            "channels_last": True,
            "fused": True,
        },
    },
    "s12": {
        "timm eager NCHW": {"build": timms},
        "timm channels_last": {"build": timms, "channels_last": True},
        "timm channels_last, compiled": {"build": timms, "channels_last": True, "compile": True},
        "ours channels_last": {"build": ours, "channels_last": True, "fused": True},
        "ours channels_last, fused operators": {"build": ours_fast, "channels_last": True, "fused": True},
    },
}
SHAPES = {"small": (256, 3, 32, 32, 10), "s12": (16, 3, 224, 224, 1000)}


def make_step(suite: str, row: dict[str, Any], *, bf16: bool) -> Step:
    """A whole step: forward, backward, AdamW; on a batch in memory."""
    torch.manual_seed(0)
    batch, channels, height, width, classes = SHAPES[suite]
    memory_format = torch.channels_last if row.get("channels_last") else torch.contiguous_format
    model = row["build"]("poolformer_s12").to(memory_format=memory_format).train()
    images = torch.randn(batch, channels, height, width).to(memory_format=memory_format)
    labels = torch.randint(0, classes, (batch,))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=row.get("fused", False))
    forward = torch.compile(model) if row.get("compile") else model

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = nn.functional.cross_entropy(forward(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def measure(suite: str, *, rounds: int, bf16: bool) -> dict[str, Any]:
    """Seconds a step of every row, round by round."""
    steps: dict[str, Step] = {}
    for name, row in ROWS[suite].items():
        step = make_step(suite, row, bf16=bf16)
        step()
        step()
        steps[name] = step
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def peak_mib(suite: str, name: str, bf16: bool, results: Any) -> None:
    """The memory of a process that does nothing else, above that of the bare libraries."""
    bare = peak_memory_mib(torch.device("cpu"))
    step = make_step(suite, ROWS[suite][name], bf16=bf16)
    step()
    step()
    results.put(peak_memory_mib(torch.device("cpu")) - bare)


def memory_of(suite: str, name: str, *, bf16: bool) -> float:
    """Peak memory in a new process."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=peak_mib, args=(suite, name, bf16, results))
    process.start()
    process.join()
    return float(results.get(timeout=1))


def main() -> None:
    """Measures, prints a table, writes a record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", choices=[*ROWS])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--bf16", action="store_true", help="autocast; only where the processor has bf16 units")
    parser.add_argument("--out", type=Path, help="write the record there, as JSON")
    options = parser.parse_args()
    seconds = measure(options.suite, rounds=options.rounds, bf16=options.bf16)
    memory = {name: memory_of(options.suite, name, bf16=options.bf16) for name in seconds}
    base = next(iter(seconds))
    batch = SHAPES[options.suite][0]
    print(f"{'':42}{'ms a step':>10}{'images/s':>10}{'speed':>8}{'lowest':>8}{'highest':>8}{'memory':>10}")
    rows = {}
    for name, values in seconds.items():
        ratios = [one / other for one, other in zip(seconds[base], values, strict=True)]
        middle = statistics.median(values)
        rows[name] = {"seconds": values, "ratio": statistics.median(ratios), "peak_memory_mib": memory[name]}
        print(
            f"{name:42}{1000 * middle:10.0f}{batch / middle:10.0f}{statistics.median(ratios):7.2f}x{min(ratios):7.2f}x"
            f"{max(ratios):7.2f}x{memory[name]:6.0f} MiB"
        )
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        record = {"suite": options.suite, "bf16": options.bf16, "rows": rows, **provenance()}
        options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
