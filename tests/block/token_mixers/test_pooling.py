import re

import pytest
import torch
import torch.nn.functional as F

from metaformer.block.token_mixers import PoolingConfig
from metaformer.core.errors import ConfigError
from metaformer.ops.pool_mix import pool_mix


@pytest.mark.parametrize("pool_size", [1, 3, 5, 7])
def test_it_pools_with_its_size(site, pool_size):
    x = torch.randn(2, site.dim, *site.grid)
    assert torch.equal(PoolingConfig(pool_size=pool_size).build(site)(x), pool_mix(x, pool_size))


@pytest.mark.parametrize("pool_size", [1, 3, 5, 7])
def test_a_constant_map_mixes_to_exactly_zero(site, pool_size):
    x = torch.full((1, site.dim, *site.grid), -5.0)
    assert torch.count_nonzero(PoolingConfig(pool_size=pool_size).build(site)(x)) == 0


def test_the_default_is_the_papers_algorithm_1(site):
    x = torch.randn(2, site.dim, *site.grid)
    expected = F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False) - x
    assert torch.equal(PoolingConfig().build(site)(x), expected)


def test_it_has_no_state(site):
    assert not PoolingConfig().build(site).state_dict()


@pytest.mark.parametrize(("pool_size", "suggestion"), [(4, 5), (2, 3), (0, 1), (-3, 1)])
def test_a_size_that_moves_the_grid_is_refused(pool_size, suggestion):
    message = (
        "PoolingConfig.pool_size must be odd and positive, so that the output keeps the grid; "
        f"got {pool_size}. Try {suggestion}."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        PoolingConfig(pool_size=pool_size)


def test_the_size_is_shown(site):
    assert repr(PoolingConfig(pool_size=5).build(site)) == "Pooling(pool_size=5)"
