"""Interrupt a call at a line of this program's own."""

import sys
import time
from collections import Counter
from contextlib import contextmanager
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


def count_lines(call):
    """How often a call comes to each line of this program's own: {(file, line): times}."""
    counts = Counter()
    with tracing(lambda frame: counts.update([line_of(frame)])):
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


def join_all(timers):
    """Wait for the timers, and for what they have sent."""
    for timer in timers:
        waiting = True
        while waiting:
            try:
                timer.join()
                time.sleep(0.001)
                waiting = False
            except KeyboardInterrupt:
                continue
