"""A module of models that the command line checks: right, quantized, one that ends its process, with data."""

SHOP = """
import os
import keras
import numpy as np
import tensorflow as tf

@tf.custom_gradient
def rounded(x):
    return tf.round(x * 4.0) / 4.0, lambda upstream: upstream

class Quant(keras.layers.Layer):
    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 2), name="kernel")

    def call(self, x):
        return x @ rounded(tf.convert_to_tensor(self.kernel))

class Dies(keras.layers.Layer):
    def call(self, x):
        if not isinstance(x, keras.KerasTensor):
            tf.py_function(os.abort, [], [])
        return x

def build(*layers):
    keras.utils.set_random_seed(1)
    encoder = keras.layers.Dense(2, "tanh", name="encoder")
    model = keras.Sequential([keras.Input((3,), name="table"), encoder, *layers], name="shop")
    model.compile(optimizer="sgd", loss="mse")
    return model

def quantized():
    return build(Quant(name="quant"))

def dies():
    return build(Dies())

def with_data():
    return build(), np.arange(12.0).reshape(4, 3) / 8, np.arange(8.0).reshape(4, 2) / 8

def of_batches():
    _, x, y = with_data()
    return build(), tf.data.Dataset.from_tensor_slices((x, y)).batch(2)

def too_much():
    return build(), 1, 2, 3, 4
"""
