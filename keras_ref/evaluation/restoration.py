"""Changes of the user's objects that are undone when a block ends, whatever ends it: an ExitStack of undo steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import tensorflow as tf

from keras_ref.evaluation.keras_parts import layers_of, tensorflow_variable


class Restoration(ExitStack):
    """Changes attributes and variables; on leaving the `with` block undoes every change, the last one first."""

    def set_attribute(self, owner: Any, name: str, value: Any) -> None:
        """Put `value` into the owner's own dictionary, past any tracking by Keras or TensorFlow."""
        table = vars(owner)
        if name in table:
            self.callback(table.__setitem__, name, table[name])
        else:
            self.callback(table.pop, name, None)
        table[name] = value

    def keep_attributes(self, owner: Any) -> None:
        """Remember all attributes of the owner and what its containers hold: whatever changes later is undone."""
        for value in vars(owner).values():
            plain = getattr(value, "__wrapped__", value)  # TensorFlow wraps dictionaries that it tracks
            if isinstance(plain, (list, dict, set)):
                self.callback(_restore_contents, plain, plain.copy())
        self.callback(_restore_contents, vars(owner), dict(vars(owner)))

    def keep_value(self, variable: tf.Variable) -> None:
        """Remember the value of a TensorFlow variable: it is assigned again, bit for bit."""
        with tf.init_scope():
            self.callback(variable.assign, variable.numpy())

    def replace_variable(self, variable: tf.Variable, other: tf.Variable) -> None:
        """Let a TensorFlow variable be another one, wherever it is held: its attributes are all that it is."""
        self.callback(_restore_contents, vars(variable), dict(vars(variable)))
        _restore_contents(vars(variable), vars(other))


def _restore_contents(container: Any, items: Any) -> None:
    """Give a list, dictionary or set other items, past its own methods: Keras's lists track, and may be locked."""
    if isinstance(container, list):
        list.__setitem__(container, slice(None), list(items))
    elif isinstance(container, dict):
        dict.clear(container)
        dict.update(container, items)
    else:
        set.clear(container)
        set.update(container, items)


@contextmanager
def restore_attributes(layer: Any) -> Iterator[None]:
    """Put all attributes of a layer, and of the layers inside it, back at the end of the block."""
    with Restoration() as restoration:
        for one in layers_of(layer):
            restoration.keep_attributes(one)
        yield


@contextmanager
def restore_variables(objects: Sequence[Any]) -> Iterator[None]:
    """Put the values of the variables among some objects back at the end of the block."""
    with ExitStack() as stack:
        for one in objects:
            if isinstance(one, (tf.Variable, keras.Variable)):
                variable = tensorflow_variable(one)
                stack.callback(variable.assign, variable.numpy())
        yield
