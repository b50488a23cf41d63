import pytest
import torch
from torch import nn

from metaformer.analysis import scaling
from metaformer.analysis.scaling import (
    Subject,
    count_exponent,
    fit_exponent,
    median_interval,
    size_costs,
    slope,
    time_round,
)
from metaformer.analysis.timing import Timing

SIZES = (64, 256, 1024, 4096, 9216)


def power(exponent, *, overhead=0.0, factor=1e-4):
    return {size: overhead + factor * size**exponent for size in SIZES}


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_a_power_law_gives_its_exponent(exponent):
    assert slope(power(exponent)) == pytest.approx(exponent)
    fitted = fit_exponent([power(exponent), power(exponent, factor=3e-4)])
    assert (fitted.value, fitted.low, fitted.high) == pytest.approx((exponent,) * 3)


def test_sizes_that_overhead_dominates_do_not_count():
    # At 64 and 256 tokens overhead is nearly all; a fit through all sizes would be far off.
    times = power(1.0, overhead=0.02)
    fitted = fit_exponent([times])
    assert fitted.fitted_tokens == (1024, 4096, 9216)
    assert fitted.value > slope(times)
    assert fitted.value == pytest.approx(0.93, abs=0.03)


def test_with_overhead_everywhere_there_is_no_exponent():
    assert fit_exponent([power(1.0, overhead=100.0)]) is None


@pytest.mark.parametrize("rounds", [[], [{64: 1.0, 256: 9.0}], [{64: 1.0, 256: 9.0, 1024: 99.0}, {64: 1.0}]], ids=str)
def test_too_few_sizes_give_no_exponent(rounds):
    assert fit_exponent(rounds) is None


def test_the_spread_is_that_of_the_rounds():
    fitted = fit_exponent([power(1.0), power(2.0, factor=1e-6), power(1.5, factor=1e-5)])
    assert (fitted.low, fitted.value, fitted.high) == pytest.approx((1.0, 1.5, 2.0))


def test_more_rounds_narrow_the_interval():
    # The ranks of the tables of the sign test.
    for num_values, outside in ((1, 0), (5, 0), (6, 0), (8, 0), (9, 1), (15, 3), (25, 7)):
        values = [float(value) for value in range(num_values)]
        assert median_interval(values) == (outside, num_values - 1 - outside), num_values


def test_one_slow_moment_does_not_move_an_exponent():
    slow = power(1.0) | {9216: 1.0}
    fitted = fit_exponent([power(1.0)] * 8 + [slow])
    assert (fitted.low, fitted.high) == pytest.approx((1.0, 1.0))


def test_exponents_of_counts():
    assert count_exponent({size: size**2 for size in SIZES}) == pytest.approx(2.0)
    assert count_exponent(dict.fromkeys(SIZES, 7)) == 0.0
    assert count_exponent(dict.fromkeys(SIZES, 0)) is None
    assert count_exponent({64: 1, 256: 2}) is None


class TokenMatrix(nn.Module):
    def __init__(self, tokens):
        super().__init__()
        self.fc = nn.Linear(tokens, tokens, bias=False)

    def forward(self, x):
        return self.fc(x.flatten(2)).unflatten(2, x.shape[-2:])


def matrix(side):
    return TokenMatrix(side * side), torch.randn(1, 3, side, side)


MATRIX = Subject(name="matrix", level="mixer", build=matrix)


def test_costs_of_each_size_are_counted():
    small, large = size_costs(MATRIX, (2, 4))
    assert (small.num_tokens, large.num_tokens) == (4, 16)
    assert (small.params, large.params) == (16, 256)
    assert (small.macs, large.macs) == (3 * 16, 3 * 256)
    # Weights, input and output.
    assert large.memory_mib == pytest.approx(4 * (256 + 2 * 3 * 16) / 2**20)


def test_a_round_times_one_subject_at_all_sizes_before_the_next(monkeypatch):
    called = []
    timing = Timing(latency_ms=1.0, wall_s=3.0, cpu_s=3.0)
    monkeypatch.setattr(scaling, "time_calls", lambda module, x, seconds: called.append(x.shape[-1]) or timing)
    other = Subject(name="other", level="model", build=matrix)
    rows = time_round([MATRIX, other], (2, 3), seconds=0.1)
    assert called == [2, 3, 2, 3]
    assert rows == [
        ("mixer", "matrix", 4, timing),
        ("mixer", "matrix", 9, timing),
        ("model", "other", 4, timing),
        ("model", "other", 9, timing),
    ]
