"""Losses that people write themselves in layers and in compute_loss: right ones, and planted errors."""

import keras
import pytest
import tensorflow as tf
from situations import Situations
from test_losses_of_ones_own import OWN, X, Y, dense, off

from keras_ref import check_gradients, check_updates

TABLE = Situations()


class Ending(keras.layers.Layer):
    """A loss of targets that come in as an input (an endpoint layer); `wrong` as in `off`."""

    def __init__(self, wrong=0.0):
        super().__init__(name="ending")
        self.wrong = wrong

    def call(self, inputs):
        y, predicted = inputs
        self.add_loss(tf.reduce_mean((y - off(predicted, self.wrong)) ** 2))
        return predicted


def endpoint(wrong=0.0):
    """A functional model of an endpoint layer, never called on data."""
    keras.utils.set_random_seed(1)
    x, y = keras.Input((3,), name="x"), keras.Input((2,), name="y")
    model = keras.Model([x, y], Ending(wrong)([y, dense(2)(dense(3, "tanh")(x))]), name="mine")
    model.compile("sgd")
    return model


ADDED = "No loss was compiled: what was checked is the sum of the losses that mine adds"


@TABLE.add(says=(ADDED,), never=("cotangent",))
def _an_endpoint_layer():
    return check_gradients(endpoint(), [X, Y])


@TABLE.add(says=(ADDED,))
def _an_endpoint_layer_given_names():
    return check_gradients(endpoint(), {"x": X, "y": Y})


@TABLE.add(fails="mismatch", says=("ending (Ending",), slow=True)
def _an_endpoint_layer_that_is_wrong():
    return check_gradients(endpoint(1e-5), [X, Y])


@TABLE.add()
def _steps_of_an_endpoint_layer():
    return check_updates(endpoint(), [X, Y], steps=2)


@TABLE.add(fails="mismatch", says=("check the gradients",))
def _steps_of_an_endpoint_layer_that_is_wrong():
    return check_updates(endpoint(1e-3), [X, Y], steps=1)


@TABLE.add(says=(ADDED,), never=("cotangent",))
def _a_penalty_of_activities_alone():
    model = keras.Sequential([keras.Input((3,)), dense(2, "tanh", activity_regularizer="l2")], name="mine")
    model.compile("sgd")
    return check_gradients(model, X)


class Weighing(keras.Model):
    """A loss in compute_loss, which Keras's own train step calls."""

    def __init__(self, wrong=0.0):
        super().__init__(name="mine")
        self.wrong, self.inner = wrong, dense(2, "tanh")

    def call(self, x):
        return self.inner(x)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return off(tf.reduce_mean(tf.math.log(tf.cosh(y_pred - y))), self.wrong)


def weighing(wrong=0.0):
    keras.utils.set_random_seed(2)
    model = Weighing(wrong)
    model(X)
    model.compile("sgd")
    return model


@TABLE.add(never=("cotangent", OWN))
def _a_loss_in_compute_loss():
    return check_gradients(weighing(), X, Y)


@TABLE.add(fails="mismatch", never=("look at the optimizer",), slow=True)
def _a_loss_in_compute_loss_that_is_wrong():
    return check_gradients(weighing(1e-5), X, Y)


@TABLE.add(never=(OWN,))
def _steps_of_a_loss_in_compute_loss():
    return check_updates(weighing(), X, Y, steps=2)


@pytest.mark.sampled
@pytest.mark.parametrize("name", TABLE.parameters())
def test_situation(name):
    TABLE.rows[name].judge()
