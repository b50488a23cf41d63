"""`metaformer bench`: our models beside timm, ONNX Runtime, OpenVINO and ResNet-18, in one interleaved run."""

from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from rich.console import Console
from rich.table import Table

from metaformer.cli.progress import watching
from metaformer.core.errors import MissingExtraError
from metaformer.core.records import BenchContest
from metaformer.deploy.bench import bench as measure
from metaformer.fast.bench.peers import PEERS

NAMES = {"float32": "fp32", "bfloat16": "bf16"}


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
    console = Console(soft_wrap=True, highlight=False)
    with watching(name) as watch:
        record = measure(
            name,
            batch_sizes=batch_sizes,
            image_size=image_size,
            dtypes=dtypes,
            training_batch_size=training_batch_size,
            scaling=scaling,
            peers=peers,
            rounds=rounds,
            minutes=minutes,
            out=out,
            watch=watch,
            show=lambda contest: _show(console, contest),
        )
    result = record.measured
    if result.growth is not None:
        sides = result.growth.sides_px
        console.print(f"\ncost exponent in tokens, {min(sides)} to {max(sides)} px: {result.growth.exponent:.3f}")
    console.print(f"\n{name}, {result.macs / 1e9:.2f} GMACs, {torch.get_num_threads()} threads", markup=False)
    if result.peak_gflops is not None:
        peak = result.peak_gflops
        console.print(f"multiply-add peak {peak:.0f} GFLOP/s in fp32: {2 * result.macs / peak / 1e6:.2f} ms an image")
    console.print(f"folder: {out.resolve()}", markup=False)
    console.print(_page(out), markup=False)
    return 0


def _page(out: Path) -> str:
    try:
        from metaformer.report.report import report
    except MissingExtraError as missing:
        return f"no page: {missing}"
    return f"page: {report(out).page}"


def _show(console: Console, contest: BenchContest) -> None:
    is_training = contest.phase == "training"
    what = "training step" if is_training else "inference"
    title = f"{what}, batch of {contest.batch_size}, {contest.side_px} px, {NAMES[contest.dtype]}"
    table = Table(box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    for column in ("ms/image", "spread", "ratio", "of peak", "peak MiB" if is_training else "difference"):
        table.add_column(column, justify="right")
    for peer in contest.peers:
        if peer.time_ms is not None:
            last = _number(peer.peak_memory_mib, "{:.0f}") or _number(peer.largest_difference, "{:.1e}")
            table.add_row(
                peer.name,
                _number(peer.time_ms, "{:.2f}"),
                _number(peer.spread_percent, "{:.1f}%"),
                _number(peer.ratio_to_ours, "{:.2f}"),
                _number(peer.share_of_peak_percent, "{:.0f}%"),
                last,
            )
    console.print(f"\n{title}\n", markup=False)
    console.print(table)
    for peer in contest.peers:
        if peer.skipped is not None:
            console.print(f"skipped: {peer.name}: {peer.skipped}", markup=False)
    best = contest.best_opponent
    if best is not None:
        console.print(f"best opponent: {best.name}, {best.ratio_to_ours:.2f} times our time", markup=False)


def _number(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)
