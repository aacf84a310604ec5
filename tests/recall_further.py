"""Reports of a second search, whose kinds the first had not: shapes, empty and repeated indices, ragged rows, custom
gradients, masks, broadcasting.
"""

from __future__ import annotations

import math

import keras
import numpy as np
import tensorflow as tf
from support_recall import LOGITS, MATRIX, TWO, Report, gradient, second, slope_of

NONE = np.zeros(0, np.int32)


def _projected(x):
    """Each row shifted by a column, clamped at the edge."""
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=x,
        transforms=[[1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0]],
        output_shape=tf.shape(x)[1:3],
        fill_value=0.0,
        interpolation="NEAREST",
        fill_mode="NEAREST",
    )


def _masked_lstm(x):
    cell = keras.layers.LSTM(2, dtype="float64", kernel_initializer="ones", recurrent_initializer="ones")
    return cell(x, mask=tf.constant([[True, False, True]]))


def _nested(x):
    @tf.custom_gradient
    def slope(upstream, x):
        return upstream * 3 * x**2, lambda d: (d * 3 * x**2, d * upstream * 6 * x)

    @tf.custom_gradient
    def cube(x):
        return x**3, lambda upstream: slope(upstream, x)

    return cube(x)


def _of_function(x):
    return tf.function(tf.custom_gradient(lambda x: (x**3, lambda upstream: upstream * 3 * x**2)))(x)


def _eigenvalues(x):
    return tf.linalg.eigh((x + tf.transpose(x)) / 2)[0] ** 2


def _two_rows(x):
    return tf.RaggedTensor.from_row_lengths(x, [2, 1])


def _of_rows(x):
    return tf.map_fn(lambda row: tf.reduce_sum(row**2), _two_rows(x), fn_output_signature=x.dtype)


def _average_gradient(g):
    return tf.raw_ops.AvgPoolGrad(
        orig_input_shape=[1, 1, 5, 1], grad=g, ksize=[1, 1, 2, 1], strides=[1, 1, 1, 1], padding="SAME"
    )


def _of_first_class(z):
    return tf.nn.sparse_softmax_cross_entropy_with_logits([0] * z.shape[0], z)


P = 1 / (1 + math.e)

FURTHER = (
    # live
    Report.of(
        "tensorflow 127690",
        "tf.nn.silu, to a beta of several numbers",
        tf.nn.silu,
        lambda: (tf.size(gradient(tf.nn.silu, [1.0, 2.0], [1.0, 2.0], wrt=1)), 2),
        kinds=TWO,
    ),
    Report.of(
        "tensorflow 127234",
        "tf.nn.isotonic_regression of a vector",
        tf.nn.isotonic_regression,
        lambda: (gradient(lambda x: tf.nn.isotonic_regression(x)[0][1], [4.0, 0.7, 2.0])[1], 0.5),
    ),
    Report.of(
        "tensorflow 127241",
        "keras.ops.image.affine_transform (ImageProjectiveTransformV3)",
        _projected,
        lambda: (gradient(_projected, np.ones((1, 1, 3, 1))), np.reshape([0.0, 1.0, 2.0], (1, 1, 3, 1))),
        kinds=("images",),
    ),
    Report.of(
        "tensorflow 126444, 72785",
        "tf.sparse.segment_sum of no rows, on a CPU",
        lambda x: tf.sparse.segment_sum(x, NONE, NONE, num_segments=3),
        lambda: (gradient(lambda x: tf.sparse.segment_sum(x, NONE, NONE, num_segments=3), np.ones((4, 2))), 0.0),
        operation="tensorflow.sparse.segment_sum",
    ),
    Report.of(
        "tensorflow 56961",
        "tf.tensor_scatter_nd_update of one index twice",
        lambda x, u: tf.tensor_scatter_nd_update(x, [[1], [2], [2], [0]], u),
        lambda: (
            gradient(lambda u: tf.tensor_scatter_nd_update(tf.zeros(3, u.dtype), [[1], [1]], u), [1.0, 2.0]),
            [0.0, 1.0],
        ),
        kinds=TWO,
    ),
    Report.of(
        "tensorflow 56628",
        "tf.gather_nd of one number",
        lambda x: tf.gather_nd(x, [0, 0]),
        lambda: (gradient(lambda x: tf.gather_nd(x, [1, 1]), np.ones((3, 2))), 0.0),
        kinds=MATRIX,
        refusal="Updates shape must have rank at least one",
    ),
    Report.of(
        "tensorflow 56830",
        "tf.math.reduce_std of one number",
        tf.math.reduce_std,
        lambda: (gradient(tf.math.reduce_std, [0.3]), 0.0),
    ),
    Report.of(
        "tensorflow 127478",
        "tf.experimental.numpy.sinc",
        tf.experimental.numpy.sinc,
        lambda: (gradient(tf.experimental.numpy.sinc, 0.0), 0.0),
    ),
    # not live
    Report.of(
        "tensorflow 9406",
        "tf.gather_nd of one row several times",
        live=lambda: (
            gradient(lambda x: tf.gather_nd(x, np.zeros((3, 1, 2), int)), np.ones((2, 1, 2))),
            [[[3.0, 3.0]], [[0.0, 0.0]]],
        ),
    ),
    Report.of(
        "tensorflow 36999",
        "tf.recompute_grad of one tensor twice",
        live=lambda: (gradient(lambda x: tf.recompute_grad(lambda a, b: a * a * b)(x, x), 2.0), 12.0),
    ),
    Report.of("tensorflow 34503", "a custom gradient of its own gradient", live=lambda: (second(_nested, 2.0), 12.0)),
    Report.of(
        "tensorflow 36168", "a custom gradient in a function, second", live=lambda: (second(_of_function, 2.0), 12.0)
    ),
    Report.of(
        "tensorflow 7403, 9368",
        "softmax cross-entropy with labels, second",
        live=lambda: (
            gradient(lambda z: slope_of(_of_first_class)(z)[0, 0], [[1.0, 2.0]]),
            [[P * (1 - P), P * (P - 1)]],
        ),
        kinds=LOGITS,
    ),
    Report.of(
        "tensorflow 27845",
        "the square of an absolute value of complex numbers, second",
        live=lambda: (second(lambda a: tf.abs(tf.complex(a, 2 * a)) ** 2, 1.0), 10.0),
    ),
    Report.of(
        "tensorflow 25645",
        "tf.linalg.eigh",
        live=lambda: (gradient(_eigenvalues, [[2.0, 1.0], [1.0, 3.0]]), [[4.0, 2.0], [2.0, 6.0]]),
    ),
    Report.of(
        "tensorflow 16115",
        "tf.linalg.eig",
        live=lambda: (
            gradient(lambda x: tf.math.real(tf.linalg.eig(x)[0] ** 2), [[1.0, 2.0], [0.5, 3.0]]),
            [[2.0, 1.0], [4.0, 6.0]],
        ),
    ),
    Report.of(
        "tensorflow 48773",
        "AvgPoolGrad",
        live=lambda: (gradient(_average_gradient, np.ones((1, 1, 5, 1))), np.ones((1, 1, 5, 1))),
    ),
    Report.of(
        "tensorflow 3647",
        "tf.abs of complex numbers",
        live=lambda: (gradient(lambda a, b: tf.abs(tf.complex(a, b)), 3.0, 4.0), 0.6),
    ),
    Report.of(
        "tensorflow 4859",
        "tf.matmul of complex matrices",
        live=lambda: (
            gradient(lambda a, b: tf.math.real(tf.complex(a, b) @ tf.complex(a, b)), [[1.0]], [[2.0]], wrt=1),
            [[-4.0]],
        ),
    ),
    Report.of(
        "tensorflow 13144", "tf.nn.relu6, second", live=lambda: (second(lambda x: tf.nn.relu6(x) ** 2, 2.0), 2.0)
    ),
    Report.of(
        "tensorflow 11091",
        "tf.nn.elu, second",
        live=lambda: (second(lambda x: 2 * tf.nn.elu(-x), 1.0), 2 * math.exp(-1)),
    ),
    Report.of(
        "tensorflow 41959",
        "tf.math.l2_normalize",
        live=lambda: (gradient(lambda x: tf.math.l2_normalize(x)[0], [3.0, 4.0]), [16 / 125, -12 / 125]),
    ),
    Report.of(
        "tensorflow 23665",
        "tf.reduce_mean",
        live=lambda: (gradient(lambda x: x * 2 - tf.reduce_mean(x), [1.0, 2.0]), [1.0, 1.0]),
    ),
    Report.of(
        "tensorflow 42189, 43107",
        "tf.map_fn over ragged rows",
        live=lambda: (gradient(_of_rows, [1.0, 2.0, 3.0]), [2.0, 4.0, 6.0]),
    ),
    Report.of("tensorflow 897", "tf.floor", live=lambda: (gradient(lambda x: x + tf.floor(x), 3.8), 1.0)),
    Report.of("tensorflow 686", "tf.fill", live=lambda: (gradient(lambda x: tf.fill([3], x), 2.0), 3.0)),
    Report.of(
        "tensorflow 41090",
        "tf.math.segment_prod",
        live=lambda: (
            gradient(lambda x: tf.math.segment_prod(x, [0, 0, 0, 1, 1]), [0.0, 2.0, 3.0, 1.0, 4.0]),
            [6.0, 0.0, 0.0, 4.0, 1.0],
        ),
    ),
    Report.of(
        "tensorflow 25666",
        "tf.math.segment_max",
        live=lambda: (gradient(lambda x: tf.math.segment_max(x, [0, 0, 1]), [1.0, 2.0, 3.0]), [0.0, 1.0, 1.0]),
    ),
    Report.of(
        "tensorflow 6294",
        "tf.nn.max_pool, second",
        live=lambda: (
            second(lambda x: tf.nn.max_pool2d(x**2, 2, 2, "VALID"), np.arange(1.0, 5).reshape(1, 2, 2, 1)),
            np.reshape([0.0, 0.0, 0.0, 2.0], (1, 2, 2, 1)),
        ),
    ),
    Report.of(
        "tensorflow 60085",
        "tf.math.atan2 of a matrix and a row",
        live=lambda: (gradient(tf.math.atan2, [[1.0, 1.0], [1.0, 1.0]], [1.0, 1.0], wrt=1), [-1.0, -1.0]),
    ),
    Report.of(
        "keras 18759",
        "a masked step of an LSTM",
        live=lambda: (gradient(_masked_lstm, np.ones((1, 3, 2)))[0, 1], [0.0, 0.0]),
    ),
    # not run
    Report.of("tensorflow 59046", "tf.math.log of NaN, second", reason="the value is NaN"),
    Report.of("tensorflow 33462", "CTC of labels that do not fit", reason="the value is infinite"),
    Report.of("tensorflow 41280", "tf.nn.ctc_loss by logit_length on a GPU", reason="needs a GPU"),
    Report.of("tensorflow 107705", "tf.nn.batch_normalization on a GPU", reason="needs a GPU"),
    Report.of("tensorflow 55475", "tf.map_fn over ragged rows on a GPU", reason="needs a GPU"),
    Report.of(
        "tensorflow 2540",
        "tf.where whose other branch overflows",
        reason="NaN there is what the documentation of tf.where says (38349 is the same, and is found)",
    ),
    Report.of("tensorflow 112634", "tf.norm of zeros", reason="a kink: any slope between those of both sides"),
    Report.of("tensorflow 108080", "an LSTM compiled inside a tape", reason="raises in the forward pass"),
    Report.of("tensorflow 125502", "output_gradients of another number", reason="ends the process; corrected"),
    Report.of("tensorflow 56754", "tf.sign, forward mode", reason="None stands for the 0 that it gives if asked"),
)
