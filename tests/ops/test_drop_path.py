import pytest
import torch

from metaformer.ops.drop_path import drop_path


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_expectation_stays(rate):
    num = 200_000
    mean = drop_path(torch.ones(num, 1), rate).mean().item()
    standard_error = (rate / (1 - rate) / num) ** 0.5
    assert mean == pytest.approx(1, abs=4 * standard_error)


def test_a_sample_is_dropped_or_scaled_as_a_whole():
    x = torch.randn(64, 3, 4, 5)
    ratio = drop_path(x, 0.5) / x
    assert {value.item() for value in ratio.unique().round(decimals=5)} == {0.0, 2.0}
    assert torch.equal(ratio, ratio[:, :1, :1, :1].expand_as(ratio))


def test_rate_zero_changes_nothing():
    x = torch.randn(16, 3)
    assert torch.equal(drop_path(x, 0.0), x)


def test_the_draw_follows_the_seed():
    x = torch.ones(64, 1)
    draws = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        draws.append(drop_path(x, 0.5))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_the_dtype_stays(dtype):
    assert drop_path(torch.ones(4, 2, dtype=dtype), 0.3).dtype == dtype


def test_a_dropped_sample_gets_no_gradient():
    x = torch.ones(64, 2, requires_grad=True)
    y = drop_path(x, 0.5)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(gradient, y)


def test_in_double_precision_the_scale_is_exact_to_double_precision():
    kept = drop_path(torch.ones(64, 1, dtype=torch.float64), 0.3).max().item()
    assert kept == pytest.approx(1 / 0.7, rel=1e-15)
