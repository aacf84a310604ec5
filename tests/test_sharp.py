"""Where real differences are blunt, the twin's complex step is not: between kinks a billionth away on either side."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from support_sides import numeric_sides

from keras_ref import check_function
from keras_ref.comparison.entries.entrywise import compare_entries
from scratch.layers.core import Dense
from scratch.losses.regression import MeanAbsoluteError, MeanSquaredError
from scratch.model import Model

import sensitivity  # isort: skip

MODEL = Model.chain([Dense(2, "relu"), Dense(1)], (1,))
X, Y = np.array([[1.0], [0.5]]), np.array([[0.25], [1.0]])


def between_kinks(distance):
    """Unit 0 of the first sample is `distance` above its kink, unit 1 as far below; each kernel entry has one near."""
    kernel = np.array([[0.75, -0.5]])
    return {
        "dense/kernel": kernel,
        "dense/bias": np.array([-0.75 + distance, 0.5 - distance]),
        "dense_1/kernel": np.array([[0.5], [-1.25]]),
        "dense_1/bias": np.array([0.125]),
    }


@pytest.mark.parametrize("distance", [1e-6, 1e-9, 1e-11])
def test_an_error_of_a_millionth_is_seen_between_kinks(distance):
    oracle, autodiff = numeric_sides(MODEL, between_kinks(distance), X, Y, MeanSquaredError())
    for name in oracle.names:
        assert not compare_entries(oracle, name, autodiff=autodiff).failed
        gradient = autodiff.gradient[name]
        entry = int(np.argmax(np.abs(gradient)))
        wrong = sensitivity.planted(autodiff, name, sensitivity.PLANTS["entry 1e-06"], entry)
        assert compare_entries(oracle, name, autodiff=wrong).verdict == "mismatch", name


@pytest.mark.sampled
@pytest.mark.parametrize("seed", range(40))
def test_a_term_within_the_noise_is_not_missed(seed):
    """elu(rate·w - depth) beside a term that is a thousand times 1/ε larger: it dies within less than a step."""
    generator = np.random.default_rng(seed)
    depth, rate, large = generator.uniform(20, 24), 2.0 ** generator.uniform(6, 7), 10.0 ** generator.uniform(3, 4)
    weights = {
        "dense/kernel": np.array([[1.0]]),
        "dense/bias": np.array([0.0]),
        "dense_1/kernel": np.array([[1.0, rate]]),
        "dense_1/bias": np.array([large, -depth - rate]),
        "dense_2/kernel": np.array([[generator.uniform(1, 20)], [1.0]]),
        "dense_2/bias": np.array([0.0]),
    }
    model = Model.chain([Dense(1), Dense(2, "elu"), Dense(1)], (1,))
    oracle, autodiff = numeric_sides(model, weights, np.ones((1, 1)), np.zeros((1, 1)), MeanAbsoluteError())
    verdict = compare_entries(oracle, "dense/kernel", autodiff=autodiff)
    assert not verdict.failed, verdict.explain()
    wrong = sensitivity.planted(autodiff, "dense/kernel", sensitivity.PLANTS["entry 1e-06"], 0)
    assert compare_entries(oracle, "dense/kernel", autodiff=wrong).verdict == "mismatch"


@pytest.mark.parametrize("seed", range(6))
def test_what_noise_hides_from_short_steps_is_seen_with_longer_ones(seed):
    """The kernel behind a unit that is hardly on: a loss of about 1 is a parabola of it, of a slope of 1e-8."""
    generator = np.random.default_rng(seed)
    weights = between_kinks(10.0 ** -generator.uniform(7, 8)) | {"dense/kernel": np.array([[0.75, 0.5]])}
    weights["dense/bias"][1] = -1.0  # the other unit is off
    whole, autodiff = numeric_sides(MODEL, weights, X, generator.uniform(1, 2, (2, 1)), MeanSquaredError())
    oracle = replace(whole, supports_complex=False)  # as Keras's own forward pass
    (name,) = (n for n, own in oracle.names.items() if own == "dense_1/kernel")
    assert not compare_entries(oracle, name, autodiff=autodiff).failed
    for label in ("tensor 1e-05", "entry 1e-06"):
        wrong = sensitivity.planted(autodiff, name, sensitivity.PLANTS[label], 0)
        assert compare_entries(oracle, name, autodiff=wrong).verdict == "mismatch", label


@pytest.mark.parametrize("seed", range(6))
def test_an_entry_that_is_said_to_be_zero_is_seen_for_itself(seed):
    """Saturated units. One moves at half the scale; there the others are next to zero still, as a wrong zero is."""
    generator = np.random.default_rng(seed)
    logits = np.array([-generator.uniform(250, 330), generator.uniform(40, 60), -generator.uniform(250, 330)])
    weights = {"dense/kernel": np.stack([logits, generator.normal(size=3)]), "dense/bias": np.zeros(3)}
    model = Model.chain([Dense(3, "sigmoid")], (2,))
    oracle, autodiff = numeric_sides(model, weights, np.eye(1, 2), np.eye(1, 3, 1), MeanSquaredError())
    (name,) = (n for n, own in oracle.names.items() if own == "dense/kernel")
    verdict = compare_entries(oracle, name, autodiff=autodiff)
    assert verdict.verdict == "match", verdict.explain()
    wrong = sensitivity.planted(autodiff, name, sensitivity.zero_entry, 0)
    verdict = compare_entries(oracle, name, autodiff=wrong)
    assert verdict.verdict == "mismatch" and verdict.accused == (0,), verdict.explain()


def test_rounding_that_no_shift_of_the_point_rolls_is_not_accused():
    """exp(log g - y + x) near 400: log g - y is rounded to a grid of 6e-14, and x and y move on that very grid."""
    report = check_function(tf.math.cumulative_logsumexp, np.array([-500.0, 0.0, 10.0, 400.0]))
    assert report.ok, report.explain()


def test_a_backward_pass_that_is_not_linear_in_its_upstream_is_found():
    """Rolling the upstream gradient must not excuse what clips it."""

    @tf.custom_gradient
    def clipped(x):
        return x**3, lambda upstream: tf.clip_by_norm(upstream * 3 * x**2, 1e-3)

    assert [v.verdict for v in check_function(clipped, np.array([0.5, -1.25])).failures] == ["mismatch"]


#: losses whose every input is small, where steps are too; near 0 they are quadratic, or lose digits in a difference
SMALL_LOSSES = {
    "log_cosh": lambda x: keras.losses.log_cosh(tf.zeros_like(x), x),
    "cosh(x) - 1": lambda x: tf.cosh(x) - 1,
    "exp(x) - 1": lambda x: tf.exp(x) - 1,
    "a small network": lambda x: tf.reduce_mean(tf.tanh(x @ tf.ones((2, 2), x.dtype)) ** 2),
}


@pytest.mark.sampled
@pytest.mark.parametrize("name", SMALL_LOSSES)
@pytest.mark.parametrize("planted", [0.0, 1e-2, 1e-6])
def test_small_inputs_are_compared_enlarged(name, planted):
    """Where nothing is as large as 1, steps are shares of almost nothing: an error is found where all is enlarged."""

    @tf.custom_gradient
    def same(x):
        return tf.identity(x), lambda upstream: upstream * (1 + planted)

    x = np.array([[1e-5, -3e-9], [2e-7, 5e-6]])
    report = check_function(lambda x: SMALL_LOSSES[name](same(x)), x)
    assert {v.verdict for v in report.verdicts} == {"mismatch" if planted else "match"}, report


#: functions of z whose backward pass, as TensorFlow has it, takes another branch where z is 0: it loses what it divides
#: by z, or multiplies
JUMPING = {
    "cumprod": lambda z: tf.math.cumprod(z, axis=-1),
    "cumprod, reversed": lambda z: tf.math.cumprod(z, axis=-1, reverse=True),
    "a hand-made product": tf.custom_gradient(
        lambda z: (
            z[:, 1:] * z[:, :-1] ** 2,
            lambda up: (
                tf.pad(tf.math.divide_no_nan(up * z[:, 1:] * z[:, :-1] ** 2, z[:, 1:]), [[0, 0], [1, 0]])
                + tf.pad(2 * up * z[:, 1:] * z[:, :-1], [[0, 0], [0, 1]])
            ),
        )
    ),
}
#: functions that are 0 at 0, most of them off by rounding there
ZEROS = {"exp - 1": lambda x: tf.exp(x) - 1, "1 - cos": lambda x: 1 - tf.cos(x) + x, "x": lambda x: 1.0 * x}


@pytest.mark.sampled
@pytest.mark.parametrize("zero", ZEROS)
@pytest.mark.parametrize("function", JUMPING)
def test_a_jump_of_the_backward_pass_is_no_rounding(function, zero):
    """What is exactly 0 is so off by rounding too: it decides, as a comparison does."""
    x = np.random.default_rng(3).normal(size=(2, 3))
    assert check_function(lambda x: JUMPING[function](ZEROS[zero](x)), x).ok
    x[:, 1] = 0
    (verdict,) = check_function(lambda x: JUMPING[function](ZEROS[zero](x)), x).verdicts
    assert verdict.verdict == "mismatch" and verdict.counts["mismatch"] >= 2, verdict


@pytest.mark.parametrize("function", ["cumprod", "a hand-made product"])
def test_what_only_rounding_allows_is_undecided(function, monkeypatch):
    """Were that jump taken for rounding, it would allow a difference as large as the slope: that is no match."""
    monkeypatch.setattr("keras_ref.evaluation.rounding_errors.rounded_graph.DECIDING_ZERO", {})
    x = np.random.default_rng(3).normal(size=(2, 3))
    x[:, 1] = 0
    (verdict,) = check_function(lambda x: JUMPING[function](tf.exp(x) - 1), x).verdicts
    assert verdict.verdict == "undecided" and verdict.counts["undecided"] >= 2, verdict
