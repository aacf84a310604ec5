"""Source of projects whose tests and targets run under the plugin, the hook and the action; their quiet options."""

MODEL = """
import keras, numpy as np, pytest, tensorflow as tf

def model():
    keras.utils.set_random_seed(1)
    m = keras.Sequential([keras.Input((3,), name="table"), keras.layers.Dense(2, "tanh", name="dense")])
    m.compile(optimizer="sgd", loss="mse")
    return m

X, Y = np.arange(12.0).reshape(4, 3) / 8, np.arange(8.0).reshape(4, 2) / 8
"""

#: a layer whose gradient is wrong by 0.05 %, for a module that has keras and tf
DOUBLED = """
@tf.custom_gradient
def doubled(x):
    return x * 2.0, lambda upstream: upstream * 2.001

class Doubled(keras.layers.Layer):
    def call(self, x):
        return doubled(x)
"""

#: options of a pytest that runs inside a test
QUIET = ("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:randomly", "-W", "ignore")
