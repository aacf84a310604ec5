"""Interrupt a call at many places in one run: at each, a copy of this process is made, and interrupted there.

A copy (fork) begins where the call is, so that a try costs what follows the error: what is undone, and the comparison.
"""

import gc
import json
import os
import random
import select
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter

from interrupting import PLACES, Interruption, count_lines, interrupted_at, line_of, place_of, tracing

#: seconds after which a copy is thought to wait for a thread that a copy does not have
STUCK = 6.0
#: seconds for which a copy has the processor to itself before the call goes on, and how many may run at once
ALONE, AT_ONCE = 0.5, 8


class Copies:
    """Copies of this process: each raises an error where it is made, and tells what that has changed."""

    def __init__(self, folder):
        self.told_to = None  # in a copy: where it tells
        self.found, self.stuck, self._running = [], [], {}
        self._folder = folder  # for temporary files: a copy ends at once, and AutoGraph would not remove its own

    def raise_in_copy(self, place, error):
        """Copy this process, and raise the error in the copy."""
        if self.make(place, error):
            raise error(f"at {place[0]}:{place[1]}")

    def make(self, place, error):
        """Copy this process. Returns whether this is the copy."""
        while len(self._running) >= AT_ONCE:
            self._listen(STUCK)
        read, write = os.pipe()
        state = random.getstate()
        with warnings.catch_warnings():  # JAX and later versions of Python warn of threads, of which a copy has none
            warnings.simplefilter("ignore")
            copy = os.fork()
        if not copy:
            random.setstate(state)  # Python seeds a copy anew
            gc.disable()  # a collection would touch, and so copy, all memory
            tempfile.tempdir = self._folder
            self.told_to = write
            return True
        os.close(write)
        self._running[read] = copy, time.monotonic() + STUCK, place, error
        self._listen(ALONE)
        return False

    def tell(self, ended, changed):
        """End this copy: say how the call ended, and what is changed."""
        try:
            text = json.dumps([ended, [str(one) for one in changed()]])
        except BaseException as error:  # noqa: BLE001 (a copy must never go on as this process)
            text = json.dumps([ended, [f"not compared: {error!r}"]])
        try:
            with os.fdopen(self.told_to, "w") as out:
                out.write(text)
        finally:
            os._exit(0)

    def wait(self):
        """Hear what all copies have to tell."""
        while self._running:
            self._listen(STUCK)

    def _listen(self, seconds):
        for read in select.select(list(self._running), [], [], seconds)[0]:
            copy, _, place, error = self._running.pop(read)
            with os.fdopen(read) as told:
                text = told.read()
            os.waitpid(copy, 0)
            ended, changed = json.loads(text) if text else ("", ["the process ended"])
            self.found.append(Interruption(place=place, error=error.__name__, ended=ended, changed=tuple(changed)))
        for read, (copy, until, place, error) in list(self._running.items()):
            if time.monotonic() > until:
                os.kill(copy, signal.SIGKILL)
                os.waitpid(copy, 0)
                os.close(read)
                del self._running[read]
                self.stuck.append((place, error))


#: where what is the user's is changed, or put back: every line there is a place of its own
CHANGING = tuple(
    f"{PLACES[0]}/{room}"
    for room in (
        "checks/",
        "evaluation/",
        "programs/",
        "frontends/",
        "minimisation/running",
        "comparison/steps/own_",
        "comparison/steps/train",
    )
)


def lines_that_matter():
    """A predicate of frames: whether an interruption at the frame's line is another one than at those before it.

    A function elsewhere that handles no error, and ends no block, passes one on, whichever line it comes from: of such
    a function only the line that is run first matters.
    """
    began = {}

    def matters(frame):
        line, code = line_of(frame), frame.f_code
        return bool(code.co_exceptiontable) or line[0].startswith(CHANGING) or began.setdefault(code, line) == line

    return matters


def first_and_last(call, part=0, parts=1):
    """Chooses each line of a call that matters, the first and the last time it is run: (file, line, time).

    part, parts   chooses every `parts`-th of these lines alone, from number `part` on

    Returns what chooses, and how often the call came to each of these lines: {(file, line): times}. That may depend on
    measured noise: a last time that it does not come to again is not tried.
    """
    lines = sorted(count_lines(call, lines_that_matter()).items())
    counts, seen = dict(lines[part::parts]), Counter()

    def choose(frame):
        line = line_of(frame)
        if line not in counts:
            return None
        seen[line] += 1
        return (*line, seen[line]) if seen[line] in (1, counts[line]) else None

    return choose, counts


def first_in_phase(is_chosen=lambda place: True):
    """Chooses each line of a call once in each phase of a verb: (file, line, the line of the phase)."""
    seen = set()

    def choose(frame):
        place = place_of(frame)
        if place in seen:
            return None
        seen.add(place)
        return place if is_chosen(place) else None

    return choose


def interrupted_copies(call, changed, *, errors, choose):
    """Run a call, interrupting copies of it at every place that is chosen, once with each error.

    changed   gives what is changed, as texts
    choose    gives the place of a frame, or None where nothing is to be interrupted

    An error that is caught lets a copy go on, perhaps to where TensorFlow waits for its other threads, which a copy
    does not have: such a place is tried again in this process.
    """
    ended = ""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        copies = Copies(folder)

        def at_line(frame):
            place = None if copies.told_to is not None else choose(frame)
            if place is not None:
                for error in errors:
                    copies.raise_in_copy(place, error)

        try:
            with tracing(at_line):
                call()
        except BaseException as error:
            if copies.told_to is None:
                raise
            ended = type(error).__name__
        if copies.told_to is not None:
            sys.settrace(None)
            copies.tell(ended, changed)
        copies.wait()
    again = []
    for place, error in copies.stuck:
        ended = "interrupted" if interrupted_at(call, place[:2], error) else "not reached"
        again.append(
            Interruption(place=place, error=error.__name__, ended=f"{ended} here", changed=tuple(map(str, changed())))
        )
    return [*copies.found, *again]
