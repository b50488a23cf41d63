"""How fast a training step is beside the plain eager loop and beside timm, in one interleaved run.

    python benchmarks/train.py small            # 32x32, B=256: ours against the plain eager fp32 loop
    python benchmarks/train.py s12              # poolformer_s12 at 224, B=16: ours against timm in every setting

Alone on the machine, about 5 minutes each on 2 cores. Each row is timed once a round, all rows in turn, so that a slow
moment of the machine hits them alike; the median and the spread of the ratios to the first row count, not the seconds.
Memory is what a step adds at its peak to a process of its own.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from metaformer.block.norm import ModifiedLayerNormConfig
from metaformer.cli.bench import bench
from metaformer.core.atomic_write import write_json
from metaformer.core.compiling import compile_module
from metaformer.core.fresh_process import in_fresh_process
from metaformer.core.machine import provenance
from metaformer.core.memory import added_memory_mib
from metaformer.fast.for_training import for_training
from metaformer.models.metaformer import MetaFormer
from metaformer.ops.spare_buffers import clear_spare_buffers
from metaformer.recipes.cifar10 import SMALL_METAFORMER

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


def small() -> nn.Module:
    """The small net, ours."""
    return MetaFormer(SMALL)


def small_fused() -> nn.Module:
    """The same with fused operators in its blocks."""
    return for_training(MetaFormer(SMALL))


def small_least_memory() -> nn.Module:
    """The same, hidden tensors computed again."""
    return for_training(MetaFormer(SMALL), keep_hidden=False)


def small_batch_norm() -> nn.Module:
    """The same with batch norm, as the CIFAR-10 recipe has it."""
    return MetaFormer(replace(SMALL, norm=SMALL_METAFORMER.norm))


ROWS: dict[str, dict[str, Any]] = {
    "plain eager NCHW": {"build": small},
    "channels_last": {"build": small, "channels_last": True},
    "channels_last, compiled": {"build": small, "channels_last": True, "compile": True},
    "fused operators": {"build": small_fused, "channels_last": True, "fused": True},
    "fused operators, hidden computed again": {"build": small_least_memory, "channels_last": True, "fused": True},
    "batch norm, plain eager NCHW": {"build": small_batch_norm},
    "batch norm, channels_last, compiled": {
        "build": small_batch_norm,
        "channels_last": True,
        "compile": True,
        "fused": True,
    },
}
BATCH_SIZE = 256


def make_step(row: dict[str, Any], *, bf16: bool) -> Step:
    """A whole step: forward, backward, AdamW; on a batch in memory."""
    torch.manual_seed(0)
    memory_format = torch.channels_last if row.get("channels_last") else torch.contiguous_format
    model = row["build"]().to(memory_format=memory_format).train()
    images = torch.randn(BATCH_SIZE, 3, 32, 32).to(memory_format=memory_format)
    labels = torch.randint(0, 10, (BATCH_SIZE,))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=row.get("fused", False))
    forward = compile_module(model) if row.get("compile") else model

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = nn.functional.cross_entropy(forward(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def measure(*, rounds: int, bf16: bool) -> dict[str, list[float]]:
    """Seconds a step of every row, round by round."""
    steps: dict[str, Step] = {}
    for name, row in ROWS.items():
        step = make_step(row, bf16=bf16)
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


def added_mib(name: str, bf16: bool) -> float:
    """What the third step of a process that does nothing else adds to its memory at its peak."""
    step = make_step(ROWS[name], bf16=bf16)
    step()
    step()
    # What is kept from step to step belongs to the step.
    clear_spare_buffers()
    return added_memory_mib(step) or float("nan")


def main() -> None:
    """Measures, prints a table, writes a record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", choices=["small", "s12"])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--bf16", action="store_true", help="autocast; only where the processor has bf16 units")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/train"), help="folder of the record")
    options = parser.parse_args()
    if options.suite == "s12":
        dtypes = ("bf16",) if options.bf16 else ("fp32",)
        bench(batch_sizes=(), dtypes=dtypes, training_batch_size=16, rounds=options.rounds, out=options.out / "s12")
        return
    seconds = measure(rounds=options.rounds, bf16=options.bf16)
    base = next(iter(seconds))
    print(f"{'':42}{'ms a step':>10}{'images/s':>10}{'speed':>8}{'lowest':>8}{'highest':>8}{'memory':>10}")
    rows = {}
    for name, values in seconds.items():
        # A process of its own: memory that another row left behind is none of this one's.
        memory = in_fresh_process(added_mib, name, options.bf16)
        ratios = [one / other for one, other in zip(seconds[base], values, strict=True)]
        middle = statistics.median(values)
        rows[name] = {"seconds": values, "ratio": statistics.median(ratios), "added_memory_mib": memory}
        print(
            f"{name:42}{1000 * middle:10.0f}{BATCH_SIZE / middle:10.0f}{statistics.median(ratios):7.2f}x"
            f"{min(ratios):7.2f}x{max(ratios):7.2f}x{memory:6.0f} MiB"
        )
    record = {"suite": "small", "bf16": options.bf16, "rows": rows, **provenance()}
    write_json(options.out / "small.json", record)


if __name__ == "__main__":
    main()
