"""A check says that it goes on, and a budget does not decide which entries are compared, only how many."""

import time
from itertools import pairwise

import keras
import numpy as np
import pytest

from keras_ref import check_gradients, check_updates
from keras_ref.comparison.time_budget import first_entries
from scratch import progress as progress_module
from scratch.progress import ticking

#: seconds without a tick that a check may take
SILENCE = 2.0


def test_a_silent_phase_ticks_and_nothing_ticks_afterwards(monkeypatch):
    monkeypatch.setattr(progress_module, "SILENCE", 0.05)
    seen = []
    with ticking(lambda *now: seen.append(now), "preparing") as report:
        time.sleep(0.3)
        report(1, 2, "a")
        time.sleep(0.3)
    count = len(seen)
    assert seen[0] == (0, 1, "preparing")
    assert seen.count((0, 1, "preparing")) > 1
    assert seen.count((1, 2, "a")) > 1
    assert seen == sorted(seen)
    time.sleep(0.2)
    assert len(seen) == count


def test_a_callback_that_raises(monkeypatch):
    """Where the check reports, the error is the caller's; a repetition that raises is the last one."""
    monkeypatch.setattr(progress_module, "SILENCE", 0.02)
    calls = []

    def raising(*now):
        calls.append(now)
        raise RuntimeError("stop")

    with ticking(raising, "preparing") as report:
        time.sleep(0.2)
        assert len(calls) == 1
        with pytest.raises(RuntimeError, match="stop"):
            report(1, 2, "a")


def test_without_a_callback():
    with ticking(None, "preparing") as report:
        assert report is None


def longest_silence(check, *arguments, **options):
    ticks = [time.monotonic()]
    check(*arguments, progress=lambda *_: ticks.append(time.monotonic()), **options)
    ticks.append(time.monotonic())
    return max(np.diff(ticks))


@pytest.mark.slow
@pytest.mark.parametrize("check", [check_gradients, check_updates], ids=lambda check: check.__name__)
def test_many_variables_tick(check):
    """500 layers, 1,000 variables."""
    layers = [keras.layers.Dense(1, name=f"dense_{i}") for i in range(500)]
    model = keras.Sequential([keras.Input((1,)), *layers])
    model.compile(optimizer="sgd", loss="mse")
    options = {"effort": "fast"} if check is check_gradients else {"steps": 1}
    assert longest_silence(check, model, np.ones((2, 1)), np.ones((2, 1)), **options) < SILENCE


def test_fewer_entries_are_among_more():
    drawn = [set(first_entries(1000, count=count, seed=3)) for count in (2, 10, 300, 1000)]
    assert [len(one) for one in drawn] == [2, 10, 300, 1000]
    assert all(few <= many for few, many in pairwise(drawn))
    assert set(first_entries(1000, count=10, seed=4)) != drawn[1]
