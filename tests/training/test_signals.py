"""A request to stop is a flag once, and what it was before the second time."""

import os
import signal
import threading

import pytest

from lightbagel_core.training.signals import Stopping


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_is_a_flag_and_the_second_is_not(number):
    came = []
    outer = signal.signal(number, lambda *_: came.append("outer"))
    try:
        with Stopping() as stopping:
            assert not stopping.asked
            os.kill(os.getpid(), number)
            assert stopping.asked
            assert came == []
            os.kill(os.getpid(), number)
            assert came == ["outer"]
    finally:
        signal.signal(number, outer)


def test_handlers_come_back():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

    def fails():
        with Stopping():
            assert signal.getsignal(signal.SIGTERM) != before[0]
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_another_thread_changes_nothing():
    asked = []

    def run():
        with Stopping() as stopping:
            asked.append(stopping.asked)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert asked == [False]
    assert signal.getsignal(signal.SIGTERM) == before
