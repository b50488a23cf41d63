import itertools

import numpy as np
import pytest
from scipy import stats

from metaformer.report import statistics
from metaformer.report.statistics import Variance

GROUPS = [[81.2, 80.4, 81.9], [76.1, 76.8], [83.0, 82.1, 82.6, 83.4], [70.0]]
LAYOUT = {
    "a": {0: 81.2, 1: 80.4, 2: 81.9},
    "b": {0: 76.1, 1: 75.9, 2: 77.4},
    "c": {0: 83.0, 1: 81.7, 2: 82.6},
}


def test_the_pooled_variance_is_the_textbook_formula():
    variance = statistics.pooled_variance(GROUPS)
    expected = sum((len(g) - 1) * np.var(g, ddof=1) for g in GROUPS if len(g) > 1) / 6
    assert variance.df == 6
    assert variance.value == pytest.approx(expected)


@pytest.mark.parametrize("groups", [[], [[]], [[80.0]], [[80.0], [70.0]], [[80.0, 80.0], [10.1, 10.1, 10.1]]], ids=str)
def test_without_spread_there_is_no_variance(groups):
    assert statistics.pooled_variance(groups) is None


def test_the_interval_of_one_group_is_that_of_scipy():
    values = GROUPS[2]
    half = statistics.half_width(statistics.pooled_variance([values]), len(values))
    low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    assert (np.mean(values) - half, np.mean(values) + half) == pytest.approx((low, high))


def test_without_a_variance_or_without_values_there_is_no_interval():
    assert statistics.half_width(None, 3) is None
    assert statistics.half_width(Variance(value=1.0, df=2), 0) is None


def test_the_residual_variance_of_a_full_table_is_the_two_way_formula():
    table = np.array([[by_seed[seed] for seed in range(3)] for by_seed in LAYOUT.values()])
    residual = table - table.mean(1, keepdims=True) - table.mean(0, keepdims=True) + table.mean()
    variance = statistics.residual_variance(LAYOUT)
    assert variance.df == (3 - 1) * (3 - 1)
    assert variance.value == pytest.approx((residual**2).sum() / 4)


def test_absent_cells_cost_degrees_of_freedom_and_nothing_else():
    partial = {"a": LAYOUT["a"], "b": LAYOUT["b"], "c": {0: 83.0, 1: 81.7}, "d": {0: 40.0}}
    without_d = {name: partial[name] for name in "abc"}
    # 8 cells, 3 rows, 3 seeds: rank 5. A row with one cell adds a cell and a parameter.
    assert statistics.residual_variance(partial).df == 3
    expected = statistics.residual_variance(without_d)
    assert statistics.residual_variance(partial).value == pytest.approx(expected.value)


@pytest.mark.parametrize("layout", [{}, {"a": {0: 80.0}}, {"a": {0: 80.0}, "b": {0: 70.0}}], ids=str)
def test_one_seed_leaves_no_residual(layout):
    assert statistics.residual_variance(layout) is None


def test_rows_that_differ_by_a_constant_leave_no_residual():
    shifted = {name: {seed: base + shift for seed, base in LAYOUT["a"].items()} for name, shift in (("a", 0), ("b", 3))}
    assert statistics.residual_variance(shifted) is None


def test_two_rows_are_the_paired_t_test_of_scipy():
    pair = {name: LAYOUT[name] for name in "ab"}
    differences = statistics.paired_differences(pair["b"], pair["a"])
    result = statistics.compare(differences, statistics.residual_variance(pair).times(2.0))
    expected = stats.ttest_rel(list(pair["b"].values()), list(pair["a"].values()))
    interval = expected.confidence_interval(0.95)
    assert result.p == pytest.approx(expected.pvalue)
    assert result.difference - result.half_width == pytest.approx(interval.low)
    assert result.difference + result.half_width == pytest.approx(interval.high)


def test_a_row_of_its_own_kind_is_the_one_sample_t_test_of_scipy():
    differences = [-60.1, -59.2, -61.4]
    result = statistics.compare(differences, statistics.pooled_variance([differences]))
    assert result.p == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)


def test_differences_are_taken_over_common_seeds():
    assert statistics.paired_differences({0: 5.0, 2: 7.0, 3: 9.0}, {2: 6.0, 0: 1.0, 1: 0.0}) == [4.0, 1.0]
    assert statistics.compare([], Variance(value=1.0, df=2)) is None


def test_without_variance_a_difference_has_no_test():
    result = statistics.compare([2.0, 2.0], None)
    assert (result.difference, result.half_width, result.p) == (2.0, None, None)


def test_holm_steps_down_stays_monotone_and_skips_what_was_not_tested():
    assert statistics.holm([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, None, 0.06, 0.06])
    assert statistics.holm([0.9, 0.8]) == [1.0, 1.0]
    assert statistics.holm([]) == []


def test_holm_does_not_depend_on_the_order():
    p = {"a": 0.001, "b": 0.02, "c": 0.02, "d": 0.5}
    answers = {
        tuple(sorted(zip(names, statistics.holm([p[name] for name in names]), strict=True)))
        for names in itertools.permutations(p)
    }
    assert len(answers) == 1


@pytest.mark.parametrize(
    ("difference", "p", "expected"),
    [
        (1.0, 0.01, "better"),
        (-1.0, 0.01, "worse"),
        (1.0, 0.05, "not told apart"),
        (1.0, None, "no verdict"),
        (None, 0.01, "no verdict"),
    ],
)
def test_verdicts(difference, p, expected):
    assert statistics.verdict(difference, p) == expected


@pytest.mark.parametrize("df_per_seed", [1, 5])
@pytest.mark.parametrize("difference", [-0.9, 0.6, 2.0])
def test_seeds_needed_is_the_first_with_power(difference, df_per_seed):
    variance = Variance(value=0.5, df=4)
    needed = int(statistics.seeds_needed(difference, variance, df_per_seed=df_per_seed))

    def power(n):
        df, shift = df_per_seed * (n - 1), abs(difference) / np.sqrt(0.5 / n)
        t = stats.t.ppf(0.975, df)
        return stats.nct.sf(t, df, shift) + stats.nct.cdf(-t, df, shift)

    assert power(needed) >= 0.8
    assert needed == 2 or power(needed - 1) < 0.8


def test_seeds_needed_is_capped_and_silent_without_a_spread():
    assert statistics.seeds_needed(0.0, Variance(value=1.0, df=4), df_per_seed=3) == ">50"
    assert statistics.seeds_needed(1e6, Variance(value=1.0, df=4), df_per_seed=3) == "2"
    assert statistics.seeds_needed(1.0, None, df_per_seed=3) == ""


def test_under_no_difference_five_percent_are_called_different():
    """The whole chain, on noise: rows and seeds have effects, the rows compared do not differ."""
    random = np.random.default_rng(0)
    rejected = 0
    for _ in range(400):
        seeds = random.normal(0, 2, 3)
        layout = {row: dict(enumerate((80 + seeds + random.normal(0, 0.5, 3)).tolist())) for row in "abcd"}
        variance = statistics.residual_variance(layout).times(2.0)
        rejected += statistics.compare(statistics.paired_differences(layout["b"], layout["a"]), variance).p < 0.05
    assert 0.02 < rejected / 400 < 0.08
