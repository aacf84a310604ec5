"""Losses of many nudges operation by operation: those of the plain loop to rounding, whatever the architecture."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from model_kinds import KINDS

import keras_ref
from keras_ref.checks.checked_loss import model_loss, untrained
from keras_ref.evaluation import stacked_graph, stacked_losses
from keras_ref.evaluation.float64 import in_float64
from keras_ref.evaluation.loss_function import Data, LossFunction
from keras_ref.evaluation.stacked_rules import RULES

layers = keras.layers


def drawn(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape)


class Swish(layers.Layer):
    """A layer of nobody else's, which bends and scales."""

    def build(self, shape):
        self.gain = self.add_weight(shape=(shape[-1],), initializer="ones", name="gain")

    def call(self, x):
        return keras.ops.where(x > 0, x * self.gain, keras.ops.sigmoid(x) * x)


def chained(shape, *chain, dtype="float32"):
    model = keras.Sequential([keras.Input(shape, dtype=dtype), *chain])
    model.compile(loss="mse")
    return model


def attention():
    x = keras.Input((4, 3))
    model = keras.Model(x, layers.Dense(2)(layers.MultiHeadAttention(2, 3)(x, x)))
    model.compile(loss="mse")
    return model


#: name → (model, inputs)
MODELS = {
    "dense": lambda: (chained((3,), layers.Dense(4, "tanh"), layers.Dense(3, "relu"), layers.Dense(2)), drawn(5, 3)),
    "custom in the middle": lambda: (
        chained((3,), layers.Dense(4, kernel_regularizer="l2"), Swish(), layers.LayerNormalization(), layers.Dense(2)),
        drawn(5, 3),
    ),
    "embedding": lambda: (
        chained((4,), layers.Embedding(6, 3), layers.Flatten(), layers.Dense(2, "softmax"), dtype="int32"),
        np.array([[0, 1, 1, 5], [2, 2, 2, 0]]),
    ),
    "convolution": lambda: (
        chained(
            (6, 6, 2),
            layers.Conv2D(3, 3, padding="same", activation="gelu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(2, 2, strides=2),
            layers.Flatten(),
            layers.Dense(2),
        ),
        drawn(2, 6, 6, 2),
    ),
    "attention": lambda: (attention(), drawn(2, 4, 3)),
}


def function_of(model, x):
    """The loss of a model on random targets; good while it computes in float64."""
    loss = model_loss(model, Data(x, drawn(*model(x).shape)))
    trained = list(model.trainable_variables)
    return LossFunction(loss.loss, variables=trained, state=untrained(model, trained), data=loss.data)


def both_ways(function, name, generator, count=40):
    """Losses of random nudges, small and large, stacked and one after another."""
    value = function.values[name]
    entries = generator.integers(0, value.size, count)
    targets = value.ravel()[entries] + generator.normal(size=count) * 2.0 ** generator.integers(-20, 1, count)
    found = function._stacked_losses(name, entries, targets, function.values)
    return found, function._nudged(name, entries, targets, function.values)


@pytest.mark.parametrize("name", MODELS)
def test_stacked_losses_are_those_of_the_loop(name, monkeypatch):
    keras.utils.set_random_seed(3)
    model, x = MODELS[name]()
    monkeypatch.setattr(stacked_graph, "FIRST", 8)  # several blocks
    with in_float64(model):
        function = function_of(model, x)
        for variable in function.values:
            stacked, looped = both_ways(function, variable, np.random.default_rng(1))
            assert stacked is not None, variable
            assert np.abs(stacked - looped).max() <= 2 * function.noise(), variable


FEATURES = st.sampled_from(
    [
        lambda: layers.Dense(3, "tanh"),
        lambda: layers.Dense(2, "softmax", use_bias=False),
        lambda: layers.Dense(4, "elu", kernel_regularizer="l1"),
        layers.BatchNormalization,
        layers.LayerNormalization,
        layers.UnitNormalization,
        layers.PReLU,
        layers.LeakyReLU,
        lambda: layers.Reshape((-1, 1)),
        layers.Flatten,
        lambda: layers.RepeatVector(2),
        Swish,
    ]
)


@settings(max_examples=8, deadline=None)
@given(st.lists(FEATURES, min_size=1, max_size=5), st.integers(0, 2**31))
def test_random_architectures(made, seed):
    """Where a rule does not fit there are no stacked losses, and never others than those of the loop."""
    keras.utils.set_random_seed(7)
    chain = []
    for make in made:
        trial = [*chain, make()]
        try:
            chained((3,), *trial)
        except (ValueError, TypeError):  # a layer that does not take this shape is left out
            continue
        chain = trial
    if not any(layer.weights for layer in chain):
        chain = [*chain, layers.Dense(2)]
    model = chained((3,), *chain)
    with in_float64(model):
        function = function_of(model, drawn(4, 3))
        for variable in function.values:
            stacked, looped = both_ways(function, variable, np.random.default_rng(seed))
            assert stacked is None or np.abs(stacked - looped).max() <= 2 * function.noise(), variable


def test_a_rule_that_is_wrong_is_not_used(monkeypatch):
    """The smallest nudges are evaluated both ways: a wrong rule costs time and no verdict."""
    keras.utils.set_random_seed(3)
    model, x = MODELS["dense"]()
    right = RULES["Tanh"]

    def wrong(call):
        return [
            type(v)(*(getattr(v, f) for f in v.__dataclass_fields__ if f != "values"), values=v.values * 1.001)
            for v in right(call)
        ]

    monkeypatch.setitem(RULES, "Tanh", wrong)
    with in_float64(model):
        function = function_of(model, x)
        name = next(iter(function.values))
        stacked, _ = both_ways(function, name, np.random.default_rng(1))
        assert stacked is None
        assert name in function._alone


def test_points_outside_the_domain_are_nan_as_in_the_loop():
    model = chained(
        (3,),
        layers.Dense(2),
        layers.Lambda(lambda h: tf.linalg.cholesky(h[:, :, None] * h[:, None, :] + 1e-3 * tf.eye(2, dtype=h.dtype))),
    )
    with in_float64(model):
        function = function_of(model, drawn(2, 3))
        stacked, looped = both_ways(function, next(iter(function.values)), np.random.default_rng(1))
        assert stacked is None  # no rule for a factorization
        assert np.isfinite(looped).any()


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in KINDS if n != "only eagerly"])
def test_every_kind_of_model(name, monkeypatch):
    """Checks whose every loss may be stacked find what they found, and every stacked loss is that of the loop."""
    monkeypatch.setattr(stacked_losses, "MANY", 1)
    compared, own = [], LossFunction._stacked_losses

    def both(self, variable, entries, targets, values):
        found = own(self, variable, entries, targets, values)
        if found is not None:
            looped = self._nudged(variable, entries, targets, values)
            near = np.abs(targets - values[variable].ravel()[entries]) < 2.0**-6
            compared.append((np.abs(found - looped)[near].max(initial=0.0), 2 * self.noise(at=values)))
        return found

    monkeypatch.setattr(LossFunction, "_stacked_losses", both)
    keras.utils.set_random_seed(5)
    made = KINDS[name](0.0)
    check = made.check if callable(made.check) else getattr(keras_ref, made.check)
    report = check(made.model, made.x, made.y, **made.options)
    assert report.ok, report.explain()
    assert all(difference <= allowed for difference, allowed in compared)
