"""What becomes of high frequencies, and of the variance of features, from block to block."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from metaformer.analysis.anatomy.blocks import Block, find_blocks
from metaformer.analysis.anatomy.features import Layout, layout_of
from metaformer.analysis.anatomy.paths import find_module
from metaformer.analysis.anatomy.recording import watching, watching_inputs
from metaformer.analysis.probe import Exhibit, Inputs, Journal, concerning
from metaformer.core.errors import ConfigError
from metaformer.core.measurement import Axis, Curve, Curves, Heatmap, Line, Measurement, numbers

ADDED = 1e-6  # to an amplitude before its logarithm, as in the authors' code


@dataclass(frozen=True, kw_only=True)
class FeatureFrequencies:
    """Relative log amplitude at each frequency, and variance over the map, after each residual sub-block."""

    def measure(self, exhibits: tuple[Exhibit, ...], inputs: Inputs, journal: Journal) -> Measurement:
        depths: dict[str, list[_Depth]] = {}
        total, done = len(exhibits) * inputs.num_batches, 0
        for exhibit in exhibits:
            with concerning(exhibit):
                blocks = find_blocks(exhibit.model)
                sums = {name: _Sum() for block in blocks for name in _names(block)}
                for images, _ in inputs.batches:
                    _add(exhibit, blocks, images.to(exhibit.device), sums)
                    done += 1
                    journal.show(done, total)
            depths[exhibit.name] = [_Depth.of(name, part) for name, part in sums.items() if part.num]
        return _measurement(depths)


def log_amplitude(x: Float[Tensor, "b c h w"]) -> Float[Tensor, " f"]:
    """How strong each spatial frequency is, relative to the mean.

    Args:
        x: Square feature maps of side S; a constant factor cancels.

    Returns:
        ceil(S/2) values, for frequencies 0, 1, 2, ... cycles a map, along the diagonal; in nats (natural log of an
        amplitude ratio). The first is 0. At S = 14 the last is 6 cycles a map, 6/7 of the highest that a map can hold.

    Raises:
        ConfigError: The maps are not square.

    Source: arXiv:2202.06709, Fig. 2a. Like the authors' code: log first, then mean.
    """
    if x.shape[-2] != x.shape[-1]:
        raise ConfigError(
            f"the amplitude along the diagonal needs square maps; got {x.shape[-2]}x{x.shape[-1]}. Take square images."
        )
    side = x.shape[-1]
    amplitude = (torch.fft.fft2(x.float()).abs() + ADDED).log().mean(dim=(0, 1))
    # Without a shift, frequencies from 0 upwards are the first half of each axis, odd sides included.
    diagonal = amplitude.diagonal()[: (side + 1) // 2]
    return diagonal - diagonal[0]


def map_variance(x: Float[Tensor, "b c *grid"]) -> float:
    """The variance over the places of a map, in the mean over samples and channels.

    Source: arXiv:2202.06709, Fig. 9.
    """
    return float(x.flatten(2).var(dim=2, unbiased=False).mean())


@dataclass
class _Sum:
    amplitude: Tensor | None = None
    variance: float = 0.0
    num: int = 0  # batches, weighed alike

    def add(self, maps: Tensor) -> None:
        amplitude = log_amplitude(maps).double().cpu()
        self.amplitude = amplitude if self.amplitude is None else self.amplitude + amplitude
        self.variance += map_variance(maps)
        self.num += 1


@dataclass(frozen=True, kw_only=True)
class _Depth:
    """One place in a model."""

    name: str
    amplitude: tuple[float, ...]  # relative, by frequency
    variance: float
    kind: str = field(default="")  # of the sub-block that ends here: mixer, MLP or block

    @classmethod
    def of(cls, name: str, part: _Sum) -> "_Depth":
        assert part.amplitude is not None
        return cls(
            name=name,
            amplitude=tuple((part.amplitude / part.num).tolist()),
            variance=part.variance / part.num,
            kind=name.rpartition(" ")[2],
        )


def _names(block: Block) -> tuple[str, ...]:
    return (f"{block.path} mixer", f"{block.path} MLP") if block.form.mlp_entry else (f"{block.path} block",)


@torch.no_grad()
def _add(exhibit: Exhibit, blocks: Sequence[Block], images: Tensor, sums: dict[str, _Sum]) -> None:
    """The stream between the two sub-blocks is what enters the second."""
    model, size = exhibit.model, tuple(images.shape[2:])

    def between(block: Block) -> None:
        path = block.part(block.form.mlp_entry)
        module = find_module(model, path)

        def see(x: Tensor) -> None:
            sums[_names(block)[0]].add(layout_of(path, module, x, size).maps(x))

        entries[path] = see

    entries: dict[str, object] = {}
    for block in blocks:
        if block.form.mlp_entry:
            between(block)
    last = {block.path: _names(block)[-1] for block in blocks}

    def see(path: str, x: Tensor, layout: Layout) -> None:
        sums[last[path]].add(layout.maps(x))

    with watching_inputs(model, entries), watching(model, tuple(last), see, size):  # type: ignore[arg-type]
        model(images)


def _measurement(depths: dict[str, list[_Depth]]) -> Measurement:
    found: dict[str, float] = {}
    amplitudes, variances, panels, words = [], [], [], []
    for name, places in depths.items():
        x = numbers(float(depth) for depth in range(1, len(places) + 1))
        amplitudes.append(Curve(name=name, x=x, y=numbers(place.amplitude[-1] for place in places)))
        variances.append(Curve(name=name, x=x, y=numbers(place.variance for place in places)))
        panels.append(_heatmap(name, places))
        steps = _changes(places)
        for kind, (amplitude, log_variance) in steps.items():
            found[f"amplitude change by {kind} of {name}"] = amplitude
            found[f"log variance change by {kind} of {name}"] = log_variance
        words.append(f"{name}: " + ", ".join(f"{kind} {amplitude:+.2f}" for kind, (amplitude, _) in steps.items()))
    return Measurement(
        name="feature_frequencies",
        question="Does a sub-block take high frequencies away, or bring them in?",
        finding=f"Mean change of the highest frequency's log amplitude by a sub-block: {'; '.join(words)}.",
        panels=(
            Curves(
                title="The highest frequency, relative to the mean",
                x=Axis(title="sub-blocks passed"),
                y=Axis(title="log amplitude (nats)"),
                curves=tuple(amplitudes),
                lines=(Line(at=0.0),),
            ),
            Curves(
                title="Variance of features over the map",
                x=Axis(title="sub-blocks passed"),
                y=Axis(title="variance", scale="log"),
                curves=tuple(variances),
            ),
            *panels,
        ),
        source="arXiv:2202.06709, Figs. 2a, 8 and 9: log first, then mean; after each residual sub-block.",
        numbers=found,
    )


def _changes(places: Sequence[_Depth]) -> dict[str, tuple[float, float]]:
    """By kind of sub-block, the mean change of the last amplitude and of log variance; only on one grid."""
    changes: dict[str, list[tuple[float, float]]] = {}
    for before, after in pairwise(places):
        if len(before.amplitude) == len(after.amplitude) and min(before.variance, after.variance) > 0:
            change = float(torch.tensor(after.variance / before.variance).log())
            changes.setdefault(after.kind, []).append((after.amplitude[-1] - before.amplitude[-1], change))
    return {
        kind: (sum(a for a, _ in rows) / len(rows), sum(b for _, b in rows) / len(rows))
        for kind, rows in changes.items()
    }


def _heatmap(name: str, places: Sequence[_Depth]) -> Heatmap:
    """Frequencies as a share of the highest, because grids differ from stage to stage."""
    columns = 11
    rows = []
    for place in places:
        values = torch.tensor(place.amplitude)[None, None]
        if values.shape[-1] == 1:
            rows.append(numbers([0.0] * columns))
            continue
        resized = torch.nn.functional.interpolate(values, columns, mode="linear", align_corners=True)
        rows.append(numbers(resized[0, 0].tolist()))
    return Heatmap(
        title=f"Log amplitude by depth in {name}",
        x=Axis(title="frequency (share of the highest)", categories=tuple(f"{step / 10:.1f}" for step in range(11))),
        y=Axis(title="place", categories=tuple(place.name for place in places)),
        values=tuple(rows),
        unit="nats",
    )
