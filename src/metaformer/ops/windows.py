"""A grid cut into windows and put together again, for attention that stays within them.

Letters: B samples, W windows, N tokens of a window, C channels, H heads. The grid has one, two or three axes.

Source: arXiv:2103.14030, Sec. 3.2. On a grid that windows do not divide, zeros are added before the shift, as in the
authors' code for detection; timm adds them after it, and its mask then lets tokens from opposite borders meet.
"""

from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

# Added to the attention between tokens that are no neighbours; the number is the authors'.
FAR = -100.0


def cut_windows(
    x: Float[Tensor, "b c *grid"], window: tuple[int, ...], shift: tuple[int, ...]
) -> Float[Tensor, "b w n c"]:
    """The tokens of each window, after a cyclic shift towards the origin."""
    grid, num_axes = tuple(x.shape[2:]), len(window)
    padding = [-side % length for side, length in zip(grid, window, strict=True)]
    if any(padding):
        x = F.pad(x, [width for side in reversed(padding) for width in (0, side)])
    steps = shift_of(grid, window, shift)
    if any(steps):
        x = torch.roll(x, [-step for step in steps], list(range(2, 2 + num_axes)))
    for axis, length in enumerate(window):
        x = x.unflatten(2 + 2 * axis, (-1, length))
    outside, inside = range(2, 2 + 2 * num_axes, 2), range(3, 3 + 2 * num_axes, 2)
    return x.permute(0, *outside, *inside, 1).flatten(1 + num_axes, 2 * num_axes).flatten(1, num_axes)


def join_windows(
    windows_BWNC: Float[Tensor, "b w n c"], grid: Sequence[int], window: tuple[int, ...], shift: tuple[int, ...]
) -> Float[Tensor, "b c *grid"]:
    """The features that `cut_windows` cut."""
    num_axes = len(window)
    counts = [-(-side // length) for side, length in zip(grid, window, strict=True)]
    x = windows_BWNC.unflatten(2, window).unflatten(1, counts)
    pairs = [axis for i in range(num_axes) for axis in (1 + i, 1 + num_axes + i)]
    x = x.permute(0, 1 + 2 * num_axes, *pairs)
    x = x.reshape(*x.shape[:2], *(count * length for count, length in zip(counts, window, strict=True)))
    steps = shift_of(grid, window, shift)
    if any(steps):
        x = torch.roll(x, list(steps), list(range(2, 2 + num_axes)))
    for axis, side in enumerate(grid):
        x = x.narrow(2 + axis, 0, side)
    return x


def shift_of(grid: Sequence[int], window: tuple[int, ...], shift: tuple[int, ...]) -> tuple[int, ...]:
    """The shift along each axis: none where one window covers the grid."""
    return tuple(0 if side <= length else step for side, length, step in zip(grid, window, shift, strict=True))


def masked_bias(
    bias_HNN: Float[Tensor, "h n n"], grid: Sequence[int], window: tuple[int, ...], shift: tuple[int, ...]
) -> Float[Tensor, "... h n n"]:
    """The bias of the attention, for each window where a shift brought tokens together that are no neighbours."""
    steps = shift_of(grid, window, shift)
    if not any(steps):
        return bias_HNN
    regions = bias_HNN.new_zeros(())
    for side, length, step in zip(grid, window, steps, strict=True):
        place = torch.arange(-(-side // length) * length, device=bias_HNN.device)
        # Counted from the end: what the shift brought here, the window that it cut, and the rest.
        parts = (place >= len(place) - length).to(bias_HNN.dtype) + (place >= len(place) - step).to(bias_HNN.dtype)
        regions = 3 * regions[..., None] + (parts if step else torch.zeros_like(parts))
    regions_WN = cut_windows(regions[None, None], window, (0,) * len(window))[0, :, :, 0]
    is_far = regions_WN[:, :, None] != regions_WN[:, None, :]
    return bias_HNN + FAR * is_far[:, None].to(bias_HNN.dtype)


def relative_places(window: tuple[int, ...]) -> Int64[Tensor, "n n"]:
    """For each pair of tokens of a window, the row of a table with one for each distance along all axes."""
    places = torch.cartesian_prod(*(torch.arange(length) for length in window)).reshape(prod(window), -1)
    distances = places[:, None] - places[None, :]
    rows = torch.zeros_like(distances[..., 0])
    for axis, length in enumerate(window):
        rows = rows * (2 * length - 1) + distances[..., axis] + length - 1
    return rows
