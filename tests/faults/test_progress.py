"""A check says that it goes on, in every phase of every verb."""

import io
import re
import sys
import time
import types
from contextlib import suppress

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console
from silence import SILENCE, SUBJECTS, measure

from keras_ref import check_function, check_gradients, check_layer, check_updates, compare, minimise
from keras_ref.comparison.two_programs.program_comparison import PARTS
from keras_ref.errors import BadInput, CouldNotRun
from keras_ref.frontends.invocations.invocation import Invocation
from keras_ref.lesson import lesson
from keras_ref.minimisation import operations, programs
from keras_ref.reports import progress_lines
from keras_ref.reports.terminal import make_ticker, show_progress
from scratch import progress as progress_module
from scratch.progress import ticking


def ticks_seen(*, before, after):
    """The ticks of work that sleeps, reports, and sleeps again; where more come, the list grows."""
    seen = []
    with ticking(lambda *now: seen.append(now), "preparing") as report:
        time.sleep(before)
        report(1, 2, "a")
        time.sleep(after)
    return seen


@pytest.mark.sampled
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


@pytest.mark.sampled
def test_silence_after_a_report(monkeypatch):
    """Counted from the last report, whenever that was."""
    monkeypatch.setattr(progress_module, "SILENCE", 0.4)
    assert ticks_seen(before=0.1, after=0.6).count((1, 2, "a")) > 1


#: how often code of a user is slow
SLOW = 4


class Phases:
    """Slow code of a user: how often progress was called while each of its phases was at work."""

    def __init__(self):
        self.ticks, self.during = 0, {}

    def tick(self, *_):
        self.ticks += 1

    def sleep(self, phase):
        """The first times that a phase is at work it takes its time."""
        during, before = self.during.setdefault(phase, []), self.ticks
        if len(during) < SLOW:
            time.sleep(0.2)
            during.append(self.ticks - before)


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


def slow_function(phases):
    def slow(x):
        phases.sleep("calling")
        return x * x

    return slow


def checking_function(phases, **options):
    check_function(slow_function(phases), np.ones((1, 1)), most=1, **options)


def checking_model(verb, phases, **options):
    model = keras.Sequential([slow_layer(phases)], name="slow_model")
    model.compile(optimizer="sgd", loss="mse")
    verb(model, np.ones((1, 1)), np.ones((1, 1)), **options)


def checking_gradients(phases, **options):
    checking_model(check_gradients, phases, effort="fast", **options)


def checking_updates(phases, **options):
    checking_model(check_updates, phases, steps=1, **options)


@pytest.mark.sampled
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


def comparing(phases, patch, **options):
    model = keras.Sequential([slow_layer(phases)])
    compare(model, model, np.ones((1, 1)), np.ones((1, 1)), steps=0, **options)


def minimising(phases, patch, **options):
    minimise(slow_function(phases), np.ones((1, 1)), **options)


def minimising_programs(phases, patch, **options):
    model = keras.Sequential([slow_layer(phases)])
    programs.minimise_programs(model, model, np.ones((1, 1)), **options)


def sleeping(phases, what, error):
    """A function that takes its time, and then raises."""

    def sleep(*arguments, **options):
        phases.sleep(what)
        raise error

    return sleep


def minimising_an_operation(phases, patch, **options):
    patch.setattr(operations, "find_subject", sleeping(phases, "finding", BadInput("it is over")))
    operations.minimise_operation("keras.ops.square", **options)


def making_a_lesson(phases, patch, **options):
    patch.setattr(lesson, "load_lesson_model", sleeping(phases, "loading", CouldNotRun("it is over")))
    lesson.make("recipe1", **options)


def loading_a_target(phases, patch, *, progress):
    module = types.ModuleType("slow_shop")
    module.build = sleeping(phases, "loading", CouldNotRun("it is over"))
    patch.setitem(sys.modules, "slow_shop", module)
    Invocation("check", ("slow_shop:build",), "", {}).run("slow_shop:build", progress)


@pytest.mark.sampled
@pytest.mark.parametrize(
    "verb",
    [comparing, minimising, minimising_programs, minimising_an_operation, making_a_lesson, loading_a_target],
    ids=lambda verb: verb.__name__,
)
def test_whatever_else_takes_a_callback_ticks(monkeypatch, verb):
    """From its first line on, before it reports anything itself; until it ends, whatever ends it."""
    monkeypatch.setattr(progress_module, "SILENCE", 0.05)
    phases = Phases()
    with suppress(BadInput, CouldNotRun):
        verb(phases, monkeypatch, progress=phases.tick)
    assert phases.during
    assert all(min(ticks) > 0 for ticks in phases.during.values()), phases.during
    count = phases.ticks
    time.sleep(0.2)
    assert phases.ticks == count


def test_the_parts_of_a_comparison_are_named():
    model, said = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]), []
    compare(model, model, np.ones((1, 1)), np.ones((1, 1)), steps=0, progress=lambda *now: said.append(now))
    own = [now for now in said if now[2] != "preparing"]
    assert list(dict.fromkeys(own)) == [(i, len(PARTS), part) for i, part in enumerate(PARTS)]


def test_a_bar_shows_that_time_goes_on():
    """On a terminal, where whoever works reports nothing at all."""
    out = io.StringIO()
    with show_progress(Console(file=out, force_terminal=True, width=100)) as bar:
        make_ticker(bar, "nothing")
        before = out.tell()
        time.sleep(0.4)
        assert out.tell() > before
    assert "0:00:00" in out.getvalue()


@pytest.mark.sampled
def test_a_log_has_a_line_now_and_then(monkeypatch, capsys):
    """Where the output is no terminal, on the error stream: the part that was reported last, made harmless."""
    monkeypatch.setattr(progress_lines, "EVERY", 0.05)
    with show_progress(Console(file=io.StringIO(), force_terminal=False)) as shown:
        report = make_ticker(shown, "shop:build")
        time.sleep(0.2)
        report(3, 10, "dense\n::error::x\x1b[2J")
        time.sleep(0.2)
    printed = capsys.readouterr()
    first, *_, last = printed.err.splitlines()
    assert printed.out == ""
    assert re.fullmatch(r"still running after \d+ s: shop:build", first)
    assert re.fullmatch(r"still running after \d+ s: shop:build, dense\\n::error::x\\x1b\[2J \(3 of 10\)", last)
    time.sleep(0.2)
    assert capsys.readouterr().err == ""


@pytest.mark.slow
@pytest.mark.parametrize("name", SUBJECTS)
def test_no_silence(name):
    """Of what takes long, measured by the callback, and on a terminal of its own."""
    ticks = measure(name)
    assert "ended by" not in ticks.said[-1]
    assert ticks.longest[0] < SILENCE, ticks.longest


@pytest.mark.sampled
def test_a_callback_that_checks_again(monkeypatch):
    """Called by the thread that repeats reports, it would wait for the check, which waits for it: one sentence."""
    monkeypatch.setattr(progress_module, "SILENCE", 0.02)
    said, reports = [], []

    def progress(*_):
        try:
            reports.append(check_function(lambda x: x * x, np.ones(1)))
        except BadInput as error:
            said.append(str(error))

    def slow(x):
        if tf.executing_eagerly():
            time.sleep(0.2)
        return x * x

    assert check_function(slow, np.ones(1), progress=progress).ok
    assert {one.split(". ")[0] for one in said} == {"A check must not run in the middle of another one"}
    assert reports  # of the thread that checks
    assert all(report.ok for report in reports)
