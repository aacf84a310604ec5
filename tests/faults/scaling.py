"""A layer whose call does whatever else it is told to, a model of it, and the verbs that check them."""

import keras
import numpy as np

from keras_ref import check_function, check_gradients, check_layer, check_updates, compare

ONE = np.ones((1, 1))


class Scaling(keras.layers.Layer):
    """x w, and whatever else a call does, in a function, which may hide in its closure what it uses."""

    def __init__(self, write):
        super().__init__()
        self.write = write

    def build(self, shape):
        self.w = self.add_weight(shape=(), initializer="ones", name="w")

    def call(self, x):
        self.write()
        return x * self.w


def model_of(layer):
    model = keras.Sequential([keras.Input((1,)), layer])
    model.compile("sgd", "mse")
    return model


#: {name: check(layer, its model)}
VERBS = {
    "layer": lambda layer, model: check_layer(layer, ONE),
    "function": lambda layer, model: check_function(layer, ONE),
    "gradients": lambda layer, model: check_gradients(model, ONE, ONE),
    "updates": lambda layer, model: check_updates(model, ONE, ONE, steps=1),
    "comparison": lambda layer, model: compare(model, model, ONE, ONE, steps=1),
}
