"""Entries of an input at which the loss jumps pass where autodiff is right on the branch, and excuse nothing else."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ref import check_function, check_gradients, check_layer
from keras_ref.reports.verdict import Kind, Reason

POINT = np.array([0.0, 1.0, -2.0, 0.3])
TIED = np.array([1.0, 1.0, 0.5, -1.0])
RIGHT, WRONG = 1.0, 1.0 + 1e-6


def with_factors(forward, slope, factors):
    """A function with a hand-made gradient, `slope` times a factor for each entry."""

    @tf.custom_gradient
    def function(x):
        return forward(x), lambda upstream: upstream * slope(x) * tf.constant(factors, x.dtype)

    return function


#: name → (function, where, how many entries sit on a jump)
JUMPING = {
    "a mask value, isolated": (lambda x: tf.where(x != 0, tf.exp(x), tf.zeros_like(x)), POINT, 1),
    "a mask value, with a slope of its own": (lambda x: tf.where(x != 0, tf.exp(x), 3 * x), POINT, 1),
    "a threshold": (lambda x: tf.where(x >= 0, 2 * x + 1, x), POINT, 1),
    "a sign": (lambda x: (x + 1) * tf.sign(x), POINT, 1),
    "floor": (lambda x: (x + 0.5) * tf.floor(x), POINT, 3),
    "round, at a half": (lambda x: x * tf.round(x), np.array([0.5, 1.25, -1.5]), 2),
    "a remainder": (lambda x: x % 1.0, POINT, 3),
    "argmax": (lambda x: tf.one_hot(tf.argmax(x), 4, dtype=x.dtype) * tf.exp(x), TIED, 2),
    "ranks": (lambda x: tf.cast(tf.argsort(tf.argsort(x)), x.dtype) * tf.exp(x), TIED, 2),
    "only eagerly": (lambda x: tf.where(x >= 0, 2 * x + 1, x) if x.numpy().size else x, POINT, 1),
}


@pytest.mark.parametrize("name", JUMPING)
def test_entries_on_a_jump_are_counted_and_do_not_fail(name):
    function, at, jumps = JUMPING[name]
    report = check_function(function, at)
    (verdict,) = report.verdicts
    assert report.ok, report.explain()
    assert (verdict.verdict, verdict.reason_code, verdict.jumps) == (Kind.KINK, Reason.ON_A_JUMP, jumps)
    assert any(
        note.startswith(f"{jumps} of {at.size} entries of input sit on a jump of the loss") for note in report.notes
    )


def masked(x):
    return tf.where(x != 0, tf.exp(x), 3 * x)


def slope_of_masked(x):
    return tf.where(x != 0, tf.exp(x), 3 + 0 * x)


@pytest.mark.parametrize("wrong", range(4))
def test_a_jump_excuses_no_wrong_entry(wrong):
    """At every entry an error of 1e-6 fails: beside the jump as a mismatch, on it as undecided."""
    factors = [WRONG if i == wrong else RIGHT for i in range(4)]
    report = check_function(with_factors(masked, slope_of_masked, factors), POINT)
    (verdict,) = report.verdicts
    assert (verdict.verdict, verdict.worst) == (Kind.UNDECIDED if wrong == 0 else Kind.MISMATCH, (wrong,))
    assert not report.ok
    assert check_function(with_factors(masked, slope_of_masked, [RIGHT] * 4), POINT).ok


class Weight(keras.layers.Layer):
    """The input times a function of a weight that jumps where the weight is 0."""

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1],), initializer="zeros", name="w")

    def call(self, x):
        return x * masked(tf.convert_to_tensor(self.w))

    def compute_output_shape(self, shape):
        return shape


@pytest.mark.parametrize("effort", ["full", "fast"])
def test_a_weight_on_a_jump_is_undecided(effort):
    report = check_layer(Weight(), np.array([[0.5, -1.0]]), effort=effort)
    verdict = next(v for v in report.verdicts if v.name.endswith("/w"))
    assert (verdict.verdict, verdict.reason_code, report.ok) == (Kind.UNDECIDED, Reason.JUMP, False)


class Planted(keras.layers.Layer):
    """The identity, whose backward pass multiplies what flows to the first feature."""

    def __init__(self, wrong, **options):
        super().__init__(**options)
        self.wrong = wrong

    def call(self, x):
        return with_factors(tf.identity, tf.ones_like, [1.0 + self.wrong, 1.0])(x)


def padded(cell, wrong, *, residual):
    """A recurrent network behind Masking on padded sequences, with a path beside the mask if `residual`."""
    keras.utils.set_random_seed(3)
    x = keras.Input((4, 3))
    h = Planted(wrong)(cell(2)(keras.layers.Masking(0.0)(x)))
    if residual:
        h = keras.layers.Concatenate()([h, keras.layers.Dense(2, "tanh")(keras.layers.Flatten()(x))])
    model = keras.Model(x, keras.layers.Dense(1)(h))
    model.compile(loss="mse")
    data = np.random.default_rng(3).normal(size=(2, 4, 3))
    data[0, 2:], data[1, 3:] = 0.0, 0.0
    return model, data, np.array([[0.5], [-0.25]])


@pytest.mark.sampled
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("cell", [keras.layers.LSTM, keras.layers.GRU, keras.layers.SimpleRNN])
def test_padded_sequences(cell, residual):
    report = check_gradients(*padded(cell, 0.0, residual=residual))
    assert report.ok, report.explain()
    assert {v.jumps for v in report.verdicts if v.name == "input" and v.oracle == "forward"} == {9}
    assert {v.verdict for v in report.verdicts if v.name != "input"} == {Kind.MATCH}


@pytest.mark.sampled
@pytest.mark.parametrize("options", [{"effort": "full"}, {"effort": "fast"}, {"budget": 2}], ids=str)
def test_padded_sequences_however_much_is_compared(options):
    right = check_gradients(*padded(keras.layers.LSTM, 0.0, residual=True), **options)
    assert right.ok, right.explain()
    wrong = check_gradients(*padded(keras.layers.LSTM, 1e-4, residual=True), **options)
    assert "mismatch" in {v.verdict for v in wrong.failures}, wrong
    assert any(v.name.endswith("lstm_cell/kernel") for v in wrong.failures)
