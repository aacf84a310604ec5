"""Pages of the documentation that Keras does not follow: the twins compute what Keras does.

The smallest example of each entry of documentation.toml: a function with the name of the entry's id.
"""

from __future__ import annotations

import keras
import numpy as np

from keras_ref.translation.departures.examples import Answers, compute_or_name_refusal, example


@example
def batch_normalization_averages_biased_variances() -> Answers:
    layer = keras.layers.BatchNormalization(momentum=0.0, dtype="float64")
    layer(np.array([[0.0], [2.0]]), training=True)
    keras_value, definition = layer.moving_variance, [2.0]
    return Answers(keras_value, definition)


@example
def relu_layer_excludes_its_threshold() -> Answers:
    keras_value = keras.layers.ReLU(threshold=1.0)(np.array([1.0]))
    definition = [1.0]
    return Answers(keras_value, definition)


@example
def percentage_error_of_a_negative_target() -> Answers:
    keras_value = keras.losses.MeanAbsolutePercentageError(dtype="float64")(np.array([[-2.0]]), np.array([[-1.0]]))
    definition = 100 * abs(-2.0 + 1.0) / max(-2.0, 1e-7)
    return Answers(keras_value, definition)


@example
def depthwise_strides_with_dilation() -> Answers:
    layer = keras.layers.DepthwiseConv1D(1, strides=2, dilation_rate=2, depthwise_initializer="ones")
    keras_value = compute_or_name_refusal(lambda: layer(np.ones((1, 2, 1))))
    definition = "ValueError"
    return Answers(keras_value, definition)
