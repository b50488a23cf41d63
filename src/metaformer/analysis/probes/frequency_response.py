"""Which spatial frequencies a token mixer passes, by itself and with the residual connection around it."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from metaformer.analysis.anatomy.blocks import find_blocks
from metaformer.analysis.anatomy.features import Layout, first_tensor, layout_of
from metaformer.analysis.anatomy.paths import find_module
from metaformer.analysis.anatomy.recording import watching_inputs
from metaformer.analysis.probe import Exhibit, Inputs, Journal, concerning
from metaformer.core.errors import ConfigError
from metaformer.core.measurement import Axis, Curve, Curves, Heatmap, Measurement, Panel, numbers

# Of the size of features: small enough to be a derivative, large enough for 64 bits.
STEP = 1e-4


@dataclass(frozen=True, kw_only=True)
class FrequencyResponse:
    """The gain of token mixers at each spatial frequency, from impulses at the middle of the grid."""

    layers: tuple[str, ...] = ()  # paths; none: the token mixer of the first block of each grid
    num_channels: int = 16  # impulses, each in one channel

    def __post_init__(self) -> None:
        if self.num_channels < 1:
            raise ConfigError(f"FrequencyResponse.num_channels must be at least 1; got {self.num_channels}.")

    def measure(self, exhibits: tuple[Exhibit, ...], inputs: Inputs, journal: Journal) -> Measurement:
        image = inputs.first_images(1)
        responses: list[tuple[str, Response]] = []
        for done, exhibit in enumerate(exhibits, start=1):
            with concerning(exhibit):
                model = deepcopy(exhibit.model).double()
                seen = _inputs_of(model, self.layers or _mixers(model), image.to(exhibit.device, torch.float64))
                for path, (x, layout) in seen.items():
                    mixer = find_module(model, path)
                    response = impulse_response(mixer, x, layout, num_channels=self.num_channels)
                    responses.append((f"{exhibit.name} {path}", response))
            journal.show(done, len(exhibits))
        return _measurement(responses)


@dataclass(frozen=True, kw_only=True, eq=False)
class Response:
    """Gains, by frequency along both axes, in cycles a map: from 0 to half the side."""

    alone: Float[Tensor, "fy fx"]
    with_residual: Float[Tensor, "fy fx"]


@torch.no_grad()
def impulse_response(mixer: nn.Module, x: Tensor, layout: Layout, *, num_channels: int = 16) -> Response:
    """The gain of a mixer around an input.

    A little is added to one token at the middle of the grid, in one channel, and what that changes is Fourier
    transformed. The gain at a frequency is the root of its power over all output channels, in the mean over input
    channels. For a linear mixer that is the same everywhere, as pooling and convolution away from the border, this is
    the transform of its kernel whatever `x` is; for attention it is its derivative at `x`.

    Args:
        mixer: In evaluation mode, in 64 bits.
        x: What it takes for one image: one sample, or one for each window of the map.
        layout: Of `x`.
        num_channels: Impulses at most, in channels with even distances.

    Raises:
        ConfigError: The mixer does not keep the shape of its input, or has no grid of two axes.
    """
    maps = layout.maps(x)
    if maps.ndim != 4:
        raise ConfigError(f"the frequency response of {layout.path!r} needs a grid of two axes; got {layout.grid}.")
    channels = torch.linspace(0, maps.shape[1] - 1, min(num_channels, maps.shape[1])).round().long().unique()
    height, width = layout.grid
    step = STEP * max(1.0, float(x.abs().max()))
    alone, joined = torch.zeros(height, width).double(), torch.zeros(height, width).double()
    for channel in channels.tolist():
        impulse = torch.zeros_like(maps)
        impulse[:, channel, height // 2, width // 2] = step
        changed = [first_tensor(mixer(layout.restore(maps + sign * impulse, x))) for sign in (1, -1)]
        if changed[0].shape != x.shape:
            raise ConfigError(
                f"the frequency response of {layout.path!r} needs a layer that keeps the shape of its input; it makes "
                f"{tuple(changed[0].shape)} of {tuple(x.shape)}."
            )
        change = (layout.maps(changed[0]) - layout.maps(changed[1])) / (2 * step)
        alone += _power(change).cpu()
        joined += _power(change + impulse / step).cpu()
    half = (slice(0, height // 2 + 1), slice(0, width // 2 + 1))
    return Response(alone=(alone / len(channels)).sqrt()[half], with_residual=(joined / len(channels)).sqrt()[half])


def _power(change: Float[Tensor, "b c h w"]) -> Float[Tensor, "h w"]:
    return torch.fft.fft2(change).abs().square().mean(dim=0).sum(dim=0)


def _mixers(model: nn.Module) -> tuple[str, ...]:
    return tuple(block.mixer for block in find_blocks(model))


def _inputs_of(model: nn.Module, paths: Sequence[str], image: Tensor) -> dict[str, tuple[Tensor, Layout]]:
    """What the first of these layers on each grid takes, and its layout."""
    seen: dict[str, tuple[Tensor, Layout]] = {}

    def see(path: str, x: Tensor) -> None:
        layout = layout_of(path, find_module(model, path), x, tuple(image.shape[2:]))
        if layout.grid and layout.grid not in {known.grid for _, known in seen.values()}:
            seen[path] = (x, layout)

    with torch.no_grad(), watching_inputs(model, {path: partial(see, path) for path in paths}):
        model(image)
    if not seen:
        raise ConfigError(f"none of the layers {', '.join(paths[:3])} takes a spatial map.")
    return seen


def _measurement(responses: Sequence[tuple[str, Response]]) -> Measurement:
    curves: list[Curve] = []
    found: dict[str, float] = {}
    words = []
    for name, response in responses:
        for what, gain in (("alone", response.alone), ("with residual", response.with_residual)):
            side = min(gain.shape)
            diagonal = gain.diagonal()[:side]
            curves.append(
                Curve(
                    name=f"{name}, {what}",
                    x=numbers(float(frequency) for frequency in range(side)),
                    y=numbers(diagonal.tolist()),
                    group=name,
                    role="main" if what == "alone" else "reference",
                )
            )
            found[f"highest over zero of {name}, {what}"] = float(diagonal[-1] / diagonal[0].clamp_min(1e-12))
        words.append(f"{name}: {response.alone.diagonal()[0]:.2g} at 0, {response.alone.diagonal()[-1]:.2g} at the top")
    panels: list[Panel] = [
        Curves(
            title="Gain by spatial frequency, along the diagonal",
            x=Axis(title="frequency (cycles a map)"),
            y=Axis(title="gain"),
            curves=tuple(curves),
            caption="Of a small change of one token at the middle of the grid, or of each window; with residual: "
            "of the mixer plus its input.",
        )
    ]
    for name, response in responses[:8]:
        panels.append(
            Heatmap(
                title=f"Gain of {name}",
                x=Axis(title="horizontal (cycles a map)"),
                y=Axis(title="vertical (cycles a map)"),
                values=tuple(numbers(row) for row in response.alone.tolist()),
                low=0.0,
            )
        )
    return Measurement(
        name="frequency_response",
        question="Which spatial frequencies does a token mixer pass?",
        finding="Gain of the mixer alone: " + "; ".join(words) + ".",
        panels=tuple(panels),
        source="Impulse response and its discrete Fourier transform; for mixers that are not linear, the central "
        "difference around a real input. The question is that of arXiv:2202.06709, Sec. 3, whose authors look at "
        "features instead.",
        numbers=found,
    )
