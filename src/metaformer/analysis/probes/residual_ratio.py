"""How much a branch adds to the residual stream."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from metaformer.analysis.anatomy.blocks import Block, find_blocks
from metaformer.analysis.anatomy.features import Layout
from metaformer.analysis.anatomy.recording import watching, watching_inputs
from metaformer.analysis.probe import Exhibit, Inputs, Journal, concerning
from metaformer.core.measurement import Axis, Curve, Curves, Measurement, numbers

TINY = 1e-30


@dataclass(frozen=True, kw_only=True)
class ResidualRatio:
    """The size of the branch over that of the stream that it joins, token by token, for each sub-block."""

    def measure(self, exhibits: tuple[Exhibit, ...], inputs: Inputs, journal: Journal) -> Measurement:
        ratios: dict[str, dict[str, float]] = {}
        done, total = 0, len(exhibits) * inputs.num_batches
        for exhibit in exhibits:
            sums: dict[str, float] = {}
            with concerning(exhibit):
                for images, _ in inputs.batches:
                    for name, value in branch_ratios(exhibit, images.to(exhibit.device)).items():
                        sums[name] = sums.get(name, 0.0) + value
                    done += 1
                    journal.show(done, total)
            ratios[exhibit.name] = {name: value / inputs.num_batches for name, value in sums.items()}
        return _measurement(ratios)


@torch.no_grad()
def branch_ratios(exhibit: Exhibit, images: Tensor) -> dict[str, float]:
    """|f(x)| / |x| of each sub-block, in the mean over tokens and images; x is the stream before it, f(x) the branch.

    The branch is the difference of the stream after and before, so that LayerScale counts; where an activation follows
    the sum, it is what the branch's last layer puts out.
    """
    model, size = exhibit.model, tuple(images.shape[2:])
    blocks = find_blocks(model)
    entered: dict[str, Tensor] = {}
    branches: dict[str, Tensor] = {}
    found: dict[str, float] = {}

    def compare(name: str, before: Tensor, branch: Tensor, layout: Layout) -> None:
        if before.shape == branch.shape:
            stream, added = layout.tokens(before), layout.tokens(branch)
            found[name] = float((added.norm(dim=-1) / stream.norm(dim=-1).clamp_min(TINY)).mean())

    def see(block: Block, x: Tensor, layout: Layout) -> None:
        before = entered[block.path]
        if block.form.branch:
            compare(f"{block.path} block", before, branches[block.path], layout)
        elif block.form.mlp_entry:
            between = entered[block.part(block.form.mlp_entry)]
            between = between.reshape(before.shape)
            compare(f"{block.path} mixer", before, between - before, layout)
            compare(f"{block.path} MLP", between, x - between, layout)
        else:
            compare(f"{block.path} block", before, x - before, layout)

    by_path = {block.path: block for block in blocks}
    ends = {block.part(block.form.branch): block.path for block in blocks if block.form.branch}
    entries = {path: partial(entered.__setitem__, path) for path in by_path}
    for block in blocks:
        if block.form.mlp_entry:
            path = block.part(block.form.mlp_entry)
            entries[path] = partial(entered.__setitem__, path)

    def keep(path: str, x: Tensor, layout: Layout) -> None:
        if path in ends:
            branches[ends[path]] = x
        else:
            see(by_path[path], x, layout)

    with watching_inputs(model, entries), watching(model, (*ends, *by_path), keep, size):
        model(images)
    return found


def _measurement(ratios: dict[str, dict[str, float]]) -> Measurement:
    curves: list[Curve] = []
    found: dict[str, float] = {}
    for name, by_place in ratios.items():
        for kind in ("mixer", "MLP", "block"):
            values = [value for place, value in by_place.items() if place.endswith(f" {kind}")]
            if values:
                depths = numbers(float(depth) for depth in range(1, len(values) + 1))
                curves.append(Curve(name=f"{name}, {kind}", x=depths, y=numbers(values), group=name))
                found[f"mean ratio of {kind} of {name}"] = sum(values) / len(values)
    words = [f"{key.removeprefix('mean ratio of ')} {value:.2g}" for key, value in found.items()]
    return Measurement(
        name="residual_ratio",
        question="How much does a branch add to the residual stream?",
        finding=f"Mean size of the branch over the stream: {', '.join(words)}.",
        panels=(
            Curves(
                title="Size of the branch over the stream",
                x=Axis(title="blocks passed"),
                y=Axis(title="ratio", scale="log"),
                curves=tuple(curves),
                caption="Small: the residual connection passes features on almost unchanged.",
            ),
        ),
        source="arXiv:2108.08810, Fig. 8, inverted: there the stream is over the branch.",
        numbers=found,
    )
