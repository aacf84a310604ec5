"""Twenty faults planted in larger models and functions."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from support_minimised import dense, drawn, fault, stacked


@tf.custom_gradient
def leaky_square(x):
    return x * x, lambda upstream: upstream * x * 1.5


@tf.custom_gradient
def steep_swish(x):
    s = tf.sigmoid(x)
    return x * s, lambda upstream: upstream * (s + x * s)


@tf.custom_gradient
def softplus(x):
    return tf.math.softplus(x), lambda upstream: upstream * tf.tanh(x)


class Squared(keras.layers.Layer):
    """x squared, with a slope of 1.5 x."""

    def call(self, x):
        return leaky_square(x)


class RmsNorm(keras.layers.Layer):
    """x over its root mean square; the backward pass leaves out what the root adds."""

    def __init__(self, epsilon=1e-6, **options):
        super().__init__(**options)
        self.epsilon = epsilon

    def build(self, shape):
        self.gain = self.add_weight(shape=(shape[-1],), initializer="ones", name="gain")

    def call(self, x):
        size = tf.stop_gradient(tf.sqrt(tf.reduce_mean(x**2, -1, keepdims=True) + self.epsilon))
        return x / size * self.gain


class Gain(keras.layers.Layer):
    """x times a gain whose gradient is doubled."""

    def build(self, shape):
        self.gain = self.add_weight(shape=(shape[-1],), initializer="ones", name="gain")

    def call(self, x):
        return x * (2 * self.gain - tf.stop_gradient(self.gain))


class Noisy(keras.layers.Layer):
    """Right in inference; in training the backward pass is halved."""

    def call(self, x, training=False):
        return x * x / 2 + tf.stop_gradient(x * x / 2) if training else x * x


class Attention(keras.layers.Layer):
    """Attention of a sequence to itself, whose backward pass takes the scores for constants."""

    def __init__(self, width=4, **options):
        super().__init__(**options)
        self.width = width
        self.query, self.key = keras.layers.Dense(width), keras.layers.Dense(width)

    def call(self, x):
        scores = tf.nn.softmax(tf.matmul(self.query(x), self.key(x), transpose_b=True))
        return tf.matmul(tf.stop_gradient(scores), x)


class Logarithm(keras.layers.Layer):
    """log(x - 1) above 1, 0 elsewhere: at 1 the branch that is not taken gives NaN."""

    def call(self, x):
        return tf.where(x > 1.0, tf.math.log(x - 1.0), x * 0.0)


class Inner(keras.Model):
    """A model of its own class with a wrong layer inside."""

    def __init__(self, **options):
        super().__init__(**options)
        self.first, self.wrong, self.last = dense(8), Squared(), dense(3)

    def call(self, x):
        return self.last(self.wrong(self.first(x)))


def wrong_mse(y, p):
    return keras.ops.mean(leaky_square(p - y))


def wrong_penalty(w):
    return 0.01 * keras.ops.sum(leaky_square(1.0 * w))


@fault("a layer among nine", "Squared")
def _():
    layers = [dense(16), dense(16), Squared(), dense(8), keras.layers.Dropout(0.3), dense(8), dense(4), dense(2, None)]
    return stacked(*layers, shape=(12,)), drawn(16, 12), drawn(16, 2)


@fault("a normalization", "RmsNorm")
def _():
    return stacked(dense(8), RmsNorm(epsilon=1e-3), dense(2, None), shape=(6,)), drawn(8, 6), drawn(8, 2)


@fault("the gradient of a weight", "Gain")
def _():
    return stacked(dense(8), Gain(), dense(3, None), shape=(6,)), drawn(8, 6), drawn(8, 3)


@fault("an activation of a dense layer", "steep_swish")
def _():
    return stacked(dense(8), dense(6, steep_swish), dense(2, None), shape=(6,)), drawn(8, 6), drawn(8, 2)


@fault("an activation of a convolution", "softplus")
def _():
    layers = [keras.layers.Conv2D(4, 3, activation=softplus), keras.layers.Flatten(), dense(2, None)]
    return stacked(*layers, shape=(8, 8, 3)), drawn(2, 8, 8, 3), drawn(2, 2)


@fault("an activation of a recurrent layer", "steep_swish")
def _():
    layers = [keras.layers.SimpleRNN(4, activation=steep_swish), dense(2, None)]
    return stacked(*layers, shape=(5, 3)), drawn(4, 5, 3), drawn(4, 2)


@fault("a loss", "wrong_mse")
def _():
    return stacked(dense(8), dense(3, None), shape=(6,), loss=wrong_mse), drawn(8, 6), drawn(8, 3)


@fault("a regularizer", "wrong_penalty")
def _():
    layers = [dense(4, kernel_regularizer=wrong_penalty), dense(2, None)]
    return stacked(*layers, shape=(5,)), drawn(8, 5), drawn(8, 2)


@fault("a model within a model", "Squared")
def _():
    inner = keras.Sequential([keras.Input((6,)), dense(6), Squared()])
    return stacked(dense(6), inner, dense(2, None), shape=(5,)), drawn(8, 5), drawn(8, 2)


@fault("a subclassed model", "Squared")
def _():
    model = Inner()
    model(drawn(8, 5))
    model.compile(loss="mse")
    return model, drawn(8, 5), drawn(8, 3)


@fault("a functional model with branches", "RmsNorm")
def _():
    x = keras.Input((6,))
    h = dense(6)(x)
    model = keras.Model(x, dense(2, None)(keras.layers.Concatenate()([RmsNorm()(h), h])))
    model.compile(loss="mse")
    return model, drawn(8, 6), drawn(8, 2)


@fault("only in training", "Noisy", options={"training": True})
def _():
    return stacked(dense(6), Noisy(), dense(2, None), shape=(5,)), drawn(8, 5), drawn(8, 2)


@fault("attention", "Attention")
def _():
    layers = [Attention(width=6), keras.layers.Flatten(), dense(2, None)]
    return stacked(*layers, shape=(4, 6)), drawn(2, 4, 6), drawn(2, 2)


@fault("behind an embedding", "Squared")
def _():
    layers = [keras.layers.Embedding(20, 6), Squared(), keras.layers.GRU(4), dense(2, None)]
    model = stacked(*layers, shape=(5,), dtype="int32")
    return model, np.random.default_rng(0).integers(0, 20, (4, 5)), drawn(4, 2)


@fault("not a number at one point", "Logarithm")
def _():
    x = drawn(4, 5)
    x[1, 2] = 1.0
    return Logarithm(), x


@fault("a function of two arguments", "backward")
def _():
    @tf.custom_gradient
    def product(a, b):
        def backward(upstream):
            return upstream * b, upstream * a * 1.01

        return a * b, backward

    return product, drawn(3, 4), drawn(3, 4)


@fault("a function with an option", "scaled_sum")
def _():
    def scaled_sum(x, axis=0, scale=1.0):
        return tf.reduce_sum(x * scale, axis) + tf.stop_gradient(tf.reduce_max(x))

    return scaled_sum, drawn(3, 4)


@fault("a second derivative", "cubed", options={"order": 2})
def _():
    @tf.custom_gradient
    def cubed(x):
        return x**3, lambda upstream: upstream * 3 * x * tf.stop_gradient(x)

    return cubed, drawn(2, 3)


@fault("one execution mode", "depends", options={"modes": ("eager", "function")})
def _():
    def depends(x):
        return x**2 if tf.executing_eagerly() else x**2 + tf.stop_gradient(x) * x

    return depends, drawn(2, 3)


@fault("two models that part", "activation='relu'", is_pair=True)
def _():
    def made(activation):
        keras.utils.set_random_seed(3)
        return stacked(dense(6), dense(5, activation), dense(2, None), shape=(4,))

    return made("gelu"), made("relu"), drawn(4, 4)
