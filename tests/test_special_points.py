"""A backward pass that is wrong at one point only: excused where kinks meet, a fault where a derivative exists."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ref import check_function, check_gradients
from keras_ref.reports.reasons import Reason


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
    assert failure.reason_code is Reason.WRONG_ONLY_HERE


#: functions with a derivative at the point, where autodiff adds up the conventions of kinks that cancel:
#: (function, point, derivative by hand)
CANCELLING = {
    "logaddexp at a tie": (lambda x: keras.ops.logaddexp(x, np.zeros(1)), 0.0, 0.5),
    "ldexp at 0 is linear": (lambda x: keras.ops.ldexp(x, np.array([2])), 0.0, 4.0),
    "hypot at a tie": (lambda x: keras.ops.hypot(x, np.ones(1)), 1.0, np.sqrt(0.5)),
    "celu at 0": (lambda x: keras.ops.celu(x, 2.0), 0.0, 1.0),
    "relu(x) - relu(-x) is x": (lambda x: tf.nn.relu(x) - tf.nn.relu(-x), 0.0, 1.0),
}


@pytest.mark.parametrize("name", CANCELLING)
def test_where_kinks_cancel_autodiff_is_compared_with_the_derivative(name):
    """A mismatch exactly where autodiff's value is not the derivative: a release that corrects it stays green."""
    function, at, derivative = CANCELLING[name]
    x = tf.constant([at], tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    right = abs(tape.gradient(y, x).numpy()[0] - derivative) < 1e-9  # far between the values that kinks would give
    (verdict,) = check_function(function, np.array([at])).verdicts
    assert (verdict.verdict == "match") == right, verdict.explain()
    assert right or (verdict.verdict, verdict.reason_code) == ("mismatch", Reason.WRONG_ONLY_HERE)


@pytest.mark.sampled
@pytest.mark.parametrize("planted", [-1e6, 1e-3, np.float64(7.0)], ids=str)
@pytest.mark.parametrize("operation", [tf.identity, tf.nn.relu, tf.abs, tf.sort], ids=lambda f: f.__name__)
def test_a_planted_slope_at_one_point_is_not_excused_by_an_operation_with_a_kink_elsewhere(planted, operation):
    """x²/2 has the slope 0 at 0; that an operation beside it may have a kink somewhere excuses nothing."""

    @tf.custom_gradient
    def half_square(x):
        return x * x / 2, lambda up: up * tf.where(x == 0, tf.cast(planted, x.dtype), x)

    def function(x):
        return half_square(x) + 0.0 * operation(x + 1.0)

    (verdict,) = check_function(function, np.zeros(1)).verdicts
    assert verdict.verdict == "mismatch", verdict.explain()


def test_a_planted_slope_at_a_kink_is_excused_no_further_than_the_kink_goes():
    """|x| has the slopes -1 and 1 at 0: any value between is a convention, 77 is none."""

    @tf.custom_gradient
    def absolute(x):
        return tf.abs(x), lambda up: up * tf.where(x == 0, tf.cast(77.0, x.dtype), tf.sign(x))

    (verdict,) = check_function(absolute, X).verdicts
    assert (verdict.verdict, verdict.reason_code) == ("mismatch", Reason.BEYOND_KINKS), verdict.explain()


def test_kinks_of_several_inputs_that_meet_are_no_fault():
    """relu(a) - relu(-b) at a = b = 0 has kinks along a and along b; autodiff takes 0 of each, a convention."""
    report = check_function(lambda a, b: tf.nn.relu(a) - 0.5 * tf.nn.relu(-b), np.zeros(2), np.zeros(2))
    assert report.ok and {v.verdict for v in report.verdicts} == {"kink"}, report.explain()


@pytest.mark.parametrize("kernel", ["zeros", "glorot_uniform"])
def test_a_fresh_network_of_relus_passes_at_its_own_zeros(kernel):
    """Zero biases under rows of zeros, and samples that mirror each other: every unit sits on its kink."""
    model = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(3, "relu", kernel_initializer=kernel),
            keras.layers.Dense(3, "relu", kernel_initializer=kernel),
            keras.layers.Dense(1),
        ]
    )
    model.compile(loss="mse")
    x = np.array([[0.0, 0.0], [0.75, -0.5], [-0.75, 0.5], [0.0, 1.25]])
    report = check_gradients(model, x, np.array([[1.0], [-0.5], [-0.5], [0.25]]))
    assert report.ok, report.explain()


def test_a_comparison_of_floats_may_bend():
    """x · [x > 0] bends without an operation that is called so."""
    report = check_function(lambda x: x * tf.cast(x > 0.0, x.dtype) - x * tf.cast(x < 0.0, x.dtype), X)
    assert report.ok and report.verdicts[0].verdict == "kink", report.explain()
