"""`digits`: derivatives that are right to the scale of the loss and have lost most of their own digits."""

from functools import cache
from importlib import util

import mpmath
import numpy as np
import pytest
import tensorflow as tf

from keras_ref import check_function
from keras_ref.comparison.digits import measure_digits
from keras_ref.comparison.exact_slopes import ExactLoss, Standing
from keras_ref.errors import BadInput
from keras_ref.evaluation.many_digits.exact_graph import Graph
from scratch.differences import UNIT

#: (function, point, its derivative there by a closed form): autodiff has nothing of it
LOST = {
    "tanh": (tf.tanh, 20.0, lambda x: 1 / mpmath.cosh(x) ** 2),
    "selu": (tf.nn.selu, -700.0, lambda x: mpmath.mpf(1.7580993408473768599) * mpmath.exp(x)),
    "sigmoid": (tf.sigmoid, 40.0, lambda x: mpmath.exp(-x) / (1 + mpmath.exp(-x)) ** 2),
}
ORDINARY = (
    tf.tanh, tf.sigmoid, tf.nn.selu, tf.nn.elu, tf.nn.softplus, tf.nn.silu, tf.nn.gelu, tf.exp, tf.math.expm1, tf.sin,
    tf.cos, tf.atan, tf.asinh, tf.sinh, tf.square, tf.math.erf, tf.nn.softsign, tf.math.log1p, tf.math.lgamma,
    lambda x: tf.reduce_logsumexp(tf.stack([x, 2 * x, x * x])),
)  # fmt: skip


@cache
def graph_of(function):
    """The function of one number, traced once."""
    return Graph(tf.function(function, autograph=False).get_concrete_function(tf.TensorSpec((), tf.float64)))


def loss_at(function, x):
    """The function of one number in many digits, at a point."""
    return ExactLoss(graph_of(function), [np.asarray(x)])


def slope(function, x):
    x = tf.constant(x, tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return float(tape.gradient(y, x))


@pytest.mark.parametrize("name", LOST)
def test_lost_digits_are_flagged(name):
    function, x, derivative = LOST[name]
    report = check_function(function, np.array([x, 0.5]), digits=True)
    (verdict,) = report.failures
    assert [str(v.verdict) for v in report.verdicts] == ["match", "inaccurate"]
    assert (verdict.oracle, verdict.worst, verdict.autodiff) == ("digits", (0,), 0.0)
    with mpmath.workdps(60):
        truth = derivative(mpmath.mpf(x))
        found = loss_at(function, x).slope(0, 0)
        assert found.standing is Standing.SMOOTH and abs(found.value - truth) < 1e-11 * truth
    assert verdict.reason.startswith("0.0 digits are right of 1")
    assert "60 digits or more" in report.notes[0]


def flagged(count, generator):
    """How many of so many ordinary points of the functions are called inaccurate."""
    found = 0
    for k in range(count):
        function = ORDINARY[k % len(ORDINARY)]
        x = generator.uniform(0.1, 3) if function in (tf.math.log1p, tf.math.lgamma) else generator.normal()
        digits = measure_digits(loss_at(function, x), 0, 0, entry=0, autodiff=slope(function, x))
        found += digits is not None and digits.few
    return found


def test_ordinary_points_are_not_flagged():
    assert flagged(60, np.random.default_rng(0)) == 0


@pytest.mark.slow
def test_ten_thousand_ordinary_points_are_not_flagged():
    assert flagged(10_000, np.random.default_rng(1)) == 0


def test_a_planted_loss_of_digits_is_flagged():
    """One digit out of nine wrong is none of ours; a gradient that keeps three digits of sixteen is."""

    def coarse(factor):
        @tf.custom_gradient
        def function(x):
            return tf.exp(x), lambda upstream: upstream * tf.exp(x) * factor

        return function

    for error, few in ((1e-9, False), (1e-4, True)):
        found = measure_digits(loss_at(tf.exp, 1.0), 0, 0, entry=0, autodiff=slope(coarse(1 + error), 1.0))
        assert found.few is few and round(-np.log10(error)) == round(found.right)


def test_conditioning_excuses_what_no_arithmetic_can_keep():
    """sin at 1e16: half a unit in the last place of x is a radian, and no digit of the slope is left."""
    found = measure_digits(loss_at(tf.sin, 1e16), 0, 0, entry=0, autodiff=0.0)
    assert found.right == 0.0 and found.allowed < 1 and not found.few


def test_kinks_and_zero_slopes_have_no_digits():
    assert measure_digits(loss_at(tf.abs, 0.0), 0, 0, entry=0, autodiff=0.0) is None
    assert measure_digits(loss_at(tf.square, 0.0), 0, 0, entry=0, autodiff=0.0) is None
    assert loss_at(tf.abs, 0.0).slope(0, 0).standing is Standing.KINK
    assert loss_at(tf.square, 0.0).slope(0, 0).value == 0


@pytest.mark.parametrize("function", [tf.math.rsqrt, tf.math.sqrt, tf.math.log, tf.math.reciprocal])
@pytest.mark.parametrize("at", [-1.0, 0.0, 2.0])
def test_numbers_outside_of_a_domain(function, at):
    """Where TensorFlow has no number, or infinity, there is none in many digits: 1 / rsqrt(-1) is not 0."""
    traced = tf.function(function).get_concrete_function(tf.TensorSpec([1], tf.float64))
    (found,), wanted = Graph(traced)(np.array([at])), traced(tf.constant([at], tf.float64)).numpy()
    assert np.allclose(found.astype(float), wanted, rtol=UNIT, atol=0, equal_nan=True)


def test_second_slopes():
    """Of x³ y along (1, 2): 6xy + 2 · 3x² by x, 3x² by y."""
    traced = tf.function(lambda x: x[0] ** 3 * x[1], autograph=False).get_concrete_function(
        tf.TensorSpec((2,), tf.float64)
    )
    loss = ExactLoss(Graph(traced), [np.array([1.5, -0.5])])
    found = [float(loss.second_slope(0, entry, {0: np.array([1.0, 2.0])}).value) for entry in (0, 1)]
    np.testing.assert_allclose(found, [6 * 1.5 * -0.5 + 6 * 1.5**2, 3 * 1.5**2], rtol=np.finfo(float).eps)


@pytest.mark.parametrize(
    ("function", "x", "lost"),
    [
        (tf.nn.softplus, 40.0, True),  # y (1 - y) of the rounded sigmoid y
        (tf.nn.elu, -1e-300, True),  # the branch is read from the rounded output: 0 for 1
        (tf.nn.softplus, 0.3, False),
        (tf.nn.elu, 0.3, False),  # a second derivative of 0 has no digits
    ],
)
def test_digits_of_second_derivatives(function, x, lost):
    report = check_function(function, np.array([x, 0.5]), digits=True, order=2)
    lost_in = [(v.oracle, v.worst, v.autodiff) for v in report.failures]
    assert lost_in == ([("hessian-digits", (0,), 0.0)] if lost else [])


def test_what_cannot_be_measured_is_refused(monkeypatch):
    with pytest.raises(BadInput, match=r"done in many digits. Received: RGBToHSV in rgb_to_hsv. Leave digits out."):
        check_function(tf.image.rgb_to_hsv, np.array([[[0.5, 0.25, 0.75]]]), digits=True)
    find = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name, *more: None if name == "mpmath" else find(name, *more))
    with pytest.raises(BadInput, match=r"`digits` needs mpmath\. Received: it is not installed\."):
        check_function(tf.tanh, np.array([0.5]), digits=True)
