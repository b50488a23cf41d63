"""What a layer puts out, with its axes known: channels, places on the grid, and tokens that are no place."""

from dataclasses import dataclass
from math import isqrt

import torch
from jaxtyping import Float
from torch import Tensor, nn

from metaformer.core.errors import ConfigError

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How the output of a layer is laid out."""

    path: str
    channels_first: bool
    num_prefix: int  # tokens in front that are no place of the grid, as a class token
    grid: tuple[int, ...]  # empty: there is no spatial map

    def tokens(self, x: Tensor) -> Float[Tensor, "b n c"]:
        """All tokens, those that are no place first."""
        x = x.flatten(2).transpose(1, 2) if self.channels_first else x.flatten(1, -2)
        return x

    def maps(self, x: Tensor) -> Float[Tensor, "b c *grid"]:
        """The places, channels first.

        Raises:
            ConfigError: The layer has no spatial map.
        """
        if not self.grid:
            raise ConfigError(f"the output of {self.path!r} has no spatial map: its shape is {tuple(x.shape)}.")
        return self.tokens(x)[:, self.num_prefix :].transpose(1, 2).unflatten(2, self.grid)

    def restore(self, maps: Tensor, x: Tensor) -> Tensor:
        """The output `x` again, with these maps in the place of its own."""
        tokens = maps.flatten(2).transpose(1, 2)
        if self.num_prefix:
            tokens = torch.cat([self.tokens(x)[:, : self.num_prefix], tokens], dim=1)
        return (tokens.transpose(1, 2) if self.channels_first else tokens).reshape(x.shape)


def first_tensor(out: object) -> Tensor:
    """The output of a module, or the first tensor of several.

    Raises:
        ConfigError: There is no tensor.
    """
    if isinstance(out, Tensor):
        return out
    if isinstance(out, tuple | list) and out:
        return first_tensor(out[0])
    raise ConfigError(f"a layer puts out {type(out).__name__}, and no tensor to look at.")


def layout_of(path: str, module: nn.Module, x: Tensor, image_size: tuple[int, ...]) -> Layout:
    """Finds the layout of a layer's output.

    Features of four axes have their channels where the layer's own parts have as many; three axes are tokens in rows
    (B, N, C), unless only the middle one fits. The grid of tokens in rows has the image's proportions.

    Args:
        path: Of the layer, for messages.
        module: The layer.
        x: Its output, batch first.
        image_size: Height and width of the image, in pixels.
    """
    if x.ndim < 3:
        return Layout(path=path, channels_first=True, num_prefix=0, grid=())
    channels_first = _channels_first(module, x)
    if x.ndim > 3:
        grid = tuple(x.shape[2:] if channels_first else x.shape[1:-1])
        return Layout(path=path, channels_first=channels_first, num_prefix=0, grid=grid)
    num_tokens = x.shape[2] if channels_first else x.shape[1]
    if len(image_size) == 1:
        return Layout(path=path, channels_first=channels_first, num_prefix=0, grid=(num_tokens,))
    num_prefix, grid = grid_of(num_tokens, image_size)
    return Layout(path=path, channels_first=channels_first, num_prefix=num_prefix, grid=grid)


def grid_of(num_tokens: int, image_size: tuple[int, ...], most_prefix: int = 8) -> tuple[int, tuple[int, ...]]:
    """How many tokens are no place, and the grid of the others in the image's proportions; no grid where none fits."""
    height, width = image_size
    for num_prefix in range(min(most_prefix, num_tokens - 1) + 1):
        places = num_tokens - num_prefix
        columns = isqrt(places * width // height)
        for side in {columns, columns + 1} - {0}:
            # The grid of a patch embedding has the image's proportions up to rounding by one row.
            if places % side == 0 and abs(places // side - side * height / width) < 1:
                return num_prefix, (places // side, side)
    return 0, ()


def _channels_first(module: nn.Module, x: Tensor) -> bool:
    known = dict.fromkeys(channels for part in module.modules() for channels in _channels_of(part))
    first, last = x.shape[1] in known, x.shape[-1] in known
    if first != last:
        return first
    if not first:
        return x.ndim > 3
    # Both axes fit: what reads the input first decides.
    for part in module.modules():
        if isinstance(part, CONVOLUTIONS) or "2d" in type(part).__name__.lower():
            return True
        if isinstance(part, nn.Linear | nn.LayerNorm) and x.shape[-1] in _channels_of(part):
            return False
    return x.ndim > 3


def _channels_of(part: nn.Module) -> tuple[int, ...]:
    if isinstance(part, CONVOLUTIONS):
        return part.in_channels, part.out_channels
    if isinstance(part, nn.Linear):
        return part.in_features, part.out_features
    weight = getattr(part, "weight", None)
    return (weight.numel(),) if isinstance(weight, Tensor) and weight.ndim == 1 else ()
