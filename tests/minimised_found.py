"""Twenty faults of Keras's and TensorFlow's own, in larger models and functions."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from support_minimised import dense, drawn, found, stacked


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
