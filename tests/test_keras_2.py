"""Models, layers and losses of Keras 2 (tf_keras), mixed precision included: right, and with an error planted."""

import numpy as np
import pytest
import tensorflow as tf

from keras_ref import check_function, check_gradients, check_layer
from keras_ref.errors import BadInput

tf_keras = pytest.importorskip("tf_keras", reason="needs gradtwin[keras2]")

X, Y = np.random.default_rng(0).normal(size=(4, 3)), np.random.default_rng(1).normal(size=(4, 2))


def planted(error):
    @tf.custom_gradient
    def tanh(x):
        return tf.tanh(x), lambda upstream: upstream * (1 - tf.tanh(x) ** 2) * (1 + error)

    return tanh


def model_of(error, policy="float32"):
    layers = tf_keras.layers
    model = tf_keras.Sequential(
        [
            tf_keras.Input((3,)),
            layers.Dense(3, planted(error), kernel_regularizer="l2", dtype=policy, name="inside"),
            layers.BatchNormalization(dtype=policy),
            layers.Dropout(0.3, dtype=policy),
            layers.Dense(2, dtype=policy),
        ]
    )
    model.compile("adam", "mse")
    return model


SLOW = [pytest.param(one, marks=pytest.mark.slow) for one in ({"training": True}, {"effort": "fast"})]


@pytest.mark.sampled
@pytest.mark.parametrize("options", [{}, *SLOW], ids=str)
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_models(policy, options):
    for error in (0.0, 1e-4):
        model = model_of(error, policy)
        before = [v.numpy().tobytes() for v in model.variables]
        policies = [layer.dtype_policy for layer in model.layers]
        report = check_gradients(model, X, Y, **options)
        assert report.ok == (not error), report.explain()
        assert not any("float32 inside" in note for note in report.notes)
        assert all("inside" in v.name or v.name == "input" for v in report.failures)
        assert [v.numpy().tobytes() for v in model.variables] == before
        assert all(a is b.dtype_policy for a, b in zip(policies, model.layers, strict=True))
        assert tf_keras.backend.floatx() == "float32"


class Own(tf_keras.Model):
    """A model with a loss by add_loss and a layer made in its constructor."""

    def __init__(self):
        super().__init__()
        self.dense = tf_keras.layers.Dense(2)

    def call(self, x):
        y = self.dense(x)
        self.add_loss(tf.reduce_mean(tf.exp(y)))
        return y


@pytest.mark.sampled
def test_subclassed_models_and_losses():
    model = Own()
    model(X)
    model.compile("sgd", "mse")
    assert check_gradients(model, X, Y).ok
    assert check_gradients(model, X).ok
    assert check_gradients(model, X, Y, loss=tf_keras.losses.Huber()).ok
    error = planted(1e-4)
    assert not check_gradients(model, X, Y, loss=lambda y, p: tf.reduce_mean(error(y - p))).ok
    loss = tf_keras.losses.CategoricalCrossentropy(from_logits=True)
    assert check_function(loss, np.eye(2)[[0, 1, 1, 0]], Y).ok


@pytest.mark.parametrize("make", [lambda: tf_keras.layers.LSTM(3), lambda: tf_keras.layers.Conv1D(3, 2)])
def test_layers(make):
    assert check_layer(make(), X[None]).ok


class Crossed(tf_keras.layers.Layer):
    """A layer of two arguments, the second of which Keras 2 does not cast."""

    def build(self, shape):
        self.gain = self.add_weight(shape=(shape[-1],), name="gain", initializer="ones")

    def call(self, x, y):
        return x * self.gain * y


def test_layers_are_built_in_their_precision():
    assert check_layer(Crossed(), X, X + 1).ok

    class Refusing(tf_keras.layers.Layer):
        def call(self, x):
            raise RuntimeError("no luck")

    with pytest.raises(BadInput, match=r"A subject must run on the data it is checked on.*no luck"):
        check_layer(Refusing(), X)


def test_targets_need_a_loss():
    model = tf_keras.Sequential([tf_keras.Input((3,)), tf_keras.layers.Dense(2)])
    with pytest.raises(BadInput, match="must have a loss when targets are given"):
        check_gradients(model, X, Y)
