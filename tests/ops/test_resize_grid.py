import pytest
import torch

from metaformer.ops.resize_grid import resize_map, resize_token_matrix

GRIDS = [((4, 4), (7, 7)), ((7, 7), (4, 4)), ((5, 9), (3, 11)), ((2, 2), (1, 4))]


@pytest.mark.parametrize(("old", "new"), GRIDS, ids=str)
def test_a_map_gets_the_new_grid(old, new):
    assert resize_map(torch.randn(1, 3, *old), new).shape == (1, 3, *new)


@pytest.mark.parametrize(("old", "new"), GRIDS, ids=str)
def test_a_constant_map_stays_constant(old, new):
    torch.testing.assert_close(resize_map(torch.full((1, 2, *old), 0.7), new), torch.full((1, 2, *new), 0.7))


def test_a_map_on_its_own_grid_stays():
    x = torch.randn(1, 3, 5, 6)
    torch.testing.assert_close(resize_map(x, (5, 6)), x)


@pytest.mark.parametrize(("old", "new"), GRIDS, ids=str)
def test_a_matrix_gets_the_new_number_of_tokens(old, new):
    num_old, num_new = old[0] * old[1], new[0] * new[1]
    assert resize_token_matrix(torch.randn(num_old, num_old), old, new).shape == (num_new, num_new)


def test_a_matrix_on_its_own_grid_stays():
    matrix = torch.randn(20, 20)
    torch.testing.assert_close(resize_token_matrix(matrix, (4, 5), (4, 5)), matrix)


@pytest.mark.parametrize(("old", "new"), GRIDS, ids=str)
def test_a_matrix_that_averages_all_tokens_still_does(old, new):
    num_old, num_new = old[0] * old[1], new[0] * new[1]
    resized = resize_token_matrix(torch.full((num_old, num_old), 1 / num_old), old, new)
    torch.testing.assert_close(resized, torch.full((num_new, num_new), 1 / num_new))


def test_rows_keep_their_sum_when_the_grid_doubles():
    matrix = torch.rand(9, 9, dtype=torch.float64)
    matrix /= matrix.sum(dim=-1, keepdim=True)
    resized = resize_token_matrix(matrix, (3, 3), (6, 6))
    torch.testing.assert_close(resized.sum(dim=-1).mean(), torch.ones((), dtype=torch.float64), atol=0.02, rtol=0)


def test_signs_stay():
    assert (resize_token_matrix(torch.rand(16, 16), (4, 4), (5, 7)) >= 0).all()


def test_rows_and_columns_are_read_as_images_of_height_by_width():
    # Tokens (row, column) of a 2x3 grid; a matrix that depends on the row of its output and the column of its input.
    out_row, in_column = torch.arange(6) // 3, torch.arange(6) % 3
    matrix = (out_row[:, None] * 10 + in_column[None, :]).double()
    resized = resize_token_matrix(matrix, (2, 3), (2, 6)) * 12 / 6
    image = resized.reshape(2, 6, 2, 6)
    assert torch.allclose(image, image[:, :1, :1, :].expand_as(image))
    assert image[1, 0, 0, 0] - image[0, 0, 0, 0] == pytest.approx(10)
