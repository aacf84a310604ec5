"""Rounding inside loops, branches and called functions, where a part computes in a lower precision or cancels.

The truth is the same computation with nothing cast: float64 is exact beside float32 and the halves.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow.python.framework.function import Defun
from tensorflow.python.ops import functional_ops

from keras_ref import check_function
from keras_ref.evaluation.rounding_errors.rounding import Rounded
from scratch.noise import ROLLS

SHAPE = (3, 4)
LOW = {"float32": tf.float32, "float16": tf.float16, "bfloat16": tf.bfloat16}

#: what a round of a loop computes, of rows, numbers that cancel in most of them
BODIES = {
    "shift": lambda x: (x + 8.0) - 8.0,
    "exp - 1": lambda x: tf.exp(x / 8) - 1,
    "log_softmax": lambda x: tf.nn.log_softmax(4 * x),
    "logsumexp": lambda x: x - tf.reduce_logsumexp(x, -1, keepdims=True),
    "mean": lambda x: x - tf.reduce_mean(x, -1, keepdims=True) / 3,
    "1 - tanh": lambda x: 1 - tf.tanh(x),
    "infinite terms": lambda x: x + tf.exp(tf.reduce_sum(tf.where(x > 9.0, x, -np.inf), -1, keepdims=True)),
}


def _functional(body, x):
    """A While of functions of TensorFlow 1, as in its own CTC loss."""
    scale = 1 + 0 * tf.reduce_max(x)  # an input that the loop captures

    @Defun(tf.int32, x.dtype)
    def condition(i, v):
        del v
        return i < 3

    @Defun(tf.int32, x.dtype)
    def step(i, v):
        return i + 1, tf.reshape(body(tf.reshape(v, SHAPE)) * scale, SHAPE)

    return tf.reshape(functional_ops.While([tf.constant(0), x], condition, step)[1], SHAPE)


def _while(body, x, rounds=3):
    return tf.while_loop(lambda i, v: i < rounds, lambda i, v: (i + 1, body(v)), (0, x))[1]


def _rows(body):
    return lambda row: body(row[None])[0]


#: how a body is run: (body, x) → what comes out
FLOWS = {
    "while_loop": _while,
    "scan": lambda body, x: tf.scan(lambda a, row: _rows(body)(a / 2 + row), x),
    "foldl": lambda body, x: tf.foldl(lambda a, row: _rows(body)(a / 2 + row), x),
    "map_fn": lambda body, x: tf.map_fn(_rows(body), x),
    "map_fn of while_loop": lambda body, x: tf.map_fn(_rows(lambda row: _while(body, row, 2)), x),
    "vectorized_map": lambda body, x: tf.vectorized_map(_rows(body), x),
    "cond": lambda body, x: tf.cond(tf.reduce_sum(x) > -1e4, lambda: body(x), lambda: x),
    "switch_case": lambda body, x: tf.switch_case(tf.cast(x[0, 0] < 1e4, tf.int32), [lambda: x, lambda: body(x)]),
    "tf.function": lambda body, x: tf.function(tf.function(body))(x),
    "recompute_grad": lambda body, x: tf.recompute_grad(body)(x),
    "functional While": _functional,
}


def loss_of(flow, body, dtype):
    """A loss of float64 entries, the flow computed in another dtype."""
    weights = np.cos(np.arange(12.0) + 0.5).reshape(SHAPE)[: 1 if flow == "foldl" else 3]
    return lambda x: tf.reduce_sum(tf.cast(FLOWS[flow](BODIES[body], tf.cast(x, dtype)), tf.float64) * weights)


@pytest.mark.parametrize("flow", FLOWS)
@settings(max_examples=max(3, settings().max_examples // 5))
@given(st.sampled_from(sorted(BODIES)), st.sampled_from(sorted(LOW)), st.integers(0, 2**16), st.floats(-2, 0.5))
def test_the_stated_error_covers_the_true_one(flow, body, dtype, seed, size):
    x = tf.constant(10.0**size * np.random.default_rng(seed).normal(size=SHAPE))
    traced = tf.function(loss_of(flow, body, LOW[dtype]), autograph=False).get_concrete_function(x)
    stated = Rounded(traced).noise([x], calls=ROLLS)
    truth = float(tf.function(loss_of(flow, body, tf.float64), autograph=False)(x))
    assert abs(float(traced(x)) - truth) <= stated  # also false where nothing is stated


@pytest.mark.sampled
@pytest.mark.parametrize("planted", [0.0, 1.0])
@pytest.mark.parametrize("scale", [1.0, 5.0, 20.0])
def test_ctc_of_confident_logits(scale, planted):
    """TensorFlow's CTC loss computes in float32, its sums in a loop; Keras hands it float64 logits all the same."""
    path = np.array([[1, 1, 0, 2, 0]])

    @tf.custom_gradient
    def off(x):
        return x * 1.0, lambda up: up * (1 + planted)

    def loss(z):
        return keras.losses.ctc(np.array([[1, 2]]), off(z))

    report = check_function(loss, scale * np.eye(4)[path])
    (verdict,) = report.verdicts
    assert report.noise > 1e-8
    if planted and scale < 20:
        assert verdict.verdict == "mismatch"
    elif not planted:
        assert verdict.verdict != "mismatch", verdict.explain()
