"""Programs as tutorials write them, that a check once refused by an error of its own."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ref.checks.gradients import check_gradients
from keras_ref.checks.updates import check_updates
from keras_ref.errors import BadInput
from keras_ref.reports.kinds import Kind
from keras_ref.reports.reasons import Reason

DRAW = np.random.default_rng(0).normal
X, Y = DRAW(size=(4, 3)).astype(np.float32), DRAW(size=(4, 2)).astype(np.float32)


def regularized():
    layers = [keras.layers.Dense(4, "tanh", kernel_regularizer="l2"), keras.layers.Dense(2, kernel_regularizer="l1")]
    return keras.Sequential([keras.Input((3,)), *layers])


@pytest.mark.parametrize("optimizer", [None, "sgd"])
def test_regularized_without_a_loss(optimizer):
    """In a scope without values Keras hands None to a regularizer."""
    model = regularized()
    if optimizer is not None:
        model.compile(optimizer=optimizer)
    report = check_gradients(model, X)
    assert report.ok, report.explain()
    kernels = [v for v in report.verdicts if v.name.endswith("kernel")]
    assert all(v.autodiff for v in kernels), "the regularizers are part of the loss"


class Trained(keras.Model):
    """What is minimised is computed in train_step; there is no call."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def loss_of(self, x):
        return tf.reduce_mean(self.inner(x) ** 2)

    def train_step(self, data):
        with tf.GradientTape() as tape:
            loss = self.loss_of(data)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return {"loss": loss}


def trained(kind):
    model = kind(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]))
    model.compile(optimizer="sgd")
    return model


def test_a_model_without_call():
    with pytest.raises(BadInput, match=r"must have a `call`.*'trained.*check_updates, or the function") as refused:
        check_gradients(trained(Trained), X)
    assert "NotImplementedError" not in str(refused.value)
    report = check_updates(trained(Trained), X, steps=1)
    assert report.ok, report.explain()


# Kinks of a new network ----------------------------------------------------------------------------------------------


class Bent(keras.layers.Layer):
    """Several kinks at the zero that its weight starts from: the slopes are 1 and 2, and autodiff gives 0."""

    def __init__(self, wrong=0.0):
        super().__init__()
        self.wrong = wrong

    def build(self, shape):
        self.bend = self.add_weight(shape=(shape[-1],), initializer="zeros", name="bend")

    def call(self, x):
        bent = 2 * keras.ops.relu(self.bend) - keras.ops.relu(-self.bend)
        return x + bent + self.wrong * (self.bend - keras.ops.stop_gradient(self.bend))


@pytest.mark.sampled
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rmsprop"])
@pytest.mark.parametrize("wrong", [0.0, 0.01])
def test_updates_where_several_kinks_meet(optimizer, wrong):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, "tanh"), Bent(wrong), keras.layers.Dense(2)])
    model.compile(optimizer=optimizer, loss="mse")
    found = {v.name.split("/")[-1]: v.verdict for v in check_updates(model, X, Y, steps=1).verdicts}
    assert found.pop("bend") == (Kind.MISMATCH if wrong else Kind.MATCH)
    assert set(found.values()) == {Kind.MATCH}


@pytest.mark.parametrize("wrong", [0.0, 0.01])
def test_an_own_step_where_several_kinks_meet(wrong):
    model = Trained(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, "tanh"), Bent(wrong)]))
    model.compile(optimizer="adam")
    report = check_updates(model, X, steps=1)
    assert report.ok == (not wrong), report.explain()


@pytest.mark.sampled
@pytest.mark.parametrize("seed", range(4))
def test_updates_behind_patches_of_zeros(seed):
    """A kernel that is made for each place (involution), with zero biases: kinks meet where the patch is of zeros."""
    keras.utils.set_random_seed(seed)
    images = np.random.default_rng(seed).normal(size=(2, 4, 4, 4)).astype(np.float32)
    inputs = keras.Input((4, 4, 4))
    made = keras.layers.Conv2D(2, 1)(inputs)
    made = keras.layers.Conv2D(18, 1)(keras.layers.ReLU()(made))
    made = keras.layers.Reshape((4, 4, 9, 1, 2))(made)
    patches = keras.ops.image.extract_patches(inputs, size=[3, 3], strides=[1, 1], padding="same")
    h = keras.ops.sum(made * keras.ops.reshape(patches, (-1, 4, 4, 9, 2, 2)), axis=3)
    h = keras.layers.MaxPooling2D(2)(keras.layers.ReLU()(keras.layers.Reshape((4, 4, 4))(h)))
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(h)))
    model.compile(optimizer="adam", loss="mse")
    report = check_updates(model, images, Y[:2], steps=1)
    assert report.ok, report.explain()


# Layers that write their weights --------------------------------------------------------------------------------------


def test_a_weight_that_the_forward_pass_writes():
    """Spectral normalization overwrites its kernel in training: the optimizer is not to blame."""
    layers = [keras.layers.SpectralNormalization(keras.layers.Dense(3)), keras.layers.Dense(2)]
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile(optimizer="adam", loss="mse")
    before = [v.numpy() for v in model.variables]
    report = check_updates(model, X, Y, steps=1)
    wrong = {v.name: v.reason_code for v in report.failures}
    assert wrong == {model.layers[0].kernel.path: Reason.FORWARD_WRITES}, report.explain()
    assert "look at what its call does in training" in report.explain()
    assert all((v.numpy() == old).all() for v, old in zip(model.variables, before, strict=True))
