"""Variables of TensorFlow's own that a layer, a loss or a model holds or reads: Keras 3 trains none of them."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from situations import Situations

from keras_ref import check_gradients, check_layer, check_updates

X = np.sin(1.0 + np.arange(12.0)).reshape(4, 3)
Y = np.cos(np.arange(8.0)).reshape(4, 2)
WHY = ": a tf.Variable is no weight of a layer, so that Keras does not train it"
READ = f"{WHY}, although the loss depends on it. Make it with add_weight."
TABLE = Situations()


def scale(name="factor", **options):
    return tf.Variable(0.5, name=name, **options)


def said(name="factor"):
    return TABLE.add(says=(f"{name}{READ}",))


silent = TABLE.add(never=("tf.Variable",))


class Scaled(keras.layers.Layer):
    """x times what `held` gives by `read`."""

    def __init__(self, held, read=lambda held: held, **options):
        super().__init__(**options)
        self.held, self.read = held, read

    def call(self, x):
        return x * tf.cast(self.read(self.held), x.dtype)


def model_of(*layers, loss="mse"):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), *layers, keras.layers.Dense(2)])
    model.compile("sgd", loss)
    return model


def checked(layer):
    return check_gradients(model_of(layer), X, Y)


@said("scaled/factor")
def _a_dictionary_of_lists():
    return checked(Scaled({"a": [scale()]}, lambda held: held["a"][0], name="scaled"))


@said("scaled/factor")
def _a_tuple():
    return checked(Scaled((scale(), 1), lambda held: held[0], name="scaled"))


@said()
def _a_dataclass():
    @dataclasses.dataclass
    class Settings:
        factor: tf.Variable

    return checked(Scaled(Settings(scale()), lambda held: held.factor, name="scaled"))


@said()
def _a_module_of_TensorFlow():
    class Inner(tf.Module):
        def __init__(self):
            super().__init__()
            self.factor = scale()

    return checked(Scaled(Inner(), lambda held: held.factor, name="scaled"))


@said()
def _a_closure():
    factor = scale()
    return checked(Scaled(lambda: factor, lambda held: held(), name="scaled"))


@said()
def _a_Lambda():
    factor = scale()
    return checked(keras.layers.Lambda(lambda x: x * tf.cast(factor, x.dtype)))


@said("late/factor")
def _made_when_the_layer_is_built():
    class Late(keras.layers.Layer):
        def build(self, shape):
            self.factor = scale()

        def call(self, x):
            return x * tf.cast(self.factor, x.dtype)

    return checked(Late(name="late"))


@said("cell/factor")
def _in_the_cell_of_a_recurrence():
    class Cell(keras.layers.SimpleRNNCell):
        def __init__(self, units, **options):
            super().__init__(units, **options)
            self.factor = scale()

        def call(self, x, states, training=False):
            return super().call(x * tf.cast(self.factor, x.dtype), states, training)

    keras.utils.set_random_seed(0)
    return check_layer(keras.layers.RNN(Cell(2, name="cell")), X[None])


@said("scaled/factor")
def _in_a_wrapped_layer():
    keras.utils.set_random_seed(0)
    return check_layer(keras.layers.TimeDistributed(Scaled(scale(), name="scaled")), X[None])


@said("scaled/factor")
def _in_a_model_in_a_model():
    inner = keras.Sequential([keras.Input((3,)), Scaled(scale(), name="scaled"), keras.layers.Dense(3)])
    return checked(inner)


@said("mine/factor")
def _on_a_subclassed_model():
    class Mine(keras.Model):
        def __init__(self):
            super().__init__(name="mine")
            self.inner, self.factor = keras.layers.Dense(2), scale()

        def call(self, x):
            return self.inner(x) * tf.cast(self.factor, x.dtype)

    keras.utils.set_random_seed(0)
    model = Mine()
    model(X)
    model.compile("sgd", "mse")
    return check_gradients(model, X, Y)


@said("log_variance")
def _weights_of_losses_that_are_meant_to_be_learned():
    """Kendall's uncertainty weighting, written into a loss."""

    class Uncertain(keras.losses.Loss):
        def __init__(self):
            super().__init__()
            self.log_variance = scale("log_variance")

        def call(self, y, p):
            s = tf.cast(self.log_variance, p.dtype)
            return tf.exp(-s) * tf.reduce_mean((y - p) ** 2, -1) + s

    return check_gradients(model_of(loss=Uncertain()), X, Y)


@said("scaled/factor")
def _before_a_step():
    return check_updates(model_of(Scaled(scale(), name="scaled")), X, Y, steps=1)


class Stepping(keras.Sequential):
    """A model with a train_step of its own, which differentiates a loss times a factor, and may return it."""

    def __init__(self, layers, factor, *, returns):
        super().__init__([keras.Input((3,)), *layers, keras.layers.Dense(2)], name="stepping")
        self.factor, self.returns = factor, returns

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self(x, training=True) - y) ** 2)
            loss *= tf.cast(self.factor(), loss.dtype)
        weights = self.trainable_weights
        self.optimizer.apply(tape.gradient(loss, weights), weights)
        return {"loss": loss} if self.returns else {}


def stepped(*layers, factor=lambda: 1.0, returns=True):
    keras.utils.set_random_seed(0)
    model = Stepping(layers, factor, returns=returns)
    model.compile("sgd")
    return check_updates(model, X, Y, steps=1)


@said("scaled/factor")
def _in_a_layer_of_a_train_step_of_its_own():
    return stepped(Scaled(scale(), name="scaled"))


@said()
def _in_the_loss_that_a_train_step_returns():
    factor = scale()
    return stepped(factor=lambda: factor)


@said()
def _in_the_loss_that_a_train_step_differentiates():
    factor = scale()
    return stepped(factor=lambda: factor, returns=False)


@silent
def _a_train_step_without_any():
    return stepped()


@TABLE.add(says=(f"scaled/factor{WHY}. Make it with add_weight.",))
def _one_that_nothing_reads():
    return checked(Scaled(scale(), lambda held: 0.5, name="scaled"))


# Nobody expects these to be trained --------------------------------------------------------------------------------


@silent
def _a_counter_that_is_not_trainable():
    return checked(Scaled(scale(trainable=False), name="scaled"))


@silent
def _a_counter_of_integers():
    return checked(Scaled(tf.Variable(3), lambda held: tf.cast(held, "float32"), name="scaled"))


@silent
def _a_weight_of_Keras_in_a_list():
    class Own(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.factors = [self.add_weight(shape=(), initializer="ones") for _ in range(2)]

        def call(self, x):
            return x * self.factors[0] + self.factors[1]

    return checked(Own())


@silent
def _a_variable_of_Keras_as_an_attribute():
    return checked(Scaled(keras.Variable(0.5), tf.convert_to_tensor, name="scaled"))


@silent
def _Keras_2_trains_them():
    class Own(tf_keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.factor = scale()

        def call(self, x):
            return x * tf.cast(self.factor, x.dtype)

    tf_keras.utils.set_random_seed(0)
    model = tf_keras.Sequential([tf_keras.layers.Input((3,)), Own(), tf_keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    report = check_gradients(model, X, Y)
    assert any("factor" in v.name for v in report.verdicts)
    return report


@pytest.mark.sampled
@pytest.mark.parametrize("name", TABLE.parameters())
def test_situation(name):
    TABLE.rows[name].judge()
