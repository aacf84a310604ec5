"""Kinds of losses, registered beside the models of model_kinds.py: by name, as objects and functions, by add_loss, as
penalties; with an error in the loss alone; weighted by sample and by class.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from model_kinds import Made, Scaled, X, Y, chain, dense, drawn, kind, with_backward

import keras_ref


@kind("loss by name")
def _(wrong: float) -> Made:
    return Made(chain(wrong, loss="huber"), X, Y)


@kind("loss as an object")
def _(wrong: float) -> Made:
    return Made(chain(wrong, loss=keras.losses.LogCosh()), X, Y)


@kind("loss as a function")
def _(wrong: float) -> Made:
    return Made(chain(wrong, loss=lambda y, p: keras.ops.mean((y - p) ** 4)), X, Y)


@kind("loss given to the check, model not compiled")
def _(wrong: float) -> Made:
    model = keras.Sequential([keras.Input((3,)), dense(3), Scaled(wrong), dense(2, None)])
    return Made(model, X, Y, {"loss": "mse"})


class Adding(keras.Model):
    def __init__(self, wrong: float, **options: Any) -> None:
        super().__init__(**options)
        self.first, self.inside = dense(3), Scaled(wrong)

    def call(self, x: Any) -> Any:
        h = self.inside(self.first(x))
        self.add_loss(keras.ops.mean(h**2))
        return h


class Penalized(Scaled):
    """Scaled that adds the mean square of its output as a loss."""

    def call(self, x: Any) -> Any:
        h = super().call(x)
        self.add_loss(keras.ops.mean(h**2))
        return h


@kind("loss by add_loss")
def _(wrong: float) -> Made:
    model = Adding(wrong)
    model(X)
    model.compile()
    return Made(model, X, drawn(4, 3))


@kind("loss by add_loss, never called")
def _(wrong: float) -> Made:
    x = keras.Input((3,))
    model = keras.Model(x, dense(2)(Penalized(wrong)(dense(3)(x))))
    model.compile()
    return Made(model, X, Y)


@kind("loss by add_loss alone, no targets")
def _(wrong: float) -> Made:
    x = keras.Input((3,))
    model = keras.Model(x, dense(2)(Penalized(wrong)(dense(3)(x))))
    model.compile()
    return Made(model, X)


@kind("an error in the loss alone")
def _(wrong: float) -> Made:
    squared = with_backward(lambda d: d**2, lambda d, upstream: upstream * d * 2 * (1 + wrong))
    return Made(chain(0.0, loss=lambda y, p: keras.ops.mean(squared(y - p))), X, Y)


@kind("sample weights")
def _(wrong: float) -> Made:
    return Made(chain(wrong), X, Y, {"sample_weight": np.array([1.0, 0.0, 2.0, 0.5])})


@kind("class weights")
def _(wrong: float) -> Made:
    model = keras.Sequential([keras.Input((3,)), dense(3), Scaled(wrong), dense(2, "softmax")])
    model.compile(loss="sparse_categorical_crossentropy")
    return Made(model, X, np.array([0, 1, 1, 0]), {"class_weight": {0: 1.0, 1: 3.0}})


class Penalty(keras.regularizers.Regularizer):
    """The sum of squares; `wrong` multiplies its slope. It has no configuration."""

    def __init__(self, wrong: float) -> None:
        self.penalty = with_backward(lambda w: keras.ops.sum(w**2), lambda w, upstream: upstream * w * 2 * (1 + wrong))

    def __call__(self, w: Any) -> Any:
        return self.penalty(1.0 * w)


def takes_functions() -> bool:
    """Whether this Keras takes a plain function as a regularizer."""
    try:
        keras.layers.Dense(1, bias_regularizer=keras.ops.sum).build((None, 1))
    except ValueError:
        return False
    return True


@kind("regularization losses")
def _(wrong: float) -> Made:
    size = (lambda b: 0.01 * keras.ops.sum(keras.ops.abs(b))) if takes_functions() else "l1"
    model = keras.Sequential(
        [
            keras.Input((3,)),
            dense(3, kernel_regularizer=Penalty(wrong), activity_regularizer="l2"),
            dense(2, None, bias_regularizer=size),
        ]
    )
    model.compile(loss="mse")
    return Made(model, X, Y)


@kind("a loss object behind two functions of one's own")
def _(wrong: float) -> Made:
    inner = keras.losses.Huber(0.5)

    def distance(y: Any, p: Any) -> Any:
        return inner(y, p)

    @tf.custom_gradient
    def square(p: Any) -> Any:
        return p * p, lambda upstream: upstream * p * 2 * (1 + wrong)

    return Made(
        lambda p: distance(tf.zeros_like(p), square(p)),
        X,
        check=lambda function, x, y, **options: keras_ref.check_function(function, x, **options),
    )


class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """A warm-up, then 1/√k, in float32 whatever the optimizer computes in."""

    def __call__(self, step: Any) -> Any:
        k = tf.cast(step, "float32") + 1
        return 0.125 * tf.minimum(k / 2, tf.math.rsqrt(k))


@kind("a learning-rate schedule of one's own (check_updates)")
def _(wrong: float) -> Made:
    return Made(chain(wrong, optimizer=keras.optimizers.Adam(WarmUp())), X, Y, {"steps": 3}, "check_updates")
