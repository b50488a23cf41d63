"""Whether a stack of token mixers makes all tokens alike, and how fast."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from math import exp, log
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from metaformer.analysis.anatomy.blocks import Block, find_blocks
from metaformer.analysis.anatomy.features import Layout
from metaformer.analysis.anatomy.recording import watching, watching_inputs
from metaformer.analysis.anatomy.switches import adding_input, subtracting_mixers, without_mlp, without_residual
from metaformer.analysis.intervals import Interval, factor_interval, interval_of
from metaformer.analysis.probe import Batch, Exhibit, Inputs, Journal, concerning
from metaformer.core.errors import ConfigError
from metaformer.core.measurement import Axis, Curve, Curves, Measurement, Table, numbers

# Below, what is left of a residual in 64 bits is rounding.
FLOOR = 1e-14
# What a matrix whose rows sum to 1 in 32 bits leaves: a residual that stays here falls no more for that reason alone.
ROUNDED_WEIGHTS = 1e-6
# So many nats must a residual fall before its way of falling can be told.
LEAST_FALL = 0.5
STILL_FALLING = 0.1  # nats a block
# Between 1, what a fixed matrix has, and 3, what attention has.
DOUBLY_EXPONENTIAL = 1.5
STAYS = 0.9  # a factor above, over so few nats in all, is no collapse


class Case(NamedTuple):
    """Which branches are on."""

    residual: bool
    mlp: bool

    def __str__(self) -> str:
        return f"residual {'on' if self.residual else 'off'}, MLP {'on' if self.mlp else 'off'}"


CASES = (Case(False, False), Case(False, True), Case(True, False), Case(True, True))


@dataclass(frozen=True, kw_only=True)
class RankCollapse:
    """How far tokens are from being all the same, by depth."""

    num_seeds: int = 3  # untrained twins of each model
    num_images: int = 16

    def __post_init__(self) -> None:
        if self.num_seeds < 0 or self.num_images < 1:
            raise ConfigError(
                "RankCollapse.num_seeds must be at least 0 and num_images at least 1; "
                f"got {self.num_seeds} and {self.num_images}."
            )

    def measure(self, exhibits: tuple[Exhibit, ...], inputs: Inputs, journal: Journal) -> Measurement:
        batches = inputs.first_batches(self.num_images)
        subjects = list(_subjects(exhibits, self.num_seeds))
        cases: dict[str, tuple[Case, ...]] = {}
        for name, build, example in subjects:
            with concerning(build.exhibit):
                cases[name] = _cases_of(example)
        total, done = sum(len(cases[name]) for name, *_ in subjects), 0
        paths: dict[tuple[str, Case], list[Descent]] = {}
        for name, build, example in subjects:
            model = build(example)
            for case in cases[name]:
                paths.setdefault((name, case), []).append(measure_descent(model, batches, case))
                done += 1
                journal.show(done, total)
        return _measurement(paths)


def composite_norm(x: Float[Tensor, "b n c"]) -> Float[Tensor, " b"]:
    """The root of the product of the largest column sum and the largest row sum, of absolute values.

    Source: arXiv:2103.03404, Sec. 2.1 (the norm of the figures in the authors' code, with its root).
    """
    size = x.abs()
    return (size.sum(dim=1).amax(dim=1) * size.sum(dim=2).amax(dim=1)).sqrt()


def relative_residual(x: Float[Tensor, "b n c"]) -> Float[Tensor, " b"]:
    """How far the tokens of each sample are from their mean, relative to their size: 0 when all are the same.

    Source: arXiv:2103.03404, Fig. 2, with the mean of the tokens for the nearest rank-1 matrix, as the authors' code.
    """
    return composite_norm(x - x.mean(dim=1, keepdim=True)) / composite_norm(x)


@dataclass(frozen=True, kw_only=True)
class Descent:
    """The log of the relative residual by depth, a mean over images, in nats."""

    by_depth: tuple[float, ...]  # before the first block, and after each
    of_stage: tuple[float, ...]  # the same for the longest run of blocks on one grid, which rates are fitted to


@torch.no_grad()
def measure_descent(model: nn.Module, batches: Sequence[Batch], case: Case) -> Descent:
    """Follows the relative residual through the blocks.

    In 64 bits, on a copy. A mixer that subtracts its input, as pooling does for the residual connection to add it
    again, is given its input back where that connection is off.

    Args:
        model: With residual blocks (`find_blocks`), in evaluation mode.
        batches: Images and classes.
        case: Which branches are on.
    """
    model = deepcopy(model).double()
    device = next(model.parameters()).device
    size = tuple(batches[0][0].shape[2:])
    blocks = find_blocks(model)
    before, after = dict.fromkeys(_paths(blocks), 0.0), dict.fromkeys(_paths(blocks), 0.0)
    shapes: dict[str, torch.Size] = {}
    entered: dict[str, Tensor] = {}

    def see(path: str, x: Tensor, layout: Layout) -> None:
        shapes[path] = x.shape[1:]
        after[path] += _sum_of_logs(layout.tokens(x))
        # A block's input is laid out as its output.
        before[path] += _sum_of_logs(layout.tokens(entered.pop(path)))

    with ExitStack() as stack:
        if not case.residual:
            image = batches[0][0][:1].to(device, torch.float64)
            stack.enter_context(adding_input(model, subtracting_mixers(model, blocks, image)))
            stack.enter_context(without_residual(model, blocks))
        if not case.mlp:
            stack.enter_context(without_mlp(model, blocks))
        sees = {block.part(block.form.entry): partial(entered.__setitem__, block.path) for block in blocks}
        stack.enter_context(watching_inputs(model, sees))
        stack.enter_context(watching(model, _paths(blocks), see, size))
        for images, _ in batches:
            model(images.to(device, torch.float64))
    num_images = sum(len(images) for images, _ in batches)
    outs = [after[path] / num_images for path in _paths(blocks)]
    start, stop = _longest_run([shapes[path] for path in _paths(blocks)])
    ins = [before[path] / num_images for path in _paths(blocks)]
    return Descent(by_depth=(ins[0], *outs), of_stage=(ins[start], *outs[start:stop]))


def _paths(blocks: Sequence[Block]) -> tuple[str, ...]:
    return tuple(block.path for block in blocks)


def _longest_run(shapes: Sequence[torch.Size]) -> tuple[int, int]:
    starts = [place for place, shape in enumerate(shapes) if not place or shape != shapes[place - 1]]
    runs = list(zip(starts, [*starts[1:], len(shapes)], strict=True))
    return max(runs, key=lambda run: run[1] - run[0])


def _sum_of_logs(x: Tensor) -> float:
    # Where all is zero, nothing is left to differ.
    return float(relative_residual(x).nan_to_num(0.0).clamp_min(FLOOR / 100).log().sum())


@dataclass(frozen=True, kw_only=True)
class Fall:
    """How a residual r falls from block to block."""

    factor: float  # r is multiplied by it a block, if that is the same everywhere: exp of the slope of log r
    order: float | None  # k of r' = c r^k: 1 falls geometrically, 3 doubly exponentially; None: r hardly falls
    num_blocks: int  # that it rests on: those before r is rounding


def fit_fall(logs: Sequence[float]) -> Fall:
    """Fits both ways of falling to the logs of a residual by depth, by least squares."""
    kept = [logs[0]]
    for value in logs[1:]:
        if value < log(FLOOR) or (value < log(ROUNDED_WEIGHTS) and value > kept[-1] - STILL_FALLING):
            break
        kept.append(value)
    if len(kept) < 2:
        # It was rounding after one block.
        return Fall(factor=exp(logs[1] - logs[0]), order=None, num_blocks=len(logs) - 1)
    factor = exp(_slope([float(place) for place in range(len(kept))], kept))
    falls = kept[0] - min(kept) >= LEAST_FALL and len(kept) >= 3
    return Fall(factor=factor, order=_slope(kept[:-1], kept[1:]) if falls else None, num_blocks=len(kept) - 1)


def _slope(x: Sequence[float], y: Sequence[float]) -> float:
    middle_x, middle_y = sum(x) / len(x), sum(y) / len(y)
    spread = sum((a - middle_x) ** 2 for a in x)
    return sum((a - middle_x) * (b - middle_y) for a, b in zip(x, y, strict=True)) / spread


def _subjects(exhibits: Sequence[Exhibit], num_seeds: int) -> Iterator[tuple[str, "_Build", nn.Module]]:
    """Names, and how to get the model: seeds of one state of one variant have one name."""
    variants: dict[str, list[Exhibit]] = {}
    for exhibit in exhibits:
        variants.setdefault(exhibit.variant, []).append(exhibit)
    for variant, members in variants.items():
        example = members[0]
        for seed in range(num_seeds):
            yield f"{variant}, untrained", _Build(example, seed), example.model
        for member in members:
            if member.is_trained or not num_seeds:
                yield f"{variant}{', trained' if member.is_trained else ''}", _Build(member, None), member.model


@dataclass(frozen=True)
class _Build:
    exhibit: Exhibit
    seed: int | None

    def __call__(self, model: nn.Module) -> nn.Module:
        return model if self.seed is None else self.exhibit.untrained(self.seed)


def _cases_of(model: nn.Module) -> tuple[Case, ...]:
    blocks: tuple[Block, ...] = find_blocks(model)
    if any(block.form.branch for block in blocks):
        raise ConfigError(
            f"rank collapse is measured on blocks whose sum is their output; those of {type(model).__name__} end "
            "with an activation behind it."
        )
    has_mlp = all(block.form.mlp for block in blocks)
    return CASES if has_mlp else tuple(case for case in CASES if case.mlp)


def _measurement(paths: dict[tuple[str, Case], list[Descent]]) -> Measurement:
    fits: dict[tuple[str, Case], tuple[Interval, Interval | None]] = {}
    curves: list[Curve] = []
    for (name, case), descents in paths.items():
        falls = [fit_fall(one.of_stage) for one in descents]
        orders = [fall.order for fall in falls if fall.order is not None]
        factor = factor_interval([fall.factor for fall in falls])
        fits[name, case] = factor, interval_of(orders) if len(orders) == len(falls) else None
        curves.append(_curve(f"{name}: {case}", [one.by_depth for one in descents], group=name))
    rows = tuple(
        (name, str(case), str(factor), "-" if order is None else str(order), _verdict(factor, order))
        for (name, case), (factor, order) in fits.items()
    )
    found: dict[str, float] = {}
    for (name, case), (factor, order) in fits.items():
        found[f"factor of {name}, {case}"] = factor.mean
        if order is not None:
            found[f"order of {name}, {case}"] = order.mean
    alone = [f"{name}: {_verdict(*fit)}" for (name, case), fit in fits.items() if case == CASES[0]]
    return Measurement(
        name="rank_collapse",
        question="Does mixing alone make all tokens alike, and what prevents it?",
        finding=f"Mixing alone, residual and MLP off: {'; '.join(alone)}.",
        panels=(
            Curves(
                title="How far tokens are from being all the same",
                x=Axis(title="blocks passed"),
                y=Axis(title="relative residual", scale="log"),
                curves=tuple(curves),
                caption="Geometric mean over images and seeds; bands are 95% intervals over seeds. "
                f"Below {FLOOR:g} is rounding.",
            ),
            Table(
                title="How it falls from block to block",
                columns=("model", "branches", "factor a block", "order", "verdict"),
                rows=rows,
                caption="Order k of r' = c r^k: 1 falls geometrically, 3 doubly exponentially; - where it falls by "
                "too little to tell. In brackets 95% intervals over seeds.",
            ),
        ),
        source="arXiv:2103.03404, Fig. 2; norm, mean of tokens and switches as in the authors' code. Geometric and not "
        "arithmetic means over images, because fits are of logs. Mixers that subtract their input get it back where "
        "the residual is off.",
        numbers=found,
    )


def _curve(name: str, logs: Sequence[Sequence[float]], *, group: str) -> Curve:
    depths = range(len(logs[0]))
    middles = [interval_of([one[depth] for one in logs]) for depth in depths]
    has_band = all(middle.low is not None for middle in middles)
    return Curve(
        name=name,
        x=numbers(map(float, depths)),
        y=numbers(exp(middle.mean) for middle in middles),
        low=numbers(exp(middle.low) for middle in middles if middle.low is not None) if has_band else (),
        high=numbers(exp(middle.high) for middle in middles if middle.high is not None) if has_band else (),
        group=group,
    )


def _verdict(factor: Interval, order: Interval | None) -> str:
    if order is None:
        return f"does not collapse, {factor} a block" if factor.mean > STAYS else f"falls, by {factor} a block"
    if (order.mean if order.low is None else order.low) > DOUBLY_EXPONENTIAL:
        return f"falls doubly exponentially, order {order}"
    return f"falls geometrically, by {factor} a block"
