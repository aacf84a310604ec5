"""Refusals of layers and losses: Keras raises where its documentation promises a value.

The smallest example of each entry of refusals.toml: a function with the name of the entry's id.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ref.translation.departures.examples import Answers, compute_or_name_refusal, example


@example
def crossentropy_of_logits_along_an_inner_axis_from_the_end() -> Answers:
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, axis=-2, dtype="float64")
    keras_value = compute_or_name_refusal(lambda: loss(np.array([[[1.0, 0.0], [0.0, 1.0]]]), np.zeros((1, 2, 2))))
    definition = np.log(2)
    return Answers(keras_value, definition)


@example
def channels_first_convolution_on_a_processor() -> Answers:
    keras_value = compute_or_name_refusal(
        lambda: keras.layers.Conv1D(1, 1, data_format="channels_first", kernel_initializer="ones")(np.ones((1, 1, 2)))
    )
    definition = [[[1.0, 1.0]]]
    return Answers(keras_value, definition)


@example
def channels_first_transpose_on_a_processor() -> Answers:
    layer = keras.layers.Conv1DTranspose(1, 1, data_format="channels_first", kernel_initializer="ones")
    keras_value = compute_or_name_refusal(lambda: layer(np.ones((1, 1, 2))))
    definition = [[[1.0, 1.0]]]
    return Answers(keras_value, definition)


@example
def dilated_transpose_on_a_processor() -> Answers:
    layer = keras.layers.Conv1DTranspose(1, 2, dilation_rate=2, kernel_initializer="ones")
    keras_value = compute_or_name_refusal(lambda: layer(np.ones((1, 1, 1))))
    definition = [[[1.0], [0.0], [1.0]]]
    return Answers(keras_value, definition)


@example
def gradient_of_a_compiled_dilated_transpose() -> Answers:
    layer = keras.layers.Conv3DTranspose(1, 2, dilation_rate=(1, 2, 1), use_bias=False, kernel_initializer="ones")
    layer.build((1, 3, 3, 3, 1))
    compiled = tf.function(layer.call, jit_compile=True, autograph=False)
    x = tf.Variable(tf.ones((1, 3, 3, 3, 1)))

    def gradient() -> Any:
        with tf.GradientTape() as tape:
            return tape.gradient(compiled(tf.identity(x)), x)

    keras_value = compute_or_name_refusal(gradient)
    definition = np.full((1, 3, 3, 3, 1), 8.0)
    return Answers(keras_value, definition)


@example
def transpose_of_an_even_kernel_without_output_padding() -> Answers:
    layer = keras.layers.Conv1DTranspose(1, 2, padding="same", output_padding=0, kernel_initializer="ones")
    keras_value = compute_or_name_refusal(lambda: layer(np.ones((1, 2, 1))).shape)
    definition = [1, 2, 1]
    return Answers(keras_value, definition)


@example
def depthwise_convolution_with_unequal_strides() -> Answers:
    keras_value = compute_or_name_refusal(
        lambda: keras.layers.DepthwiseConv2D(1, strides=(1, 2), depthwise_initializer="ones")(np.ones((1, 1, 2, 1)))
    )
    definition = [[[[1.0]]]]
    return Answers(keras_value, definition)


@example
def three_dimensional_pooling_in_float64() -> Answers:
    kinds = (keras.layers.MaxPooling3D, keras.layers.AveragePooling3D)
    layers = [kind(1, dtype="float64") for kind in kinds]
    refusals = [compute_or_name_refusal(partial(layer, np.ones((1, 1, 1, 1, 1)))) for layer in layers]
    keras_value, definition = " ".join(refusals), np.ones((2, 1, 1, 1, 1, 1))
    return Answers(keras_value, definition)


@example
def lanczos_gradient_in_float64() -> Answers:
    x = tf.ones((1, 1, 1, 1), "float64")

    def gradient() -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = keras.layers.UpSampling2D(2, interpolation="lanczos3", dtype="float64")(x)
        return tape.gradient(y, x)

    keras_value = compute_or_name_refusal(gradient)
    definition = [[[[4.0]]]]
    return Answers(keras_value, definition)


@example
def adaptive_pooling_of_one_in_a_graph() -> Answers:
    layer = keras.layers.AdaptiveMaxPooling1D(1, dtype="float64")
    keras_value = compute_or_name_refusal(lambda: tf.function(layer)(tf.constant([[[1.0], [2.0]]], "float64")))
    definition = [[[2.0]]]
    return Answers(keras_value, definition)


@example
def symbolic_pooling_minds_the_case() -> Answers:
    keras.layers.MaxPooling1D(2, padding="SAME")(np.ones((1, 2, 1)))
    keras_value = compute_or_name_refusal(
        lambda: [n or 0 for n in keras.layers.MaxPooling1D(2, padding="SAME")(keras.Input((2, 1))).shape]
    )
    definition = [0, 1, 1]
    return Answers(keras_value, definition)


@example
def dropout_rates_of_one_fail() -> Answers:
    keras_value = compute_or_name_refusal(lambda: keras.layers.AlphaDropout(1.0)(np.ones((1, 2)), training=True))
    definition = np.zeros((1, 2))
    return Answers(keras_value, definition)


@example
def batch_normalization_masked_single_channel() -> Answers:
    x, mask = np.ones((2, 1, 3)), np.ones((2, 1), bool)
    keras_value = compute_or_name_refusal(lambda: keras.layers.BatchNormalization(axis=1)(x, training=True, mask=mask))
    definition = np.zeros((2, 1, 3))
    return Answers(keras_value, definition)


@example
def einsum_dense_bias_of_an_inferred_size() -> Answers:
    keras_value = compute_or_name_refusal(
        lambda: keras.layers.EinsumDense("abc,cd->abd", (None, 4), bias_axes="bd")(np.zeros((2, 3, 5)))
    )
    definition = np.zeros((2, 3, 4))
    return Answers(keras_value, definition)


@example
def stft_channels_first_on_a_cpu() -> Answers:
    with tf.device("/CPU:0"):
        keras_value = compute_or_name_refusal(
            lambda: keras.layers.STFTSpectrogram("real", 2, 1, 2, window=None, data_format="channels_first")(
                np.ones((1, 1, 2), "float32")
            )
        )
    definition = np.array([[[2.0], [0.0]]])
    return Answers(keras_value, definition)


@example
def gaussian_noise_above_one_refused() -> Answers:
    keras_value = compute_or_name_refusal(lambda: keras.layers.GaussianNoise(2.0).stddev)
    definition = 2.0
    return Answers(keras_value, definition)


@example
def bidirectional_splits_states_in_the_middle() -> Answers:
    layer = keras.layers.Bidirectional(keras.layers.LSTM(1), backward_layer=keras.layers.GRU(1, go_backwards=True))
    keras_value = compute_or_name_refusal(
        lambda: np.shape(layer(np.ones((1, 1, 1)), initial_state=[np.zeros((1, 1))] * 3))
    )
    definition = (1, 2)
    return Answers(keras_value, definition)


@example
def bidirectional_stateful_with_states_and_mask() -> Answers:
    layer = keras.layers.Bidirectional(keras.layers.GRU(1, stateful=True, return_state=True))
    keras_value = compute_or_name_refusal(lambda: len(layer(keras.layers.Masking()(np.ones((1, 1, 1))))))
    definition = 3
    return Answers(keras_value, definition)


@example
def stack_of_one_cell_loses_a_level() -> Answers:
    keras_value = compute_or_name_refusal(
        lambda: np.shape(keras.layers.RNN([keras.layers.LSTMCell(1)], unroll=True)(np.ones((1, 2, 1))))
    )
    definition = (1, 1)
    return Answers(keras_value, definition)


@example
def time_distributed_takes_one_tensor() -> Answers:
    x = np.ones((1, 2, 1))
    keras_value = compute_or_name_refusal(lambda: keras.layers.TimeDistributed(keras.layers.Add())([x, x]))
    definition = 2 * x
    return Answers(keras_value, definition)


@example
def words_of_sentences_mask_the_sentences() -> Answers:
    words = keras.layers.Embedding(3, 1, mask_zero=True)(np.ones((1, 2, 3), int))
    sentences = keras.layers.TimeDistributed(keras.layers.LSTM(2))(words)
    keras_value = compute_or_name_refusal(lambda: np.shape(keras.layers.LSTM(1)(sentences)))
    definition = (1, 1)
    return Answers(keras_value, definition)


@example
def states_cannot_be_reset_to_values() -> Answers:
    layer = keras.layers.GRU(1, stateful=True)
    layer(np.ones((1, 1, 1)))

    def reset() -> float:
        layer.reset_state(states=np.ones((1, 1)))
        return float(np.asarray(layer.states[0]).item())

    keras_value = compute_or_name_refusal(reset)
    definition = 1.0
    return Answers(keras_value, definition)
