"""Losses, and their sums over weights and masks.

The smallest example of each entry of losses.toml: a function with the name of the entry's id.
"""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from keras_ref.translation.departures.examples import Answers, example


@example
def tversky_swaps_alpha_and_beta() -> Answers:
    y_true, y_pred = np.array([1.0, 0.0, 1.0, 1.0]), np.array([0.875, 0.5, 0.25, 0.5])
    keras_value = keras.losses.Tversky(alpha=0.25, beta=0.75, dtype="float64")(y_true, y_pred)
    right, false_positive, false_negative = 1.625, 0.5, 1.375
    definition = 1 - right / (right + 0.25 * false_positive + 0.75 * false_negative + 1e-7)
    return Answers(keras_value, definition)


@example
def generalized_crossentropy_pairs_all_samples() -> Answers:
    loss = keras.losses.CategoricalGeneralizedCrossEntropy(reduction=None, dtype="float64")
    keras_value = loss(np.array([[0], [1]]), np.array([[0.25, 0.75], [0.25, 0.75]]))
    definition = (1 - np.sqrt([0.25, 0.75])) / 0.5
    return Answers(keras_value, definition)


@example
def generalized_crossentropy_nan_beside_the_class() -> Answers:
    p = tf.constant([[0.0, 0.5, 0.5]], "float64")
    with tf.GradientTape() as tape:
        tape.watch(p)
        loss = keras.losses.CategoricalGeneralizedCrossEntropy(dtype="float64")(np.array([0]), p)
    keras_value = tape.gradient(loss, p)
    definition = [[-np.inf, 0.0, 0.0]]
    return Answers(keras_value, definition)


@example
def logits_of_another_activation() -> Answers:
    z, t = np.array([[1.0, -2.0, 0.5]]), np.array([[1.0, 0.0, 0.0]])
    softmax, sigmoid = keras.activations.softmax(z), keras.activations.sigmoid(z)
    losses = keras.losses.BinaryCrossentropy(dtype="float64"), keras.losses.CategoricalCrossentropy(dtype="float64")
    keras_value = [losses[0](t, softmax), losses[1](t, sigmoid)]
    definition = [losses[0](t, np.array(softmax)), losses[1](t, np.array(sigmoid))]
    return Answers(keras_value, definition)


@example
def smoothing_counts_the_last_axis() -> Answers:
    t, p = np.array([[[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]]), np.full((1, 2, 3), 0.5)
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=0.5, axis=1, reduction=None, dtype="float64")
    keras_value = loss(t, p)
    definition = np.full((1, 3), np.log(2))
    return Answers(keras_value, definition)


@example
def focal_alphas_lie_on_the_last_axis() -> Answers:
    loss = keras.losses.CategoricalFocalCrossentropy(
        alpha=[0.25, 0.75], gamma=0.0, axis=1, reduction=None, dtype="float64"
    )
    keras_value = loss(np.array([[[1.0, 1.0], [0.0, 0.0]]]), np.full((1, 2, 2), 0.5))
    definition = [[0.25 * np.log(2), 0.25 * np.log(2)]]
    return Answers(keras_value, definition)


@example
def crossentropy_of_logits_assumes_one_hot() -> Answers:
    z, t = tf.constant([[0.0, 0.0]], "float64"), np.array([[1.0, 0.5]])
    with tf.GradientTape() as tape:
        tape.watch(z)
        loss = keras.losses.CategoricalCrossentropy(from_logits=True, dtype="float64")(t, z)
    keras_value = tape.gradient(loss, z)
    definition = [[1.5 * 0.5 - 1.0, 1.5 * 0.5 - 0.5]]
    return Answers(keras_value, definition)


@example
def focal_crossentropy_nan_in_saturation() -> Answers:
    z = tf.constant([[40.0]], "float64")
    with tf.GradientTape() as tape:
        tape.watch(z)
        loss = keras.losses.BinaryFocalCrossentropy(gamma=0.0, from_logits=True, dtype="float64")(np.array([[1.0]]), z)
    keras_value = tape.gradient(loss, z)
    definition = [[-np.exp(-40.0)]]
    return Answers(keras_value, definition)


@example
def ctc_puts_a_number_on_the_impossible() -> Answers:
    keras_value = keras.losses.CTC(dtype="float64")(np.array([[1.0, 2.0]]), np.zeros((1, 1, 3)))
    definition = np.inf
    return Answers(keras_value, definition)


@example
def ctc_gradient_of_a_blank_as_label() -> Answers:
    z = tf.constant([[[0.0, 1.0, 2.0], [1.0, 0.0, 1.0], [2.0, 1.0, 0.0]]], "float64")
    with tf.GradientTape() as tape:
        tape.watch(z)
        loss = keras.losses.CTC(dtype="float64")(np.array([[0.0, 1.0]]), z)
    keras_value = np.sum(tape.gradient(loss, z), axis=-1)
    definition = [[0.0, 0.0, 0.0]]
    return Answers(keras_value, definition)


@example
def ctc_computes_in_float32() -> Answers:
    keras_value = keras.losses.CTC(dtype="float64")(np.array([[1.0]]), np.zeros((1, 1, 3)))
    definition = np.log(3)
    return Answers(keras_value, definition)


@example
def log_cosh_has_a_float32_constant() -> Answers:
    keras_value = keras.losses.LogCosh(dtype="float64")(np.zeros((1, 1)), np.zeros((1, 1)))
    definition = 0.0
    return Answers(keras_value, definition)


@example
def focal_alphas_are_float32() -> Answers:
    loss = keras.losses.CategoricalFocalCrossentropy(alpha=[0.1, 0.9], gamma=0.0, dtype="float64")
    keras_value = loss(np.array([[1.0, 0.0]]), np.array([[0.5, 0.5]]))
    definition = 0.1 * np.log(2)
    return Answers(keras_value, definition)


@example
def loss_configurations_forget_arguments() -> Answers:
    y_true, y_pred, loss = np.array([[0.0]]), np.array([[4.0]]), keras.losses.Huber(delta=2.0)
    keras_value = keras.losses.Huber.from_config(loss.get_config())(y_true, y_pred)
    definition = loss(y_true, y_pred)
    return Answers(keras_value, definition)


@example
def sample_weights_align_from_the_right() -> Answers:
    model = keras.Sequential([keras.Input((2, 1)), keras.layers.Activation("linear")])
    model.compile(loss="mse")
    x = np.array([[[1.0], [2.0]], [[4.0], [8.0]]])
    keras_value = model.evaluate(x, np.zeros((2, 2, 1)), sample_weight=np.array([1.0, 0.0]), verbose=0)
    definition = (1.0 + 4.0) / 4
    return Answers(keras_value, definition)


@example
def weighted_mean_of_one_value_does_not_divide() -> Answers:
    loss = keras.losses.MeanSquaredError(reduction="mean_with_sample_weight", dtype="float64")
    keras_value = loss(np.array([[1.0]]), np.array([[2.0]]), sample_weight=np.array(3.0))
    definition = 1.0
    return Answers(keras_value, definition)
