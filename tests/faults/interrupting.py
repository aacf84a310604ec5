"""Interrupt a call in this process: at a line of this program's own, by signals, and in what code in C calls."""

import signal
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import keras_ref
import scratch
from keras_ref.errors import CouldNotRun

PLACES = tuple(str(Path(package.__file__).parent) for package in (keras_ref, scratch))
#: the functions that a verb consists of: a line inside each of them is another place
PHASES = (
    str(Path(keras_ref.__file__).parent / "checks"),
    str(Path(keras_ref.__file__).parent / "evaluation/changed_state/guard.py"),
)


@dataclass(frozen=True, kw_only=True)
class Interruption:
    """What came of an interruption at a place: how the call ended, and what was changed afterwards."""

    place: tuple
    error: str
    ended: str
    changed: tuple[str, ...]


def phase_of(frame):
    """The line of the verb that is at work, outermost first among those that last: (file, line) of the caller."""
    found = None
    while frame is not None:
        if frame.f_code.co_filename.startswith(PHASES):
            found = found or (frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back
    return found


def line_of(frame):
    return frame.f_code.co_filename, frame.f_lineno


def count_lines(call, matters):
    """How often a call comes to each line of this program's own that matters(frame): {(file, line): times}."""
    counts = Counter()
    with tracing(lambda frame: counts.update([line_of(frame)] if matters(frame) else [])):
        call()
    return counts


@contextmanager
def tracing(at_line, places=PLACES):
    """Call at_line(frame) at each line that this thread runs of this program's own, or of the files in `places`."""

    def local(frame, event, argument):
        if event == "line":
            at_line(frame)
        return local

    def tracer(frame, event, argument):
        return local if frame.f_code.co_filename.startswith(places) else None

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        yield
    finally:
        sys.settrace(before)


def place_of(frame):
    return frame.f_code.co_filename, frame.f_lineno, phase_of(frame)


def interrupted_at(call, place, error):
    """Run a call and raise `error` when it first comes to a (file, line). Returns whether it came there."""
    reached = []

    def at_line(frame):
        if not reached and line_of(frame) == place:
            reached.append(place)
            raise error(f"at {place[0]}:{place[1]}")

    try:
        with tracing(at_line, place[0]):
            call()
    except (
        error,
        ValueError,
        CouldNotRun,
    ):  # a verb may refuse in a sentence what the model's own error would have been
        pass
    return bool(reached)


@contextmanager
def interruptible():
    """Ctrl-C is answered: a shell lets processes in its background ignore it, and Python leaves it at that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def signalled(call, changed, *, count, draw):
    """Run a call so often that it was interrupted so many times by two signals within 30 ms, at any time.

    call   a function in Python
    draw   a random.Random for the times
    """
    found, raised = [], []

    def interrupt(number, frame):
        """Raise inside of the call alone: what comes later would be raised wherever this function is."""
        while frame is not None and frame.f_code is not call.__code__:
            frame = frame.f_back
        if frame is not None:
            raised.append(number)
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        began = time.monotonic()
        call()
        seconds = time.monotonic() - began
        while len(found) < count:
            raised.clear()
            place = draw.uniform(0, seconds), draw.uniform(0, 0.03)
            thread = threading.Thread(target=interrupt_after, args=place)
            thread.start()
            ended = ""
            try:
                call()
            except BaseException as error:  # noqa: BLE001 (its name is what is asked for)
                ended = type(error).__name__
            thread.join()
            if raised:
                signal.signal(signal.SIGINT, before)
                differing = tuple(map(str, changed()))
                signal.signal(signal.SIGINT, interrupt)
                found.append(Interruption(place=place, error="KeyboardInterrupt", ended=ended, changed=differing))
    finally:
        signal.signal(signal.SIGINT, before)
    return found


def interrupt_after(*seconds):
    """In a thread: press Ctrl-C after so many seconds, and again after so many more."""
    for pause in seconds:
        time.sleep(pause)
        interrupt_main()


def interrupt_main():
    """In a thread: press Ctrl-C."""
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


def is_of_an_extension(function):
    """Whether a function in C is of an extension, such as TensorFlow, and not of Python itself."""
    owner = type(getattr(function, "__self__", None))
    names = f"{owner.__module__}.{owner.__name__} {getattr(function, '__module__', '')}"
    return any(name in names for name in ("pybind", "PyCapsule", "tensorflow", "optree"))


@contextmanager
def profiling_callbacks(at_callback):
    """Call at_callback(pair, frame) in each Python function that an extension in C calls; `pair` names the two."""
    stack = []

    def at_event(frame, event, function):
        if event in ("return", "c_return", "c_exception"):
            del stack[-1:]
            return
        caller = stack[-1] if stack else None
        stack.append(function if event == "c_call" else None)
        if event == "call" and caller is not None and is_of_an_extension(caller):
            at_callback(f"{caller.__name__} > {frame.f_code.co_qualname}", frame)

    before = sys.getprofile()
    sys.setprofile(at_event)
    try:
        yield
    finally:
        sys.setprofile(before)


def signalled_in_callbacks(call, changed, *, times, choose=list):
    """Interrupt a call by Ctrl-C in Python functions that an extension in C calls.

    times    how often for each pair of a function in C and one that it calls
    choose   which of these places are tried: gives some of a list of them
    """
    counts = Counter()
    with profiling_callbacks(lambda pair, frame: counts.update([pair])):
        call()
    places = [(pair, time) for pair, most in counts.items() for time in range(1, min(times, most) + 1)]
    return [found for place in choose(places) if (found := signalled_in_callback(call, changed, place)) is not None]


def signalled_in_callback(call, changed, place):
    """What came of Ctrl-C at a place (a pair, and how many times the call was there). None where it did not come there.

    The handler is called as Python does it between two instructions of the function.
    """
    counts = Counter()

    def at_callback(pair, frame):
        counts[pair] += 1
        if (pair, counts[pair]) == place:
            sys.setprofile(None)  # what is deferred must not be raised in this function
            signal.getsignal(signal.SIGINT)(signal.SIGINT, frame)

    ended = ""
    try:
        with profiling_callbacks(at_callback):
            call()
    except BaseException as error:  # noqa: BLE001 (its name is what is asked for)
        ended = type(error).__name__
    if counts[place[0]] < place[1]:
        return None
    return Interruption(place=place, error="KeyboardInterrupt", ended=ended, changed=tuple(map(str, changed())))
