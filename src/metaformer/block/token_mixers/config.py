"""The contract of a token mixer."""

from typing import Protocol, runtime_checkable

from torch import nn

from metaformer.block.site import Site


@runtime_checkable
class TokenMixerConfig(Protocol):
    """A frozen config that builds a token mixer for a site.

    The module maps (B, C, *grid) to the same shape. One that is tied to the grid of its site raises ShapeError on
    another grid, and may offer `resize(state, old_grid, new_grid) -> state`, a static method that moves its weights.
    """

    def build(self, site: Site) -> nn.Module: ...
