"""float64 is verified, what is below it is said, and what a low precision costs the gradient is a figure of its own."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ref import check_function, check_gradients

X, Y = np.random.default_rng(0).normal(size=(4, 3)), np.random.default_rng(1).normal(size=(4, 2))
#: policy → the unit of its coarsest number
POLICIES = {
    "float32": 2.0**-23,
    "mixed_float16": 2.0**-10,
    "mixed_bfloat16": 2.0**-7,
    "float16": 2.0**-10,
    "bfloat16": 2.0**-7,
}


def chain(policy, *layers):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(3, "tanh", dtype=policy, name="a"),
            *layers,
            keras.layers.Dense(2, dtype=policy, name="b"),
        ],
        name="m",
    )
    model.dtype_policy = keras.DTypePolicy(policy)  # compile() scales the loss of a mixed_float16 model
    model.compile(optimizer="sgd", loss="mse")
    return model


@pytest.mark.parametrize("policy", POLICIES)
def test_low_precision_is_checked_through_float64(policy):
    """The comparison is as sharp as in float64; the figure beside it is what the policy costs, of the order of its
    unit.
    """
    model = chain(policy)
    report = check_gradients(model, X, Y)
    assert report.ok, report.explain()
    assert all(v.visible_relative < 1e-6 for v in report.verdicts)
    assert set(report.precision_loss) == {"m/a/kernel", "m/a/bias", "m/b/kernel", "m/b/bias"}
    worst = max(report.precision_loss.values())
    assert POLICIES[policy] / 64 < worst < POLICIES[policy] * 64
    assert json.loads(report.to_json())["precision_loss"] == report.precision_loss
    assert f"costs the gradient up to {worst:.1e} of its size" in report.explain()
    assert {v.dtype for v in model.variables if keras.backend.is_float_dtype(v.dtype)} == {
        policy.removeprefix("mixed_") if "mixed" not in policy else "float32"
    }


def test_the_cost_is_what_training_sees():
    """The figure is |gradient in the model's own precision - gradient in float64| / |gradient in float64|."""
    model = chain("mixed_float16")
    report = check_gradients(model, X, Y)
    with tf.GradientTape() as tape:
        loss = model.optimizer.scale_loss(model._compute_loss(X, Y, model(X)))
    scale = float(np.asarray(model.optimizer.scale_loss(1.0)))
    assert scale == 2.0**15
    low = {
        v.path: np.asarray(g, float) / scale
        for v, g in zip(
            model.trainable_variables, tape.gradient(loss, [v.value for v in model.trainable_variables]), strict=True
        )
    }
    exact = chain("float64")
    exact.set_weights([np.asarray(v.numpy(), float) for v in model.trainable_variables])
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((exact(X) - Y) ** 2)
    for v, g in zip(
        exact.trainable_variables, tape.gradient(loss, [v.value for v in exact.trainable_variables]), strict=True
    ):
        cost = np.linalg.norm(low[v.path] - g) / np.linalg.norm(g)
        # both gradients of this precision end in float32, summed in another order
        assert abs(report.precision_loss[v.path] - cost) <= np.finfo(np.float32).eps


def test_float64_costs_nothing():
    report = check_gradients(chain("float64"), X, Y)
    assert report.ok and report.precision_loss == {} and report.notes == ()


def overflowing(policy):
    """A model whose gradient is beyond 65504, where float16 ends, with its data and its loss."""
    model = chain(policy)
    model.layers[-1].kernel.assign(300 * np.ones((3, 2)))
    return model, X * 8, 4000 * Y, keras.losses.MeanSquaredError(reduction="sum")


def test_an_overflow_is_found():
    """A gradient that is finite in float64 and not in the precision of training fails, by name; the rest is right."""
    model, x, y, loss = overflowing("float16")
    report = check_gradients(model, x, y, loss=loss)
    assert [(v.name, v.oracle, v.verdict, v.reason_code) for v in report.failures] == [
        (name, "low-precision", "nan", "not-finite-in-precision") for name in ("m/a/kernel", "m/a/bias")
    ]
    assert report.failures[0].reason == (
        "the gradient is finite in float64 and not in float16, which training computes in"
    )
    assert report.oracles == (
        "the gradient is right in float64 and not finite in the precision of training: scale the loss, or let these "
        "layers compute in a higher precision"
    )
    assert max(report.precision_loss.values()) == float("inf") and not any("up to inf" in note for note in report.notes)


def test_an_overflow_of_a_scaled_loss_is_a_note():
    """A scale that is looked for in training may be too large at first: training skips that step."""
    model, x, y, loss = overflowing("mixed_float16")
    report = check_gradients(model, x, y, loss=loss)
    assert report.ok, report.explain()
    assert any(
        note.startswith("float16/float32 overflows at the loss scale of 32768 (at ")
        and note.endswith("): training skips such a step and takes a smaller scale.")
        for note in report.notes
    ), report.notes


@pytest.mark.sampled
@pytest.mark.parametrize("dead", ["batch normalization", "softmax", "difference"])
def test_a_gradient_that_is_zero_costs_nothing(dead):
    """A variable whose exact gradient is zero but for rounding has no share to lose: it is left out."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((3,))
    h = keras.layers.Dense(3, name="before")(inputs)
    if dead == "batch normalization":
        training, h = True, keras.layers.BatchNormalization(name="after")(h)
    elif dead == "softmax":
        # a number that is added to all of them does not matter
        training = False
        h = keras.layers.Softmax()(h + keras.layers.Dense(1, name="shift")(inputs))
    else:
        training, h = False, h - keras.layers.Lambda(lambda t: keras.ops.mean(t, 0, keepdims=True))(h)
    model = keras.Model(inputs, keras.layers.Dense(2, name="last")(h), name="m")
    model.compile("sgd", "mse")
    report = check_gradients(model, X, Y, training=training)
    assert report.ok, report.explain()
    zero = {"softmax": {"shift/kernel", "shift/bias"}}.get(dead, {"before/bias"})
    assert not zero & set(report.precision_loss) and "last/kernel" in report.precision_loss
    assert max(report.precision_loss.values()) < 1e-3


@pytest.mark.parametrize("seed", ["generator", "number"])
@pytest.mark.parametrize("training", [False, True])
def test_random_numbers_are_no_cost(seed, training):
    """A loss that draws draws other numbers in another precision: that is said, and no figure is given."""

    class Noisy(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.seeds = keras.random.SeedGenerator(7) if seed == "generator" else 7

        def call(self, x):
            return x + keras.random.normal(keras.ops.shape(x), dtype=x.dtype, seed=self.seeds)

    report = check_gradients(chain("float32", Noisy()), X, Y, training=training)
    assert report.ok and report.precision_loss == {}
    said = "What its low precision costs was not measured: random layers draw other numbers in another precision."
    assert said in report.notes and not any("costs the gradient" in note for note in report.notes)


def test_zeros_are_no_float32():
    """A loss that is zero has no relative noise: that is not float32 inside."""
    model = chain("float64")
    for v in model.variables:
        v.assign(np.zeros(v.shape))
    assert not any("inside" in note for note in check_gradients(model, X).notes)


class Inside(keras.layers.Layer):
    """exp(0.3 · x) in the ways in which people get float32 into it."""

    def __init__(self, way, wrong=0.0, **options):
        super().__init__(**options)
        self.way, self.wrong = way, wrong

    def call(self, x):
        @tf.custom_gradient
        def scaled(x):
            return 0.3 * x, lambda upstream: upstream * (0.3 * (1 + self.wrong))

        if self.way == "casts":
            return tf.cast(tf.exp(scaled(tf.cast(x, "float32"))), x.dtype)
        if self.way == "half":
            return tf.cast(tf.exp(scaled(tf.cast(x, "float16"))), x.dtype)
        if self.way == "constant":
            return tf.exp(scaled(x) * tf.cast(tf.constant(0.9), x.dtype))
        return tf.exp(scaled(x) * tf.constant(0.9))


#: way → what the report says of it
SAID = {
    "casts": "float32 inside (at m_1/inside_",
    "half": "float16 inside (at m_1/inside_",
    "constant": "float32 inside: m keeps a constant in float32 (0.9 at ",
    "refuses": "float32 inside: it does not run in float64 and was checked in the precision it has",
}


@pytest.mark.sampled
@pytest.mark.parametrize("way", SAID)
def test_float32_inside_is_said(way):
    report = check_gradients(chain("float32", Inside(way)), X, Y)
    assert report.ok, report.explain()
    assert any(note.startswith(SAID[way]) for note in report.notes), report.notes


@pytest.mark.sampled
@pytest.mark.parametrize("way", SAID)
def test_an_error_that_precision_does_not_hide_is_found(way):
    report = check_gradients(chain("float32", Inside(way, wrong=1.0)), X, Y)
    names = {v.name for v in report.failures}
    assert "m/a/kernel" in names and names <= {"m/a/kernel", "m/a/bias", "input"}, report.explain()


def test_an_exact_constant_is_not_said():
    report = check_function(lambda x: x * tf.cast(tf.constant(0.5), x.dtype), X)
    assert report.ok and report.notes == ()


def test_a_function_that_casts():
    cast = lambda x: tf.cast(tf.sin(tf.cast(x, tf.float32)), tf.float64)  # noqa: E731 (what is named is its line)
    report = check_function(cast, X)
    assert report.ok and report.verdicts[0].visible > 1e-6
    assert len(report.notes) == 1 and report.notes[0].startswith(
        f"float32 inside (at Cast in line {cast.__code__.co_firstlineno} of test_precision.py): the loss of <lambda> "
        "has a noise of "
    )
    assert report.notes[0].endswith(" of its value); steps were widened accordingly.")


def test_a_function_over_float32_variables():
    """They compute in float64 for the time of the check, and their own precision is what is charged."""
    weight = tf.Variable(np.float32([[1.1, 2.3], [0.7, -0.2], [0.4, 1.9]]), name="w")
    report = check_function(lambda x: tf.tanh(x @ weight), X, variables=[weight])
    assert report.ok and all(v.visible < 1e-8 for v in report.verdicts)
    assert 1e-9 < report.precision_loss["w"] < 1e-5 and weight.dtype == "float32"
