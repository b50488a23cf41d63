import pytest
import torch

from metaformer.ops.windows import cut_windows, join_windows, masked_bias, relative_places, shift_of

CASES = {
    "line": ((9,), (4,), (2,)),
    "plane": ((8, 12), (4, 4), (2, 2)),
    "odd plane": ((7, 10), (4, 3), (2, 1)),
    "one window": ((3, 9), (4, 3), (2, 1)),
    "volume": ((5, 4, 6), (2, 4, 3), (1, 2, 1)),
}


@pytest.fixture(params=CASES.values(), ids=CASES)
def case(request):
    return request.param


def test_what_is_cut_is_joined_again(case):
    grid, window, shift = case
    x = torch.randn(2, 3, *grid)
    torch.testing.assert_close(join_windows(cut_windows(x, window, shift), grid, window, shift), x, rtol=0, atol=0)


def test_tokens_of_a_shifted_window_see_neighbours_only(case):
    grid, window, shift = case
    # The places of a grid that the windows divide: what fills up the last ones comes after all places.
    sides = [-(-side // length) * length for side, length in zip(grid, window, strict=True)]
    places = torch.stack(torch.meshgrid(*map(torch.arange, sides), indexing="ij")).float()
    steps = shift_of(grid, window, shift)
    cut = cut_windows(places[None], window, steps)[0]
    distance = (cut[:, :, None] - cut[:, None, :]).abs()
    is_near = (distance < torch.tensor(window)).all(dim=-1)
    num = torch.tensor(window).prod()
    bias = masked_bias(torch.zeros(1, int(num), int(num)), grid, window, shift)
    seen = (bias == 0).expand(len(cut), 1, -1, -1)[:, 0]
    assert torch.equal(seen, is_near)


def test_each_distance_has_its_row(case):
    _, window, _ = case
    places = relative_places(window)
    assert places.min() == 0
    assert places.max() == torch.tensor([2 * side - 1 for side in window]).prod() - 1
    assert len(places.diagonal().unique()) == 1
