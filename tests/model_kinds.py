"""The kinds of model that a check takes, as data: each can be made right, or with an error of 1e-4 planted inside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

#: how wrong the planted backward pass is, relative
PLANTED = 1e-4


def with_backward(forward: Callable[[Any], Any], backward: Callable[[Any, Any], Any]) -> Callable[[Any], Any]:
    """A function of one tensor with a backward pass of its own, backward(x, upstream), on any backend of Keras."""

    @keras.ops.custom_gradient
    def function(x: Any) -> Any:
        def gradient(*given: Any, upstream: Any = None) -> Any:
            return backward(x, given[0] if upstream is None else upstream)

        return forward(x), gradient

    return function


class Scaled(keras.layers.Layer):
    """x · gain + x² / 4, with a backward pass of its own; `wrong` multiplies the slope of the second part."""

    def __init__(self, wrong: float = 0.0, **options: Any) -> None:
        super().__init__(**options)
        self.wrong = wrong

    def build(self, shape: Any) -> None:
        self.gain = self.add_weight(shape=(shape[-1],), initializer="ones", name="gain")

    def call(self, x: Any) -> Any:
        factor = (1 + self.wrong) / 2

        return x * self.gain + with_backward(lambda x: x * x / 4, lambda x, upstream: upstream * x * factor)(x)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return mask


class Turned(keras.layers.Layer):
    """The identity; `wrong` gives every sample the gradient of another one: hidden by a cotangent of ones."""

    def __init__(self, wrong: float = 0.0, **options: Any) -> None:
        super().__init__(**options)
        self.wrong = wrong

    def call(self, x: Any) -> Any:
        return with_backward(
            keras.ops.copy, lambda _, upstream: keras.ops.flip(upstream, 0) if self.wrong else upstream
        )(x)


def dense(units: int, activation: str | None = "tanh", **options: Any) -> keras.layers.Layer:
    return keras.layers.Dense(units, activation, **options)


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape)


X, Y = drawn(4, 3), drawn(4, 2)


@dataclass(frozen=True)
class Made:
    """A model with what it is checked on, and the options of the check, by its name in keras_ref or as a function."""

    model: Any
    x: Any
    y: Any = None
    options: dict[str, Any] = field(default_factory=dict)
    check: str | Callable[..., Any] = "check_gradients"


#: kind → make(wrong) → Made
KINDS: dict[str, Callable[[float], Made]] = {}


def kind(name: str) -> Callable[[Callable[[float], Made]], Callable[[float], Made]]:
    def register(make: Callable[[float], Made]) -> Callable[[float], Made]:
        KINDS[name] = make
        return make

    return register


def chain(wrong: float, *, loss: Any = "mse", inside: Any = Scaled, **compiled: Any) -> keras.Sequential:
    model = keras.Sequential([keras.Input((3,)), dense(3), inside(wrong), dense(2, None)])
    model.compile(loss=loss, **compiled)
    return model


@kind("Sequential")
def _(wrong: float) -> Made:
    return Made(chain(wrong), X, Y)


@kind("functional")
def _(wrong: float) -> Made:
    x = keras.Input((3,))
    h = Scaled(wrong)(dense(3)(x))
    model = keras.Model(x, dense(2, None)(keras.layers.Concatenate()([h, x])))
    model.compile(loss="mse")
    return Made(model, X, Y)


class Own(keras.Model):
    def __init__(self, wrong: float, **options: Any) -> None:
        super().__init__(**options)
        self.first, self.inside, self.last = dense(3), Scaled(wrong), dense(2, None)

    def call(self, x: Any) -> Any:
        return self.last(self.inside(self.first(x)))


@kind("subclassed")
def _(wrong: float) -> Made:
    model = Own(wrong)
    model(X)
    model.compile(loss="mse")
    return Made(model, X, Y)


@kind("nested")
def _(wrong: float) -> Made:
    inner = keras.Sequential([keras.Input((3,)), dense(3), Scaled(wrong)])
    x = keras.Input((3,))
    model = keras.Model(x, dense(2, None)(inner(dense(3)(x))))
    model.compile(loss="mse")
    return Made(model, X, Y)


@kind("one layer, several outputs")
def _(wrong: float) -> Made:
    x = keras.Input((3,))
    h = Scaled(wrong)(dense(3)(x))
    model = keras.Model(x, [dense(2, None, name="a")(h), dense(1, None, name="b")(h)])
    model.compile(loss=["mse", "mae"], loss_weights=[1.0, 0.5])
    return Made(model, X, [Y, drawn(4, 1)])


@kind("several inputs, a list")
def _(wrong: float) -> Made:
    a, b = keras.Input((3,)), keras.Input((2,))
    model = keras.Model([a, b], dense(2, None)(keras.layers.Concatenate()([Scaled(wrong)(a), dense(2)(b)])))
    model.compile(loss="mse")
    return Made(model, [X, drawn(4, 2)], Y)


@kind("inputs and outputs, dictionaries")
def _(wrong: float) -> Made:
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    h = keras.layers.Concatenate()([Scaled(wrong)(a), dense(2)(b)])
    model = keras.Model({"a": a, "b": b}, {"p": dense(2, None, name="p")(h), "q": dense(1, None, name="q")(h)})
    model.compile(loss={"p": "mse", "q": "mse"})
    return Made(model, {"a": X, "b": drawn(4, 2)}, {"p": Y, "q": drawn(4, 1)})


@kind("integers: an Embedding, repeated indices")
def _(wrong: float) -> Made:
    model = keras.Sequential(
        [
            keras.Input((3,), dtype="int32"),
            keras.layers.Embedding(5, 3),
            Scaled(wrong),
            keras.layers.Flatten(),
            dense(2, None),
        ]
    )
    model.compile(loss="mse")
    return Made(model, np.array([[0, 1, 1], [4, 4, 4], [2, 0, 1], [1, 1, 0]]), Y)


@kind("ragged lengths through masks")
def _(wrong: float) -> Made:
    model = keras.Sequential(
        [
            keras.Input((4,), dtype="int32"),
            keras.layers.Embedding(5, 3, mask_zero=True),
            Scaled(wrong),
            keras.layers.GRU(2),
        ]
    )
    model.compile(loss="mse")
    return Made(model, np.array([[1, 2, 0, 0], [3, 0, 0, 0], [4, 4, 1, 2], [2, 1, 3, 0]]), Y)


@kind("integer and float inputs mixed")
def _(wrong: float) -> Made:
    tokens, x = keras.Input((2,), dtype="int32"), keras.Input((3,))
    embedded = keras.layers.Flatten()(keras.layers.Embedding(4, 2)(tokens))
    model = keras.Model([tokens, x], dense(2, None)(keras.layers.Concatenate()([embedded, Scaled(wrong)(x)])))
    model.compile(loss="mse")
    return Made(model, [np.array([[0, 1], [1, 1], [3, 2], [2, 2]]), X], Y)


@kind("not compiled: random cotangents")
def _(wrong: float) -> Made:
    return Made(keras.Sequential([keras.Input((3,)), dense(3), Scaled(wrong), dense(2, None)]), X)


@kind("asymmetric backward pass")
def _(wrong: float) -> Made:
    return Made(
        keras.Sequential(
            [
                keras.Input((3,)),
                dense(3),
                Turned(wrong),
                keras.layers.Dense(1, use_bias=False, kernel_initializer="ones"),
            ]
        ),
        X,
    )


@kind("frozen layers")
def _(wrong: float) -> Made:
    model = keras.Sequential(
        [keras.Input((3,)), dense(3), dense(3, trainable=False), Scaled(wrong), dense(2, None, trainable=False)]
    )
    model.compile(loss="mse")
    return Made(model, X, Y)


@kind("shared layers")
def _(wrong: float) -> Made:
    x, shared, inside = keras.Input((3,)), dense(3), Scaled(wrong)
    model = keras.Model(x, dense(2, None)(shared(inside(shared(inside(x))))))
    model.compile(loss="mse")
    return Made(model, X, Y)


class Stepping(keras.Model):
    """A train_step of its own: the step of the book, w - 0.1 · gradient, and nothing else."""

    def __init__(self, wrong: float, **options: Any) -> None:
        super().__init__(**options)
        self.wrong, self.first, self.last = wrong, dense(3), dense(2, None)

    def call(self, x: Any) -> Any:
        return self.last(self.first(x))

    def train_step(self, data: Any) -> Any:
        import tensorflow as tf

        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x=x, y=y, y_pred=self(x, training=True))
        gradients = tape.gradient(loss, [v.value for v in self.trainable_variables])
        self.optimizer.apply([g * (1 + self.wrong) for g in gradients], self.trainable_variables)
        return {"loss": loss}


@kind("a train_step of its own (check_updates)")
def _(wrong: float) -> Made:
    model = Stepping(wrong)
    model(X)
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
    return Made(model, X, Y, {"steps": 2}, "check_updates")


class Flow(keras.Model):
    """A train_step on a likelihood that is computed nowhere else, returned by a metric; no compiled loss."""

    def __init__(self, wrong: float, **options: Any) -> None:
        super().__init__(**options)
        self.first, self.inside, self.shift, self.scale = dense(3), Scaled(wrong), dense(3), dense(3)
        self.mean = keras.metrics.Mean(name="loss")

    def call(self, x: Any) -> Any:
        h = self.inside(self.first(x))
        return x * keras.ops.exp(self.scale(h)) + self.shift(h), keras.ops.sum(self.scale(h), axis=1)

    def train_step(self, data: Any) -> Any:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            z, log_det = self(data, training=True)
            loss = tf.reduce_mean(tf.reduce_sum(z**2, 1) / 2 - log_det)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        self.mean.update_state(loss)
        return {"loss": self.mean.result()}


@kind("a train_step with a loss of its own, returned as a metric (check_updates)")
def _(wrong: float) -> Made:
    model = Flow(wrong)
    model(X)
    model.compile(optimizer="adam")
    return Made(model, X, None, {"steps": 2}, "check_updates")


@kind("training mode: batch statistics and dropout")
def _(wrong: float) -> Made:
    model = keras.Sequential(
        [
            keras.Input((3,)),
            dense(3),
            keras.layers.BatchNormalization(),
            Scaled(wrong),
            keras.layers.Dropout(0.4, seed=2),
            dense(2, None),
        ]
    )
    model.compile(loss="mse")
    return Made(model, X, Y, {"training": True})


@kind("trained")
def _(wrong: float) -> Made:
    model = chain(wrong, optimizer="adam")
    model.fit(X, Y, epochs=2, verbose=0)
    return Made(model, X, Y)


@kind("initialized with zeros")
def _(wrong: float) -> Made:
    model = keras.Sequential(
        [
            keras.Input((3,)),
            dense(3, "relu", kernel_initializer="zeros"),
            Scaled(0.0),
            dense(2, None, kernel_initializer="zeros"),
        ]
    )
    model.add(Scaled(wrong))
    model.compile(loss="mse")
    for layer in model.layers[-2:-1]:
        layer.bias.assign([0.5, -0.25])
    return Made(model, X, Y)


@kind("freshly initialized, on the kink: zero biases before a ReLU, a sample of zeros")
def _(wrong: float) -> Made:
    model = keras.Sequential([keras.Input((3,)), dense(3, "relu"), Scaled(wrong), dense(2, None)])
    model.compile(loss="mse")
    return Made(model, X * [[0.0], [1.0], [1.0], [1.0]], Y)


@kind("mixed_float16")
def _(wrong: float) -> Made:
    policy = "mixed_float16"
    model = keras.Sequential(
        [keras.Input((3,)), dense(3, dtype=policy), Scaled(wrong, dtype=policy), dense(2, None, dtype=policy)]
    )
    model.compile(optimizer="sgd", loss="mse")
    return Made(model, X, Y)


class Looking(Scaled):
    """The same, with a branch on a value: it runs only eagerly."""

    def call(self, x: Any) -> Any:
        return super().call(x) if float(keras.ops.sum(x * x)) >= 0 else x

    def compute_output_shape(self, shape: Any) -> Any:
        return shape


@kind("only eagerly")
def _(wrong: float) -> Made:
    x = X[:1]  # each loss takes an eager pass
    model = keras.Sequential([dense(2), Looking(wrong), dense(2, None)])
    model(x)
    model.compile(loss="mse", run_eagerly=True)
    return Made(model, x, Y[:1])


@kind("padded sequences")
def _(wrong: float) -> Made:
    x = drawn(2, 4, 3)
    x[0, 2:], x[1, 3:] = 0.0, 0.0
    layers = (keras.layers.Masking(0.0), keras.layers.GRU(3), Scaled(wrong), dense(2, None))
    model = keras.Sequential([keras.Input((4, 3)), *layers])
    model.compile(loss="mse")
    return Made(model, x, drawn(2, 2))
