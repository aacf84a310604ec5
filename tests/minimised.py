"""Forty faults to make small: twenty planted in larger models and functions, twenty of Keras's and TensorFlow's own.

`python tests/minimised.py` minimises all of them, and prints the table of the documentation; names select some.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf


@dataclass(frozen=True)
class Fault:
    """Something that fails a check: how it is made, and what its script has to be about.

    make   gives (subject, *inputs);   options  of minimise
    about  a text in the script that names the part at fault
    """

    name: str
    make: Callable[[], tuple[Any, ...]]
    about: str
    options: dict[str, Any] = field(default_factory=dict)
    is_planted: bool = True
    is_pair: bool = False


FAULTS: list[Fault] = []


def fault(name: str, about: str, **given: Any) -> Callable[[Callable[[], tuple[Any, ...]]], Any]:
    """Register what makes a fault."""

    def register(make: Callable[[], tuple[Any, ...]]) -> Callable[[], tuple[Any, ...]]:
        FAULTS.append(Fault(name, make, about, **given))
        return make

    return register


def found(name: str, about: str, **given: Any) -> Callable[[Callable[[], tuple[Any, ...]]], Any]:
    """Register what makes a fault of Keras or TensorFlow."""
    return fault(name, about, is_planted=False, **given)


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape)


def dense(units: int, activation: Any = "tanh", **options: Any) -> keras.layers.Layer:
    return keras.layers.Dense(units, activation, **options)


def stacked(*layers: keras.layers.Layer, shape: tuple[int, ...], loss: Any = "mse", **how: Any) -> keras.Sequential:
    model = keras.Sequential([keras.Input(shape, **how), *layers])
    model.compile(loss=loss)
    return model


# Planted --------------------------------------------------------------------------------------------------------------


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


# Found in Keras and TensorFlow ----------------------------------------------------------------------------------------


def some_zeros(*shape):
    x = drawn(*shape)
    x.ravel()[::5] = 0.0
    return x


@found("cumprod of zeros", "tf.math.cumprod")
def _():
    return lambda x: 2.0 * tf.math.cumprod(x, axis=1), some_zeros(3, 4)


@found("xlogy at zero", "xlogy")
def _():
    return lambda x, y: tf.reduce_sum(tf.math.xlogy(x, y) * y), some_zeros(3, 4), np.abs(drawn(3, 4)) + 0.5


@found("xlog1py at zero", "xlog1py")
def _():
    return tf.math.xlog1py, some_zeros(2, 6), np.abs(drawn(2, 6))


@found("xdivy at zero", "xdivy")
def _():
    return tf.math.xdivy, some_zeros(3, 4), np.abs(drawn(3, 4)) + 0.5


@found("bessel_i1 at zero", "bessel_i1")
def _():
    return lambda x: tf.math.bessel_i1(x) * 2.0, some_zeros(3, 4)


@found("zero to the power of zero", "pow")
def _():
    return lambda x: tf.pow(x, tf.constant(0.0, x.dtype)) * 3.0, some_zeros(2, 5)


@found("cumprod of complex numbers", "cumprod")
def _():
    return lambda a, b: tf.math.real(tf.math.cumprod(tf.complex(a, b))), drawn(4), drawn(2, 2).ravel()


@found("xlogy of complex numbers", "xlogy")
def _():
    def real_xlogy(a, b):
        return tf.math.real(tf.math.xlogy(tf.complex(a, b), tf.constant(2j, tf.complex128)))

    return real_xlogy, drawn(3), drawn(3) + 0.1


@found("determinant of complex matrices", "det")
def _():
    return lambda a, b: tf.math.real(tf.linalg.det(tf.complex(a, b))), drawn(3, 3), drawn(3, 3).T


@found("dynamic_stitch of one index twice", "dynamic_stitch")
def _():
    return lambda a, b: tf.dynamic_stitch([[0, 1, 2], [1, 3]], [a, b]), drawn(3), drawn(2)


@found("the saturation without blue", "rgb_to_hsv")
def _():
    x = np.random.default_rng(0).uniform(0.2, 0.9, (1, 3, 3, 3))
    x[..., 2] = 0.0
    return tf.image.rgb_to_hsv, x


@found("svd of rank one", "svd")
def _():
    def recomposed(x):
        s, u, v = tf.linalg.svd(x)
        return u @ tf.linalg.diag(s) @ tf.transpose(v)

    return recomposed, np.outer([1.0, 2.0, 3.0], [1.0, 0.0, 1.0])


@found("sparsemax of several", "sparsemax")
def _():
    return stacked(dense(6), dense(5, "sparsemax"), dense(2, None), shape=(4,)), drawn(4, 4) / 4, drawn(4, 2)


@found("Tversky's alpha and beta", "Tversky")
def _():
    loss = keras.losses.Tversky(alpha=0.25, beta=0.75)
    return stacked(dense(6), dense(3, "sigmoid"), shape=(4,), loss=loss), drawn(4, 4), np.eye(4, 3)


@found("gelu's constants", "gelu")
def _():
    return stacked(dense(6), dense(4, "gelu"), dense(2, None), shape=(4,)), drawn(4, 4), drawn(4, 2)


@found("leaky_relu's slope", "leaky_relu")
def _():
    return stacked(dense(6), dense(4, "leaky_relu"), dense(2, None), shape=(4,)), drawn(4, 4), drawn(4, 2)


@found("bicubic weights from a table", "UpSampling2D")
def _():
    layers = [dense(2), keras.layers.UpSampling2D((1, 3), interpolation="bicubic"), keras.layers.Flatten(), dense(1)]
    return stacked(*layers, shape=(3, 4, 2)), drawn(2, 3, 4, 2), drawn(2, 1)


@found("a column taken for a bias", "EinsumDense")
def _():
    layer = keras.layers.EinsumDense("abc,cd->abd", (2, 2), bias_axes="b", bias_initializer="random_normal")
    return stacked(dense(3), layer, keras.layers.Flatten(), dense(2), shape=(2, 3)), drawn(2, 2, 3), drawn(2, 2)


@found("Nadam's schedule", "Nadam", options={"updates": True})
def _():
    model = keras.Sequential([keras.Input((4,)), dense(5), dense(2, None)])
    model.compile(keras.optimizers.Nadam(0.01, beta_2=0.99), "mse")
    return model, drawn(6, 4), drawn(6, 2)


@found("ScheduleFreeAdamW's warm-up", "ScheduleFreeAdamW", options={"updates": True})
def _():
    model = keras.Sequential([keras.Input((4,)), dense(5), dense(2, None)])
    model.compile(keras.optimizers.ScheduleFreeAdamW(0.01, warmup_steps=2, weight_decay=0.01), "mse")
    return model, drawn(6, 4), drawn(6, 2)


def minimised(one: Fault, **options: Any) -> Any:
    """A fault made small."""
    from keras_ref.minimisation.minimise import minimise
    from keras_ref.minimisation.programs import minimise_programs

    keras.utils.set_random_seed(7)
    subject, *inputs = one.make()
    return (minimise_programs if one.is_pair else minimise)(subject, *inputs, **one.options, **options)


def main(names: list[str]) -> None:
    """Minimise, and print a row for each: the fault, lines of the script, seconds, what it shows."""
    import time
    from statistics import median

    lines, seconds = [], []
    for one in FAULTS:
        if names and one.name not in names:
            continue
        started = time.monotonic()
        try:
            result = minimised(one)
        except Exception as error:  # noqa: BLE001 (a row of the table)
            print(
                f"| {one.name} | - | {time.monotonic() - started:.0f} | {type(error).__name__}: {error} |", flush=True
            )
            continue
        lines.append(result.lines)
        seconds.append(result.seconds)
        where = "planted" if one.is_planted else "found"
        about = "" if one.about in result.script else f" NOT ABOUT {one.about}"
        more = "".join(f" ({note})" for note in result.notes)
        print(
            f"| {one.name} | {where} | {result.lines} | {result.seconds:.0f} | {result.what}{about}{more} |", flush=True
        )
        if names:
            print(result.script)
    if lines:
        print(
            f"{len(lines)} of {len(names or FAULTS)}; lines: median {median(lines):g}, most {max(lines)}; "
            f"seconds: median {median(seconds):.0f}, most {max(seconds):.0f}"
        )


if __name__ == "__main__":
    from keras_ref.inputs.targets import import_quietly, quiet_tensorflow

    quiet_tensorflow()
    import_quietly()
    main(sys.argv[1:])
