"""A backward pass that is wrong at one point only: an excuse where the forward pass may bend there, a fault where it
cannot.
"""

import numpy as np
import pytest
import tensorflow as tf

from keras_ref import check_function


def at_zero(forward, slope, there):
    """forward, with a backward pass that says `there` at zero and the right slope everywhere else."""

    @tf.custom_gradient
    def function(x):
        return forward(x), lambda upstream: upstream * tf.where(x == 0.0, there, slope(x))

    return function


X = np.array([0.0, 0.75, -0.5])
#: smooth functions whose slope at zero is no special one, as a wrong convention would have it
SMOOTH = {
    "tanh": at_zero(tf.tanh, lambda x: 1 - tf.tanh(x) ** 2, tf.zeros((), tf.float64)),
    "square": at_zero(lambda x: x * x + x, lambda x: 2 * x + 1, tf.constant(1.001, tf.float64)),
    "product": at_zero(
        lambda x: tf.exp(x) * tf.sin(x),
        lambda x: tf.exp(x) * (tf.sin(x) + tf.cos(x)),
        tf.constant(1 + 1e-6, tf.float64),
    ),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_a_fault_at_one_point_of_a_smooth_function_is_found(name):
    report = check_function(SMOOTH[name], X)
    (failure,) = report.failures
    assert (failure.verdict, failure.worst) == ("mismatch", (0,))
    assert (
        failure.reason
        == "only at this very point: right at generic points beside it, and no operation of the forward pass has a kink"
    )


def test_kinks_that_meet_are_no_fault():
    """relu(x) - relu(-x) is x: its slope at zero is 1, autodiff's is 0, and no code is wrong."""
    report = check_function(lambda x: tf.nn.relu(x) - tf.nn.relu(-x), X)
    assert report.ok and report.verdicts[0].verdict == "kink", report.explain()


def test_a_comparison_of_floats_may_bend():
    """x · [x > 0] bends without an operation that is called so."""
    report = check_function(lambda x: x * tf.cast(x > 0.0, x.dtype) - x * tf.cast(x < 0.0, x.dtype), X)
    assert report.ok and report.verdicts[0].verdict == "kink", report.explain()
