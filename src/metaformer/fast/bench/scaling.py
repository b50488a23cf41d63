"""How the time of a model grows with the number of its tokens."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from metaformer.fast.bench.inference import OURS
from metaformer.fast.bench.peers import PEERS, bench_case
from metaformer.fast.contest import TurnTimes, interleave


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """Times of one image at several sizes, and the exponent that fits them."""

    sides_px: tuple[int, ...]
    timings: tuple[TurnTimes, ...]
    exponent: float  # of the time in the number of tokens


def measure_scaling(
    name: str,
    sides_px: tuple[int, ...],
    *,
    dtype: torch.dtype,
    rounds: int = 10,
    watch: Callable[[str], None] = lambda _: None,
) -> Scaling:
    """Times our optimized model on one image of each size, in turns, and fits a power of the number of tokens."""
    with torch.no_grad():
        calls = {}
        for side in sides_px:
            watch(f"preparing {side} px")
            calls[str(side)] = PEERS[OURS](bench_case(name, batch_size=1, image_size=side, dtype=dtype))
        timings = interleave(calls, rounds=rounds, watch=watch)
    ordered = tuple(timings[str(side)] for side in sides_px)
    return Scaling(sides_px=sides_px, timings=ordered, exponent=fit_exponent(sides_px, [t.median for t in ordered]))


def fit_exponent(sides_px: tuple[int, ...], seconds: list[float]) -> float:
    """The slope of log(time) against log(tokens), by least squares; tokens grow with the square of the side."""
    x = [2 * math.log(side) for side in sides_px]
    y = [math.log(value) for value in seconds]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    covariance = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return covariance / sum((a - mean_x) ** 2 for a in x)
