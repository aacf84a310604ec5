"""Layers without a recurrence.

The smallest example of each entry of layers.toml: a function with the name of the entry's id.
"""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from keras_ref.translation.departures.examples import Answers, example


@example
def ops_add_takes_a_column_for_a_bias() -> Answers:
    keras_value = keras.ops.add(np.zeros((2, 2)), np.array([[1.0], [2.0]]))
    definition = [[1.0, 1.0], [2.0, 2.0]]
    return Answers(keras_value, definition)


@example
def adaptive_max_pooling_gradient_from_anywhere() -> Answers:
    x = tf.Variable(tf.reshape(tf.range(4096, dtype="float64"), (1, 4096, 1)))
    keras_value = []
    for _ in range(8):
        used_before = [tf.fill(x.shape, 7.0 + k) for k in range(32)]
        used_before = [tf.cast(part, "float64") + 1.0 for part in used_before]
        del used_before
        with tf.GradientTape() as tape:
            y = keras.layers.AdaptiveMaxPooling1D(1, dtype="float64")(tf.identity(x))
        keras_value.append(np.ravel(tape.gradient(y, x)))
    definition = np.tile(np.arange(4096) == 4095, (8, 1))
    return Answers(keras_value, definition)


@example
def adaptive_max_pooling_to_one_ends_the_process() -> Answers:
    keras.layers.AdaptiveMaxPooling1D(1)(np.ones((1, 4, 1), "float32"))
    keras_value = definition = "goes on"
    return Answers(keras_value, definition)


@example
def three_dimensional_windows_shift() -> Answers:
    x = np.array([1.0, 2.0, 3.0], "float32").reshape(1, 3, 1, 1, 1)
    layers = keras.layers.MaxPooling3D, keras.layers.AveragePooling3D
    convolution = keras.layers.Conv3D(1, 1, strides=3, padding="same", kernel_initializer="ones")
    keras_value = [np.ravel(layer(1, strides=3, padding="same")(x)) for layer in layers] + [np.ravel(convolution(x))]
    definition = [[1.0], [1.0], [1.0]]
    return Answers(keras_value, definition)


@example
def three_dimensional_max_pooling_loses_its_gradient() -> Answers:
    x = tf.reshape(tf.constant([1.0, 2.0, 3.0]), (1, 3, 1, 1, 1))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = keras.layers.MaxPooling3D(1, strides=3, padding="same")(x)
    keras_value = np.ravel(tape.gradient(y, x))
    definition = [1.0, 0.0, 0.0]
    return Answers(keras_value, definition)


@example
def three_dimensional_transpose_loses_its_gradient() -> Answers:
    x = tf.ones((1, 2, 1, 1, 1), "float64")
    layer = keras.layers.Conv3DTranspose(1, 1, strides=3, padding="same", kernel_initializer="ones", dtype="float64")
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)[0, :, 0, 0, 0] * np.array([10.0, 20.0, 30.0, 40.0, 50.0, 60.0])
    keras_value = np.ravel(tape.gradient(y, x))
    definition = [10.0, 40.0]
    return Answers(keras_value, definition)


@example
def three_dimensional_max_pooling_doubles_a_tie() -> Answers:
    x = tf.ones((1, 2, 1, 1, 1))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = keras.layers.MaxPooling3D((2, 1, 1))(x)
    keras_value = np.ravel(tape.gradient(y, x))
    definition = [1.0, 0.0]
    return Answers(keras_value, definition)


@example
def adaptive_bins_are_counted_in_float32() -> Answers:
    x = np.arange(4098.0).reshape(1, 4098, 1)
    keras_value = np.ravel(keras.layers.AdaptiveAveragePooling1D(4097, dtype="float64")(x))[-2:]
    definition = [4095.5, 4096.5]
    return Answers(keras_value, definition)


@example
def bicubic_weights_come_from_a_table() -> Answers:
    x = np.array([0.0, 0.0, 1.0, 0.0]).reshape(1, 1, 4, 1)
    keras_value = keras.layers.UpSampling2D((1, 3), interpolation="bicubic", dtype="float64")(x)[0, 0, 5, 0]
    distance = 2 / 3
    definition = 1.5 * distance**3 - 2.5 * distance**2 + 1
    return Answers(keras_value, definition)


@example
def interpolation_computes_in_float32() -> Answers:
    x = np.array([0.25, 0.2]).reshape(1, 1, 2, 1)
    keras_value = np.ravel(keras.layers.UpSampling2D((1, 2), interpolation="bilinear", dtype="float64")(x))
    definition = [0.25, 0.2375, 0.2125, 0.2]
    return Answers(keras_value, definition)


@example
def softmax_mask_aligns_from_the_right() -> Answers:
    inputs = keras.Input((2, 2))
    model = keras.Model(inputs, keras.layers.Softmax()(keras.layers.Masking()(inputs)))
    keras_value = model(np.array([[[1.0, 1.0], [0.0, 0.0]], [[1.0, 1.0], [1.0, 1.0]]]))[1, 0]
    definition = [0.5, 0.5]
    return Answers(keras_value, definition)


@example
def rms_normalization_scales_along_the_last_axis() -> Answers:
    layer = keras.layers.RMSNormalization(axis=1, epsilon=1e-12, dtype="float64")
    layer.build((1, 2, 2))
    layer.scale.assign([1.0, 2.0])
    keras_value = layer(np.ones((1, 2, 2)))
    definition = np.array([[[1.0, 1.0], [2.0, 2.0]]])
    return Answers(keras_value, definition)


@example
def layer_normalization_rms_divides_by_the_deviation() -> Answers:
    layer = keras.layers.LayerNormalization(rms_scaling=True, epsilon=0.0, dtype="float64")
    keras_value = layer(np.array([[1.0, 7.0]]))
    definition = np.array([[0.2, 1.4]])
    return Answers(keras_value, definition)


@example
def layer_normalization_scrambles_gamma_of_mixed_axes() -> Answers:
    layer = keras.layers.LayerNormalization(axis=(1, -1), scale=False, dtype="float64")
    layer.build((1, 2, 3))
    layer.beta.assign(np.arange(6.0).reshape(3, 2))
    keras_value = layer(np.zeros((1, 2, 3)))[0]
    definition = np.arange(6.0).reshape(3, 2).T
    return Answers(keras_value, definition)


@example
def fully_masked_queries_attend_everywhere() -> Answers:
    layer = keras.layers.MultiHeadAttention(1, 1, dtype="float64")
    x, mask = np.array([[[1.0], [2.0]]]), np.array([[[False, False], [True, True]]])
    definition, _ = layer(x, x, attention_mask=mask, return_attention_scores=True)
    keras_value = layer(x, x, attention_mask=mask)
    return Answers(keras_value, definition)


@example
def attention_row_without_keys_sees_the_future() -> Answers:
    x, mask = np.array([[[1.0], [2.0], [3.0]]]), np.array([[False, True, True]])
    keras_value = keras.layers.Attention(dtype="float64")([x, x], mask=[None, mask], use_causal_mask=True)[0, 0, 0]
    definition = 0.0
    return Answers(keras_value, definition)


@example
def causal_mask_along_axis_one() -> Answers:
    layer = keras.layers.MultiHeadAttention(1, 1, attention_axes=(2,), dtype="float64")
    x = np.ones((1, 1, 2, 1))
    keras_value = layer(x, x, use_causal_mask=True, return_attention_scores=True)[1][0, 0, 0]
    definition = np.array([[1.0, 0.0], [0.5, 0.5]])
    return Answers(keras_value, definition)


@example
def multi_head_attention_scale_is_float32() -> Answers:
    layer = keras.layers.MultiHeadAttention(1, 2, use_bias=False, dtype="float64")
    x = np.array([[[1.0], [2.0]]])
    layer.build(x.shape, x.shape)
    for w in layer.weights:
        w.assign(np.ones(w.shape))
    keras_value = layer(x, x, return_attention_scores=True)[1][0, 0, 0, 1]
    definition = 1 / (1 + np.exp(-np.sqrt(2.0)))
    return Answers(keras_value, definition)


@example
def explicit_query_mask_is_dropped() -> Answers:
    layer = keras.layers.MultiHeadAttention(1, 1, dtype="float64")
    x = np.ones((1, 2, 1))
    keras_value = layer(x, x, query_mask=np.array([[True, False]]), return_attention_scores=True)[1][0, 0, 1]
    definition = np.zeros(2)
    return Answers(keras_value, definition)


@example
def four_dimensional_attention_mask_meets_padding() -> Answers:
    layer = keras.layers.MultiHeadAttention(2, 1, dtype="float64")
    x, padding = np.ones((2, 2, 1)), np.array([[True, True], [True, False]])
    keras_value = layer(
        x, x, value_mask=padding, attention_mask=np.ones((2, 2, 2, 2), bool), return_attention_scores=True
    )[1]
    definition = layer(x, x, value_mask=padding, return_attention_scores=True)[1]
    return Answers(keras_value, definition)


@example
def merging_masks_aligned_at_the_right() -> Answers:
    x, y = tf.zeros((2, 2, 2, 1)), tf.ones((2, 2, 2, 1))
    x._keras_mask, y._keras_mask = (
        tf.constant([[True, True], [True, True]]),
        tf.constant([[True, False], [False, True]]),
    )
    keras_value = keras.layers.Maximum()([x, y])[0, :, :, 0]
    definition = np.array([[1.0, 1.0], [0.0, 0.0]])
    return Answers(keras_value, definition)


@example
def spectral_normalization_gradient_ignores_sigma() -> Answers:
    layer = keras.layers.SpectralNormalization(keras.layers.Dense(1, use_bias=False, dtype="float64"), dtype="float64")
    layer.build((1, 2))
    layer.kernel.assign([[3.0], [4.0]])
    layer.vector_u.assign([[1.0]])
    with tf.GradientTape() as tape:
        y = tf.reduce_sum(layer(np.array([[1.0, 2.0]]), training=True))
    keras_value = tape.gradient(y, layer.kernel.value)
    g, w = np.array([[1.0], [2.0]]), np.array([[0.6], [0.8]])
    definition = (g - (g * w).sum() * w) / 5
    return Answers(keras_value, definition)


@example
def spectral_normalization_rounds_embeddings_to_integers() -> Answers:
    layer = keras.layers.SpectralNormalization(keras.layers.Embedding(1, 2))
    layer.build((1, 1))
    layer.kernel.assign([[0.5, 1.5]])
    keras_value = layer(np.array([[0]]))[0, 0]
    definition = np.array([0.5, 1.5])
    return Answers(keras_value, definition)


@example
def synchronized_batch_variance_cancels() -> Answers:
    layer = keras.layers.BatchNormalization(synchronized=True)
    keras_value = layer(np.array([[10000.0], [10001.0]], "float32"), training=True)
    definition = np.array([[-0.998], [0.998]])
    return Answers(keras_value, definition)


@example
def stft_kernel_of_an_odd_length() -> Answers:
    layer = keras.layers.STFTSpectrogram("real", 5, 1, 5, window=None, dtype="float64")
    x = np.arange(5.0)
    keras_value = layer(x.reshape(1, 5, 1))[0, 0]
    definition = np.fft.rfft(x).real
    return Answers(keras_value, definition)


@example
def preprocessing_numbers_are_float32() -> Answers:
    keras_value = keras.layers.Rescaling(0.1, dtype="float64")(np.ones((1, 1)))
    definition = np.full((1, 1), 0.1)
    return Answers(keras_value, definition)


@example
def auto_contrast_channels_first() -> Answers:
    x = np.array([[[[0.0, 50.0], [100.0, 200.0]]]], "float32")
    keras_value = keras.layers.AutoContrast(data_format="channels_first")(x)
    definition = x * 255 / 200
    return Answers(keras_value, definition)


@example
def auto_contrast_of_a_constant_has_no_gradient() -> Answers:
    x = tf.Variable(np.full((1, 1, 2, 1), 7.0))
    with tf.GradientTape() as tape:
        y = tf.reduce_sum(keras.layers.AutoContrast(dtype="float64")(x))
    keras_value = tape.gradient(y, x)
    definition = np.ones((1, 1, 2, 1))
    return Answers(keras_value, definition)


@example
def auto_contrast_of_one_pixel_has_no_gradient() -> Answers:
    x = tf.Variable(np.full((1, 1, 1, 1), 7.0))
    with tf.GradientTape() as tape:
        y = tf.reduce_sum(keras.layers.AutoContrast(dtype="float64")(x))
    keras_value = tape.gradient(y, x)
    definition = np.ones((1, 1, 1, 1))
    return Answers(keras_value, definition)


@example
def attention_scores_have_another_symbolic_shape() -> Answers:
    scores = keras.layers.MultiHeadAttention(1, 1)(
        keras.Input((3, 4)), keras.Input((5, 4)), return_attention_scores=True
    )[1]
    keras_value = np.array(scores.shape[1:])
    definition = np.array([1, 3, 5])
    return Answers(keras_value, definition)
