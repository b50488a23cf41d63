"""A training in a process of its own, to be killed or joined with others; no test is in here.

    python training_process.py FOLDER OPTIONS

OPTIONS is JSON: "recipe" and "execution" replace fields of the configs, "norm" names the norm, "die" is [rank, step] at
which a process kills itself, "limit" the size in bytes above which no file can be written, "poison" the place in each
epoch's order of an image that is not a number.
Prints a line for each step that is done, and at the end one word: done.
"""

import json
import os
import resource
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from conftest import Stripes, tiny_config  # isort: skip (beside this script)

from metaformer.block.channel_mlp import ChannelMLPConfig
from metaformer.block.norm import NORMS
from metaformer.core.errors import ConfigError, DataError, StoppedError
from metaformer.train.config import Execution, Run, TrainConfig
from metaformer.train.loop import StepResult
from metaformer.train.mixing import MixingConfig
from metaformer.train.run import perform
from metaformer.train.stopping import InterruptedRunError, Interruption


def say(line: str) -> None:
    """One write: lines of several processes must not mix."""
    os.write(1, f"{line}\n".encode())


class PoisonedStripes(Stripes):
    """One image of each epoch is not a number."""

    def __init__(self, place: int) -> None:
        super().__init__()
        self.place = place

    def train_epoch(self, *, seed, epoch):
        images, labels = super().train_epoch(seed=seed, epoch=epoch)
        images[self.place] = float("nan")
        return images, labels


def main(folder: Path, options: dict) -> int:
    torch.set_num_threads(1)
    recipe = dict(options.get("recipe", {}))
    mixing = MixingConfig(**recipe.pop("mixing", {}))
    config = replace(TrainConfig(epochs=3, batch_size=8, lr=5e-3, warmup_epochs=1.0, mixing=mixing), **recipe)
    model = replace(
        tiny_config(),
        norm=NORMS[options.get("norm", "modified_layer_norm")](),
        channel_mlp=ChannelMLPConfig(dropout=options.get("dropout", 0.2)),
    )
    run = Run(name="run", model=model, data="stripes", train=config, seed=options.get("seed", 0))
    execution = Execution(**options.get("execution", {}))
    rank = int(os.environ.get("RANK", "0"))
    data = PoisonedStripes(options["poison"]) if "poison" in options else Stripes()
    if limit := options.get("limit"):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    with Interruption() as interruption:
        try:
            for result in perform(
                run, data, folder, command="test", execution=execution, stop=lambda: interruption.signal_number
            ):
                if not isinstance(result, StepResult):
                    continue
                say(f"{rank} {result.epoch} {result.step} {result.loss!r}")
                if options.get("die") == [rank, result.epoch * result.steps_per_epoch + result.step]:
                    os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(options.get("pause_s", 0.0))
        except InterruptedRunError as stopped:
            say(f"stopped: {stopped}")
            return 128 + stopped.signal_number
        except (StoppedError, ConfigError, DataError) as error:
            say(f"error {rank}: {error}")
            return 1
    say("done")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), json.loads(sys.argv[2])))
