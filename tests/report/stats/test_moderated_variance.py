from math import inf

import numpy as np
import pytest
from scipy import special

from metaformer.report.stats.moderated_variance import Variance, inverse_trigamma, moderate


def parts(variance):
    return variance.value, variance.df


def samples(values, df=2):
    return {f"row{index}": Variance(value=value, df=df) for index, value in enumerate(values)}


@pytest.mark.parametrize("value", [1e-4, 0.01, 0.5, 1.0, 3.7, 80.0, 1e4])
def test_the_inverse_of_trigamma(value):
    assert special.polygamma(1, inverse_trigamma(value)) == pytest.approx(value, rel=1e-8)


def test_samples_that_agree_share_one_variance():
    found = moderate(samples([1.0, 1.1, 0.9, 1.05]))
    assert parts(found.common) == (pytest.approx(1.0125), inf)
    assert found.wide == ()
    # Together they have no more degrees of freedom than they brought.
    assert all(parts(one) == pytest.approx((1.0125, 8)) for one in found.variances.values())


def test_samples_that_disagree_are_drawn_as_in_limma():
    """s0^2 and d0 are those of limma's fitFDist; the posterior is its squeezeVar."""
    values = np.array([0.05, 0.2, 1.0, 0.03, 2.0, 0.6])
    found = moderate(samples(values, df=10))
    logs = np.log(values) - special.digamma(5) + np.log(5)
    d0 = 2 * inverse_trigamma(logs.var(ddof=1) - special.polygamma(1, 5))
    s0 = np.exp(logs.mean() + special.digamma(d0 / 2) - np.log(d0 / 2))
    # Those beyond the limit stand alone, and are drawn in to it before the fit.
    limit = np.median(values / (special.chdtri(10, 0.5) / 10)) * special.chdtri(10, 0.1) / 10
    wide = [f"row{index}" for index, value in enumerate(values) if value > limit]
    assert list(found.wide) == wide == ["row2", "row4"]
    assert found.variances["row4"] == Variance(value=2.0, df=10)
    assert found.common.df > d0
    assert found.common.value < s0
    for name in ("row0", "row1", "row3", "row5"):
        own = values[int(name[3:])]
        expected = (found.common.df * found.common.value + 10 * own) / (found.common.df + 10)
        assert parts(found.variances[name]) == pytest.approx((expected, 10 + found.common.df))


def test_the_fit_finds_the_law_that_the_variances_follow():
    random = np.random.default_rng(0)
    true = 2.0 * 6 / random.chisquare(6, 4000)
    found = moderate(samples((true * random.chisquare(4, 4000) / 4).tolist(), df=4))
    # Drawing in what looks wide makes the rows look more alike than they are.
    assert 5 < found.common.df < 16
    assert found.common.value == pytest.approx(2.0, rel=0.15)


def test_a_sample_without_spread_breaks_nothing_and_gets_some():
    found = moderate(samples([0.0, 1.0, 1.2, 0.8, 0.9]))
    assert 0 < found.variances["row0"].value < 1
    assert all(np.isfinite(one.value) and one.df >= 2 for one in found.variances.values())


def test_where_most_have_no_spread_nothing_is_infinite():
    found = moderate(samples([0.0, 0.0, 0.0, 1.0]))
    assert all(0 < one.value < inf for one in found.variances.values())


def test_a_sample_of_one_value_has_the_common_variance():
    found = moderate(samples([1.0, 1.1, 0.9]) | {"single": Variance(value=0.0, df=0)})
    assert parts(found.variances["single"]) == pytest.approx((1.0, 6))


@pytest.mark.parametrize("own", [{}, samples([0.0, 0.0]), samples([1.0], df=0)], ids=["none", "no spread", "one value"])
def test_nothing_is_made_of_nothing(own):
    assert moderate(own).variances == {}


def test_a_single_sample_keeps_its_own():
    assert moderate(samples([3.0])).variances == samples([3.0])
