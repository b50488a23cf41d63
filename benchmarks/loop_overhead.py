"""What the training loop costs besides forward, backward and the optimizer's step, as a share of a step.

    python benchmarks/loop_overhead.py [--batch-size 256] [--steps 8] [--repeats 5] [--threads 1] [--json FILE]

The small net of 32x32 pixels (dims 32-64-128, depths 2-2-2, stem stride 2), random images in memory. Time is that of
the process's own cores, so that other work on the machine counts little; with one thread it is the time that passes.
"""

import argparse
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from metaformer.block.token_mixers import PoolingConfig
from metaformer.core.machine import provenance
from metaformer.data.source import DataFacts, evaluation_batches_of, train_batches_of
from metaformer.models.config import MetaFormerConfig, PatchEmbeddingConfig
from metaformer.models.metaformer import MetaFormer
from metaformer.recipes.paper_scales import TINY_POOLFORMER
from metaformer.train.config import Execution, TrainConfig
from metaformer.train.loop import StepResult, train
from metaformer.train.mixing import MixingConfig
from metaformer.train.processes import start_fabric

WARM_UP_STEPS = 2
SETUPS = {
    "plain": TrainConfig(),
    "mixup, cutmix, average, clipping": TrainConfig(
        mixing=MixingConfig(mixup=0.8, cutmix=1.0), ema_decay=0.999, clip_grad_norm=1.0
    ),
}


class RandomImages:
    """Images of noise, in memory."""

    def __init__(self, num_train: int) -> None:
        random = torch.Generator().manual_seed(0)
        self._images = torch.randn(num_train, 3, 32, 32, generator=random)
        self._labels = torch.randint(0, 10, (num_train,), generator=random)
        self.unreadable: list[tuple[str, str]] = []
        self.facts = DataFacts(
            name="random",
            title="Random",
            description="Noise.",
            class_names=tuple("0123456789"),
            in_chans=3,
            image_size=(32, 32),
            mean=(0.0,) * 3,
            std=(1.0,) * 3,
            num_train=num_train,
            num_validation=10,
            num_test=0,
        )

    def train_batches(self, plan):
        return train_batches_of(self._images, self._labels, plan)

    def evaluation_batches(self, split, *, batch_size=250, rank=0, world_size=1):
        images, labels = self._images[:10], self._labels[:10]
        return evaluation_batches_of(images, labels, batch_size=batch_size, rank=rank, world_size=world_size)


class Stopwatch:
    """Adds up the time between its starts and stops."""

    def __init__(self) -> None:
        self.seconds = self._started = 0.0

    def start(self, *_: object) -> None:
        self._started = time.process_time()

    def stop(self, *_: object) -> None:
        self.seconds += time.process_time() - self._started


def small_net() -> MetaFormerConfig:
    """The small net of the measured baselines: 0.4 million parameters, 15 million multiply-adds."""
    _, second, third, _ = TINY_POOLFORMER.patch_embeddings
    return replace(
        TINY_POOLFORMER,
        dims=(32, 64, 128),
        depths=(2, 2, 2),
        token_mixers=(PoolingConfig(),) * 3,
        patch_embeddings=(PatchEmbeddingConfig(kernel_size=3, stride=2, padding=1), second, third),
        drop_path=0.1,
        num_classes=10,
        in_chans=3,
        image_size=(32, 32),
    )


def measure(config: TrainConfig, *, steps: int) -> tuple[float, float]:
    """Milliseconds a step, and the share of them that is neither forward, backward nor the optimizer's step."""
    torch.manual_seed(0)
    model = MetaFormer(small_net())
    data = RandomImages((WARM_UP_STEPS + steps + 1) * config.batch_size)
    fabric = start_fabric(config, Execution(device="cpu"))
    watch = Stopwatch()
    plain_backward = fabric.backward

    def backward(*arguments: object) -> None:
        watch.start()
        plain_backward(*arguments)
        watch.stop()

    fabric.backward = backward
    model.register_forward_pre_hook(watch.start)
    model.register_forward_hook(watch.stop)
    hooks = [register_optimizer_step_pre_hook(watch.start), register_optimizer_step_post_hook(watch.stop)]
    try:
        results = train(model, data, config, seed=0, fabric=fabric)
        for _ in range(WARM_UP_STEPS):
            next(results)
        watch.seconds, started = 0.0, time.process_time()
        for _ in range(steps):
            assert isinstance(next(results), StepResult)
        total = time.process_time() - started
        results.close()
    finally:
        for hook in hooks:
            hook.remove()
    return 1000 * total / steps, 1 - watch.seconds / total


def main() -> None:
    """Measures each setup, prints a line for each, and writes JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"batch-size": 256, "steps": 8, "repeats": 5, "threads": 1}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = {}
    for name, setup in SETUPS.items():
        config = replace(setup, batch_size=options.batch_size)
        rows = [measure(config, steps=options.steps) for _ in range(options.repeats)]
        milliseconds = statistics.median(row[0] for row in rows)
        shares = sorted(100 * row[1] for row in rows)
        found[name] = {"step_ms": milliseconds, "overhead_percent": shares}
        print(
            f"{name}: {milliseconds:.0f} ms a step, of which the loop {statistics.median(shares):.2f}% "
            f"({shares[0]:.2f} to {shares[-1]:.2f})"
        )
    if options.json:
        settings = {key: value for key, value in vars(options).items() if key != "json"}
        options.json.write_text(json.dumps({"settings": settings, "results": found} | provenance(), indent=1) + "\n")


if __name__ == "__main__":
    main()
