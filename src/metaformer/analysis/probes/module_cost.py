"""What each part of a model costs, and how cost grows with the resolution."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from metaformer.analysis.anatomy.blocks import find_blocks
from metaformer.analysis.anatomy.features import first_tensor
from metaformer.analysis.cost import Cost, profile
from metaformer.analysis.probe import Exhibit, Inputs, Journal, concerning
from metaformer.analysis.scaling import count_exponent, fit_exponent
from metaformer.analysis.timing import MIB, inference_memory_mib, time_calls
from metaformer.core.errors import ConfigError, ShapeError, one_line
from metaformer.core.measurement import Axis, Curve, Curves, Measurement, Panel, Table, numbers

GEMM_SIDE = 768  # of the matrix product whose speed is the machine's peak
TRIES = 3  # at a peak that no model exceeds


@dataclass(frozen=True, kw_only=True)
class ModuleCost:
    """Parameters, multiply-adds, activation memory and time by module; all of these and peak memory by resolution."""

    sizes: tuple[float, ...] = (0.5, 0.75, 1.0, 1.5)  # image sides, over that of the images
    num_rounds: int = 3  # of timing
    batch_size: int = 1

    def __post_init__(self) -> None:
        if not self.sizes or min(self.sizes) <= 0 or self.num_rounds < 1 or self.batch_size < 1:
            raise ConfigError(
                "ModuleCost.sizes must be above 0, num_rounds and batch_size at least 1; "
                f"got {self.sizes}, {self.num_rounds} and {self.batch_size}."
            )

    def measure(self, exhibits: tuple[Exhibit, ...], inputs: Inputs, journal: Journal) -> Measurement:
        image = inputs.first_images(1)
        done, total = 0, len(exhibits) * (1 + len(self.sizes))
        parts: dict[str, list[Part]] = {}
        grown: dict[str, list[Size]] = {}
        refused: dict[str, str] = {}
        for exhibit in exhibits:
            x = image.to(exhibit.device).expand(self.batch_size, -1, -1, -1).contiguous()
            with concerning(exhibit):
                parts[exhibit.name] = measure_parts(exhibit.model, x, num_rounds=self.num_rounds)
            done += 1
            journal.show(done, total)
            for share in self.sizes:
                sides = tuple(max(8, round(side * share / 8) * 8) for side in image.shape[2:])
                try:
                    size = _measure_size(exhibit.model, nn.functional.interpolate(x, sides), self.num_rounds)
                    grown.setdefault(exhibit.name, []).append(size)
                except (ShapeError, AssertionError, RuntimeError, ValueError) as error:
                    refused[exhibit.name] = one_line(error, 120)
                done += 1
                journal.show(done, total)
        return _measurement(parts, grown, refused, peak_of(exhibits[0].device, parts))


@dataclass(frozen=True, kw_only=True)
class Part:
    """A block, or a module outside of blocks; per image."""

    path: str
    params: int
    macs: int
    activation_mib: float  # what its modules put out, together
    time_ms: float  # median over rounds


@dataclass(frozen=True, kw_only=True)
class Size:
    """A whole model at one resolution; per image."""

    side_px: int
    num_pixels: int
    macs: int
    memory_mib: float  # peak of a forward pass, weights included
    times_ms: tuple[float, ...]  # one a round


def measure_parts(model: nn.Module, x: Tensor, *, num_rounds: int) -> list[Part]:
    """The cost of each part, on a batch that is given; a part's time holds what is inside it."""
    cost: Cost = profile(model, tuple(x.shape[2:]), in_chans=x.shape[1])
    paths = _parts_of(model)
    times: dict[str, list[float]] = {path: [] for path in paths}
    written: dict[str, int] = dict.fromkeys(paths, 0)
    with torch.no_grad():
        model(x)
        for round_ in range(num_rounds):
            spent = dict.fromkeys(paths, 0.0)
            with _clocked(model, paths, spent, written if not round_ else None):
                model(x)
            for path, value in spent.items():
                times[path].append(value)
    modules = dict(model.named_modules())
    return [
        Part(
            path=path,
            params=sum(tensor.numel() for tensor in modules[path].parameters()),
            macs=cost.macs_under(path),
            activation_mib=written[path] / len(x) / MIB,
            time_ms=1000 * median(times[path]) / len(x),
        )
        for path in paths
    ]


def peak_macs_per_s(device: torch.device) -> float:
    """The fastest of several large matrix products: what no model can exceed."""
    a = torch.randn(GEMM_SIDE, GEMM_SIDE, device=device)
    product = nn.Linear(GEMM_SIDE, GEMM_SIDE, bias=False).to(device)
    best = min(time_calls(product, a, seconds=0.1).latency_ms for _ in range(3))
    return float(GEMM_SIDE**3 / (best / 1000))


def peak_of(device: torch.device, parts: dict[str, list[Part]]) -> float:
    """The machine's peak, measured again while a part seems to exceed it.

    Raises:
        ConfigError: One still does: another program disturbed the measurement.
    """
    fastest = max(
        (part.macs / part.time_ms * 1000 for rows in parts.values() for part in rows if part.time_ms), default=0
    )
    peak = 0.0
    for _ in range(TRIES):
        peak = max(peak, peak_macs_per_s(device))
        if fastest <= peak:
            return peak
    raise ConfigError(
        f"a part seems to run at {fastest / peak:.0%} of the machine's peak, which cannot be: another program "
        "disturbed the measurement. Run it again."
    )


def _parts_of(model: nn.Module) -> tuple[str, ...]:
    """Blocks, and the largest modules that hold none."""
    try:
        blocks = {block.path for block in find_blocks(model)}
    except ConfigError:
        blocks = set()
    found: list[str] = []
    for path, _ in model.named_modules():
        holds_block = not path or any(block.startswith(f"{path}.") for block in blocks)
        if not holds_block and not any(path.startswith(f"{part}.") for part in found):
            found.append(path)
    return tuple(found)


@contextmanager
def _clocked(
    model: nn.Module, paths: Sequence[str], spent: dict[str, float], written: dict[str, int] | None
) -> Iterator[None]:
    modules = dict(model.named_modules())
    starts: dict[str, float] = {}
    handles = []

    def start(path: str, _module: nn.Module, args: tuple[Any, ...]) -> None:
        _wait_for(args)
        starts[path] = time.perf_counter()

    def stop(path: str, _module: nn.Module, args: tuple[Any, ...], _out: Any) -> None:
        _wait_for(args)
        spent[path] += time.perf_counter() - starts[path]

    def count(path: str, _module: nn.Module, _args: tuple[Any, ...], out: Any) -> None:
        assert written is not None
        x = first_tensor(out)
        written[path] += x.numel() * x.element_size()

    for path in paths:
        handles.append(modules[path].register_forward_pre_hook(partial(start, path)))
        handles.append(modules[path].register_forward_hook(partial(stop, path)))
        if written is not None:
            leaves = [module for module in modules[path].modules() if not list(module.children())]
            handles += [leaf.register_forward_hook(partial(count, path)) for leaf in leaves]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _wait_for(args: tuple[Any, ...]) -> None:
    if args and isinstance(args[0], Tensor) and args[0].is_cuda:
        torch.cuda.synchronize(args[0].device)


def _measure_size(model: nn.Module, x: Tensor, num_rounds: int) -> Size:
    sides = (x.shape[2], x.shape[3])
    return Size(
        side_px=sides[0],
        num_pixels=sides[0] * sides[1],
        macs=profile(model, sides, in_chans=x.shape[1]).macs,
        memory_mib=inference_memory_mib(model, x),
        times_ms=tuple(time_calls(model, x, seconds=0.05).latency_ms / len(x) for _ in range(num_rounds)),
    )


def _measurement(
    parts: dict[str, list[Part]], grown: dict[str, list[Size]], refused: dict[str, str], peak: float
) -> Measurement:
    panels: list[Panel] = []
    found: dict[str, float] = {"peak of the machine": peak}
    words = []
    for name, rows in parts.items():
        time_ms, macs = sum(row.time_ms for row in rows), sum(row.macs for row in rows)
        found |= {f"macs of {name}": float(macs), f"share of peak of {name}": macs / (time_ms / 1000) / peak}
        words.append(f"{name} {macs / 1e9:.3g} G multiply-adds at {found[f'share of peak of {name}']:.0%} of the peak")
        panels.append(_parts_table(name, rows, peak))
    for name, sizes in grown.items():
        rounds = [
            {size.num_pixels: time for size, time in zip(sizes, each, strict=True)}
            for each in zip(*(size.times_ms for size in sizes), strict=True)
        ]
        macs_exponent = count_exponent({size.num_pixels: size.macs for size in sizes})
        exponent = fit_exponent(rounds)
        if macs_exponent is not None:
            found[f"exponent of macs of {name}"] = macs_exponent
        if exponent is not None:
            found[f"exponent of time of {name}"] = exponent.value
        panels.append(_sizes_table(name, sizes))
    panels.append(
        Curves(
            title="Time by resolution",
            x=Axis(title="pixels", scale="log"),
            y=Axis(title="time of an image (ms)", scale="log"),
            curves=tuple(
                Curve(
                    name=name,
                    x=numbers(float(size.num_pixels) for size in sizes),
                    y=numbers(median(size.times_ms) for size in sizes),
                    low=numbers(min(size.times_ms) for size in sizes),
                    high=numbers(max(size.times_ms) for size in sizes),
                )
                for name, sizes in grown.items()
            ),
            caption="; ".join(f"{name} refuses other sizes: {reason}" for name, reason in refused.items()),
        )
    )
    return Measurement(
        name="module_cost",
        question="What does each part cost, and how does cost grow?",
        finding="; ".join(words) + ".",
        panels=tuple(panels),
        source="Multiply-adds as the paper counts them (arXiv:2111.11418, Table 1); the peak is the fastest large "
        "matrix product of this machine.",
        numbers=found,
    )


def _parts_table(name: str, rows: Sequence[Part], peak: float) -> Table:
    return Table(
        title=f"Parts of {name}, of one image",
        columns=("part", "parameters", "multiply-adds (M)", "activations (MiB)", "time (ms)", "share of the peak (%)"),
        rows=tuple(
            (
                row.path,
                float(row.params),
                row.macs / 1e6,
                row.activation_mib,
                row.time_ms,
                100 * row.macs / (row.time_ms / 1000) / peak if row.time_ms else None,
            )
            for row in rows
        ),
        digits=(1, 9, 4, 3, 3, 2),
    )


def _sizes_table(name: str, sizes: Sequence[Size]) -> Table:
    return Table(
        title=f"{name} by resolution, of one image",
        columns=("side (px)", "multiply-adds (M)", "peak memory (MiB)", "time (ms)"),
        rows=tuple((float(size.side_px), size.macs / 1e6, size.memory_mib, median(size.times_ms)) for size in sizes),
        digits=(4, 4, 4, 3),
    )
