"""Signals of this process while a check runs: what a handler raises is raised where it does no harm, and comes out.

Python runs a handler between any two instructions, also in a property that TensorFlow reads in C++. C++ overlooks what
is raised there, makes another error of it, or ends the process. Therefore a handler itself runs at once, and what it
raises is raised in code of gradtwin's or the user's: Python is asked again, by the same signal, until it is there.
"""

from __future__ import annotations

import _thread
import signal
import sys
import sysconfig
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ref.evaluation.changed_state.restoration import Restoration
from keras_ref.own_modules import PLACE


def _make_prefix(path: Path) -> str:
    return f"{path}/"


#: where gradtwin, TensorFlow, whatever is installed beside it and Python's own library are
OWN = (_make_prefix(PLACE), _make_prefix(Path(__file__).parents[2]))
TENSORFLOW = _make_prefix(Path(str(tf.__file__)).parent)
INSTALLED = tuple({_make_prefix(Path(str(package.__file__)).parents[1]) for package in (tf, keras, np)})
PYTHON = (_make_prefix(Path(sysconfig.get_path("stdlib"))), "<frozen ")

#: functions inside which nothing is raised: what undoes, and what Python calls where it only prints what is raised
UNINTERRUPTED = frozenset(function.__code__ for function in (Restoration.undo, weakref.finalize.__call__))

#: seconds that an interrupted check may take to get to where it holds signals back
UNWINDING = 1.0
#: seconds after which an interruption may be raised in an installed package other than TensorFlow, and anywhere
PATIENCE, LIMIT = 1.0, 3.0
#: seconds between two looks at where the check is
LOOK = 0.003


class HeldSignals:
    """Signals of this process while a check runs: one is delivered, those that follow at once wait until the end."""

    def __init__(self) -> None:
        self._handlers: dict[int, Callable[..., Any]] = {}
        self._waiting: list[int] = []
        #: what a handler has raised, and since when it has been waiting to be raised
        self._raised: BaseException | None = None
        self._since = 0.0
        self._free_from = 0.0
        #: the number of the signal by which `_look_again` asks, while that is on its way
        self._asked: int | None = None
        self._is_over = False
        self.held = False
        self.handles = False

    def install(self) -> None:
        """Stand before every handler that is written in Python. Only the main thread gets signals, and may do so."""
        if threading.current_thread() is not threading.main_thread():
            return
        _INSTALLED.append(self)
        for number in signal.valid_signals():
            handler = signal.getsignal(number)
            if callable(handler) and not isinstance(handler, signal.Handlers):
                self._handlers[number] = handler
                signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if number == self._asked:
            self._asked = None
            self._raise_where_harmless(frame)
        elif self.held or time.monotonic() < self._free_from or self._is_to_be_raised():
            if number not in self._waiting:
                self._waiting.append(number)
        elif _is_receiver(self._handlers[number]):  # of a verb that calls this one
            self._handlers[number](number, frame)
        else:
            self._call_handler(number, frame)

    def _call_handler(self, number: int, frame: FrameType | None) -> None:
        """Call the user's handler. What it raises is raised here, or soon."""
        self._free_from = time.monotonic() + UNWINDING
        self.handles = True
        try:
            self._handlers[number](number, frame)
        except BaseException as error:  # noqa: BLE001 (it is raised below, or when the check ends at the latest)
            is_first = self._raised is None
            self._raised, self._since = error, time.monotonic()
            if is_first:
                # threading.Thread takes locks, which the code that is interrupted here may hold
                _thread.start_new_thread(self._look_again, (number,))
        finally:
            self.handles = False
        self._free_from = 0.0
        if self._raised is None:  # what came meanwhile need not wait for the end of the check
            others = [one for one in self._waiting if one != number]
            self._waiting = [one for one in self._waiting if one == number]
            for one in others:
                signal.raise_signal(one)
        self._raise_where_harmless(frame)

    def _is_to_be_raised(self) -> bool:
        """Whether something waits for a harmless place."""
        return self._raised is not None and not _is_under_way(self._raised)

    def _raise_where_harmless(self, frame: FrameType | None) -> None:
        """Raise what a handler has raised, also once more where it was swallowed, unless it would do harm here."""
        now = time.monotonic()
        if self.held or self._is_over or now < self._free_from or not self._is_to_be_raised():
            return
        if _is_harmless(frame, now - self._since):
            self._free_from, self._since = now + UNWINDING, now + UNWINDING
            raise self._raised  # type: ignore[misc]

    def _look_again(self, number: int) -> None:
        """In a thread: let Python call `_receive` every now and then, as long as there is something to raise."""
        main = threading.main_thread().ident
        while self._raised is not None and main is not None:
            time.sleep(LOOK)
            if self._asked is not None:
                continue
            self._asked = number
            if self._is_over or self._raised is None:  # `remove` says so before it looks at `_asked`
                self._asked = None
                return
            signal.pthread_kill(main, number)

    def take_as_answered(self) -> None:
        """Whoever has caught what a handler raised has done what it asked for: it is not raised again."""
        self._raised = None

    def remove(self) -> None:
        """Put the handlers back, those that the check itself has replaced excepted, and deliver what has waited.

        Raises what a handler has raised, whatever else is being raised: C code, or somebody's `except`, has made that
        of it.
        """
        self._is_over = True
        until = time.monotonic() + UNWINDING
        while self._asked is not None and time.monotonic() < until:  # nobody else must get that signal
            time.sleep(LOOK / 10)
        while self._handlers:
            number, handler = next(iter(self._handlers.items()))
            if signal.getsignal(number) == self._receive:
                signal.signal(number, handler)
            self._handlers.pop(number, None)
        if self in _INSTALLED:
            _INSTALLED.remove(self)
        (raised, self._raised), present = (self._raised, None), sys.exception()
        while self._waiting:  # what the handler of one of these raises comes later, and out in place of the first
            signal.raise_signal(self._waiting.pop(0))
        if raised is None or raised is present:
            return
        if present is not None:
            _forget_as_cause(raised, present)
            raised.__cause__ = present
        raise raised


#: what stands before the handlers of signals now, that of the outermost verb first
_INSTALLED: list[HeldSignals] = []


def answer_interruption() -> None:
    """Say inside of a verb that a KeyboardInterrupt which was caught is answered: the verb ends with a result."""
    for one in _INSTALLED:
        one.take_as_answered()


def is_in_handler() -> bool:
    """Whether a handler of the user's runs now, in the middle of a check."""
    return threading.current_thread() is threading.main_thread() and any(one.handles for one in _INSTALLED)


def _is_receiver(handler: Callable[..., Any]) -> bool:
    return isinstance(getattr(handler, "__self__", None), HeldSignals)


def _is_under_way(error: BaseException) -> bool:
    """Whether an error is the one that is being raised here, or a cause of that."""
    present = sys.exception()
    while present is not None and present is not error:
        present = present.__cause__ or present.__context__
    return present is error


def _forget_as_cause(error: BaseException, present: BaseException) -> None:
    """Take an error out of the causes of another one, which is to be its cause: a circle would have no end."""
    other: BaseException | None = present
    while other is not None and other is not error:
        if other.__cause__ is error:
            other.__cause__ = None
        if other.__context__ is error:
            other.__context__ = None
        other = other.__cause__ or other.__context__


def _is_harmless(frame: FrameType | None, waited: float) -> bool:
    """Whether an interruption may be raised in a frame, after so many seconds in which it could not be.

    That is so in code of gradtwin and of the user that such code calls, and nothing else: not TensorFlow, and no
    `contextlib`, of which a generator would be left to the garbage collector. Interruptions at the lines of gradtwin
    are what the fault suite tries. Where a check waits or computes somewhere else, it is interrupted a little later.
    """
    if frame is None or _is_uninterrupted(frame):
        return frame is None
    if waited > LIMIT:
        return True
    if waited > PATIENCE:
        return _is_outside_of_tensorflow(frame)
    return _is_written_here(frame) and (frame.f_back is None or _is_written_here(frame.f_back))


def _is_in(frame: FrameType, places: str | tuple[str, ...]) -> bool:
    return frame.f_code.co_filename.startswith(places)


def _is_written_here(frame: FrameType) -> bool:
    """Whether a frame runs code of gradtwin's, or code of the user's, which nobody has installed."""
    return _is_in(frame, OWN) or not _is_in(frame, (*INSTALLED, *PYTHON))


def _is_outside_of_tensorflow(frame: FrameType | None) -> bool:
    """Whether a frame is not of TensorFlow, nor of what TensorFlow calls in Python's own library."""
    while frame is not None and _is_in(frame, PYTHON) and not _is_in(frame, INSTALLED):
        frame = frame.f_back
    return frame is None or not _is_in(frame, TENSORFLOW)


def _is_uninterrupted(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code not in UNINTERRUPTED:
        frame = frame.f_back
    return frame is not None
