"""Arrays and variables without entries: there is nothing to compare in them, which is said."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from situations import Situations

from keras_ref import check_function, check_gradients, check_layer, check_updates

TABLE = Situations()
SAID = "it has no entries, so that there was nothing to compare."
NO_OUTPUT = "An output must hold at least one number to be differenced. Received: shape "
NO_NUMBER = "A check must have a number to differentiate by. Received: nothing but "
SHAPES = ((0,), (0, 3), (3, 0))


class Holding(keras.layers.Layer):
    """A weight of a shape beside one that is used."""

    def __init__(self, shape):
        super().__init__(name="holding")
        self.shape = shape

    def build(self, _):
        self.held = self.add_weight(shape=self.shape, name="held")
        self.factor = self.add_weight(shape=(), initializer="ones", name="factor")

    def call(self, x):
        return x * self.factor + keras.ops.sum(self.held)


def model_of(shape):
    model = keras.Sequential([keras.Input((3,)), Holding(shape)], name="model")
    model.compile("adam", "mse")
    return model


X, Y = np.ones((2, 3)), np.full((2, 3), 0.25)


def rows(shape):
    """A row for each check that meets an array of this shape."""
    held, none, many = np.zeros(shape), f" of {shape}", {"ok": True, "never": ("0 of 0",)}

    def add(name, check, **expected):
        check.__name__ = name + none
        TABLE.add(**expected)(check)

    add("a sum", lambda: check_function(lambda x: tf.reduce_sum(x**2), held), ok=None, says=(NO_NUMBER, "Pass data."))
    add("elements", lambda: check_function(tf.sin, held), ok=None, says=(NO_OUTPUT,))
    add("complex", lambda: check_function(tf.abs, held.astype(complex)), ok=None, says=(NO_OUTPUT,))
    add("a layer", lambda: check_layer(keras.layers.ReLU(), held), ok=None, says=(NO_OUTPUT,))
    two = lambda x, y: tf.reduce_sum(x**2) + tf.reduce_sum(y**2)  # noqa: E731 (said once)
    for options in ({}, {"order": 2}, {"forward_mode": True}, {"digits": True}, {"effort": "fast"}):
        check = lambda options=options: check_function(two, held, np.ones(2), **options)  # noqa: E731
        add(f"one of two {options}", check, says=(f"input:x: {SAID}",), **many)
    weight = tf.Variable(held, name="w")
    add("a variable", lambda: check_function(lambda x: x**2, X, variables=[weight]), says=(f"w: {SAID}",), **many)
    add("a weight", lambda: check_layer(Holding(shape), X), says=(f"holding/held: {SAID}",), **many)
    add("of a model", lambda: check_gradients(model_of(shape), X, Y), says=(f"held: {SAID}",), **many)
    add("updated", lambda: check_updates(model_of(shape), X, Y, steps=2), says=(f"held: {SAID}",), **many)


for one in SHAPES:
    rows(one)


@TABLE.add(ok=None, says=(NO_OUTPUT,))
def _rows_of_an_embedding():
    return check_layer(keras.layers.Embedding(3, 2), np.zeros((0, 2), int))


@TABLE.add(ok=None, says=("`x` must hold at least one sample",))
def _a_model_without_samples():
    return check_updates(model_of((2,)), X[:0], Y[:0])


@pytest.mark.sampled
@pytest.mark.parametrize("name", TABLE.parameters())
def test_situation(name):
    TABLE.rows[name].judge()
