"""How far a model looks: the part of the image that the middle of a feature map depends on."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from metaformer.analysis.anatomy.blocks import find_blocks
from metaformer.analysis.anatomy.features import Layout
from metaformer.analysis.anatomy.paths import find_module
from metaformer.analysis.anatomy.recording import watching
from metaformer.analysis.probe import Exhibit, Inputs, Journal, concerning
from metaformer.core.errors import ConfigError
from metaformer.core.measurement import Axis, Heatmap, Measurement, Panel, Table, numbers

SHARES = (0.2, 0.5, 0.95, 1.0)  # of the contribution, whose smallest square is told
ROUNDING = 1e-5  # of sums in 32 bits
LARGEST_SIDE = 56  # of the map that is shown: the page is no image viewer


@dataclass(frozen=True, kw_only=True)
class ReceptiveField:
    """Effective receptive field, by the gradient of a layer's middle; the untrained twin's is always beside it."""

    layer: str = ""  # path; empty: the last residual block
    num_images: int = 32

    def __post_init__(self) -> None:
        if self.num_images < 1:
            raise ConfigError(f"ReceptiveField.num_images must be at least 1; got {self.num_images}.")

    def measure(self, exhibits: tuple[Exhibit, ...], inputs: Inputs, journal: Journal) -> Measurement:
        batches = inputs.first_batches(self.num_images)
        fields: list[tuple[str, str, Field]] = []
        total = len(batches) * sum(1 + exhibit.is_trained for exhibit in exhibits)
        done = 0
        for exhibit in exhibits:
            states = [("trained", exhibit.model), ("untrained", exhibit.untrained(0))]
            for state, model in states if exhibit.is_trained else [("untrained", exhibit.model)]:
                with concerning(exhibit):
                    path = self.layer or find_blocks(model)[-1].path
                    contribution = torch.zeros(())
                    for images, _ in batches:
                        contribution = contribution + contribution_of(model, path, images.to(exhibit.device)).cpu()
                        done += 1
                        journal.show(done, total)
                fields.append((exhibit.name, state, Field(path=path, contribution=contribution)))
        return _measurement(fields)


@dataclass(frozen=True, kw_only=True, eq=False)
class Field:
    """What each pixel contributes."""

    path: str
    contribution: Float[Tensor, "h w"]

    def side_px(self, share: float) -> int:
        """The side of the smallest square around the middle that holds this share of all contributions."""
        height, width = self.contribution.shape
        total = float(self.contribution.sum())
        for side in range(1, max(height, width) + 1):
            top, left = max(0, (height - side) // 2), max(0, (width - side) // 2)
            if float(self.contribution[top : top + side, left : left + side].sum()) >= share * total * (1 - ROUNDING):
                return side
        return max(height, width)


def contribution_of(model: nn.Module, path: str, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "h w"]:
    """|d (middle token, its channels summed) / d image|, summed over images, in the mean over the image's channels.

    Args:
        model: In evaluation mode.
        path: A layer with a spatial map.
        images: Normalised.

    Raises:
        ConfigError: There is no such layer, it has no map of two axes, or nothing of the image reaches it.
    """
    find_module(model, path)
    images = images.clone().requires_grad_(True)
    seen: list[Tensor] = []

    def see(_path: str, x: Tensor, layout: Layout) -> None:
        maps = layout.maps(x)
        if maps.ndim != 4:
            raise ConfigError(f"the receptive field of {path!r} needs a map of two axes; its grid is {layout.grid}.")
        # An even grid has four tokens in the middle.
        rows, columns = (slice((side - 1) // 2, side // 2 + 1) for side in maps.shape[2:])
        seen.append(maps[:, :, rows, columns].sum())

    with torch.enable_grad(), watching(model, (path,), see, tuple(images.shape[2:])):
        model(images)
        (gradient,) = torch.autograd.grad(seen[-1], images)
    contribution = gradient.abs().mean(dim=1).sum(dim=0)
    if not float(contribution.sum()) > 0:
        raise ConfigError(f"nothing of the image reaches the middle of {path!r}: its gradient is zero.")
    return contribution.detach()


def _measurement(fields: Sequence[tuple[str, str, Field]]) -> Measurement:
    rows: list[tuple[str | float | None, ...]] = []
    found: dict[str, float] = {}
    panels: list[Panel] = []
    for name, state, field in fields:
        height, width = field.contribution.shape
        sides = [field.side_px(share) for share in SHARES]
        rows.append((name, state, field.path, f"{height} x {width}", *(float(side) for side in sides)))
        for share, side in zip(SHARES, sides, strict=True):
            found[f"side of {share:.0%} of {name}, {state}"] = float(side)
        panels.append(_heatmap(f"{name}, {state}", field))
    words = [f"{name} ({state}) {found[f'side of 50% of {name}, {state}']:.0f} px" for name, state, _ in fields]
    size = " x ".join(map(str, fields[0][2].contribution.shape))
    return Measurement(
        name="receptive_field",
        question="What part of the image does the middle of the last features depend on?",
        finding=f"At {size} px, half of the contributions come from a square of: {', '.join(words)}.",
        panels=(
            Table(
                title="Side of the smallest square around the middle, in pixels",
                columns=("model", "state", "layer", "image", *(f"{share:.0%} of contributions" for share in SHARES)),
                rows=tuple(rows),
                caption="The order of models may be another at another image size and after training: compare only "
                "what has one size, and read the untrained twin beside it.",
            ),
            *panels,
        ),
        source="Luo et al., arXiv:1701.04128; sides of squares as in arXiv:2203.06717, Sec. 5; |gradient|, mean over "
        "the channels of the image, 32 images.",
        numbers=found,
    )


def _heatmap(name: str, field: Field) -> Heatmap:
    """In logs, over the largest, because most of a field is orders below its middle."""
    contribution = field.contribution[None, None]
    height, width = field.contribution.shape
    scale = max(1.0, max(height, width) / LARGEST_SIDE)
    size = (max(1, round(height / scale)), max(1, round(width / scale)))
    small = nn.functional.adaptive_avg_pool2d(contribution, size)[0, 0]
    logs = (small / small.max()).clamp_min(1e-6).log10()
    return Heatmap(
        title=f"Receptive field of {name}",
        x=Axis(title="horizontal (pixels)", categories=tuple(f"{int((i + 0.5) * scale)}" for i in range(size[1]))),
        y=Axis(title="vertical (pixels)", categories=tuple(f"{int((i + 0.5) * scale)}" for i in range(size[0]))),
        values=tuple(numbers(row) for row in logs.tolist()),
        unit="log10 of the largest",
        low=-4.0,
        high=0.0,
        caption=f"Contribution of each pixel to the middle of {field.path}.",
    )
