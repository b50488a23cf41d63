import os
import signal

import pytest

from metaformer.train.stopping import Interruption


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_is_noted_and_the_second_one_takes_effect(number):
    before = {name: signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGINT)}
    took_effect = []
    signal.signal(number, lambda *_: took_effect.append(True))
    try:
        with Interruption() as interruption:
            assert interruption.signal_number == 0
            os.kill(os.getpid(), number)
            assert (interruption.signal_number, took_effect) == (number, [])
            os.kill(os.getpid(), number)
            assert took_effect == [True]
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def test_afterwards_signals_are_what_they_were():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with Interruption():
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
