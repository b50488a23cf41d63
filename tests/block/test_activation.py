import pytest
import torch

from metaformer.block.activation import ACTIVATIONS, SquaredReLU, StarReLU

X = torch.tensor([-2.0, -0.5, 0.0, 0.5, 3.0])


def test_squared_relu_is_the_square_of_relu():
    assert SquaredReLU()(X).tolist() == [0, 0, 0, 0.25, 9]


def test_star_relu_is_scale_times_squared_relu_plus_bias():
    activation = StarReLU()
    with torch.no_grad():
        activation.scale.fill_(2)
        activation.bias.fill_(-1)
    assert activation(X).tolist() == [-1, -1, -1, -0.5, 17]


def test_star_relu_starts_as_squared_relu():
    assert torch.equal(StarReLU()(X), SquaredReLU()(X))


def test_star_relu_with_the_papers_numbers_keeps_a_normal_input_at_mean_0_variance_1():
    activation = StarReLU()
    with torch.no_grad():
        activation.scale.fill_(0.8944)
        activation.bias.fill_(-0.4472)
    y = activation(torch.randn(1_000_000))
    assert y.mean().item() == pytest.approx(0, abs=0.005)
    assert y.var().item() == pytest.approx(1, abs=0.02)


def test_star_relu_learns_one_scale_and_one_bias():
    assert {name: parameter.numel() for name, parameter in StarReLU().named_parameters()} == {"scale": 1, "bias": 1}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_works_on_each_element_alone(name):
    activation = ACTIVATIONS[name]()
    x = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(activation(x).flatten(), torch.cat([activation(value) for value in x.reshape(-1, 1)]))
