"""`metaformer optimize`: the fastest way to run a model on this machine, found by a timed trial."""

from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from rich.console import Console

from metaformer.core.command_line import command_of
from metaformer.core.errors import ConfigError
from metaformer.core.records import Recorder, Trial
from metaformer.fast.optimize import optimize as faster
from metaformer.fast.optimize import trial_of
from metaformer.fast.save import save_program
from metaformer.fast.trial_record import trial_result
from metaformer.models.create import create_model

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def optimize(
    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")],
    /,
    weights: str | None = None,
    batch_size: int = 8,
    image_size: tuple[int, int] | None = None,
    dtype: Literal["fp32", "bf16"] = "fp32",
    out: Path | None = None,
    again: bool = False,
    record: Path = Path("runs/optimize"),
) -> int:
    """Tries every way to run a model for one batch size, image size and dtype; prints the table, writes run.json.

    Args:
        name: A model of the zoo; see 'metaformer models'.
        weights: A file, run folder, URL or hub id (hf://owner/name); random weights if not given.
        batch_size: Images at a time.
        image_size: Side, or height and width, in pixels; the model's own if not given.
        dtype: What the model computes in.
        out: Write the faster model there, for torch.export.load (.pt2).
        again: Time all ways anew, even if an earlier trial fits.
        record: Folder of run.json.
    """
    recorder: Recorder[Trial] = Recorder(Trial, name=name, config={}, command="", seed=0)
    if batch_size < 1:
        raise ConfigError(f"--batch-size must be at least 1; got {batch_size}.")
    if out is not None and out.suffix != ".pt2":
        raise ConfigError(f"--out must end in .pt2, PyTorch's name for an exported program; got {out}.")
    model = create_model(name, weights=weights, image_size=image_size).eval()
    height, width = model.config.image_size
    generator = torch.Generator().manual_seed(0)
    example = torch.randn(batch_size, model.in_chans, height, width, generator=generator)
    chosen = faster(model, example, dtype=DTYPES[dtype], again=again)
    trial = trial_of(chosen)
    console = Console(soft_wrap=True, highlight=False)
    shape = f"batch of {batch_size}, {model.in_chans}x{height}x{width}, {dtype}"
    console.print(f"{name}, {shape}, {torch.get_num_threads()} threads\n", markup=False)
    console.print(str(trial), markup=False)
    console.print(f"\nchosen: {trial.chosen}{' (from an earlier trial; --again repeats it)' if trial.cached else ''}")
    settings = {
        "weights": weights,
        "batch_size": batch_size,
        "image_size": [height, width],
        "dtype": dtype,
        "again": True,
    }
    recorder.config, recorder.command = settings, command_of("optimize", name, settings)
    recorder.result = trial_result(trial)
    console.print(f"wrote {recorder.finish().write(record)}", markup=False)
    if out is not None:
        save_program(chosen, example, out)
        console.print(
            f"wrote {out}; to load it: import metaformer.fast.backends; torch.export.load({str(out)!r}).module()"
        )
    return 0
