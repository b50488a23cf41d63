import time

import pytest

from metaformer.fast.timing import Timing, interleave


def test_median_spread_and_ratio():
    mine, its = Timing(seconds=(1.0, 2.0, 3.0, 4.0)), Timing(seconds=(0.5, 0.5, 0.5, 0.5))
    assert mine.median == 2.5
    assert its.spread == 0
    assert mine.spread == pytest.approx((3.75 - 1.25) / 2 / 2.5)
    # The median of the ratios of rounds, not the ratio of the medians.
    assert mine.ratio_to(its) == 5.0
    assert Timing(seconds=(1.0,)).spread == 0


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
