"""More kinds that a check takes, registered beside those of model_kinds.py: traced, quantized, complex, with a
domain, with data in other forms, with gradients that are meant to differ in part.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from model_kinds import Made, Scaled, X, Y, chain, dense, drawn, kind

from keras_ref import check_function


def of_function(function: Any, x: Any, y: Any = None, **options: Any) -> Any:
    """check_function as KINDS calls a check."""
    assert y is None
    return check_function(function, *([] if x is None else [x]), **options)


def squared(wrong: float) -> Any:
    @tf.custom_gradient
    def square(x: Any) -> Any:
        return x * x, lambda upstream: upstream * x * 2 * (1 + wrong)

    return square


class Compiled(Scaled):
    """The same in a method that is a tf.function."""

    @tf.function(jit_compile=True)
    def work(self, x: Any) -> Any:
        return Scaled.call(self, x)

    def call(self, x: Any) -> Any:
        return self.work(x)


@kind("a layer whose method is a compiled tf.function, called before")
def _(wrong: float) -> Made:
    model = chain(wrong, inside=Compiled)
    model(X)
    return Made(model, X, Y)


def module_of(wrong: float, dtype: str = "float64") -> tf.Module:
    module = tf.Module()
    module.w = tf.Variable(drawn(3), dtype=dtype, name="w")
    module.calls = tf.Variable(0, name="calls")
    square = squared(wrong)

    def call(x: Any) -> Any:
        module.calls.assign_add(1)
        return square(tf.convert_to_tensor(module.w)) * x

    module.call = tf.function(call)
    return module


@kind("a tf.Module's tf.function, traced before")
def _(wrong: float) -> Made:
    module = module_of(wrong)
    module.call(tf.constant(X))
    return Made(module.call, X, None, {"variables": [module.w]}, of_function)


@kind("a concrete function")
def _(wrong: float) -> Made:
    module = module_of(wrong)
    concrete = module.call.get_concrete_function(tf.TensorSpec(X.shape, tf.float64))
    concrete.module = module  # a trace holds its variables weakly
    return Made(concrete, X, None, {"variables": [module.w]}, of_function)


@kind("no inputs: a training loss as a closure")
def _(wrong: float) -> Made:
    module = module_of(wrong)
    loss = tf.function(lambda: tf.reduce_sum(module.call(tf.constant(X)) ** 2))
    loss()
    return Made(loss, None, None, {"variables": [module.w]}, of_function)


def quantized(wrong: float, mode: str) -> Made:
    """An error behind a quantized layer, whose bias, and all that follows, has a derivative."""
    layer = dense(3)
    model = keras.Sequential([keras.Input((3,)), layer, Scaled(wrong), dense(2, None)])
    layer.quantize(mode)
    model.compile(loss="mse")
    return Made(model, X, Y)


@kind("quantized to int8")
def _(wrong: float) -> Made:
    return quantized(wrong, "int8")


def is_offered(mode: str) -> bool:
    """Whether this Keras quantizes so."""
    try:
        keras.dtype_policies.get(f"{mode}_from_float32")
    except ValueError:
        return False
    return True


if is_offered("int4"):

    @kind("quantized to int4")
    def _(wrong: float) -> Made:
        return quantized(wrong, "int4")


@kind("complex variables")
def _(wrong: float) -> Made:
    z, square = tf.Variable(np.array([0.3 + 2j, -1.1 + 0.7j, 0.5j]), name="z"), squared(wrong)
    return Made(lambda x: tf.abs(tf.signal.fft(z)) * square(x), X, None, {"variables": [z]}, of_function)


@kind("complex inputs")
def _(wrong: float) -> Made:
    @tf.custom_gradient
    def power(z: Any) -> Any:
        return (
            tf.math.real(z * tf.math.conj(z)),
            lambda upstream: (
                tf.complex(upstream, 0.0 * upstream) * 2 * tf.complex(tf.math.real(z), tf.math.imag(z) * (1 + wrong))
            ),
        )

    return Made(power, X + 1j * X[::-1], None, {}, of_function)


@kind("an assertion that fails beside the point")
def _(wrong: float) -> Made:
    square = squared(wrong)

    def function(x: Any) -> Any:
        with tf.control_dependencies([tf.debugging.assert_positive(x)]):
            return tf.math.log(x) + square(x)

    return Made(function, np.array([1e-6, 0.5, 2.0]), None, {}, of_function)


@kind("another function in float64")
def _(wrong: float) -> Made:
    square = squared(300 * wrong)  # float32 sees no less
    return Made(lambda x: square(x) if x.dtype == tf.float32 else x**3, X.astype("float32"), None, {}, of_function)


@kind("a sparse input")
def _(wrong: float) -> Made:
    model = keras.Sequential([keras.Input((3,), sparse=True), dense(3), Scaled(wrong), dense(2, None)])
    model.compile(loss="mse")
    return Made(model, tf.sparse.from_dense(np.where(X > 0, X, 0.0).astype("float32")), Y)


@kind("a ragged input")
def _(wrong: float) -> Made:
    square = squared(wrong)
    ragged = tf.ragged.constant([[0.5, 2.0], [1.0], [-1.0, 0.25, 3.0]], dtype=tf.float64)
    return Made(lambda r: tf.reduce_sum(r.with_flat_values(square(r.flat_values)), 1), ragged, None, {}, of_function)


@kind("a tf.data.Dataset")
def _(wrong: float) -> Made:
    return Made(chain(wrong), tf.data.Dataset.from_tensor_slices((X, Y)).batch(2), None, {"batches": 2})


@kind("strings through a lookup")
def _(wrong: float) -> Made:
    words = keras.Input((2,), dtype="string")
    tokens = keras.layers.StringLookup(vocabulary=["a", "b"])(words)
    h = keras.layers.Flatten()(Scaled(wrong)(keras.layers.Embedding(3, 2)(tokens)))
    model = keras.Model(words, dense(2, None)(h))
    model.compile(loss="mse")
    return Made(model, tf.constant([["a", "b"], ["b", "b"], ["z", "a"], ["a", "a"]]), Y)


@kind("a frozen model: its inputs")
def _(wrong: float) -> Made:
    model = chain(wrong)
    model.trainable = False
    return Made(model, X, Y)


@kind("stop_gradient in part, declared")
def _(wrong: float) -> Made:
    square = squared(wrong)
    return Made(
        lambda x: square(x) / tf.stop_gradient(tf.reduce_sum(x * x)),
        X,
        None,
        {"expect": {"input": "stop_gradient"}},
        of_function,
    )


class Weighted(Scaled):
    """The same, of an input times a float times a weight: the float stands on the left."""

    def build(self, shape: Any) -> None:
        super().build(shape)
        self.share, self.slope = 0.7, self.add_weight(shape=(shape[-1],), initializer="ones", name="slope")

    def call(self, x: Any) -> Any:
        return super().call(x * (self.share * self.slope) + (1 - self.share) * self.slope)


@kind("a float of Python times a weight")
def _(wrong: float) -> Made:
    return Made(chain(wrong, inside=Weighted), X, Y)
