"""Targets for workers: the model of the tests of --workers, right, and with a wrong gradient."""

import keras
import numpy as np
import tensorflow as tf


@tf.custom_gradient
def scaled(x):
    """3 x, with the gradient of 3.003 x."""
    return 3.0 * x, lambda upstream: 3.003 * upstream


@keras.saving.register_keras_serializable()
class Scaled(keras.layers.Layer):
    """A layer without a twin."""

    def call(self, x):
        return scaled(x)


def build(*middle):
    """A model of some weights, and data."""
    keras.utils.set_random_seed(1)
    dense = keras.layers.Dense
    layers = [keras.Input((6,)), dense(8, activation="tanh", name="a"), *middle, dense(2, name="b")]
    model = keras.Sequential(layers, name="net")
    model.compile(loss="mse")
    generator = np.random.default_rng(0)
    return model, generator.normal(size=(4, 6)), generator.normal(size=(4, 2))


def right():
    """A right model with a twin."""
    return build()


def wrong():
    """A model with a wrong gradient."""
    return build(Scaled(name="scaled"))


@keras.saving.register_keras_serializable()
class Held(keras.layers.Layer):
    """Python in the middle of a pass."""

    def call(self, x):
        return tf.ensure_shape(tf.numpy_function(lambda array: array * 1.0, [x], x.dtype), x.shape)


def held():
    """A model that no other process can evaluate."""
    return build(Held(name="held"))
