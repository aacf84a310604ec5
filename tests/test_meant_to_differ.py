"""Gradients that are meant to differ: partial stop_gradient, straight-through, approximations; found and explained."""

import numpy as np
import pytest
import tensorflow as tf

from keras_ref import Approximation, check_function
from keras_ref.errors import BadInput

X = np.random.default_rng(0).normal(size=(3, 2)) + 2


def wrong_by(error):
    @tf.custom_gradient
    def same(x):
        return tf.identity(x), lambda upstream: upstream * (1 + error)

    return same


def normalized(x, error=0.0):
    return wrong_by(error)(x) / tf.stop_gradient(tf.reduce_sum(x * x))


def straight_through(x, error=0.0):
    return wrong_by(error)(x) + tf.stop_gradient(tf.round(x) - x)


def moving_target(x, error=0.0):
    target = tf.stop_gradient(tf.tanh(x) * 3)
    return (wrong_by(error)(x) - target) ** 2


FUNCTIONS = (normalized, straight_through, moving_target)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_a_partial_stop_gradient_is_named(function):
    (verdict,) = check_function(function, X).verdicts
    assert verdict.verdict == "mismatch"
    assert verdict.reason_code == "stopped-in-part"
    assert "test_meant_to_differ.py cuts a path" in verdict.reason
    assert "expect={'input': 'stop_gradient'}" in verdict.reason


@pytest.mark.sampled
@pytest.mark.parametrize("effort", ["full", "fast"])
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_a_declared_one_is_compared_with_its_value_held(function, effort):
    declared = {"expect": {"input": "stop_gradient"}, "effort": effort}
    report = check_function(function, X, **declared)
    assert report.ok and [v.reason_code for v in report.verdicts] == ["stopped-as-declared"], report.explain()
    for error in (1e-3, 1e-6):
        report = check_function(lambda x, error=error: function(x, error), X, **declared)
        assert not report.ok and report.verdicts[0].reason_code == "wrong-beside-stop", report


@tf.custom_gradient
def cut_off(x):
    """sin x by its series, with the gradient that sin x has."""
    terms = [x, -(x**3) / 6, x**5 / 120, -(x**7) / 5040, x**9 / 362880]
    return tf.add_n(terms), lambda upstream: upstream * tf.cos(x)


@pytest.mark.sampled
def test_an_approximation():
    x = X / 4
    assert not check_function(cut_off, x).ok
    report = check_function(cut_off, x, expect={"*": Approximation(1e-6)})
    assert report.ok and report.verdicts[0].reason_code == "within-approximation", report.explain()
    report = check_function(cut_off, x, expect={"*": Approximation(1e-12)})
    assert not report.ok and report.verdicts[0].reason_code == "beyond-approximation", report


def test_a_declared_share_must_be_one():
    with pytest.raises(BadInput, match="must lie between 0 and 1"):
        Approximation(2.0)
