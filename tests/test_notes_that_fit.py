"""Notes and closing lines that fit what they are said of."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from situations import Situations

from keras_ref import check_function, check_gradients, check_layer, check_updates

X = np.sin(1.0 + np.arange(12.0)).reshape(4, 3)
Y = np.cos(np.arange(8.0)).reshape(4, 2)
layers = keras.layers


def sequential(*parts, loss="mse", shape=(3,), **compiled):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input(shape), *parts])
    model.compile(optimizer="sgd", loss=loss, **compiled)
    return model


# What float32 costs a gradient that is 0 ---------------------------------------------------------------------------

IMAGES = np.sin(1.0 + np.arange(2 * 4 * 4 * 2.0)).reshape(2, 4, 4, 2)
WITHOUT_INFLUENCE = {
    "a bias before a batch normalization": lambda: check_gradients(
        sequential(layers.Dense(2), layers.BatchNormalization()), X, Y, training=True
    ),
    "a bias before a layer normalization of one axis": lambda: check_layer(
        sequential(layers.Dense(4, use_bias=False), layers.LayerNormalization(epsilon=1e-12)), X
    ),
    "the bias of keys": lambda: check_layer(layers.MultiHeadAttention(1, 2), X[None], X[None]),
    "a bias before a group normalization": lambda: check_layer(
        sequential(layers.Conv2D(4, 3), layers.GroupNormalization(4), shape=(4, 4, 2)), IMAGES
    ),
    "one bias of all logits": lambda: check_function(lambda x, b: tf.nn.log_softmax(x + b), X, np.array([0.3])),
    "differences of outputs": lambda: check_function(lambda x, b: (x + b) - tf.reduce_mean(x + b), X, np.array([0.3])),
    "a scale before a normalization": lambda: check_function(
        lambda x, s: tf.linalg.l2_normalize(s * x, axis=1), X, np.array([1.7])
    ),
    "a bias in a model that is all float32": lambda: check_gradients(
        sequential(layers.Conv1D(2, 2), layers.BatchNormalization(), layers.GlobalAveragePooling1D(), shape=(4, 2)),
        IMAGES[:, :, 0],
        Y[:2],
        training=True,
    ),
}


@pytest.mark.sampled
@pytest.mark.parametrize("name", WITHOUT_INFLUENCE)
def test_no_gradient_costs_more_than_itself(name):
    """A gradient of 0 has no size that float32 could cost."""
    report = WITHOUT_INFLUENCE[name]()
    assert report.ok, report.explain()
    for note in report.notes:
        for share in re.findall(r"costs the gradient up to (\S+) of its size", note):
            assert float(share) < 1e-2, note


TABLE = Situations()
random = TABLE.add(never=("costs the gradient",))


@random
def _dropout():
    return check_gradients(sequential(layers.Dense(4), layers.Dropout(0.5), layers.Dense(2)), X, Y, training=True)


@random
def _noise_in_a_layer():
    return check_layer(layers.GaussianNoise(0.5), X, training=True)


@TABLE.add(never=("costs the gradient",), slow=True)
def _dropout_in_a_recurrence():
    return check_layer(layers.GRU(2, dropout=0.5, recurrent_dropout=0.5), X[None], training=True)


@random
def _random_pictures():
    model = sequential(layers.RandomBrightness(0.5), layers.Flatten(), layers.Dense(2), shape=(4, 4, 2))
    return check_gradients(model, IMAGES, Y[:2], training=True)


@TABLE.add(never=("costs the gradient", "float32"))
def _a_model_that_is_float64():
    model = sequential(layers.Dense(2, dtype="float64"))
    return check_gradients(model, X, Y)


@TABLE.add(fails="mismatch", never=("left", "kink"))
def _a_smooth_function_that_is_wrong():
    wrong = tf.custom_gradient(lambda x: (tf.sin(x), lambda upstream: upstream * 1.5 * tf.cos(x)))
    return check_function(wrong, X)


@TABLE.add(fails="mismatch", never=("left",))
def _a_smooth_function_that_is_wrong_at_one_point():
    wrong = tf.custom_gradient(
        lambda x: (tf.sin(x), lambda upstream: upstream * tf.where(x == 0.0, 2.0 + 0 * x, tf.cos(x)))
    )
    return check_function(wrong, np.array([0.0, 0.5]))


@TABLE.add(fails="mismatch", says=("left", "right"))
def _a_kink_that_is_wrong():
    wrong = tf.custom_gradient(lambda x: (tf.nn.relu(x), lambda upstream: upstream * tf.where(x > 0, 1.0, 0.5 + 0 * x)))
    return check_function(wrong, np.array([0.0, 0.5]))


@TABLE.add(
    never=("train_step of its own", "No loss was compiled", "runs only eagerly", "kink", "jump", "slope is zero")
)
def _a_plain_model():
    return check_gradients(sequential(layers.Dense(2, "tanh")), X, Y)


@TABLE.add(never=("train_step of its own",))
def _a_subclass_without_a_step():
    class Mine(keras.Sequential):
        """Nothing of its own."""

    keras.utils.set_random_seed(0)
    model = Mine([keras.Input((3,)), layers.Dense(2)])
    model.compile("sgd", "mse")
    return check_gradients(model, X, Y)


@TABLE.add(never=("No loss was compiled", "cotangent"))
def _a_loss_that_is_given():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, kernel_regularizer="l2")])
    return check_gradients(model, X, Y, loss="mse")


@TABLE.add(never=("slope is zero",))
def _an_embedding_with_rows_that_are_not_read():
    keras.utils.set_random_seed(0)
    return check_layer(layers.Embedding(5, 2), np.array([[0, 2], [2, 4]]))


@TABLE.add(says=("every compared slope is zero",), never=("not connected",))
def _a_saturated_sigmoid():
    return check_function(lambda x: tf.sigmoid(1e6 * x), np.array([1.0, 2.0]))


@TABLE.add(fails="mismatch", says=("look at the optimizer",), never=("look at the backward pass",))
def _an_optimizer_that_is_wrong():
    model = sequential(layers.Dense(2))
    model.optimizer = keras.optimizers.SGD(0.1)
    update = model.optimizer.update_step
    model.optimizer.update_step = lambda gradient, *more: update(gradient + 1e-3, *more)
    return check_updates(model, X, Y, steps=1)


@TABLE.add(fails="mismatch", says=("look at the forward pass",), never=("look at the backward pass", "optimizer"))
def _a_forward_pass_that_is_wrong():
    model = sequential(layers.Dense(2, "tanh"))
    call = model.layers[0].call
    model.layers[0].call = lambda *arguments, **options: 1.25 * call(*arguments, **options)
    return check_gradients(model, X, Y)


@TABLE.add(never=("not connected", "does not move"))
def _a_weight_that_is_read_in_training_alone():
    class Auxiliary(layers.Layer):
        def build(self, shape):
            self.factor = self.add_weight(shape=(), initializer="ones", name="factor")

        def call(self, x, training=False):
            return x * self.factor if training else x + 0.0

    return check_layer(Auxiliary(), X, training=True)


@TABLE.add(says=("connected to the loss only in training",), never=("not connected to the loss",))
def _the_same_in_inference():
    class Auxiliary(layers.Layer):
        def build(self, shape):
            self.factor = self.add_weight(shape=(), initializer="ones", name="factor")
            self.other = self.add_weight(shape=(), initializer="ones", name="other")

        def call(self, x, training=False):
            return x * self.other * (self.factor if training else 1.0)

    return check_layer(Auxiliary(), X)


@pytest.mark.sampled
@pytest.mark.parametrize("name", TABLE.parameters())
def test_situation(name):
    TABLE.rows[name].judge()
