"""The one place of restoration: a stack of undo steps, which is run to its end whatever comes.

Every change of what is the user's registers its undo step before it is made. A step can run twice without harm: one
that is interrupted runs again. Blocks nest: what an interrupted inner block has left is undone by the one around it,
and in the end by keras_ref/evaluation/changed_state/guard.py, which holds signals back meanwhile.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Self

import numpy as np
import tensorflow as tf

from keras_ref.evaluation.changed_state.kept_contents import REACHED, restore_contents, steps_to_undo
from keras_ref.evaluation.changed_state.kept_objects import (
    find_kind,
    find_what_callers_have,
    read_slots,
    restore_slots,
    restore_table,
)
from keras_ref.evaluation.keras_objects.keras_classes import KerasVariable
from keras_ref.evaluation.keras_objects.keras_parts import list_layers, unwrap_variable

#: how often a step runs that raises: once more than the one interruption that it may be cut off by
ATTEMPTS = 2


class _Present(threading.local):
    """The innermost block that is open in a thread."""

    restoration: Restoration | None = None


_PRESENT = _Present()


@contextmanager
def apart() -> Iterator[None]:
    """What is opened inside belongs to no block around it, and stays open after them until it is ended itself."""
    around, _PRESENT.restoration = _PRESENT.restoration, None
    try:
        yield
    finally:
        _PRESENT.restoration = around


def find_outermost() -> Restoration | None:
    """The outermost block that is open in this thread: that of a verb."""
    found = _PRESENT.restoration
    while found is not None and found._around is not None:
        found = found._around
    return found


class Restoration:
    """Changes attributes and variables; on leaving the `with` block undoes every change, the last one first."""

    def __init__(self) -> None:
        self._steps: list[Callable[[], Any]] = []
        self._around: Restoration | None = None
        self._callers: list[Any] = []

    def __enter__(self) -> Self:
        self._around = _PRESENT.restoration
        if self._around is not None:
            self._around.undo_by(self.undo)
        _PRESENT.restoration = self
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.undo()
        finally:
            self.leave()

    def leave(self) -> None:
        """End the block: the one around it is the innermost again, and has nothing left to undo of this one.

        With it end those inside it that were cut off. One of them that is ended late, by the garbage collector, is no
        longer among the open ones, and changes nothing.
        """
        inside = _PRESENT.restoration
        while inside is not None and inside is not self:
            inside = inside._around
        if inside is self:
            _PRESENT.restoration = self._around
        if self._around is not None and not self._steps:
            with suppress(ValueError):
                self._around._steps.remove(self.undo)

    def undo_by(self, step: Callable[..., Any], *arguments: Any) -> None:
        """Run step(*arguments) when the block ends. It must be harmless where the change was not made, or twice."""
        self._steps.append(partial(step, *arguments) if arguments else step)

    def undo(self) -> None:
        """Run the steps, the last one first. Raises, after the last of them, what the first that failed raised."""
        failed: BaseException | None = None
        while self._steps:
            for _ in range(ATTEMPTS):
                try:
                    self._steps[-1]()
                    break
                except BaseException as error:  # noqa: BLE001 (it is raised when everything is undone)
                    failed = failed or error
            self._steps.pop()
        if failed is not None:
            raise failed

    def forget(self) -> None:
        """Let the changes stay: nothing is undone."""
        self._steps.clear()

    def set_attribute(self, owner: Any, name: str, value: Any) -> None:
        """Put `value` into the owner's own dictionary, past any tracking by Keras or TensorFlow."""
        table = vars(owner)
        if name in table:
            self.undo_by(table.__setitem__, name, table[name])
        else:
            self.undo_by(table.pop, name, None)
        table[name] = value

    def keep_attributes(self, owner: Any, *, without: Sequence[str] = ()) -> None:
        """Remember all attributes of the owner and what changes in place in them: whatever changes later is undone."""
        table = {name: value for name, value in vars(owner).items() if name not in without}
        slots = read_slots(owner)
        for step in steps_to_undo(*table.values(), *slots.values()):
            self.undo_by(step)
        self.undo_by(restore_table, vars(owner), table, frozenset(without))
        if slots:
            self.undo_by(restore_slots, owner, slots)

    def keep_reached(self, *values: Any, callers: Sequence[Any] = ()) -> None:
        """Remember what is reached from values: objects, their classes, and what functions close over and name.

        A layer that is not built is left alone, since building it lasts. So is what is reached from `callers`, which
        are functions that are meant to change something.
        """
        self._callers += callers
        without = find_what_callers_have(*self._callers)
        for step in steps_to_undo(*values, reach=REACHED, without=without, kind_of=find_kind):
            self.undo_by(step)

    def keep_list(self, items: list[Any]) -> None:
        """Remember what a list holds."""
        self.undo_by(restore_contents, items, items.copy())

    def keep_value(self, variable: tf.Variable) -> None:
        """Remember the value of a TensorFlow variable: a function that was traced before may write it.

        The value is shared with the variable until that is written, not copied.
        """
        with tf.init_scope():
            self.undo_by(_restore_value, variable, variable.value())  # read_value() copies

    def replace_variable(self, variable: tf.Variable, other: tf.Variable) -> None:
        """Let a TensorFlow variable be another one, wherever it is held: its attributes are all that it is."""
        self.keep_value(variable)
        self.undo_by(restore_contents, vars(variable), dict(vars(variable)))
        restore_contents(vars(variable), vars(other))


def keep_warnings(restoration: Restoration) -> None:
    """Keep the filters of warnings, and what shows them."""
    restoration.undo_by(getattr(warnings, "_filters_mutated", int))
    restoration.keep_list(warnings.filters)  # type: ignore[arg-type]
    for name in ("filters", "showwarning", "_showwarnmsg_impl"):
        restoration.undo_by(setattr, warnings, name, getattr(warnings, name))


def _restore_value(variable: tf.Variable, value: Any) -> None:
    """Assign a value, unless the variable has it bit for bit."""
    with tf.init_scope():
        if not has_same_bits(variable.value()._numpy(), value._numpy()):  # numpy() copies
            variable.assign(value)


def has_same_bits(one: Any, other: Any) -> bool:
    """Whether two arrays of one shape and dtype are the same, zeros of both signs and NaN told apart."""
    one, other = np.asarray(one), np.asarray(other)
    if one.dtype.kind in "OS":  # strings, of which one alone is bytes
        return bool(np.array_equal(one, other))
    # as unsigned integers, of eight bytes where possible: the comparison makes one number for each
    word = np.uint8 if one.nbytes % 8 or other.nbytes % 8 else np.uint64
    first, second = (np.ascontiguousarray(array).reshape(-1).view(word) for array in (one, other))
    return bool(np.array_equal(first, second))


@contextmanager
def restore_attributes(layer: Any) -> Iterator[None]:
    """Put all attributes of a layer, and of the layers inside it, back at the end of the block."""
    with Restoration() as restoration:
        for one in list_layers(layer):
            restoration.keep_attributes(one)
        yield


@contextmanager
def restore_variables(objects: Sequence[Any]) -> Iterator[None]:
    """Put the values of the variables among some objects back at the end of the block."""
    with Restoration() as restoration:
        for one in objects:
            if isinstance(one, (tf.Variable, KerasVariable)):
                restoration.keep_value(unwrap_variable(one))
        yield
