"""Faults of the installed TensorFlow, found by the check and proved by a closed form: the check has to see each of
them.

Where the installed TensorFlow has been corrected, the check has to find nothing.
"""

import functools

import numpy as np
import pytest
import tensorflow as tf

from keras_ref import check_function

A, B = np.array([0.5, 1.0, 1.25]), np.array([0.25, -0.375, 2.0])
Z = A + 1j * B
M = np.array([[1 + 1j, 2], [0.5j, 3 - 1j]])
COFACTORS = np.array([[M[1, 1], -M[1, 0]], [-M[0, 1], M[0, 0]]])
WEIGHTS = np.arange(1.0, 10.0).reshape(3, 3)
T = np.array([1.0, 2.0, 4.0]), np.array([0.5, 0.25])
VECTORS = np.linalg.eigh(np.diag(T[0]) + np.diag(T[1], 1) + np.diag(T[1], -1))[1]


def constant(value, like):
    return tf.constant(value, like.dtype)


def recomposed(matrix):
    s, u, v = tf.linalg.svd(matrix)
    return tf.reduce_sum(constant(WEIGHTS, matrix) * (u @ tf.linalg.diag(s) @ tf.transpose(v)))


#: name → (function to one number, its arguments, its true slopes by the closed form beside it)
CASES = {
    # x0 + x0x1 + x0x1x2 + x0x1x2x3 along x1 at x1 = 0: x0 (1 + x2 + x2 x3); TensorFlow divides by x and takes 0/0 for 0
    "cumprod of a zero": (lambda x: tf.reduce_sum(tf.math.cumprod(x)), [[1.0, 0.0, 2.0, 3.0]], [[1.0, 9.0, 0.0, 0.0]]),
    # d/dx x log y = log y, at x = 0 too; TensorFlow says 0
    "xlogy at x = 0": (lambda x: tf.math.xlogy(x, constant(0.5, x)), [0.0], [np.log(0.5)]),
    "xlog1py at x = 0": (lambda x: tf.math.xlog1py(x, constant(0.5, x)), [0.0], [np.log(1.5)]),
    "xdivy at x = 0": (lambda x: tf.math.xdivy(x, constant(0.5, x)), [0.0], [2.0]),
    # I1(x) = x/2 + x^3/16 + …; TensorFlow says 1
    "bessel_i1 at 0": (tf.math.bessel_i1, [0.0], [0.5]),
    # x^0 = 1 everywhere
    "power 0 of 0": (lambda x: tf.pow(x, constant(0.0, x)), [0.0], [0.0]),
    # Re z0 z1 along Re z1 is Re z0, along Im z1 is -Im z0; TensorFlow does not conjugate. So in the next two.
    "cumprod of complex numbers": (
        lambda a, b: tf.math.real(tf.math.cumprod(tf.complex(a, b)))[1],
        [A, B],
        [[Z[1].real, Z[0].real, 0.0], [-Z[1].imag, -Z[0].imag, 0.0]],
    ),
    "xlogy of complex numbers": (
        lambda a, b: tf.reduce_sum(
            tf.math.real(tf.math.xlogy(tf.complex(a, b), tf.constant([1j, 2j, 3j], tf.complex128)))
        ),
        [A, B],
        [np.log([1.0, 2.0, 3.0]), [-np.pi / 2] * 3],
    ),
    "determinant of complex numbers": (
        lambda a, b: tf.math.real(tf.linalg.det(tf.complex(a, b))),
        [M.real, M.imag],
        [COFACTORS.real, -COFACTORS.imag],
    ),
    # what is written twice keeps the last value, so that the first has no influence
    "dynamic_stitch of one index twice": (
        lambda a, b: tf.reduce_sum(tf.dynamic_stitch([[0, 1], [1]], [a, b])),
        [[1.0, 2.0], [3.0]],
        [[1.0, 0.0], [1.0]],
    ),
    # the saturation of a colour is (max - min) / max, along its smallest part -1 / max; TensorFlow says 0 where that
    # part is 0
    "saturation without blue": (lambda x: tf.image.rgb_to_hsv(x)[0, 1], [[[1.0, 0.75, 0.0]]], [[[0.0, 0.0, -1.0]]]),
    # the factors of a matrix multiply to the matrix, whatever its singular values; near equal ones TensorFlow drops a
    # term
    "svd of rank one": (recomposed, [np.outer([1.0, 2.0, 3.0], [1.0, 0.0, 1.0])], [WEIGHTS]),
}


def slopes(function, arguments):
    tensors = [tf.constant(a, tf.float64) for a in arguments]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = function(*tensors)
    return [np.asarray(g) for g in tape.gradient(value, tensors)]


@pytest.mark.sampled
@pytest.mark.parametrize("name", CASES)
def test_fault_of_tensorflow(name):
    function, arguments, truth = CASES[name]
    arguments, truth = [np.array(a) for a in arguments], [np.array(t) for t in truth]
    said = slopes(function, arguments)
    report = check_function(function, *arguments)
    # tells a corrected release (right to a few units) from a fault (wrong in the first digits): nothing is between
    if all(np.allclose(s, t, rtol=1e-9, atol=1e-12) for s, t in zip(said, truth, strict=True)):
        assert report.ok, report.explain()
        return
    assert report.failures and {v.verdict for v in report.failures} <= {"mismatch", "nan"}, report.explain()
    for verdict in report.failures:
        at = 0 if len(arguments) == 1 else [v.name for v in report.verdicts].index(verdict.name)
        assert abs(verdict.numeric - cotangent() * truth[at][verdict.worst]) <= verdict.allowed, report.explain()


@functools.cache
def cotangent():
    """The number that check_function multiplies a single output with, read off a function whose slope is 1."""
    return check_function(tf.reduce_sum, np.ones(1)).verdicts[0].autodiff
