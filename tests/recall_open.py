"""Reports that are open, of recent releases."""

from __future__ import annotations

import math

import keras
import tensorflow as tf
from support_recall import (
    COMPLEX,
    DIGITS,
    FORWARD,
    LOGITS,
    PAIR,
    SECOND,
    TWO,
    Report,
    S,
    bump,
    crossentropy,
    cube,
    gradient,
    imaginary_slope,
    of_image,
    second,
    slope_of,
    tangent_of,
    third,
    twice_forward,
)

OPEN = (
    # open, of recent releases: smooth points
    Report.at("tensorflow 127226", "keras.ops.sinc", keras.ops.sinc, 0.0, gives=0.0),
    Report.at("tensorflow 127232", "keras.ops.logaddexp", keras.ops.logaddexp, -4.0, -4.0, gives=0.5, kinds=TWO),
    Report.at("keras 23616", "keras.ops.logaddexp2", keras.ops.logaddexp2, -4.0, -4.0, gives=0.5, kinds=TWO),
    Report.of(
        "tensorflow 127244, keras 23615",
        "keras.ops.ldexp",
        lambda x: keras.ops.ldexp(x, [3, -1, 2, 0]),
        lambda: (gradient(lambda x: keras.ops.ldexp(x, 3), 0.0), 8.0),
    ),
    Report.at(
        "tensorflow 127230",
        "keras.ops.hypot, second",
        keras.ops.hypot,
        0.0,
        -3.0,
        by=second,
        gives=1 / 3,
        kinds=TWO,
        options=SECOND,
    ),
    Report.at("tensorflow 127697", "keras.ops.hypot", keras.ops.hypot, 1.0, 1.0, gives=0.5**0.5, kinds=TWO),
    Report.of(
        "tensorflow 127243",
        "tf.math.cumulative_logsumexp, forward over forward",
        tangent_of(lambda x: tf.math.cumulative_logsumexp(x, reverse=True)),
        lambda: (
            twice_forward(lambda t: tf.math.cumulative_logsumexp(tf.stack([t, 2 * t]), reverse=True)[0], -40.0),
            math.exp(-40) / (1 + math.exp(-40)) ** 2,
        ),
        options=FORWARD,
    ),
    Report.of(
        "tensorflow 127753",
        "nested ForwardAccumulator of an operand used twice",
        tangent_of(cube),
        lambda: (twice_forward(cube, 0.7), 4.2),
        options=FORWARD,
    ),
    Report.of(
        "tensorflow 127713",
        "tf.math.xlogy of complex numbers",
        tf.math.xlogy,
        lambda: (imaginary_slope(tf.math.xlogy, 0.0), -math.pi / 2),
        kinds=PAIR,
    ),
    Report.of(
        "tensorflow 127713",
        "tf.math.xlog1py of complex numbers",
        tf.math.xlog1py,
        lambda: (imaginary_slope(tf.math.xlog1py, -1.0), -math.pi / 2),
        kinds=PAIR,
    ),
    Report.of(
        "tensorflow 127713",
        "tf.math.xdivy of complex numbers",
        tf.math.xdivy,
        lambda: (imaginary_slope(tf.math.xdivy, 0.0), 0.5),
        kinds=PAIR,
    ),
    Report.of(
        "tensorflow 127713",
        "tf.math.multiply_no_nan of complex numbers",
        tf.math.multiply_no_nan,
        lambda: (imaginary_slope(tf.math.multiply_no_nan, 0.0), -2.0),
        kinds=PAIR,
    ),
    Report.of(
        "tensorflow 12514",
        "tf.reduce_prod of complex numbers",
        tf.reduce_prod,
        lambda: (
            gradient(
                lambda x: tf.math.real(tf.reduce_prod(tf.stack([tf.complex(x, 2 * x), tf.complex(x, 2 * x)]))), 1.0
            ),
            -6.0,
        ),
        kinds=COMPLEX,
    ),
    Report.of(
        "tensorflow 49946",
        "tf.linalg.det of complex matrices",
        tf.linalg.det,
        lambda: (
            gradient(
                lambda a, b: tf.math.real(tf.linalg.det(tf.complex(a, b))),
                [[1.0, 2.0], [0.0, 3.0]],
                [[1.0, 0.0], [0.5, -1.0]],
            ),
            [[3.0, 0.0], [-2.0, 1.0]],
        ),
        kinds=("complex matrix",),
    ),
    Report.of(
        "tensorflow 7397",
        "tf.dynamic_stitch of one index twice",
        lambda a, b: tf.dynamic_stitch([[0, 0, 1, 2], [2, 3, 3, 4]], [a, b]),
        lambda: (gradient(lambda a: tf.dynamic_stitch([[0], [0]], [a, [2.0]]), [1.0]), 0.0),
        kinds=TWO,
    ),
    Report.of(
        "tensorflow 41125",
        "a power of a difference, third",
        slope_of(bump),
        lambda: (third(bump, 1.0), -6.0),
        options=SECOND,
    ),
    Report.at(
        "tensorflow 22048",
        "tf.clip_by_norm of zeros",
        lambda x: tf.clip_by_norm(x, 1.0),
        [0.0, 0.0, 0.0],
        gives=[1.0, 1.0, 1.0],
    ),
    # a matter of convention
    Report.at("tensorflow 12071", "tf.norm", tf.norm, [1e-170], gives=[1.0]),
    Report.of("keras 23551", "categorical_crossentropy of outputs that sum to 0", reason="the value is 0/0"),
    Report.of("tensorflow 118673", "reduce_max of NaN, compiled", reason="the value is NaN"),
    # lost in the tail
    Report.at(
        "tensorflow 124831",
        "tf.nn.selu, second, near 0",
        tf.nn.selu,
        -1e-300,
        by=second,
        gives=S,
        options=SECOND | DIGITS,
        points=("tiny",),
    ),
    Report.at(
        "tensorflow 124830",
        "tf.nn.elu, second, near 0",
        tf.nn.elu,
        -1e-300,
        by=second,
        gives=1.0,
        options=SECOND | DIGITS,
        points=("tiny",),
    ),
    Report.of("tensorflow 126627", "keras.ops.exp2 at 1024", reason="the value is infinite"),
    Report.at(
        "tensorflow 126631, 126060",
        "tf.math.sigmoid",
        tf.math.sigmoid,
        37.42994775,
        gives=5.55e-17 * 1.0003,
        options=DIGITS,
    ),
    Report.at(
        "tensorflow 126628",
        "tf.math.log_sigmoid, second",
        tf.math.log_sigmoid,
        -37.42994775,
        by=second,
        gives=-math.exp(-37.42994775),
        options=SECOND | DIGITS,
    ),
    Report.of(
        "tensorflow 126634",
        "tf.nn.softmax_cross_entropy_with_logits",
        crossentropy,
        lambda: (gradient(crossentropy, [[37.42994775, 0.0]])[0, 0], -math.exp(-37.42994775)),
        kinds=LOGITS,
        options=DIGITS,
    ),
    Report.at(
        "tensorflow 124832",
        "tf.nn.silu, second",
        tf.nn.silu,
        -709.0,
        by=second,
        gives=-707.0 * math.exp(-709.0),
        options=SECOND | DIGITS,
        points=("exp underflows",),
    ),
    # compiled, or not a wrong number
    Report.of(
        "tensorflow 118713",
        "tf.where under XLA with a shape that is not known",
        reason="an entry equals the mean that it is compared with, which both round differently",
    ),
    Report.of(
        "tensorflow 116258", "a model of several branches, compiled", reason="its script lies in an attached archive"
    ),
    Report.of("tensorflow 72785", "sparse_segment_mean on a GPU", reason="needs a GPU"),
    Report.of(
        "tensorflow 126206",
        "max_pool of an empty output under oneDNN",
        reason="ends the process: in the ledger by a subprocess",
    ),
    of_image("tensorflow 126083", tf.image.adjust_hue, 0.1),
    of_image("tensorflow 126083", tf.image.adjust_saturation, 0.5),
    of_image("tensorflow 126083, 62145", tf.image.adjust_contrast, 0.5),
)
