"""How far attention looks: the mean distance, in pixels, between a token and what it attends to."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import isqrt
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from metaformer.analysis.anatomy.blocks import find_blocks
from metaformer.analysis.anatomy.features import Layout, layout_of
from metaformer.analysis.anatomy.paths import find_module
from metaformer.analysis.probe import Exhibit, Inputs, Journal, concerning
from metaformer.core.errors import ConfigError
from metaformer.core.measurement import Axis, Curve, Curves, Measurement, Point, Points, numbers

SOFTMAX = {torch.softmax, F.softmax, Tensor.softmax}


@dataclass(frozen=True, kw_only=True)
class AttentionDistance:
    """Mean attention distance of each head, by depth."""

    def measure(self, exhibits: tuple[Exhibit, ...], inputs: Inputs, journal: Journal) -> Measurement:
        distances: dict[str, dict[str, tuple[float, ...]]] = {}
        done, total = 0, len(exhibits) * inputs.num_batches
        for exhibit in exhibits:
            sums: dict[str, Tensor] = {}
            num_images = 0
            with concerning(exhibit):
                for images, _ in inputs.batches:
                    for path, distance in measure_distances(exhibit.model, images.to(exhibit.device)).items():
                        sums[path] = sums.get(path, torch.zeros(())) + distance * len(images)
                    num_images += len(images)
                    done += 1
                    journal.show(done, total)
            distances[exhibit.name] = {
                path: tuple(sorted((value / num_images).tolist())) for path, value in sums.items()
            }
        return _measurement(distances)


def mean_distance(
    attention: Float[Tensor, "b heads q k"], positions: Float[Tensor, "places 2"], *, num_prefix: int = 0
) -> Float[Tensor, " heads"]:
    """The distance between a token and what it attends to, weighed by attention, in the mean over tokens and samples.

    Args:
        attention: Weights; rows sum to 1.
        positions: Of the tokens that are places, in pixels.
        num_prefix: Tokens in front that are no place: left out, without making the rest sum to 1 again.

    Source: arXiv:2108.08810, Fig. 1; like the reference code, the class token is dropped and nothing is renormalised.
    """
    places = attention[:, :, num_prefix:, num_prefix:]
    distances = torch.cdist(positions, positions).to(places)
    return (places * distances).sum(dim=-1).mean(dim=(0, 2)).cpu()


@torch.no_grad()
def measure_distances(model: nn.Module, images: Float[Tensor, "b c h w"]) -> dict[str, Tensor]:
    """Mean distances of the heads of each block, for some images.

    Attention is caught where it is computed: PyTorch's operator, or a softmax over tokens.

    Raises:
        ConfigError: No block attends.
    """
    size = tuple(images.shape[2:])
    found: dict[str, Tensor] = {}
    grids: dict[str, Layout] = {}

    def book(path: str, attention: Tensor) -> None:
        layout = grids[path]
        num_tokens = attention.shape[-1]
        num_places = layout.grid[0] * layout.grid[1]
        prefix = num_tokens - num_places
        if 0 <= prefix <= 8:
            grid: tuple[int, ...] = layout.grid
        else:
            # Windows of tokens, each attended to by itself.
            grid, prefix = (isqrt(num_tokens),) * 2, 0
        if grid[0] * grid[1] + prefix != num_tokens:
            raise ConfigError(f"attention of {path!r} is over {num_tokens} tokens, which are no grid.")
        steps = [side / places for side, places in zip(size, layout.grid, strict=True)]
        rows, columns = torch.meshgrid(
            torch.arange(grid[0]) * steps[0], torch.arange(grid[1]) * steps[1], indexing="ij"
        )
        positions = torch.stack([rows.flatten(), columns.flatten()], dim=1)
        found[path] = mean_distance(attention.double(), positions.double(), num_prefix=prefix)

    with _catching(model, book, grids, size):
        model(images)
    if not found:
        raise ConfigError(f"no block of {type(model).__name__} attends: there is no attention to measure.")
    return found


@contextmanager
def _catching(
    model: nn.Module, book: Callable[[str, Tensor], None], grids: dict[str, Layout], size: tuple[int, ...]
) -> Iterator[None]:
    """While the block runs, attention inside each block's mixer is booked under the path of the mixer."""
    inside: list[str] = []
    handles = []

    def note_grid(path: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        layout = layout_of(path, module, args[0], size)
        if len(layout.grid) == 2:
            grids[path] = layout

    def enter(path: str, _module: nn.Module, _args: tuple[Any, ...]) -> None:
        inside.append(path)

    def leave(_module: nn.Module, _args: tuple[Any, ...], _out: Any) -> None:
        inside.pop()

    for block in find_blocks(model):
        whole, mixer = find_module(model, block.path), find_module(model, block.mixer)
        # The block's input, because a mixer over windows gets windows.
        handles.append(whole.register_forward_pre_hook(partial(note_grid, block.mixer)))
        handles.append(mixer.register_forward_pre_hook(partial(enter, block.mixer)))
        handles.append(mixer.register_forward_hook(leave))
    try:
        with _AttentionWatch(lambda attention: _book_inside(inside, grids, book, attention)):
            yield
    finally:
        for handle in handles:
            handle.remove()


def _book_inside(
    inside: Sequence[str], grids: dict[str, Layout], book: Callable[[str, Tensor], None], attention: Tensor
) -> None:
    if inside and inside[-1] in grids and attention.ndim == 4 and attention.shape[-1] == attention.shape[-2]:
        book(inside[-1], attention)


class _AttentionWatch(TorchFunctionMode):
    """Sees attention weights, computing them where the fused operator keeps them to itself."""

    def __init__(self, see: Callable[[Tensor], None]) -> None:
        super().__init__()
        self._see = see

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            self._see(_weights(*args, **kwargs))
        out = func(*args, **kwargs)
        if func in SOFTMAX and isinstance(out, Tensor):
            self._see(out)
        return out


def _weights(
    query: Tensor,
    key: Tensor,
    _value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,  # noqa: ARG001 (the operator's signature)
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,  # noqa: ARG001 (the operator's signature)
) -> Tensor:
    """What `scaled_dot_product_attention` multiplies the values with."""
    scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, float("-inf")) if attn_mask.dtype == torch.bool else scores + attn_mask
    if is_causal:
        scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), float("-inf"))
    return scores.softmax(dim=-1)


def _measurement(distances: dict[str, dict[str, tuple[float, ...]]]) -> Measurement:
    points: list[Point] = []
    curves: list[Curve] = []
    found: dict[str, float] = {}
    words = []
    for name, by_path in distances.items():
        means = [sum(heads) / len(heads) for heads in by_path.values()]
        depths = [float(depth) for depth in range(1, len(means) + 1)]
        curves.append(Curve(name=name, x=numbers(depths), y=numbers(means)))
        for depth, (path, heads) in zip(depths, by_path.items(), strict=True):
            points += [Point(name=path, x=depth, y=distance, group=name, detail=path) for distance in heads]
        first = next(iter(by_path.values()))
        found |= {f"first of {name}": means[0], f"last of {name}": means[-1]}
        found[f"spread in the first of {name}"] = first[-1] - first[0]
        words.append(f"{name} {means[0]:.0f} px in the first and {means[-1]:.0f} px in the last block")
    return Measurement(
        name="attention_distance",
        question="How far do attention heads look?",
        finding=f"Mean distance: {'; '.join(words)}.",
        panels=(
            Points(
                title="Mean attention distance of each head",
                x=Axis(title="attention blocks passed"),
                y=Axis(title="distance (pixels)"),
                points=tuple(points),
            ),
            Curves(
                title="Mean attention distance of a block",
                x=Axis(title="attention blocks passed"),
                y=Axis(title="distance (pixels)"),
                curves=tuple(curves),
            ),
        ),
        source="arXiv:2108.08810, Fig. 1; class token dropped without renormalising, as in the reference code. "
        "Windowed attention: within its window.",
        numbers=found,
    )
