import itertools

import numpy as np
import pytest
from scipy import stats

from metaformer.report.stats import statistics
from metaformer.report.stats.moderated_variance import Variance
from metaformer.report.stats.seed_spread import own_variance

VALUES = [83.0, 82.1, 82.6, 83.4]


def test_the_interval_of_one_sample_is_that_of_scipy():
    half = statistics.half_width(own_variance(VALUES), len(VALUES))
    low, high = stats.t.interval(0.95, len(VALUES) - 1, loc=np.mean(VALUES), scale=stats.sem(VALUES))
    assert (np.mean(VALUES) - half, np.mean(VALUES) + half) == pytest.approx((low, high))


def test_without_a_variance_or_without_values_there_is_no_interval():
    assert statistics.half_width(None, 3) is None
    assert statistics.half_width(Variance(value=1.0, df=2), 0) is None


def test_differences_of_their_own_spread_are_the_one_sample_t_test_of_scipy():
    differences = [-60.1, -59.2, -61.4]
    result = statistics.compare(differences, own_variance(differences))
    assert result.p == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)


@pytest.mark.parametrize(
    ("differences", "variance", "why"),
    [
        ([3.0], Variance(value=0.1, df=9), "1 common seed, and a verdict needs 3"),
        ([3.0, 3.1], Variance(value=0.1, df=9), "2 common seeds, and a verdict needs 3"),
        ([3.0, 3.0, 3.0], None, "the seeds show no spread to judge by"),
        ([3.0, 3.1, 3.2], Variance(value=0.1, df=9), ""),
    ],
    ids=["one", "two", "no spread", "three"],
)
def test_fewer_than_three_common_seeds_are_not_tested(differences, variance, why):
    comparison = statistics.compare(differences, variance)
    assert (comparison.p is None) == bool(why)
    assert statistics.why_no_test(comparison) == why


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


def power(num_seeds, df_per_seed, difference, num_tests):
    """By integration: scipy's noncentral t is nan for some of these."""
    df, shift = df_per_seed * (num_seeds - 1), abs(difference) / np.sqrt(0.5 / num_seeds)
    t = stats.t.ppf(1 - 0.025 / num_tests, df)
    return stats.chi2(df).expect(
        lambda x: stats.norm.sf(t * np.sqrt(x / df) - shift) + stats.norm.cdf(-t * np.sqrt(x / df) - shift)
    )


@pytest.mark.parametrize("num_tests", [1, 22])
@pytest.mark.parametrize("df_per_seed", [1, 5])
@pytest.mark.parametrize("difference", [-0.9, 0.6, 2.0])
def test_seeds_needed_is_the_first_with_power_after_the_correction(difference, df_per_seed, num_tests):
    variance = Variance(value=0.5, df=2 * df_per_seed)
    needed = int(statistics.seeds_needed(difference, variance, num_seeds=3, num_tests=num_tests))

    assert power(needed, df_per_seed, difference, num_tests) >= 0.8
    assert needed == 3 or power(needed - 1, df_per_seed, difference, num_tests) < 0.8


def test_a_row_that_the_correction_refuses_needs_more_seeds_than_it_has():
    """Alone it would be told apart: p is 4%."""
    variance, differences = Variance(value=0.09, df=40), [0.2, 0.35, 0.55]
    assert 0.02 < statistics.compare(differences, variance).p < 0.05
    assert int(statistics.seeds_needed(np.mean(differences), variance, num_seeds=3, num_tests=22)) > 3


def test_seeds_needed_is_capped_and_silent_without_a_spread():
    assert statistics.seeds_needed(0.0, Variance(value=1.0, df=4), num_seeds=3) == ">50"
    assert statistics.seeds_needed(1e6, Variance(value=1.0, df=4), num_seeds=3) == "3"
    assert statistics.seeds_needed(1.0, None, num_seeds=3) == ""
