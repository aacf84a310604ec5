"""What the fault suite interrupts: each public verb on something small that has state of every kind."""

import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from everything import changes, everything

from keras_ref import check_function, check_gradients, check_layer, check_updates, compare
from keras_ref.frontends.invocations.invocation import Invocation
from keras_ref.minimisation.minimise import minimise as minimise_subject

X, Y = np.arange(6.0).reshape(2, 3) / 8 - 0.25, np.arange(4.0).reshape(2, 2) / 8


class Counting(keras.layers.Layer):
    """Counts its calls in variables of Keras and TensorFlow, in a list, and in Python."""

    def build(self, shape):
        self.calls = self.add_weight(shape=(), dtype="int32", initializer="zeros", trainable=False, name="calls")
        self.raw, self.listed, self.python = tf.Variable(2.0), [tf.Variable(1.0)], 0

    def call(self, x):
        self.calls.assign_add(1)
        self.raw.assign_add(1.0)
        self.listed[0].assign(2 * self.listed[0])
        self.python += 1
        return x * tf.cast(self.raw, x.dtype) + tf.cast(self.listed[0], x.dtype)


def stateful_model():
    """A compiled and trained model with slots, seeds, moving averages and counters."""
    keras.utils.set_random_seed(3)
    layers = [keras.layers.Dense(2), keras.layers.BatchNormalization(), keras.layers.Dropout(0.5, seed=1), Counting()]
    model = keras.Sequential([keras.Input((3,)), *layers], name="stateful")
    model.compile(optimizer=keras.optimizers.Adam(0.01), loss="mse")
    model.train_on_batch(X, Y)
    return model


def plain_model():
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, "tanh")], name="plain")
    model.compile(optimizer=keras.optimizers.SGD(0.01, momentum=0.5), loss="mse")
    model.train_on_batch(X, Y)
    return model


class OwnStep(keras.Model):
    """A model that trains by a step of its own."""

    def __init__(self):
        super().__init__(name="own_step")
        self.inner = keras.layers.Dense(2, name="inner")
        self.build((None, 3))
        self.compile(optimizer=keras.optimizers.Adam(0.01), loss="mse")

    def build(self, shape):
        self.inner.build(shape)
        super().build(shape)

    def call(self, x):
        return self.inner(x)

    def train_step(self, data):
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self(x, training=True) - tf.cast(y, self.compute_dtype)) ** 2)
        self.optimizer.apply_gradients(
            zip(tape.gradient(loss, self.trainable_variables), self.trainable_variables, strict=True)
        )
        return {"loss": loss}


def gradients():
    model = stateful_model()
    return [model], [], lambda: check_gradients(model, X, Y, training=True, most=2)


def gradients_along_directions():
    model = stateful_model()
    return [model], [], lambda: check_gradients(model, X, Y, effort="fast")


def updates():
    model = plain_model()
    return [model], [], lambda: check_updates(model, X, Y, steps=1)


def own_updates():
    keras.utils.set_random_seed(3)
    model = OwnStep()
    model.train_on_batch(X, Y)
    return [model], [], lambda: check_updates(model, X, Y, steps=1)


def layer():
    keras.utils.set_random_seed(3)
    one = keras.layers.GRU(1, dropout=0.5, seed=1, name="gru")
    sequences = np.arange(8.0).reshape(2, 2, 2) / 8
    one(sequences)
    return [one], [], lambda: check_layer(one, sequences, training=True, most=2)


def function():
    counter, weight = tf.Variable(1.0, dtype="float64"), tf.Variable([1.0, 2.0, 3.0])

    @tf.function
    def written(x):
        counter.assign(counter * 2)
        return x * tf.cast(counter, x.dtype)

    written(tf.zeros((), "float64"))  # traced before the check: it holds the variable itself

    def loss(x):
        return tf.sin(x) * tf.cast(weight, x.dtype) + written(tf.zeros_like(x))

    return [], [counter, weight], lambda: check_function(loss, X, variables=[weight], most=2)


def comparison():
    one, other = plain_model(), plain_model()
    return [one, other], [], lambda: compare(one, other, X, Y, steps=1)


#: name → make() → (Keras objects, variables, a call of a verb)
SUBJECTS = {
    make.__name__: make
    for make in (gradients, gradients_along_directions, updates, own_updates, layer, function, comparison)
}


def replay():
    """What `gradtwin replay` runs: a target of a recorded command. The module's factory gives the model of this run."""
    model = plain_model()
    module = types.ModuleType("faults_shop")
    module.build = lambda: (model, X, Y)
    sys.modules[module.__name__] = module
    recorded = Invocation("check", ("faults_shop:build",), "", {"effort": "fast"})
    return [model], [], lambda: recorded.run("faults_shop:build")


@tf.custom_gradient
def wrong_square(x):
    return x * x, lambda upstream: upstream * x * 3


class WrongSquare(keras.layers.Layer):
    """x w, squared, with a wrong gradient."""

    def build(self, shape):
        self.w = self.add_weight(shape=(), initializer="ones", name="w")

    def call(self, x):
        return wrong_square(x * self.w)


def minimisation():
    """Without the script's run in a process of its own, and with a search that is over at once."""
    layer = WrongSquare(name="wrong")
    layer(X)

    def call():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys.modules["keras_ref.minimisation.minimise"], "exit_status_of", lambda *given, **options: 1)
            return minimise_subject(layer, X[:1, :1], seconds=0.001)

    return [layer], [], call


#: verbs that call those above
MORE = {make.__name__: make for make in (replay, minimisation)}


def subject(name):
    """A call of a verb, and what gives all that has changed since now."""
    objects, variables, call = (SUBJECTS | MORE)[name]()
    call()
    before = everything(*objects, variables=variables)
    return call, lambda: changes(before, everything(*objects, variables=variables))
