import time

import pytest

from metaformer.fast.contest import CoreShare, NotHereError, Rules, TurnTimes, hold_contest, interleave


def test_median_spread_and_ratio():
    mine, its = TurnTimes(seconds=(1.0, 2.0, 3.0, 4.0)), TurnTimes(seconds=(0.5, 0.5, 0.5, 0.5))
    assert mine.median == 2.5
    assert its.spread == 0
    assert mine.spread == pytest.approx((3.75 - 1.25) / 2 / 2.5)
    # The median of the ratios of rounds, not the ratio of the medians.
    assert mine.ratio_to(its) == 5.0
    assert TurnTimes(seconds=(1.0,)).spread == 0


def test_calls_are_made_in_turns_and_each_begins_a_round():
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "abc"}
    interleave(calls, rounds=3, at_least_s=0.0)
    # Two calls each to get ready.
    assert order[:6] == list("aabbcc")
    assert order[6:] == list("abcbcacab")


def test_a_sleep_is_measured_in_seconds():
    timings = interleave({"sleep": lambda: time.sleep(0.02)}, rounds=3)
    assert 0.02 <= timings["sleep"].median < 0.5


def test_short_calls_are_repeated_and_long_ones_are_not():
    counts = {"short": 0, "long": 0}

    def call(name, seconds):
        counts[name] += 1
        time.sleep(seconds)

    interleave({"short": lambda: call("short", 0.001), "long": lambda: call("long", 0.03)}, rounds=3, at_least_s=0.02)
    assert counts["long"] == 2 + 3
    assert counts["short"] > 2 + 3


def test_a_budget_ends_the_rounds_but_not_before_three():
    timings = interleave({"sleep": lambda: time.sleep(0.005)}, rounds=50, at_least_s=0.0, budget_s=0.0)
    assert len(timings["sleep"].seconds) == 3


def test_a_contestant_that_is_missing_broken_or_wrong_is_not_timed():
    def missing():
        raise NotHereError("no such library")

    makers = {
        "base": lambda: lambda: 1.0,
        "wrong": lambda: lambda: 2.0,
        "nan": lambda: lambda: float("nan"),
        "another function": lambda: lambda: 5.0,
        "broken": lambda: lambda: 1 / 0,
        "missing": missing,
    }
    rules = Rules(base="base", allowed=0.1, unchecked=("another function",), rounds=3)
    outcome = hold_contest(makers, lambda call: abs(call() - 1.0), rules)
    assert list(outcome.cells) == list(makers)
    assert set(outcome.calls) == {"base", "another function"}
    assert outcome.cells["base"].ratio == 1
    reasons = {name: cell.skipped for name, cell in outcome.cells.items()}
    assert reasons["wrong"] == "wrong by 1.0e+00, allowed 1e-01"
    assert reasons["nan"].startswith("wrong by nan")
    assert reasons["broken"] == "failed: division by zero"
    assert reasons["missing"] == "no such library"


def test_the_share_of_the_cores_that_we_got():
    with CoreShare() as share:
        sum(range(1_000_000))
    assert share.value is None or 0 < share.value <= 1
