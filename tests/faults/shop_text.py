"""A module of a user's, as text: what commands are run on in processes of their own."""

#: factories of models with the right gradient, and of one with a wrong one
SHOP = """
import keras, numpy as np, tensorflow as tf

def build():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="dense")], name="shop")
    model.compile(optimizer="sgd", loss="mse")
    return model, np.ones((2, 2)), np.ones((2, 1))

other = build

def network():
    return build()[0]

def of_keras_2():
    import tf_keras
    model = tf_keras.Sequential([tf_keras.layers.Dense(1, input_shape=(2,), name="dense")], name="shop")
    model.compile(optimizer="sgd", loss="mse")
    return model

@tf.custom_gradient
def wrong_square(x):
    return x * x, lambda upstream: 3 * x * upstream

class Wrong(keras.layers.Layer):
    def call(self, x):
        return wrong_square(x)

def wrong():
    layers = [keras.Input((3,)), keras.layers.Dense(3), Wrong(), keras.layers.Dense(1)]
    model = keras.Sequential(layers, name="wrong")
    model.compile(optimizer="sgd", loss="mse")
    return model, np.arange(6.0).reshape(2, 3), np.ones((2, 1))
"""
