"""A model beside its peers: all checked first, then timed in turns."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from metaformer.analysis.cost import profile
from metaformer.core.checked import check_count
from metaformer.core.command_line import command_of
from metaformer.core.errors import ConfigError, unknown
from metaformer.core.records import Bench, BenchContest, Record, recording
from metaformer.fast.bench.inference import ContestResult, run_contest, share_of_peak
from metaformer.fast.bench.peers import PEERS
from metaformer.fast.bench.record import bench_result, contest_record
from metaformer.fast.bench.scaling import Scaling, measure_scaling
from metaformer.fast.bench.training import TrainingResult, run_training
from metaformer.models.create import create_model
from metaformer.models.zoo import ZOO
from metaformer.ops.native.library import measured_peak

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
FEWEST_ROUNDS = 3  # that tell a spread


def bench(
    name: str = "poolformer_s12",
    *,
    batch_sizes: Sequence[int] = (1, 8),
    image_size: int | tuple[int, int] | None = None,
    dtypes: Sequence[Literal["fp32", "bf16"]] = ("fp32",),
    training_batch_size: int = 0,
    scaling: Sequence[int] = (),
    peers: Sequence[str] = tuple(PEERS),
    rounds: int = 10,
    minutes: float = 5.0,
    out: Path | None = None,
    watch: Callable[[str], None] = lambda _: None,
    show: Callable[[BenchContest], None] = lambda _: None,
) -> Record[Bench]:
    """Checks that all compute the same, and times them in turns.

    Args:
        name: A model of the zoo.
        batch_sizes: Images at a time.
        image_size: Side of square images in pixels; the model's own if not given.
        dtypes: What they compute in: fp32, bf16.
        training_batch_size: Images of a training step; 0 leaves training out.
        scaling: Sides in pixels for the cost exponent; none leaves it out.
        peers: Who is measured besides our optimized model, of `metaformer.fast.bench.peers.PEERS`.
        rounds: How often each is timed.
        minutes: No further round of a contest begins after so many minutes; 3 are always made.
        out: Folder of run.json; None writes nothing.
        watch: Told what is being done.
        show: Given each contest when it is over.

    Raises:
        ConfigError: A setting cannot work.
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
    with torch.device("meta"):
        model = create_model(name, image_size=side_px)
    macs, peak = profile(model, model.config.image_size).macs, measured_peak()
    common: Any = {"image_size": side_px, "rounds": rounds, "budget_s": 60 * minutes}
    results: list[ContestResult | TrainingResult] = []
    command = command_of("bench", name, settings)
    with recording(Bench, name=name, config=settings, command=command, out=out, seed=0) as recorder:
        for dtype, batch_size in itertools.product(dtypes, batch_sizes):
            told = _beginning(f"batch of {batch_size}, {dtype}: ", watch)
            one = run_contest(
                name, batch_size=batch_size, dtype=DTYPES[dtype], peers=tuple(peers), watch=told, **common
            )
            if peak is not None and max(share_of_peak(cell, one, macs, peak) or 0 for cell in one.cells) > 1:
                # Nobody is faster than the peak: it was measured in a bad moment.
                peak = max(peak, measured_peak(seconds=3) or 0)
            results.append(one)
            show(contest_record(one, macs, peak))
        for dtype in dtypes if training_batch_size else ():
            told = _beginning(f"training, batch of {training_batch_size}, {dtype}: ", watch)
            step = run_training(name, batch_size=training_batch_size, dtype=DTYPES[dtype], watch=told, **common)
            results.append(step)
            show(contest_record(step, macs, peak))
        growth: Scaling | None = None
        if scaling:
            told = _beginning("scaling: ", watch)
            growth = measure_scaling(name, tuple(scaling), dtype=DTYPES[dtypes[0]], rounds=rounds, watch=told)
        recorder.result = bench_result(results, growth, macs=macs, peak_gflops=peak, rounds=rounds)
    assert recorder.record is not None
    return recorder.record


def _beginning(start: str, watch: Callable[[str], None]) -> Callable[[str], None]:
    return lambda text: watch(start + text)


def _side_of(image_size: int | tuple[int, int] | None) -> int | None:
    if image_size is None or isinstance(image_size, int):
        return image_size
    if image_size[0] == image_size[1]:
        return image_size[0]
    raise ConfigError(f"image_size must be that of a square here; got {image_size[0]} {image_size[1]}.")


def _check(name: str, settings: dict[str, Any]) -> None:
    ZOO[name]
    sizes, scaling, training = settings["batch_sizes"], settings["scaling"], settings["training_batch_size"]
    if not (sizes or training or scaling):
        raise ConfigError("batch_sizes must name at least one; got none.")
    for size in sizes:
        check_count(size, "batch_sizes")
    check_count(training, "training_batch_size", least=0)
    check_count(settings["rounds"], "rounds", least=FEWEST_ROUNDS)
    for dtype in settings["dtypes"] or ("",):
        if dtype not in DTYPES:
            raise unknown("dtype", dtype, DTYPES)
    for peer in settings["peers"]:
        if peer not in PEERS:
            raise unknown("peer", peer, PEERS)
    for side in scaling:
        check_count(side, "scaling")
    if len(set(scaling)) == 1:
        raise ConfigError(f"scaling needs at least two sizes to fit an exponent; got {scaling}.")
    if not 0 < settings["minutes"] < float("inf"):
        raise ConfigError(f"minutes must be above 0; got {settings['minutes']}.")
