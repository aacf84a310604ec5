"""The layer at fault is named, with the file and the line of its class; a loss at fault is no layer's."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ref import check_gradients
from keras_ref.checks.culprits import LayerCall, order_suspects
from keras_ref.reports.culprit import Culprit

X = np.arange(12.0).reshape(4, 3) / 8 - 0.7


@tf.custom_gradient
def square(x):
    return x * x, lambda upstream: 1.9 * x * upstream


@tf.custom_gradient
def loss(target, output):
    return tf.reduce_mean((output - target) ** 2, -1), lambda upstream: (None, 0.7 * upstream[:, None] * output)


@keras.saving.register_keras_serializable("culprits")
class Squared(keras.layers.Layer):
    def call(self, x):
        return square(x) + x


class Block(keras.layers.Layer):
    """Holds the layer at fault behind one that is right."""

    def build(self, shape):
        self.inner, self.squared = keras.layers.Dense(3), Squared(name="squared")
        self.inner.build(shape)

    def call(self, x):
        return self.squared(self.inner(x))


def model_of(*layers, **compiled):
    keras.utils.set_random_seed(2)
    model = keras.Sequential([keras.Input((3,)), *layers, keras.layers.Dense(1, name="last")])
    model.compile(**{"loss": "mse", **compiled})
    return model


@pytest.mark.sampled
def test_the_layer_at_fault_is_named_inside_another():
    report = check_gradients(model_of(keras.layers.Activation("tanh"), Block(name="block")), X, X[:, :1])
    assert not report
    line = inspect.getsourcelines(Squared)[1] + 1  # behind the decorator
    assert (report.culprit.layer, report.culprit.kind, report.culprit.line) == ("squared", "Squared", line)
    assert report.culprit.file.endswith("tests/test_culprits.py")
    assert report.oracles.endswith(f"; the layer at fault, checked by itself: {report.culprit.text}")
    assert report.oracles in report.explain()
    assert report.to_dict()["culprit"] == vars(report.culprit)


def test_where_every_layer_is_right_the_loss_is_suspected():
    report = check_gradients(model_of(loss=loss), X, X[:, :1])
    assert not report and report.culprit is None
    assert report.notes[-1] == (
        "Every layer by itself has the right gradient: look at the loss, and at what is computed between the layers."
    )


def test_a_right_model_has_no_culprit():
    report = check_gradients(model_of(), X, X[:, :1])
    assert report and report.culprit is None and report.to_dict()["culprit"] is None


def test_suspects_are_those_between_wrong_and_right_and_of_their_own_first():
    first, last = keras.layers.Dense(2, name="first"), keras.layers.Dense(2, name="last")
    for layer in (first, last):
        layer.build((None, 2))
    other = Squared(name="other")
    calls = [LayerCall(layer, (), {}) for layer in (Squared(name="early"), first, other, last, other)]
    found = order_suspects(calls, wrong={"first/kernel"}, right={"last/kernel", "last/bias"})
    assert [call.layer.name for call in found] == ["other", "first", "last", "early"]


@pytest.mark.parametrize(
    ("culprit", "text"),
    [
        (Culprit(layer="norm", kind="RmsNorm", file="acme/layers.py", line=41), "norm (RmsNorm, acme/layers.py:41)"),
        (Culprit(layer="norm", kind="RmsNorm"), "norm (RmsNorm)"),
    ],
)
def test_text(culprit, text):
    assert culprit.text == text
