import pytest
import torch
from torch import nn

from metaformer.analysis.timing import MIB, inference_memory_mib, time_calls

FLOATS = MIB // 4  # in one MiB


class Slow(nn.Module):
    """Each call takes the next of these times, on a clock of its own."""

    def __init__(self, monkeypatch, *seconds):
        super().__init__()
        self.seconds, self.now, self.calls = seconds, 0.0, 0
        monkeypatch.setattr("metaformer.analysis.timing.time.perf_counter", lambda: self.now)

    def forward(self, x):
        self.now += self.seconds[min(self.calls, len(self.seconds) - 1)]
        self.calls += 1
        return x


def test_latency_is_the_median_of_the_calls_after_warming_up(monkeypatch):
    module = Slow(monkeypatch, 9.0, 9.0, 0.010, 0.030, 0.020)
    timing = time_calls(module, torch.zeros(1), seconds=0.05)
    assert (timing.latency_ms, timing.wall_s) == pytest.approx((20, 0.06))


@pytest.mark.parametrize(("seconds", "calls"), [(0.0, 3), (0.05, 3), (0.1, 5)])
def test_calls_fill_the_time_given_and_are_three_at_least(monkeypatch, seconds, calls):
    module = Slow(monkeypatch, 0.02)
    time_calls(module, torch.zeros(1), seconds=seconds)
    assert module.calls - 2 == pytest.approx(calls, abs=1)
    assert module.calls >= 5


def test_time_that_something_else_took_is_not_the_threads_own(monkeypatch):
    clock = iter((1.0, 1.01))
    monkeypatch.setattr("metaformer.analysis.timing.time.thread_time", lambda: next(clock))
    timing = time_calls(Slow(monkeypatch, 0.02), torch.zeros(1), seconds=0.06)
    assert timing.cpu_s == pytest.approx(0.01)
    assert timing.wall_s == pytest.approx(0.06)


class Chain(nn.Module):
    """Each step makes a new tensor of one MiB and drops the one before."""

    def forward(self, x):
        for _ in range(5):
            x = x + 1
        return x


class Keep(nn.Module):
    def forward(self, x):
        parts = [x + step for step in range(5)]
        return torch.stack(parts).sum(0)


def test_tensors_that_are_gone_do_not_count():
    # The input, the step before and the step now.
    assert inference_memory_mib(Chain(), torch.zeros(FLOATS)) == pytest.approx(3)


def test_tensors_that_are_kept_add_up():
    # The input, five parts, the stack of five, and then the sum.
    assert inference_memory_mib(Keep(), torch.zeros(FLOATS)) == pytest.approx(12)


def test_weights_count_once_and_views_not_at_all():
    model = nn.Linear(512, 512, bias=False)
    x = torch.zeros(1, 512)
    expected = (512 * 512 + 512 + 512) * 4 / MIB
    assert inference_memory_mib(model, x) == pytest.approx(expected)
    assert inference_memory_mib(nn.Flatten(), torch.zeros(2, 4, 4)) == pytest.approx(32 * 4 / MIB)
