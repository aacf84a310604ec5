"""A check says that it goes on, in every phase of every verb."""

import time

import keras
import numpy as np
import pytest

from keras_ref import check_function, check_gradients, check_layer, check_updates
from scratch import progress as progress_module
from scratch.progress import ticking

#: seconds without a tick that a check may take
SILENCE = 2.0


def ticks_seen(*, before, after):
    """The ticks of work that sleeps, reports, and sleeps again; where more come, the list grows."""
    seen = []
    with ticking(lambda *now: seen.append(now), "preparing") as report:
        time.sleep(before)
        report(1, 2, "a")
        time.sleep(after)
    return seen


def test_a_silent_phase_ticks_and_nothing_ticks_afterwards(monkeypatch):
    monkeypatch.setattr(progress_module, "SILENCE", 0.05)
    seen = ticks_seen(before=0.3, after=0.3)
    count = len(seen)
    assert seen[0] == (0, 1, "preparing")
    assert seen.count((0, 1, "preparing")) > 1
    assert seen.count((1, 2, "a")) > 1
    assert seen == sorted(seen)
    time.sleep(0.2)
    assert len(seen) == count


def test_silence_after_a_report(monkeypatch):
    """Counted from the last report, whenever that was."""
    monkeypatch.setattr(progress_module, "SILENCE", 0.4)
    assert ticks_seen(before=0.1, after=0.6).count((1, 2, "a")) > 1


class Phases:
    """Slow code of a user: how often progress was called while each of its phases was at work."""

    def __init__(self):
        self.ticks, self.during = 0, {}

    def tick(self, *_):
        self.ticks += 1

    def sleep(self, phase):
        before = self.ticks
        time.sleep(0.2)
        self.during.setdefault(phase, []).append(self.ticks - before)


def slow_layer(phases):
    class Slow(keras.layers.Layer):
        def build(self, shape):
            phases.sleep("building")
            self.w = self.add_weight(shape=(), name="w")

        def call(self, x):
            phases.sleep("calling")
            return x * self.w

    return Slow(name="slow")


def checking_layer(phases, **options):
    check_layer(slow_layer(phases), np.ones((1, 1)), most=1, **options)


def checking_function(phases, **options):
    def slow(x):
        phases.sleep("calling")
        return x * x

    check_function(slow, np.ones((1, 1)), most=1, **options)


def checking_model(verb, phases, **options):
    model = keras.Sequential([slow_layer(phases)], name="slow_model")
    model.compile(optimizer="sgd", loss="mse")
    verb(model, np.ones((1, 1)), np.ones((1, 1)), **options)


def checking_gradients(phases, **options):
    checking_model(check_gradients, phases, effort="fast", **options)


def checking_updates(phases, **options):
    checking_model(check_updates, phases, steps=1, **options)


@pytest.mark.parametrize(
    "verb", [checking_layer, checking_function, checking_gradients, checking_updates], ids=lambda verb: verb.__name__
)
def test_every_phase_of_every_verb_ticks(monkeypatch, verb):
    """What is built, called and traced takes its time, and progress is called meanwhile, each time."""
    monkeypatch.setattr(progress_module, "SILENCE", 0.05)
    phases = Phases()
    verb(phases, progress=phases.tick)
    assert all(min(ticks) > 0 for ticks in phases.during.values()), phases.during
    assert "calling" in phases.during
    assert verb is checking_function or "building" in phases.during
    count = phases.ticks
    time.sleep(0.2)
    assert phases.ticks == count


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
