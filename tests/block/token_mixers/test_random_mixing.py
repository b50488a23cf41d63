import pytest
import torch
from torch import nn

from metaformer.block.site import Site
from metaformer.block.token_mixers import RandomMixingConfig
from metaformer.core.errors import ShapeError


@pytest.fixture
def mixer(site):
    return RandomMixingConfig().build(site)


def test_each_token_becomes_the_average_that_its_row_says(site, mixer):
    mixer.double()
    x = torch.randn(2, site.dim, *site.grid, dtype=torch.float64)
    expected = torch.einsum("nm,bcm->bcn", mixer.random_matrix, x.flatten(2)).reshape(x.shape)
    torch.testing.assert_close(mixer(x), expected)


def test_rows_are_positive_and_sum_to_1(site, mixer):
    assert (mixer.random_matrix > 0).all()
    torch.testing.assert_close(mixer.random_matrix.sum(dim=-1), torch.ones(site.num_tokens))


def test_rows_are_a_softmax_of_uniform_numbers(mixer):
    # A softmax of numbers in [0, 1] keeps the largest and the smallest weight of a row within a factor of e.
    largest, smallest = mixer.random_matrix.max(dim=-1).values, mixer.random_matrix.min(dim=-1).values
    assert (largest / smallest <= torch.e + 1e-5).all()
    assert (largest > smallest).all()


def test_a_constant_map_stays(site, mixer):
    x = torch.full((1, site.dim, *site.grid), 2.0)
    torch.testing.assert_close(mixer(x), x)


def test_the_matrix_is_a_buffer_and_in_the_state(mixer):
    assert list(mixer.parameters()) == []
    assert list(mixer.state_dict()) == ["random_matrix"]


def test_an_optimizer_step_leaves_the_matrix_alone(site):
    model = nn.Sequential(nn.Conv2d(site.dim, site.dim, 1), RandomMixingConfig().build(site))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
    model(torch.randn(2, site.dim, *site.grid)).square().sum().backward()
    optimizer.step()
    unchanged = [name for name, tensor in model.state_dict().items() if torch.equal(tensor, before[name])]
    assert unchanged == ["1.random_matrix"]


def test_two_sites_draw_two_matrices(site):
    first, second = (RandomMixingConfig().build(site).random_matrix for _ in range(2))
    assert not torch.equal(first, second)


def test_drawing_anew_changes_the_matrix_in_place(mixer):
    matrix, before = mixer.random_matrix, mixer.random_matrix.clone()
    mixer.reset_parameters()
    assert matrix is mixer.random_matrix
    assert not torch.equal(matrix, before)


def test_another_grid_is_refused():
    mixer = RandomMixingConfig().build(Site(dim=4, grid=(4, 6), stage=1, index=0))
    message = (
        r"^the random matrix of stages\.1\.blocks\.0 is built for a grid of 4x6 tokens; got 6x4\. "
        r"Create the model with the image_size of your images"
    )
    with pytest.raises(ShapeError, match=message):
        mixer(torch.randn(1, 4, 6, 4))


@pytest.mark.parametrize("new_grid", [(7, 7), (3, 8), (1, 4)], ids=str)
def test_a_resized_matrix_still_averages(new_grid):
    old = RandomMixingConfig().build(Site(dim=4, grid=(4, 5), stage=0, index=0))
    resized = old.resize(old.state_dict(), (4, 5), new_grid)["random_matrix"]
    num_tokens = new_grid[0] * new_grid[1]
    assert resized.shape == (num_tokens, num_tokens)
    assert (resized >= 0).all()
    torch.testing.assert_close(resized.sum(dim=-1), torch.ones(num_tokens))
