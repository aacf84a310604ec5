"""Reports that are closed: in 2026, and older ones."""

from __future__ import annotations

import math

import keras
import numpy as np
import tensorflow as tf
from support_recall import (
    COMPLEX,
    DIGITS,
    FORWARD,
    IMAGES,
    LOGITS,
    MATRIX,
    SECOND,
    TWO,
    WEIGHTS,
    Report,
    S,
    crossentropy_of_nothing,
    focal,
    forward,
    gradient,
    real,
    recomposed,
    second,
    similarity,
    slope_of,
    softplus_by_choice,
    squared_determinant,
    tangent_of,
    third,
    twice_forward,
)

CLOSED = (
    # closed in 2026
    Report.of(
        "tensorflow 119430",
        "tf.math.cumprod",
        tf.math.cumprod,
        lambda: (gradient(tf.math.cumprod, [2.0, 3.0, 0.0]), [4.0, 2.0, 6.0]),
    ),
    Report.of(
        "tensorflow 119476",
        "tf.math.xlogy",
        tf.math.xlogy,
        lambda: (gradient(tf.math.xlogy, 0.0, 2.0), math.log(2)),
        kinds=TWO,
    ),
    Report.of(
        "tensorflow 119476, 56873",
        "tf.math.xlog1py",
        tf.math.xlog1py,
        lambda: (gradient(tf.math.xlog1py, 0.0, 2.0), math.log(3)),
        kinds=TWO,
    ),
    Report.of(
        "tensorflow 127238", "tf.math.xdivy", tf.math.xdivy, lambda: (gradient(tf.math.xdivy, 0.0, 2.0), 0.5), kinds=TWO
    ),
    Report.of(
        "tensorflow 127240",
        "tf.math.xlogy, second: the mask of the first",
        tf.math.xlogy,
        lambda: (gradient(slope_of(tf.math.xlogy), 0.0, 2.0, wrt=1), 0.5),
        kinds=TWO,
    ),
    Report.of(
        "tensorflow 120578", "tf.math.bessel_i1", tf.math.bessel_i1, lambda: (gradient(tf.math.bessel_i1, 0.0), 0.5)
    ),
    Report.of(
        "tensorflow 123578",
        "tf.math.igamma, to x",
        tf.math.igamma,
        lambda: (gradient(tf.math.igamma, 1.0, 0.0, wrt=1), 1.0),
        kinds=TWO,
        operation="tensorflow.math.igamma",
    ),
    Report.of(
        "tensorflow 127227",
        "tf.experimental.numpy.vander",
        tf.experimental.numpy.vander,
        lambda: (gradient(tf.experimental.numpy.vander, [0.0, 2.0]), [1.0, 1.0]),
    ),
    Report.of(
        "tensorflow 127233",
        "tf.math.segment_mean, forward mode",
        lambda x: tf.math.segment_mean(x, [0, 0, 2, 2]),
        lambda: (forward(lambda x: tf.math.segment_mean(x, [0, 0, 2, 2, 2]), [1.0] * 5), 2.0),
        options=FORWARD,
    ),
    Report.of(
        "tensorflow 127245",
        "tf.signal.kaiser_window, second",
        lambda b: tf.signal.kaiser_window(6, b, dtype=tf.float64),
        lambda: (second(lambda b: tf.signal.kaiser_window(3, b, dtype=tf.float64)[0], 0.0), -0.5),
        kinds=("number",),
        options=SECOND,
        operation="tensorflow.signal.kaiser_window",
    ),
    Report.of(
        "tensorflow 127224",
        "tf.linalg.expm, forward over forward",
        tangent_of(tf.linalg.expm),
        lambda: (
            twice_forward(
                lambda t: tf.linalg.expm(
                    t * tf.eye(2, dtype=t.dtype) + tf.constant([[0.0, 1.0], [-1.0, 0.0]], t.dtype)
                ),
                0.7,
            ),
            2 * math.exp(0.7) * math.cos(1),
        ),
        kinds=MATRIX,
        options=FORWARD,
    ),
    Report.of(
        "tensorflow 119477",
        "tf.linalg.det of a singular matrix",
        tf.linalg.det,
        lambda: (gradient(tf.linalg.det, [[1.0, 2.0], [2.0, 4.0]]), [[4.0, -2.0], [-2.0, 1.0]]),
        kinds=MATRIX,
        refusal="invertible",
    ),
    Report.of(
        "tensorflow 126524, 126637",
        "tf.math.tanh",
        tf.math.tanh,
        lambda: (gradient(tf.math.tanh, 20.0), 1 / math.cosh(20.0) ** 2),
        options=DIGITS,
    ),
    Report.of(
        "tensorflow 124833",
        "tf.nn.elu",
        tf.nn.elu,
        lambda: (gradient(tf.nn.elu, -40.0), math.exp(-40.0)),
        options=DIGITS,
    ),
    Report.of(
        "tensorflow 124834",
        "tf.nn.selu",
        tf.nn.selu,
        lambda: (gradient(tf.nn.selu, -700.0), S * math.exp(-700.0)),
        options=DIGITS,
    ),
    Report.of(
        "tensorflow 124835",
        "tf.nn.silu",
        tf.nn.silu,
        lambda: (gradient(tf.nn.silu, -709.0), -708.0 * math.exp(-709.0)),
        options=DIGITS,
        points=("exp underflows",),
    ),
    Report.of(
        "tensorflow 126632",
        "tf.nn.silu, second, in saturation",
        tf.nn.silu,
        lambda: (second(tf.nn.silu, 40.4108), math.exp(-40.4108) * (2 - 40.4108)),
        options=SECOND | DIGITS,
    ),
    Report.of(
        "tensorflow 126635",
        "tf.nn.softplus, second",
        tf.nn.softplus,
        lambda: (second(tf.nn.softplus, 37.42994775), math.exp(-37.42994775)),
        options=SECOND | DIGITS,
    ),
    Report.of(
        "tensorflow 126633",
        "tf.nn.softmax",
        tf.nn.softmax,
        lambda: (
            gradient(lambda z: tf.nn.softmax(z)[0], [37.42994775, 0.0]),
            [math.exp(-37.42994775), -math.exp(-37.42994775)],
        ),
        kinds=LOGITS,
        options=DIGITS,
    ),
    Report.of(
        "keras 23075",
        "keras.ops.normalize of zeros",
        keras.ops.normalize,
        lambda: (gradient(keras.ops.normalize, [[0.0, 0.0]]), [[1e7, 1e7]]),
        kinds=MATRIX,
    ),
    # closed, of older releases
    Report.of(
        "tensorflow 35011",
        "tf.pow, third",
        slope_of(lambda x: tf.pow(x, 2.0 + 0 * x)),
        lambda: (third(lambda x: tf.pow(x, tf.constant(2.0, x.dtype)), 0.0), 0.0),
        options=SECOND,
    ),
    Report.of(
        "tensorflow 61117",
        "tf.reduce_prod, second",
        tf.reduce_prod,
        lambda: (second(tf.reduce_prod, [0.0, 1.0]), [1.0, 1.0]),
        options=SECOND,
    ),
    Report.of(
        "tensorflow 44556",
        "tf.reduce_prod of multiples, second",
        lambda x: tf.reduce_prod(tf.constant([2.0, 0.0, 1.0, 1.0], x.dtype) * x * x),
        lambda: (second(lambda x: tf.reduce_prod(tf.constant([2.0, 0.0], x.dtype) * x * x), 0.0), 0.0),
        options=SECOND,
    ),
    Report.of(
        "tensorflow 55230",
        "tf.linalg.det, second",
        tf.linalg.det,
        lambda: (second(tf.linalg.det, [[0.5, 2.0], [-1.0, 3.0]]), [[1.0, -1.0], [-1.0, 1.0]]),
        kinds=MATRIX,
        options=SECOND,
    ),
    Report.of(
        "tensorflow 57430",
        "tf.linalg.det, forward over reverse",
        slope_of(squared_determinant),
        lambda: (forward(slope_of(squared_determinant), [[0.4128, 0.4728], [0.5486, 0.8008]]), 2 * 0.1922**2),
        kinds=MATRIX,
        options=FORWARD,
    ),
    Report.of(
        "tensorflow 17476",
        "tf.linalg.svd of equal singular values",
        recomposed,
        lambda: (gradient(lambda x: WEIGHTS * recomposed(x), np.eye(2)), WEIGHTS),
        kinds=MATRIX,
    ),
    Report.of(
        "tensorflow 57480",
        "tf.math.atan of complex numbers",
        tf.math.atan,
        lambda: (gradient(real(tf.math.atan), 0.0, 1.1262), np.real(1 / (1 + (1.1262j) ** 2))),
        kinds=COMPLEX,
    ),
    Report.of(
        "tensorflow 57481",
        "keras swish of complex numbers",
        keras.activations.swish,
        lambda: (
            gradient(lambda a, b: tf.math.real(tf.nn.silu(tf.complex(a, b))), 0.0, 0.5, wrt=1),
            -np.imag(0.5 + 0.5j * 0.5),
        ),
        kinds=COMPLEX,
    ),
    Report.of(
        "tensorflow 37307",
        "tf.einsum of complex matrices",
        lambda a, b: tf.einsum("ij,jk->ik", a, b),
        lambda: (
            gradient(
                lambda a, b: real(lambda p, q: tf.einsum("ij,jk->ik", p, q))(a, b, a, b)[0, 0], [[1.0]], [[2.0]], wrt=1
            ),
            [[-4.0]],
        ),
        kinds=("complex matrix", "complex matrix"),
    ),
    Report.of(
        "tensorflow 56796",
        "tf.nn.l2_normalize of zeros",
        tf.nn.l2_normalize,
        lambda: (gradient(tf.nn.l2_normalize, [0.0, 0.0]), [1e6, 1e6]),
    ),
    Report.of(
        "tensorflow 56694",
        "tf.image.rgb_to_hsv in float64",
        tf.image.rgb_to_hsv,
        lambda: (gradient(lambda x: tf.image.rgb_to_hsv(x)[..., 2], [[[0.2, 0.5, 0.7]]]), [[[0.0, 0.0, 1.0]]]),
        kinds=IMAGES,
    ),
    Report.of(
        "tensorflow 57002",
        "tf.math.segment_max, forward mode",
        lambda x: tf.math.segment_max(x, [1, 1, 1, 1]),
        lambda: (forward(lambda x: tf.math.segment_max(x, [1, 1]), [1.0, 2.0]), 1.0),
        options=FORWARD,
    ),
    Report.of("tensorflow 57786", "tf.acos outside of its domain", tf.acos, reason="the value is NaN"),
    Report.of(
        "tensorflow 38349",
        "tf.where whose other branch overflows",
        softplus_by_choice,
        lambda: (gradient(softplus_by_choice, 1000.0), 1.0),
    ),
    Report.of(
        "tensorflow 60736",
        "tf.math.sign, forward mode",
        reason="None stands for the 0 that it gives if asked (unconnected_gradients)",
    ),
    Report.of(
        "tensorflow 60071",
        "tf.experimental.numpy.fabs, forward over reverse",
        reason="None stands for the 0 that it gives if asked (unconnected_gradients)",
    ),
    Report.of(
        "tensorflow 56737",
        "tf.signal.mdct, forward mode",
        lambda x: tf.signal.mdct(x, 8),
        lambda: (
            forward(lambda x: tf.signal.mdct(x, 8), np.arange(16.0)),
            tf.reduce_sum(gradient(lambda x: tf.signal.mdct(x, 8), np.arange(16.0))),
        ),
        kinds=("signal",),
        options=FORWARD,
    ),
    Report.of(
        "tensorflow 50400",
        "tf.image.ssim_multiscale",
        similarity,
        lambda: (np.isfinite(gradient(similarity, np.random.default_rng(0).uniform(size=(1, 8, 8, 3)))).all(), True),
        kinds=IMAGES,
    ),
    Report.of(
        "tensorflow 70326",
        "keras binary_focal_crossentropy, gamma=0",
        focal,
        lambda: (gradient(focal, [[40.0]]), [[-math.exp(-40.0)]]),
        kinds=LOGITS,
    ),
    Report.of(
        "tensorflow 60314",
        "keras categorical_crossentropy of no target",
        crossentropy_of_nothing,
        lambda: (gradient(crossentropy_of_nothing, [[1.0, 2.0]]), [[0.0, 0.0]]),
        kinds=LOGITS,
    ),
    Report.of(
        "tensorflow 60041",
        "tf.math.zeta, to x",
        tf.math.zeta,
        lambda: (gradient(tf.math.zeta, 2.0, 1.5), 1.0),
        kinds=TWO,
        refusal="has no entry for",
    ),
    Report.of(
        "tensorflow 17995",
        "tf.math.igamma, to a",
        tf.math.igamma,
        lambda: (gradient(tf.math.igamma, 1.0, 1.0), -0.431729710634898696),
        kinds=TWO,
    ),
    Report.of(
        "tensorflow 62429, 62431, 62435",
        "relu and max pooling at ties",
        tf.nn.relu,
        reason="a kink: any slope between those of both sides",
    ),
)
