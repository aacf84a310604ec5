"""The derivative of the gradient, and forward mode: right ones are accepted, planted errors are found and named."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from planting import PLANTED, wrong

from keras_ref import check_function, check_gradients

X = np.random.default_rng(0).normal(size=(3, 2))


def verdicts(report):
    return {(v.name, v.oracle): v.verdict for v in report.verdicts}


@tf.custom_gradient
def cubed(x):
    """x³ with its right gradient, whose own gradient is wrong by 1e-4."""

    @tf.custom_gradient
    def slope(x):
        return 3 * x * x, lambda upstream: upstream * 6 * (1 + PLANTED) * x

    return x**3, lambda upstream: upstream * slope(x)


def test_second_order_of_functions():
    assert verdicts(check_function(lambda x: x**3, X, order=2)) == {
        ("input", "forward"): "match",
        ("input", "hessian"): "match",
    }
    report = check_function(cubed, X, order=2)
    assert verdicts(report) == {("input", "forward"): "match", ("input", "hessian"): "mismatch"}
    assert (
        report.oracles
        == "the gradient is right and its own derivative is not: look at the backward pass of the backward pass"
    )


@pytest.mark.sampled
def test_second_order_of_a_model_names_the_variable():
    def model(inside):
        keras.utils.set_random_seed(3)
        m = keras.Sequential(
            [
                keras.Input((2,)),
                keras.layers.Dense(2, "tanh", name="a"),
                keras.layers.Lambda(inside),
                keras.layers.Dense(2, name="b"),
            ],
            name="m",
        )
        m.compile(loss="mse")
        return check_gradients(m, X, X + 1, order=2, forward_mode=True, oracles=("forward",))

    report = model(lambda x: x**3)
    assert report.ok and {v.oracle for v in report.verdicts} == {"forward", "hessian", "forward-mode"}, report.explain()
    failed = {(v.name, v.oracle) for v in model(cubed).failures}
    assert ("m/a/kernel", "hessian") in failed and all(oracle != "forward" for _, oracle in failed), failed


def test_second_order_on_a_kink():
    """At a kink the gradient jumps; the entries are judged beside it."""
    m = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, "relu"), keras.layers.Dense(2, "tanh")])
    m.compile(loss="mse")
    report = check_gradients(m, X * [[0.0], [1.0], [1.0]], X, order=2, oracles=("forward",))
    assert report.ok, report.explain()
    assert any("at a point beside" in v.reason for v in report.verdicts if v.oracle == "hessian")


def test_forward_mode():
    """Forward mode goes through the operations inside a custom gradient, whatever its backward pass says: they must
    agree.
    """
    assert verdicts(check_function(wrong(tf.sin, 1.0), X, forward_mode=True)) == {
        ("input", "forward"): "match",
        ("input", "forward-mode"): "match",
    }
    assert verdicts(check_function(wrong(tf.sin), X, forward_mode=True)) == {
        ("input", "forward"): "mismatch",
        ("input", "forward-mode"): "mode-dependent",
    }
