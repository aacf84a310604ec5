"""Signals during a check: nothing of the user's changes, the process goes on, and what a handler raised comes out.

The long form (-m slow) tries 1,000 double signals, and one in every Python function that an extension in C calls.
"""

import asyncio
import ctypes
import random
import signal
import socket
import threading
import time
from contextlib import suppress

import pytest
import tensorflow as tf
from interrupting import interrupt_main, interruptible, line_of, signalled, signalled_in_callbacks, tracing
from subjects import SUBJECTS, X, Y, plain_model, subject

from keras_ref import check_gradients
from keras_ref.errors import BadInput
from keras_ref.evaluation.changed_state import held_signals
from keras_ref.evaluation.changed_state.guard import leaves_no_trace
from keras_ref.evaluation.changed_state.held_signals import HeldSignals
from keras_ref.evaluation.changed_state.python_numbers import DoubleFloat
from keras_ref.evaluation.changed_state.restoration import Restoration

#: a generator of its own: the global one is part of what is compared
DRAWN = random.Random()
#: how often the long form interrupts each subject by two signals
DOUBLE = 1000 // len(SUBJECTS) + 1


# the second one may come when the check has ended, and in a callback of the garbage collector Python only prints it
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.sampled
@pytest.mark.parametrize(
    ("name", "count"),
    [pytest.param("function", 3), *(pytest.param(name, DOUBLE, marks=pytest.mark.slow) for name in SUBJECTS)],
)
def test_signals_change_nothing(name, count):
    """A thousand in all, two each: at any time, and within 30 ms of one another."""
    call, changed = subject(name)
    found = signalled(call, changed, count=count, draw=DRAWN)
    assert [one for one in found if one.changed or one.ended != "KeyboardInterrupt"] == []
    assert len(found) >= count


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("name", "times", "most"),
    [pytest.param("function", 1, 3), *(pytest.param(name, 2, None, marks=pytest.mark.slow) for name in SUBJECTS)],
)
def test_a_signal_in_what_c_code_calls(name, times, most):
    """C code overlooks it, makes another error of it, or ends the process, unless it is raised somewhere else."""
    with interruptible():
        call, changed = subject(name)
        found = signalled_in_callbacks(
            call, changed, times=times, choose=lambda places: DRAWN.sample(places, most or len(places))
        )
    assert [one for one in found if one.changed or one.ended != "KeyboardInterrupt"] == []
    assert len(found) >= (most or 8)


def test_two_signals_while_a_check_is_undone():
    """The second one, and those that come while everything is put back, wait until that is done."""
    came, log = [], []

    def undo():
        signal.raise_signal(signal.SIGINT)
        log.append("undone")

    @leaves_no_trace
    def verb():
        with Restoration() as restoration:
            restoration.undo_by(undo)
            signal.raise_signal(signal.SIGINT)
            log.append("not reached")

    def handler(number, frame):
        came.append(number)
        raise KeyboardInterrupt(len(came))

    before = signal.signal(signal.SIGINT, handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            verb()
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert log == ["undone"]
    assert came == [signal.SIGINT] * 2


def test_a_signal_that_raises_nothing_is_delivered_every_time():
    came = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: came.append(number))
    held = HeldSignals()
    try:
        held.install()
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGUSR1)
        held.remove()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert came == [signal.SIGUSR1] * 2


def test_a_signal_that_comes_while_a_handler_runs_interrupts_soon():
    """A time limit whose handler presses Ctrl-C, say: that is not left to the end of the check."""
    reached = []

    @leaves_no_trace
    def verb():
        signal.raise_signal(signal.SIGUSR1)
        for _ in range(200):
            time.sleep(0.01)
        reached.append("the end")

    before = signal.signal(signal.SIGUSR1, lambda number, frame: signal.raise_signal(signal.SIGINT))
    try:
        with interruptible(), pytest.raises(KeyboardInterrupt):
            verb()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert reached == []


def test_an_interruption_that_was_swallowed_is_raised_at_the_end():
    """A finalizer, or a model's own `except`, may catch a KeyboardInterrupt; nobody presses Ctrl-C for nothing."""

    @leaves_no_trace
    def verb():
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        return "a report"

    with interruptible(), pytest.raises(KeyboardInterrupt):
        verb()


def test_an_interruption_that_was_swallowed_is_raised_again_soon(monkeypatch):
    """A check that goes on for minutes after Ctrl-C has not answered it."""
    monkeypatch.setattr(held_signals, "UNWINDING", 0.05)
    until = time.monotonic() + 30

    @leaves_no_trace
    def verb():
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        while time.monotonic() < until:
            pass

    with interruptible(), pytest.raises(KeyboardInterrupt):
        verb()
    assert time.monotonic() < until


def in_tensorflow(function):
    """A function that calls another one, and whose code is one of TensorFlow's files."""

    def call(*arguments):
        return function(*arguments)

    call.__code__ = call.__code__.replace(co_filename=f"{held_signals.TENSORFLOW}waits.py")
    return call


@pytest.mark.parametrize("wait", [threading.Event().wait, in_tensorflow(threading.Event().wait)])
def test_an_interruption_where_no_harmless_place_is_reached(monkeypatch, wait):
    """Where a model waits in Python's own library, or TensorFlow does, an interruption is raised there in the end."""
    monkeypatch.setattr(held_signals, "PATIENCE", 0.05)
    monkeypatch.setattr(held_signals, "LIMIT", 0.1)
    began = time.monotonic()
    timer = threading.Timer(0.05, interrupt_main)
    timer.start()
    with interruptible(), pytest.raises(KeyboardInterrupt):
        leaves_no_trace(lambda: wait(30))()
    assert time.monotonic() - began < 25


@pytest.mark.parametrize("raised", [RuntimeError("generator didn't stop after throw()"), ValueError("odd")])
def test_an_interruption_of_which_something_else_was_made(raised):
    """It comes out in place of that, which is its cause."""

    @leaves_no_trace
    def verb():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as error:
            raise raised from error

    with interruptible(), pytest.raises(KeyboardInterrupt) as caught:
        verb()
    assert caught.value.__cause__ is raised
    assert raised.__cause__ is raised.__context__ is None  # no circle


@pytest.mark.sampled
@pytest.mark.parametrize("raised", [TimeoutError("too long"), SystemExit(3)])
def test_what_a_handler_of_the_user_raises_comes_out(raised):
    """That of SIGALRM, for a time limit, or of SIGTERM."""

    def handler(number, frame):
        raise raised

    call, changed = subject("updates")
    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, DRAWN.uniform(0.01, 0.1))
        with pytest.raises(type(raised)) as caught:
            call()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert caught.value is raised
    assert changed() == []


def test_the_last_of_several_signals_comes_out():
    """A request to end, after Ctrl-C."""

    def end(number, frame):
        raise SystemExit(3)

    @leaves_no_trace
    def verb():
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, end)
    try:
        with interruptible(), pytest.raises(SystemExit):
            verb()
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.sampled
def test_a_check_in_the_handler_of_a_signal():
    """In the middle of another one all is of another precision: it is refused."""
    model, refused = plain_model(), []

    def handler(number, frame):
        with pytest.raises(BadInput) as caught:
            check_gradients(model, X, Y, most=2)
        refused.append(str(caught.value))

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        assert check_gradients(model, X, Y, most=2).ok
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    (sentence,) = refused
    assert sentence == (
        "A check must not run in the middle of another one. Received: a call in the handler of a signal that came "
        "during a check. Let the handler note that the signal came, and check later."
    )


@pytest.mark.sampled
def test_a_loop_of_events_and_a_file_that_is_told_of_signals():
    """asyncio, as a notebook has it, with Python's own handler; what is told of signals stays."""
    call, changed = subject("updates")

    async def check():
        threading.Timer(DRAWN.uniform(0.01, 0.1), interrupt_main).start()
        call()

    told, tell = socket.socketpair()
    tell.setblocking(False)
    loop = asyncio.new_event_loop()
    before = signal.set_wakeup_fd(tell.fileno(), warn_on_full_buffer=False)
    try:
        with interruptible(), pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(check())
        assert signal.set_wakeup_fd(before) == tell.fileno()
    finally:
        signal.set_wakeup_fd(before)
        loop.close()
        told.close()
        tell.close()
    assert changed() == []


@pytest.mark.parametrize("is_cause", [False, True])
def test_an_error_of_c_code_in_the_place_of_an_interruption(is_cause):
    """C code that overlooks the interruption of a function which it calls fails with an error of its own."""

    @leaves_no_trace
    def verb():
        interruption = None
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as error:
            interruption = error
        with pytest.raises(SystemError, match=r"listobject\.c") as caught:
            ctypes.pythonapi.PyList_AsTuple(ctypes.py_object(()))
        raise caught.value from (interruption if is_cause else None)

    with interruptible(), pytest.raises(KeyboardInterrupt):
        verb()


def test_no_python_runs_where_tensorflow_compares_numbers():
    """It does that in C++, to find a tensor that it has made of one before, and an interruption ends the process."""
    lines = []
    with tracing(lambda frame: lines.append(line_of(frame))):
        for _ in range(3):
            tf.constant(1.0, "float64") * DoubleFloat(0.1)
    assert lines == []
    assert hash(DoubleFloat(0.1)) == hash(0.1)
    assert DoubleFloat(0.1) == 0.1
