"""`metaformer bench`: our models beside timm, ONNX Runtime, OpenVINO and ResNet-18, in one interleaved run."""

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from metaformer.analysis.cost import profile
from metaformer.cli.parsing import command_of
from metaformer.core.errors import ConfigError, unknown
from metaformer.core.records import Bench, Recorder
from metaformer.fast.bench.inference import ContestResult, run_contest, share_of_peak
from metaformer.fast.bench.peers import PEERS
from metaformer.fast.bench.record import bench_result
from metaformer.fast.bench.scaling import measure_scaling
from metaformer.fast.bench.training import TrainingResult, run_training
from metaformer.fast.contest import Cell
from metaformer.models.create import create_model
from metaformer.models.zoo import ZOO
from metaformer.ops.native.library import measured_peak
from metaformer.report.pages.bench_page import write_bench_page

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def bench(
    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")] = "poolformer_s12",
    /,
    batch_sizes: tuple[int, ...] = (1, 8),
    image_size: tuple[int, int] | None = None,
    dtypes: tuple[Literal["fp32", "bf16"], ...] = ("fp32",),
    training_batch_size: int = 0,
    scaling: tuple[int, ...] = (),
    peers: tuple[str, ...] = tuple(PEERS),
    rounds: int = 10,
    minutes: float = 5.0,
    out: Path = Path("runs/bench"),
) -> int:
    """Checks that all compute the same, times them in turns, prints medians and ratios, writes run.json and a page.

    Args:
        name: A model of the zoo; see 'metaformer models'.
        batch_sizes: Images at a time.
        image_size: Side of square images in pixels; the model's own if not given.
        dtypes: What they compute in.
        training_batch_size: Images of a training step; 0 leaves training out.
        scaling: Sides in pixels for the cost exponent, as in 128 256 512 1024; none leaves it out.
        peers: Who is measured besides our optimized model.
        rounds: How often each is timed.
        minutes: No further round of a contest begins after so many minutes; 3 are always made.
        out: Folder of run.json.
    """
    side_px = _side_of(image_size)
    settings: dict[str, Any] = {
        "batch_sizes": list(batch_sizes),
        "image_size": side_px,
        "dtypes": list(dtypes),
        "training_batch_size": training_batch_size,
        "scaling": list(scaling),
        "peers": list(peers),
        "rounds": rounds,
        "minutes": minutes,
    }
    _check(name, settings)
    recorder: Recorder[Bench] = Recorder(
        Bench, name=name, config=settings, command=command_of("bench", name, settings), seed=0
    )
    console = Console(soft_wrap=True, highlight=False)
    with torch.device("meta"):
        model = create_model(name, image_size=side_px)
    macs, peak = profile(model, model.config.image_size).macs, measured_peak()
    console.print(f"{name}, {macs / 1e9:.2f} GMACs, {torch.get_num_threads()} threads", markup=False)
    if peak is not None:
        console.print(f"multiply-add peak {peak:.0f} GFLOP/s in fp32: {2 * macs / peak / 1e6:.2f} ms an image")
    common: Any = {"image_size": side_px, "rounds": rounds, "budget_s": 60 * minutes}
    contests, steps, growth = [], [], None
    for dtype, batch_size in itertools.product(dtypes, batch_sizes):
        with watching(f"batch of {batch_size}, {dtype}") as watch:
            result = run_contest(name, batch_size=batch_size, dtype=DTYPES[dtype], peers=peers, watch=watch, **common)
        contests.append(result)
        if peak is not None and max(share_of_peak(cell, result, macs, peak) or 0 for cell in result.cells) > 1:
            # Nobody is faster than the peak: it was measured in a bad moment.
            peak = max(peak, measured_peak(seconds=3) or 0)
        _show(console, f"inference, batch of {batch_size}, {result.side_px} px, {dtype}", result, macs, peak)
    for dtype in dtypes if training_batch_size else ():
        with watching(f"training, batch of {training_batch_size}, {dtype}") as watch:
            step = run_training(name, batch_size=training_batch_size, dtype=DTYPES[dtype], watch=watch, **common)
        steps.append(step)
        _show(console, f"training step, batch of {training_batch_size}, {step.side_px} px, {dtype}", step, None, None)
    if scaling:
        with watching("scaling") as watch:
            growth = measure_scaling(name, scaling, dtype=DTYPES[dtypes[0]], rounds=rounds, watch=watch)
        console.print(f"\ncost exponent in tokens, {min(scaling)} to {max(scaling)} px: {growth.exponent:.3f}")
    recorder.result = bench_result([*contests, *steps], growth, macs=macs, peak_gflops=peak, rounds=rounds)
    console.print(f"\nwrote {recorder.finish().write(out)}", markup=False)
    console.print(f"page: {write_bench_page(out).resolve()}", markup=False)
    return 0


def _side_of(image_size: tuple[int, int] | None) -> int | None:
    if image_size is None or image_size[0] == image_size[1]:
        return image_size[0] if image_size else None
    raise ConfigError(f"--image-size must be that of a square here; got {image_size[0]} {image_size[1]}.")


@contextlib.contextmanager
def watching(what: str) -> Iterator[Callable[[str], None]]:
    """Shows what is being done on stderr, as one line that changes, or as lines where that is no terminal."""
    console = Console(stderr=True, highlight=False)
    started = time.monotonic()
    if not console.is_terminal:
        yield lambda text: console.print(f"{what}: {text} ({time.monotonic() - started:.0f} s)", markup=False)
        return
    with console.status(what) as status:
        yield lambda text: status.update(escape(f"{what}: {text} ({time.monotonic() - started:.0f} s)"))


def _check(name: str, settings: dict[str, Any]) -> None:
    ZOO[name]
    sizes, scaling, training = settings["batch_sizes"], settings["scaling"], settings["training_batch_size"]
    if min(sizes, default=1) < 1 or not (sizes or training or scaling):
        raise ConfigError(f"--batch-sizes must be at least 1 each; got {sizes}.")
    if training < 0:
        raise ConfigError(f"--training-batch-size must be at least 1, or 0 for none; got {training}.")
    for peer in settings["peers"]:
        if peer not in PEERS:
            raise unknown("peer", peer, PEERS)
    if len(set(scaling)) == 1:
        raise ConfigError(f"--scaling needs at least two sizes to fit an exponent; got {scaling}.")
    if settings["rounds"] < 3:
        raise ConfigError(f"--rounds must be at least 3, to tell a spread; got {settings['rounds']}.")


def _show(
    console: Console, title: str, result: ContestResult | TrainingResult, macs: int | None, peak: float | None
) -> None:
    console.print(f"\n{title}\n", markup=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    last = "peak MiB" if isinstance(result, TrainingResult) else "difference"
    for column in ("ms/image", "spread", "ratio", "of peak", last):
        table.add_column(column, justify="right")
    for cell in result.cells:
        if cell.skipped is None:
            table.add_row(cell.peer, *_numbers(cell, result, macs, peak))
    console.print(table)
    for cell in result.cells:
        if cell.skipped is not None:
            console.print(f"skipped: {cell.peer}: {cell.skipped}", markup=False)
    best = result.best_opponent() if isinstance(result, ContestResult) else None
    if best is not None and best.ratio is not None:
        console.print(f"best opponent: {best.peer}, {best.ratio:.2f} times our time", markup=False)


def _numbers(
    cell: Cell, result: ContestResult | TrainingResult, macs: int | None, peak: float | None
) -> tuple[str, ...]:
    assert cell.timing is not None
    seconds = cell.timing.median / result.batch_size
    share = None
    if isinstance(result, ContestResult) and macs is not None:
        share = share_of_peak(cell, result, macs, peak)
    mib = result.peak_mib.get(cell.peer) if isinstance(result, TrainingResult) else None
    return (
        f"{1e3 * seconds:.2f}",
        f"{100 * cell.timing.spread:.1f}%",
        "" if cell.ratio is None else f"{cell.ratio:.2f}",
        "" if share is None else f"{100 * share:.0f}%",
        f"{mib:.0f}" if mib is not None else "" if cell.difference is None else f"{cell.difference:.1e}",
    )
