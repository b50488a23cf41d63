import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from metaformer.ops.pool_mix import pool_mix

GRIDS = [(7, 7), (5, 9), (1, 4), (1, 1)]
POOL_SIZES = [1, 3, 5, 7]


def definition(x, pool_size):
    """The mean over the tokens of the window that exist, minus the token; one token at a time."""
    out, reach = torch.empty_like(x), pool_size // 2
    height, width = x.shape[-2:]
    for i in range(height):
        for j in range(width):
            window = x[..., max(i - reach, 0) : i + reach + 1, max(j - reach, 0) : j + reach + 1]
            out[..., i, j] = window.mean(dim=(-2, -1)) - x[..., i, j]
    return out


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("pool_size", POOL_SIZES)
def test_it_equals_the_definition_forward_and_backward(grid, pool_size):
    x = torch.randn(2, 3, *grid, dtype=torch.float64, requires_grad=True)
    actual, expected = pool_mix(x, pool_size), definition(x, pool_size)
    torch.testing.assert_close(actual, expected)
    seed = torch.randn_like(expected)
    torch.testing.assert_close(*(torch.autograd.grad(y, x, seed)[0] for y in (actual, expected)))


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("pool_size", POOL_SIZES)
def test_a_constant_map_mixes_to_exactly_zero(grid, pool_size):
    # An integer, so that sums are exact and the borders show any wrong divisor.
    x = torch.full((1, 2, *grid), 3.0)
    assert torch.equal(pool_mix(x, pool_size), torch.zeros_like(x))


@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from(POOL_SIZES), st.integers(-64, 64))
def test_a_constant_map_mixes_to_exactly_zero_on_any_grid(height, width, pool_size, value):
    x = torch.full((1, 1, height, width), float(value))
    assert torch.count_nonzero(pool_mix(x, pool_size)) == 0


def test_the_border_divides_by_the_tokens_that_exist():
    x = torch.zeros(1, 1, 3, 3)
    x[0, 0, 0, 0] = 1
    mixed = pool_mix(x, 3)
    assert mixed[0, 0, 0, 0].item() == pytest.approx(1 / 4 - 1)
    assert mixed[0, 0, 0, 1].item() == pytest.approx(1 / 6)
    assert mixed[0, 0, 1, 1].item() == pytest.approx(1 / 9)
    assert mixed[0, 0, 2, 2].item() == 0


def test_a_window_of_one_token_mixes_nothing():
    x = torch.randn(1, 2, 4, 4)
    assert torch.equal(pool_mix(x, 1), torch.zeros_like(x))


def test_a_window_over_the_whole_grid_gives_the_global_mean():
    x = torch.randn(1, 2, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(pool_mix(x, 5) + x, x.mean(dim=(-2, -1), keepdim=True).expand_as(x))


def test_it_is_linear():
    x, y = torch.randn(2, 1, 2, 5, 6, dtype=torch.float64)
    torch.testing.assert_close(pool_mix(2 * x - 3 * y, 3), 2 * pool_mix(x, 3) - 3 * pool_mix(y, 3))


def test_channels_do_not_mix():
    x = torch.randn(1, 3, 5, 5)
    changed = x.clone()
    changed[:, 1] += 1 + torch.randn(5, 5)
    assert torch.equal(pool_mix(x, 3)[:, [0, 2]], pool_mix(changed, 3)[:, [0, 2]])
