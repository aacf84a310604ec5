"""Rounding in float32 in one part of a loss: variables that it does not reach are compared as sharply as without it,
and a bend that it hides accuses nothing.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from keras_ref import check_layer
from keras_ref.comparison.sources.oracles import ForwardOracle
from keras_ref.evaluation.changed_state.float64 import in_float64
from keras_ref.evaluation.loss_function import Data, LossFunction
from keras_ref.reports.kinds import Kind

FEW = max(3, settings().max_examples // 10)
X = np.random.default_rng(0).normal(size=(4, 6))
BENDS = 6


class Beside(keras.layers.Layer):
    """Bends at distances of 2^-1 to 2^-20 from the bias, on both sides of it and of all sizes, beside a sum of the
    inputs that is computed in float32; `through` lets the bias go through that sum too. `wrong` is planted in the
    backward pass.
    """

    def __init__(self, seed=0, *, through=False, wrong=0.0):
        super().__init__(name="beside")
        generator = np.random.default_rng(seed)
        sides = generator.choice([-1, 1], (2, BENDS))
        self.distances = (2.0 ** generator.uniform(-20, -1, BENDS) * sides[0]).tolist()
        self.sizes = (2.0 ** generator.uniform(-8, 2, BENDS) * sides[1]).tolist()
        self.through, self.wrong = through, wrong

    def build(self, shape):
        self.bias = self.add_weight(shape=(BENDS,), initializer="zeros", name="bias")

    def call(self, x):
        planted = tf.custom_gradient(lambda v: (tf.identity(v), lambda upstream: upstream * (1 + self.wrong)))
        bias = planted(tf.convert_to_tensor(self.bias))
        moving = tf.concat([tf.reshape(x, [-1]), bias], 0) if self.through else x
        low = tf.cast(tf.reduce_sum(tf.exp(tf.cast(moving, "float32"))), x.dtype)
        distances, sizes = (tf.cast(np.array(numbers), x.dtype) for numbers in (self.distances, self.sizes))
        bends = tf.reduce_sum(sizes * tf.nn.relu(bias + distances) + tf.tanh(bias + 0.5))
        return tf.reshape(low + bends, [1, 1]) + 0 * x[:, :1]


def verdict_on_bias(seed, **options):
    report = check_layer(Beside(seed, **options), X, wrt=("weights",))
    return next(v for v in report.verdicts if v.name == "beside/bias")


@pytest.mark.sampled
@settings(max_examples=FEW)
@example(1)
@given(st.integers(0, 2**20))
def test_what_float32_does_not_reach_is_compared_in_float64(seed):
    right = verdict_on_bias(seed)
    assert right.verdict in (Kind.MATCH, Kind.KINK), right
    assert right.visible_relative < 1e-6
    assert verdict_on_bias(seed, wrong=1e-4).verdict is Kind.MISMATCH


@pytest.mark.sampled
@settings(max_examples=FEW)
@example(1)
@example(3)
@given(st.integers(0, 2**20))
def test_a_bend_hidden_by_noise_accuses_nothing(seed):
    """With the bias itself in float32 a bend may be too close to the point to be seen: then nothing is decided."""
    assert verdict_on_bias(seed, through=True).verdict in (Kind.MATCH, Kind.KINK, Kind.UNDECIDED)
    assert verdict_on_bias(seed, through=True, wrong=1.0).failed


@pytest.mark.parametrize("through", [False, True])
def test_noise_along_one_variable(through):
    """It is that of all where the variable goes through float32, that of float64 where it does not."""
    layer = Beside(through=through)
    layer.build(X.shape)
    with in_float64(layer):
        loss = LossFunction(
            lambda data: tf.reduce_sum(layer(data.x)), variables=[layer.bias], state=[], data=Data(X), watch_inputs=True
        )
        oracle = ForwardOracle.at(loss, loss.values)
        noise = {name: oracle.noise_along(name) / abs(oracle.base) for name in loss.values}
    bias = noise.pop("beside/bias")
    (of_input,) = noise.values()
    assert of_input > 2.0**-26
    assert (bias > 2.0**-26) if through else (0 < bias < 2.0**-45)
