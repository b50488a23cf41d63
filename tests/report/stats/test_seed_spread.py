import numpy as np
import pytest
from scipy import stats

from metaformer.report.stats import statistics
from metaformer.report.stats.seed_spread import mean_variances, own_variance, seed_spread

LAYOUT = {
    "a": {0: 81.2, 1: 80.4, 2: 81.9},
    "b": {0: 76.1, 1: 75.9, 2: 77.4},
    "c": {0: 83.0, 1: 81.7, 2: 82.6},
}


def parts(variance):
    return variance.value, variance.df


@pytest.mark.parametrize("values", [[], [80.0], [80.0, 80.0], [10.1, 10.1, 10.1]], ids=str)
def test_without_spread_there_is_no_variance(values):
    assert own_variance(values) is None


def test_rows_that_agree_have_the_residual_variance_of_the_two_way_table():
    table = np.array([[by_seed[seed] for seed in range(3)] for by_seed in LAYOUT.values()])
    residual = table - table.mean(1, keepdims=True) - table.mean(0, keepdims=True) + table.mean()
    spread = seed_spread(LAYOUT, LAYOUT)
    assert spread.df == pytest.approx((3 - 1) * (3 - 1))
    assert {round(one.value, 9) for one in spread.rows.variances.values()} == {round((residual**2).sum() / 4, 9)}
    assert parts(spread.of_difference("b", "a", [])) == pytest.approx((2 * (residual**2).sum() / 4, 4))


def test_two_rows_are_the_paired_t_test_of_scipy():
    pair = {name: LAYOUT[name] for name in "ab"}
    differences = statistics.paired_differences(pair["b"], pair["a"])
    result = statistics.compare(differences, seed_spread(pair, pair).of_difference("b", "a", differences))
    expected = stats.ttest_rel(list(pair["b"].values()), list(pair["a"].values()))
    interval = expected.confidence_interval(0.95)
    assert result.p == pytest.approx(expected.pvalue)
    assert result.difference - result.half_width == pytest.approx(interval.low)
    assert result.difference + result.half_width == pytest.approx(interval.high)


def test_a_row_that_is_not_comparable_rests_on_its_own_differences():
    differences = statistics.paired_differences(LAYOUT["c"], LAYOUT["a"])
    spread = seed_spread(LAYOUT, {"a", "b"})
    assert spread.of_difference("c", "a", differences) == own_variance(differences)


def test_absent_cells_cost_degrees_of_freedom_and_nothing_else():
    partial = {"a": LAYOUT["a"], "b": LAYOUT["b"], "c": {0: 83.0, 1: 81.7}, "d": {0: 40.0}}
    # 8 cells, 3 rows, 3 seeds: rank 5. A row with one cell adds a cell and a parameter.
    spread = seed_spread(partial, partial)
    assert spread.df == pytest.approx(3)
    without_d = seed_spread({name: partial[name] for name in "abc"}, "abc")
    assert spread.rows.variances["c"].value == pytest.approx(without_d.rows.variances["c"].value)


@pytest.mark.parametrize("layout", [{}, {"a": {0: 80.0}}, {"a": {0: 80.0}, "b": {0: 70.0}}], ids=str)
def test_one_seed_leaves_no_spread(layout):
    assert seed_spread(layout, layout).rows.variances == {}


def test_rows_that_differ_by_a_constant_leave_no_spread():
    shifted = {name: {seed: base + shift for seed, base in LAYOUT["a"].items()} for name, shift in (("a", 0), ("b", 3))}
    spread = seed_spread(shifted, shifted)
    assert spread.of_difference("b", "a", [3.0, 3.0, 3.0]) is None


def test_the_variance_of_a_mean_is_moderated_only_where_rows_are_comparable():
    found = mean_variances(LAYOUT | {"alone": {0: 10.0, 1: 30.0, 2: 50.0}, "empty": {}}, {"a", "b", "c", "empty"})
    pooled = np.mean([np.var(list(LAYOUT[name].values()), ddof=1) for name in "abc"])
    assert parts(found["a"]) == parts(found["b"]) == pytest.approx((pooled, 6))
    assert parts(found["alone"]) == pytest.approx((400, 2))
    assert found["empty"] is None


def rejected(deviations, *, num_studies):
    """How often each row is called different from the first at 5%, where none is: rows and seeds have effects."""
    random, counted = np.random.default_rng(0), np.zeros(len(deviations))
    for _ in range(num_studies):
        seeds = random.normal(0, 1, 3)
        layout = {
            str(index): dict(enumerate((80 + seeds + random.normal(0, deviation, 3)).tolist()))
            for index, deviation in enumerate(deviations)
        }
        spread = seed_spread(layout, layout)
        for index in range(1, len(deviations)):
            differences = statistics.paired_differences(layout[str(index)], layout["0"])
            result = statistics.compare(differences, spread.of_difference(str(index), "0", differences))
            counted[index] += result.p < statistics.ALPHA
    return counted[1:] / num_studies


def test_rows_of_equal_spread_are_called_different_at_the_level_of_the_test():
    assert 0.035 < rejected([0.4] * 23, num_studies=120).mean() < 0.065


def test_wide_rows_are_not_called_different_and_quiet_ones_keep_their_power():
    rates = rejected([*[0.4] * 22, 1.6, 3.2], num_studies=200)
    # With one spread for all these are 0.4%, 20% and 49%.
    assert rates[:21].mean() > 0.015
    assert rates[21] < 0.12
    assert rates[22] < 0.12
