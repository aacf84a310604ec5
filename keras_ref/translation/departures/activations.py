"""Activations.

The smallest example of each entry of activations.toml: a function with the name of the entry's id.
"""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from keras_ref.translation.departures.examples import Answers, example


@example
def sparsemax_sums_the_sums() -> Answers:
    keras_value = keras.activations.sparsemax(np.array([1.0, 1.0]))
    definition = [0.5, 0.5]
    return Answers(keras_value, definition)


@example
def celu_has_slope_two_at_zero() -> Answers:
    x = tf.constant([0.0], "float64")
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = keras.activations.celu(x)
    keras_value = tape.gradient(y, x)
    definition = [1.0]
    return Answers(keras_value, definition)


@example
def relu_with_slope_and_bound_is_flat_at_zero() -> Answers:
    x = tf.constant([0.0], "float64")
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        bounded = keras.activations.relu(x, negative_slope=0.25, max_value=2.0)
        plain = keras.activations.relu(x, negative_slope=0.25)
    keras_value = tape.gradient(bounded, x)
    definition = tape.gradient(plain, x)
    return Answers(keras_value, definition)


@example
def gelu_has_float32_constants() -> Answers:
    import math

    keras_value = [float(keras.activations.gelu(np.array(1.0), approximate=a)) for a in (False, True)]
    inner = math.sqrt(2 / math.pi) * 1.044715
    definition = [(1 + math.erf(math.sqrt(0.5))) / 2, (1 + math.tanh(inner)) / 2]
    return Answers(keras_value, definition)


@example
def leaky_slope_is_float32() -> Answers:
    x = np.array([-1.0])
    keras_value = [
        keras.activations.leaky_relu(x),
        keras.activations.relu(x, negative_slope=0.3),
        keras.layers.LeakyReLU(0.3, dtype="float64")(x),
    ]
    definition = [[-0.2], [-0.3], [-0.3]]
    return Answers(keras_value, definition)
