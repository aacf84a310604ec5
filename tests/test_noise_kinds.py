"""Kinds of losses whose rounding was measured wrong once: right gradients are not accused, planted errors are found.

The right value comes from a closed form, in 50 digits where float64 does not carry it.
"""

import keras
import mpmath
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from keras_ref import check_function, check_gradients
from keras_ref.comparison.sources.oracles import ForwardOracle
from keras_ref.evaluation.changed_state.float64 import in_float64
from keras_ref.evaluation.loss_function import Data, LossFunction
from keras_ref.reports.verdict import Kind, Reason
from scratch.differences import UNIT
from scratch.gradient import Nudges
from scratch.layers.core import Dense
from scratch.losses.base import Projection
from scratch.model import Model
from scratch.noise import errors_of
from scratch.objective import Objective

FEW = max(3, settings().max_examples // 5)
MAGNITUDES = st.builds(lambda m, k: m * 10.0**-k, st.sampled_from([1, 2, 3, 5, 7]), st.integers(0, 16))


#: what a check of a function multiplies its one output with (seed 0)
COTANGENT = float(np.random.default_rng(2).normal())


def covers(verdict, slope):
    """Whether both sides of a verdict on the only entry lie within what it allows of the true slope, in many digits."""
    truth = float(COTANGENT * slope)
    return abs(verdict.numeric - truth) <= verdict.allowed and abs(verdict.autodiff - truth) <= verdict.allowed


def off_by(planted):
    """x², with a backward pass that is wrong by a share."""

    @tf.custom_gradient
    def function(x):
        return x * x, lambda up: up * x * (2 * (1 + planted))

    return function


# Rounding on the scale of what cancels, not of the loss --------------------------------------------------------------


@settings(max_examples=2 * FEW)
@example(1e-13, tf.nn.elu)
@example(5e-14, tf.nn.elu)
@given(MAGNITUDES, st.sampled_from([tf.nn.elu, tf.nn.selu, tf.math.expm1]))
def test_exp_minus_one_near_zero(size, function):
    """exp(x) - 1 rounds at the unit of 1, however near x is to 0."""
    (verdict,) = check_function(function, np.array([-size])).verdicts
    scale = 1.7580993408473766 if function is tf.nn.selu else 1.0
    assert verdict.verdict is Kind.MATCH
    if verdict.reason_code is Reason.DECIDED_BESIDE:  # the numbers are those of another point
        return
    with mpmath.workdps(50):
        assert covers(verdict, scale * mpmath.exp(-size))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_elu_at_its_kink(alpha, seed):
    (verdict,) = check_function(lambda x: keras.ops.elu(x, alpha), np.zeros(1), seed=seed).verdicts
    assert verdict.verdict is Kind.KINK
    # elu has slope 1 on the right and alpha on the left; each side is within what is allowed
    assert abs(verdict.left - alpha * verdict.right) <= (1 + alpha) * verdict.allowed


@pytest.mark.sampled
@pytest.mark.parametrize("activation", ["selu", "elu", keras.layers.ELU(2.0)], ids=["selu", "elu", "ELU(2)"])
def test_zero_initialised_layer_before_an_exponential(activation):
    """At the point the noise is nothing; beside it, where kinks are judged, it is that of exp(x) - 1."""
    layers = [keras.Input((3,)), keras.layers.Dense(4, kernel_initializer="zeros"), keras.layers.Activation(activation)]
    model = keras.Sequential([*layers, keras.layers.Dense(1)], name="zeros")
    model.compile(loss="mse")
    x = np.random.default_rng(0).normal(size=(5, 3))
    for seed in range(2):
        assert check_gradients(model, x, x[:, :1], seed=seed).ok


@pytest.mark.sampled
@pytest.mark.parametrize("seed", [0, 8, 14])
@pytest.mark.parametrize("activation", ["selu", "elu"])
def test_network_of_zeros_that_fits_its_targets(activation, seed):
    """Operations are exact at the point, where the loss is 0; beside it exp(x) - 1 rounds at the unit of 1.

    A gradient that is 0 is looked at with smaller weights too, which are zeros again. Of 25 seeds, 8 and 14 were
    accused.
    """
    generator = np.random.default_rng([seed, 5])
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, activation), keras.layers.Dense(2)], name="fits")
    model.set_weights([np.zeros((2, 3)), np.zeros(3), generator.normal(size=(3, 2)), np.zeros(2)])
    model.compile(loss="mse")
    report = check_gradients(model, generator.normal(size=(3, 2)), np.zeros((3, 2)))
    assert report.ok, report


#: losses that vanish as e^-m, and their slopes
VANISHING = {
    "log(1 + e^-x)": (lambda x: tf.math.log(1 + tf.exp(-x)), lambda m: -1 / (1 + mpmath.exp(m))),
    "softplus(-x)": (lambda x: tf.nn.softplus(-x), lambda m: -1 / (1 + mpmath.exp(m))),
    "1 - sigmoid": (lambda x: 1 - tf.sigmoid(x), lambda m: -mpmath.exp(-m) / (1 + mpmath.exp(-m)) ** 2),
    "crossentropy": (
        lambda x: tf.nn.sparse_softmax_cross_entropy_with_logits([0], tf.stack([x, 0 * x, -x / 8], -1)),
        lambda m: (
            -(mpmath.exp(-m) + mpmath.mpf(9) / 8 * mpmath.exp(-m * mpmath.mpf(9) / 8))
            / (1 + mpmath.exp(-m) + mpmath.exp(-m * mpmath.mpf(9) / 8))
        ),
    ),
    "logsumexp - max": (
        lambda x: tf.reduce_logsumexp(tf.stack([x, 0 * x], -1), -1) - tf.reduce_max(tf.stack([x, 0 * x], -1), -1),
        lambda m: -1 / (1 + mpmath.exp(m)),
    ),
}


@pytest.mark.sampled
@pytest.mark.parametrize("modes", [("eager",), ("function",)], ids=["eager", "function"])
@pytest.mark.parametrize("name", VANISHING)
@settings(max_examples=FEW)
@given(st.floats(1, 700))
def test_confident_losses(name, modes, margin):
    """From a loss of 0.3 to 1e-304: autodiff is right, and the slope is as exact as is said."""
    function, slope = VANISHING[name]
    (verdict,) = check_function(function, np.array([margin]), modes=modes).verdicts
    assert verdict.verdict is Kind.MATCH
    if verdict.reason_code is Reason.DECIDED_BESIDE:  # the numbers are those of another point
        return
    with mpmath.workdps(50):
        assert covers(verdict, slope(mpmath.mpf(margin)))


@pytest.mark.sampled
@pytest.mark.parametrize("scale", [30.0, 120.0])
@pytest.mark.parametrize("ending", ["logits", "softmax"])
def test_learned_classifier(ending, scale):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, None if ending == "logits" else "softmax")])
    model.layers[-1].set_weights([scale * np.eye(3), np.zeros(3)])
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=ending == "logits"))
    report = check_gradients(model, np.eye(3), np.array([0, 1, 2]))
    assert not any(v.verdict is Kind.MISMATCH for v in report.verdicts), report


def test_saturated_gate():
    """(1 - sigmoid(z)) · h: the gate stands still for any small nudge, 62 units of 1 from 0, and is off all the
    same.
    """
    model = Model.chain([Dense(1)], (1,))
    gate = lambda z, h: tf.reduce_sum((1 - tf.sigmoid(z)) * h)  # noqa: E731
    report = check_function(gate, np.array([33.0]), np.array([2.0**20]))
    assert report.ok
    assert report.noise >= 2.0**20 * UNIT / 2
    assert model.trainable


# Steepness and kinks are no rounding ---------------------------------------------------------------------------------

STEEP = {
    "eps/(S+eps)": lambda s, e: e / (s + e),
    "S/sqrt(S²+eps²)": lambda s, e: s / tf.sqrt(s * s + e * e),
    "softsign": lambda s, e: s / (tf.abs(s) + e),
    "(0+eps)/(S+eps) of relu": lambda s, e: e / (tf.nn.relu(s) + e),
    "log(S+eps) of relu": lambda s, e: tf.math.log(tf.nn.relu(s) + e),
}


@pytest.mark.sampled
@pytest.mark.parametrize("planted", [0.0, 1e-6])
@pytest.mark.parametrize("length", [1e-3, 1e-6, 1e-12])
@pytest.mark.parametrize("name", STEEP)
def test_short_lengths(name, length, planted):
    """A length in the loss, however short, hides no error elsewhere and makes none."""
    function = off_by(planted)
    loss = lambda x, z: tf.reduce_sum(function(x)) + STEEP[name](tf.reduce_sum(z), length)  # noqa: E731
    report = check_function(loss, np.array([0.3, -0.7, 0.5]), np.zeros(4))
    verdicts = {v.name: v.verdict for v in report.verdicts}
    assert verdicts["input:x"] is (Kind.MISMATCH if planted else Kind.MATCH)
    assert verdicts["input:z"] is not Kind.MISMATCH
    assert report.noise <= 2.0**10 * UNIT * max(1.0, -np.log(length))


@pytest.mark.parametrize("planted", [0.0, 1.0, 1e-3])
def test_iou_of_an_absent_class(planted):
    generator = np.random.default_rng(0)
    predicted, truth = 1 / (1 + np.exp(-generator.normal(size=(2, 4, 4, 2)))), np.zeros((2, 4, 4, 2))
    truth[:, :2, :, 0], predicted[..., 1] = 1, 0

    @tf.custom_gradient
    def off(x):
        return x * 1.0, lambda up: up * (1 + planted)

    def iou(p):
        y = tf.cast(truth, p.dtype)
        common, either = tf.reduce_sum(y * off(p), [1, 2]), tf.reduce_sum(y + p - y * p, [1, 2])
        return tf.reduce_mean(1 - (common + 1e-6) / (either + 1e-6))

    (verdict,) = check_function(iou, predicted).verdicts
    assert verdict.verdict is (Kind.MISMATCH if planted else Kind.MATCH)
    if planted:
        assert verdict.counts == {"match": 48, "mismatch": 16}


class Off(keras.layers.Layer):
    """tanh, with a backward pass that is wrong by a share."""

    def __init__(self, planted, **options):
        super().__init__(**options)
        self.planted = planted

    def call(self, x):
        @tf.custom_gradient
        def function(x):
            return tf.tanh(x), lambda up: up * (1 - tf.tanh(x) ** 2) * (1 + self.planted)

        return function(x)

    def compute_output_shape(self, shape):
        return shape


@pytest.mark.sampled
@pytest.mark.parametrize("planted", [0.0, 1e-1, 1e-4])
@pytest.mark.parametrize("epsilon", [1e-3, 1e-12])
def test_layer_normalization_of_padded_rows(epsilon, planted):
    x = np.abs(np.random.default_rng(0).normal(size=(2, 4, 3)))
    x[0, 2:] = x[1, 3:] = 0
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((4, 3)),
            keras.layers.Dense(4),
            keras.layers.LayerNormalization(epsilon=epsilon),
            keras.layers.Dense(3),
            Off(planted),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(1),
        ]
    )
    model.compile(loss="mse")
    report = check_gradients(model, x, np.ones((2, 1)), oracles=("forward",))
    assert report.ok is (planted == 0), report
    before = [v for v in report.verdicts if "dense/" in v.name or v.name == "input"]
    assert all(v.verdict is (Kind.MISMATCH if planted else Kind.MATCH) for v in before if "beta" not in v.name)


@pytest.mark.sampled
def test_deep_relu_network():
    """Its kinks lie everywhere along a line, and are not its noise."""
    keras.utils.set_random_seed(0)
    hidden = [keras.layers.Dense(16, "relu", kernel_initializer="he_normal") for _ in range(12)]
    model = keras.Sequential([keras.Input((8,)), *hidden, keras.layers.Dense(3)])
    model.compile(loss="mse")
    x = np.random.default_rng(0).normal(size=(16, 8))
    report = check_gradients(model, x, x[:, :3], effort="auto", oracles=("forward",))
    assert report.ok
    assert report.noise <= 2.0**12 * UNIT


@pytest.mark.parametrize("dropped", [False, True])
def test_features_of_all_sizes(dropped):
    """Features from 1e-4 to 1e4: the noise is that of the loss, and a bias whose gradient is dropped is seen."""

    @tf.custom_gradient
    def biased(x, bias):
        return x + bias, lambda up: (up, (0 if dropped else 1) * tf.reduce_sum(up, 0))

    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(16, 9)) * 10.0 ** np.arange(-4, 5), generator.normal(size=(16, 4))

    def loss(w, bias):
        return tf.reduce_mean((biased(tf.constant(x) @ w, bias) - y) ** 2)

    w, bias = generator.normal(size=(9, 4)), generator.normal(size=4)
    report = check_function(loss, w, bias)
    verdicts = {v.name: v.verdict for v in report.verdicts}
    assert verdicts == {"input:w": Kind.MATCH, "input:bias": Kind.MISMATCH if dropped else Kind.MATCH}
    assert report.noise <= 2.0**6 * UNIT * np.mean((x @ w + bias - y) ** 2)


# At the very point ---------------------------------------------------------------------------------------------------


def test_noise_of_another_point_is_its_own():
    def loss(data):
        return tf.reduce_sum(tf.exp(data.x) - 1)

    with in_float64():
        function = LossFunction(loss, variables=[], state=[], data=Data(np.zeros(1)))
        here = ForwardOracle.at(function, function.values)
        there = here.moved({"input": np.array([20.0])})
        assert there.noise > 1e6 * here.noise
        assert there.moved({"input": np.zeros(1)}).noise < 1e-14


def test_noise_of_the_twin_at_another_point_is_its_own():
    model = Model.chain([Dense(2, "selu"), Dense(1)], (3,))
    weights = {n: np.zeros(s) for n, s in model.weight_shapes.items()}
    x, y = np.ones((4, 3)), np.ones((4, 1))

    def noise(scale):
        moved = {n: w + scale for n, w in weights.items()}
        return Nudges(Objective.of(model, Projection()), moved, x, y).noise

    assert noise(0.0) <= 64 * UNIT < noise(100.0)


# Low precision inside ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [tf.float32, tf.float16, tf.bfloat16], ids=lambda d: d.name)
def test_low_precision_inside(dtype):
    inner = lambda x: tf.cast(tf.tanh(tf.cast(x, dtype)), x.dtype) + x  # noqa: E731
    report = check_function(inner, np.random.default_rng(0).normal(size=(4, 3)))
    assert report.ok, report
    assert report.noise > {tf.float32: 1e-8, tf.float16: 1e-4, tf.bfloat16: 1e-3}[dtype]


@pytest.mark.parametrize("dtype", [tf.float32, tf.float16, tf.bfloat16], ids=lambda d: d.name)
def test_python_in_a_backward_pass(dtype):
    """What Python inside a backward pass rounds to is autodiff's rounding, and no mismatch, whatever dtype it gives."""

    @tf.custom_gradient
    def function(x):
        def backward(up):
            slope = tf.numpy_function(lambda v: np.cos(v).astype(dtype.as_numpy_dtype), [x], dtype)
            return up * tf.ensure_shape(tf.cast(slope, x.dtype), x.shape)

        return tf.sin(x), backward

    report = check_function(function, np.random.default_rng(0).normal(size=20))
    assert not report.failures or {v.verdict for v in report.failures} == {"undecided"}, report.explain()


def test_a_roll_that_overflows():
    """Where a roll is infinite and the array is not, any error is possible: 0 would allow none."""
    found = errors_of([np.array([np.inf, 1e-9, np.nan, 2.0])], np.array([1e308, 1.0, 1.0, np.inf]))
    assert found.tolist() == [np.inf, 1e-9, UNIT, 0.0]


def test_backward_pass_in_float32():
    """What a backward pass rounds to float32 is autodiff's rounding, and no mismatch."""

    @tf.custom_gradient
    def function(x):
        return tf.sin(x), lambda up: up * tf.cast(tf.cast(tf.cos(x), tf.float32), x.dtype)

    report = check_function(function, np.random.default_rng(0).normal(size=20))
    assert report.ok, report
