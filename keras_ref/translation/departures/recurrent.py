"""Recurrent layers, cells and their wrappers.

The smallest example of each entry of recurrent.toml: a function with the name of the entry's id.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ref.translation.departures.examples import Answers, example


@example
def time_distributed_counts_samples_for_steps() -> Answers:
    layer = keras.layers.TimeDistributed(keras.layers.Dense(1, kernel_initializer="ones"))
    layer.build((None, None, 1))
    x = np.array([[[1.0], [2.0], [3.0]]], dtype="float32")
    keras_value = tf.function(layer, input_signature=[tf.TensorSpec((None, None, 1))], autograph=False)(x)
    definition = x
    return Answers(keras_value, definition)


@example
def unrolled_backwards_zeros_the_wrong_steps() -> Answers:
    x, mask = np.array([[[1.0], [2.0]]]), np.array([[True, False]])
    cell = keras.layers.SimpleRNNCell(1, kernel_initializer="ones", recurrent_initializer="zeros")
    keras_value = keras.layers.RNN(
        cell, return_sequences=True, go_backwards=True, zero_output_for_mask=True, unroll=True
    )(x, mask=mask)
    definition = np.array([[[0.0], [np.tanh(1.0)]]])
    return Answers(keras_value, definition)


@example
def zeros_for_mask_without_sequences() -> Answers:
    x, mask = np.ones((1, 2, 1)), np.array([[True, False]])
    cell = keras.layers.SimpleRNNCell(1, kernel_initializer="ones")
    keras_value = keras.layers.RNN(cell, zero_output_for_mask=True)(x, mask=mask)
    definition = np.tanh([[1.0]])
    return Answers(keras_value, definition)


@example
def backwards_outputs_keep_the_forward_mask() -> Answers:
    x = keras.layers.Masking()(np.array([[[1.0], [0.0]]]))
    y = keras.layers.SimpleRNN(1, return_sequences=True, go_backwards=True)(x)
    keras_value = np.asarray(keras.src.backend.get_keras_mask(y)).astype(float)
    definition = np.array([[0.0, 1.0]])
    return Answers(keras_value, definition)


@example
def dropout_of_everything_drops_nothing() -> Answers:
    layer = keras.layers.LSTM(1, dropout=1.0, kernel_initializer="ones", unit_forget_bias=False)
    keras_value = layer(np.ones((1, 1, 1)), training=True)
    definition = np.zeros((1, 1))
    return Answers(keras_value, definition)


@example
def masked_steps_reach_the_gradient() -> Answers:
    layer = keras.layers.SimpleRNN(1, activation="exponential", kernel_initializer="ones")
    x, mask = np.array([[[1.0], [1000.0]]], "float32"), np.array([[True, False]])
    layer.build(x.shape)
    with tf.GradientTape() as tape:
        y = layer(x, mask=mask)
    keras_value = tape.gradient(y, layer.cell.kernel.value)
    definition = np.exp([[1.0]])
    return Answers(keras_value, definition)


@example
def unrolled_sigmoid_keeps_its_logits() -> Answers:
    def loss(unroll: bool) -> Any:
        layer = keras.layers.SimpleRNN(1, activation="sigmoid", kernel_initializer="ones", unroll=unroll)
        return keras.losses.BinaryCrossentropy()(np.zeros((1, 1)), layer(np.full((1, 1, 1), 40.0)))

    keras_value, definition = loss(True), loss(False)
    return Answers(keras_value, definition)


@example
def simple_rnn_forgets_its_activity_regularizer() -> Answers:
    layer = keras.layers.SimpleRNN(1, kernel_initializer="ones", activity_regularizer=keras.regularizers.L2(1.0))
    layer(np.ones((1, 1, 1)))
    keras_value = np.sum([float(v) for v in layer.losses])
    definition = np.tanh(1.0) ** 2
    return Answers(keras_value, definition)


@example
def time_distributed_forgets_an_activity_regularizer() -> Answers:
    inner = keras.layers.Dense(1, kernel_initializer="ones", activity_regularizer=keras.regularizers.L2(1.0))
    layer = keras.layers.TimeDistributed(inner)
    layer(np.ones((1, 1, 1)))
    keras_value = np.sum([float(v) for v in layer.losses])
    definition = 1.0
    return Answers(keras_value, definition)


@example
def activity_of_a_cell_counts_its_rehearsal() -> Answers:
    layer = keras.layers.RNN(
        keras.layers.SimpleRNNCell(1, kernel_initializer="ones", activity_regularizer=keras.regularizers.L2(1.0))
    )
    layer(np.ones((1, 1, 1)))
    keras_value = np.sum([float(v) for v in layer.losses])
    definition = np.tanh(1.0) ** 2
    return Answers(keras_value, definition)


@example
def cell_by_itself_draws_once() -> Answers:
    cell = keras.layers.SimpleRNNCell(1, dropout=0.5, kernel_initializer="ones", seed=0)
    x, h = np.ones((64, 1)), np.zeros((64, 1))
    first, second = (np.asarray(cell(x, [h], training=True)[0]) for _ in range(2))
    keras_value = float((first != second).any())
    definition = 1.0
    return Answers(keras_value, definition)


@example
def bidirectional_doubles_the_forward_units() -> Answers:
    layer = keras.layers.Bidirectional(keras.layers.LSTM(2), backward_layer=keras.layers.LSTM(3, go_backwards=True))
    keras_value = [n or 0 for n in layer(keras.Input((4, 1))).shape]
    definition = [0, 5]
    return Answers(keras_value, definition)
