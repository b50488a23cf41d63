import re

import pytest
import torch

from metaformer.block.site import Site, require_grid
from metaformer.core.errors import ShapeError


def test_a_site_counts_its_tokens_and_knows_its_path():
    site = Site(dim=8, grid=(5, 9), stage=2, index=3)
    assert site.num_tokens == 45
    assert site.path == "stages.2.blocks.3"


def test_the_right_grid_passes_unchanged():
    x = torch.randn(1, 2, 5, 9)
    assert require_grid(x, (5, 9), "it") is x


@pytest.mark.parametrize("grid", [(9, 5), (5, 8), (1, 45)], ids=str)
def test_another_grid_is_refused_even_with_as_many_tokens(grid):
    message = (
        f"the thing of stages.0 is built for a grid of 5x9 tokens; got {grid[0]}x{grid[1]}. "
        "Create the model with the image_size of your images: weights of another size are resized on loading."
    )
    with pytest.raises(ShapeError, match=f"^{re.escape(message)}$"):
        require_grid(torch.randn(1, 2, *grid), (5, 9), "the thing of stages.0")
