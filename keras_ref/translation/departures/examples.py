"""Running the example of a departure, and saying whether Keras and the definition differ in it."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from keras_ref.own_modules import own_command
from keras_ref.supervision.processes import OUTPUT, default_memory, run_limited
from keras_ref.supervision.supervise import Limits
from keras_ref.translation.departures.entries import FAMILIES, Departure

#: seconds that an example in a process of its own may take
TIME_LIMIT = 600.0
#: a difference counts from this many units in the last place of the largest number on
UNITS = 64


class Answers(NamedTuple):
    """What Keras gives (`keras_value`) and what the `definition` gives: numbers, or text where one side raises."""

    keras_value: Any
    definition: Any


_EXAMPLES: dict[str, Callable[[], Answers]] = {}


def example(function: Callable[[], Answers]) -> Callable[[], Answers]:
    """Register the example of the departure that has the function's name as its id. Raises: ValueError for a second."""
    departure_id = function.__name__.replace("_", "-")
    known = _EXAMPLES.get(departure_id)
    # an import that was interrupted is done again
    if known is not None and (known.__module__, known.__qualname__) != (function.__module__, function.__qualname__):
        raise ValueError(f"A departure must have one example. Received: a second for {departure_id!r}. Remove one.")
    _EXAMPLES[departure_id] = function
    return function


@cache
def load_examples() -> dict[str, Callable[[], Answers]]:
    """{id: example} of every departure; imports Keras."""
    for family in FAMILIES:
        import_module(f"{__package__}.{family}")
    return _EXAMPLES


def compute_or_name_refusal(compute: Callable[[], Any]) -> Any:
    """What a computation gives, or the name of the exception by which Keras refuses it."""
    try:
        return compute()
    except Exception as refusal:  # noqa: BLE001 (whatever Keras raises is a refusal)
        return type(refusal).__name__


def run_example(departure: Departure) -> Answers:
    """Both answers of a departure's example. Keras's settings are put back.

    Raises: RuntimeError where the example raises in a process of its own, OSError where there is no place for its
    temporary files; otherwise what it raises itself.
    """
    function = load_examples()[departure.id]
    return run_in_own_process(function) if departure.own_process else run_here(function)


def run_here(function: Callable[[], Answers]) -> Answers:
    """Both answers of an example, a `function` without arguments, as plain numbers or text.

    Keras's floatx and dtype policy are put back.
    """
    from keras_ref.evaluation.changed_state.float64 import keep_default_dtype
    from keras_ref.evaluation.changed_state.restoration import Restoration

    with Restoration() as restoration, np.errstate(all="ignore"), warnings.catch_warnings():
        keep_default_dtype(restoration)
        warnings.simplefilter("ignore")  # an example is about numbers: what Keras warns of is not checked here
        return Answers(*map(_plain, function()))


def run_in_own_process(function: Callable[[], Any]) -> Answers:
    """Whether a function of a module, run in a process of its own, ends that process by a signal.

    The answers are "ends its process" or "goes on". Raises: RuntimeError where the function raises; OSError where there
    is no place for temporary files.
    """
    # with the kernels that TensorFlow takes by itself: gradtwin asks for others (see quiet_tensorflow)
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "1"}
    command = own_command(__package__, function.__module__, function.__name__, path=sys.path)
    limits = Limits(seconds=TIME_LIMIT, bytes=default_memory(), output=OUTPUT)
    ended = run_limited(command, limits, environment)
    if ended.limit or ended.status > 0:
        raise RuntimeError(
            f"An example must run to its end or end the process. Received: {ended.limit or ended.stderr[-2000:]} "
            f"Correct {function.__name__!r}."
        )
    return Answers("ends its process" if ended.status else "goes on", "goes on")


def _plain(value: Any) -> Any:
    return value if isinstance(value, str) or value is None else np.asarray(value, dtype=float)


def differs(keras_value: Any, definition: Any) -> bool:
    """Whether two answers, `keras_value` and `definition`, are farther apart than rounding.

    That is: text or None against numbers, other shapes, other places of NaN and infinity, or a difference of more than
    UNITS units in the last place (float64) of the largest number.
    """
    if not isinstance(keras_value, np.ndarray) or not isinstance(definition, np.ndarray):
        return type(keras_value) is not type(definition) or keras_value != definition
    if keras_value.shape != definition.shape or (np.isfinite(keras_value) != np.isfinite(definition)).any():
        return True
    finite = np.isfinite(definition)
    if not np.array_equal(keras_value[~finite], definition[~finite], equal_nan=True):
        return True
    largest = max(np.abs(a[finite]).max(initial=0) for a in (keras_value, definition))
    return bool((np.abs(keras_value - definition)[finite] > UNITS * np.finfo(float).eps * largest).any())
