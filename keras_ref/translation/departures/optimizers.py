"""Optimizers, schedules and regularizers, their refusals included.

The smallest example of each entry of optimizers.toml: a function with the name of the entry's id.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ref.translation.departures.examples import Answers, compute_or_name_refusal, example


@example
def python_floats_are_float32() -> Answers:
    keras_value = keras.ops.cast(0.9, "float64")
    definition = 0.9
    return Answers(keras_value, definition)


@example
def nadam_has_a_float32_constant() -> Answers:
    keras.config.set_floatx("float64")
    weight = keras.Variable([0.0], dtype="float64")
    optimizer = keras.optimizers.Nadam(1.0, beta_1=np.float64(0.9), beta_2=np.float64(0.999), epsilon=0.0)
    optimizer.apply([tf.constant([1.0], "float64")], [weight])
    u = [0.9 * (1 - 0.5 * 0.96**k) for k in (1, 2)]
    keras_value, definition = weight, [-(u[1] * 0.1 / (1 - u[0] * u[1]) + (1 - u[0]) / (1 - u[0]))]
    return Answers(keras_value, definition)


@example
def nadam_warms_up_in_a_few_steps() -> Answers:
    weight = keras.Variable([0.0])
    optimizer = keras.optimizers.Nadam(1.0, epsilon=0.0)
    optimizer.apply([tf.constant([1.0])], [weight])
    u = [0.9 * (1 - 0.5 * 0.96 ** (k / 250)) for k in (1, 2)]
    keras_value, definition = weight, [-(u[1] * 0.1 / (1 - u[0] * u[1]) + (1 - u[0]) / (1 - u[0]))]
    return Answers(keras_value, definition)


@example
def nadam_page_names_the_other_epsilon() -> Answers:
    moved = []
    for epsilon in (0.0, 1.0):
        weight = keras.Variable([0.0])
        optimizer = keras.optimizers.Nadam(1.0, beta_2=0.75, epsilon=epsilon)
        optimizer.apply([tf.constant([1.0])], [weight])
        moved.append(float(weight.numpy()[0]))
    keras_value = moved[0] / moved[1]  # by algorithm 1: (1 + epsilon); before the correction: 1 + epsilon / sqrt(1 / 4)
    definition = 3.0
    return Answers(keras_value, definition)


@example
def rmsprop_page_names_another_epsilon() -> Answers:
    weight = keras.Variable([0.0])
    optimizer = keras.optimizers.RMSprop(1.0, rho=0.75, epsilon=0.5)
    optimizer.apply([tf.constant([1.0])], [weight])
    keras_value, definition = weight, [-1.0]  # 1 / (sqrt(1/4) + 1/2)
    return Answers(keras_value, definition)


@example
def schedule_free_fit_forgets_the_start() -> Answers:
    def trained(**options: Any) -> Any:
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")])
        model.compile(keras.optimizers.ScheduleFreeAdamW(0.125), "mse", **options)
        model.fit(np.ones((1, 1)), np.zeros((1, 1)), verbose=0)
        return model.get_weights()[0]

    keras_value, definition = trained(), trained(run_eagerly=True)
    return Answers(keras_value, definition)


@example
def schedule_free_beta_cancels() -> Answers:
    keras.config.set_floatx("float64")
    keras_value = []
    for beta in (0.5, 0.75):
        weight = keras.Variable([1.0], dtype="float64")
        optimizer = keras.optimizers.ScheduleFreeAdamW(0.5, beta_1=beta, beta_2=0.5, epsilon=0.0)
        # each time with a gradient of 1: z = 0.5, then 0; x is their mean, 0.25; y = (1 - beta) z + beta x
        for _ in range(2):
            optimizer.apply([tf.constant([1.0], "float64")], [weight])
        keras_value.append(float(weight[0]))
    definition = [0.5 * 0.25, 0.75 * 0.25]
    return Answers(keras_value, definition)


@example
def schedule_free_decays_the_weight_alone() -> Answers:
    keras.config.set_floatx("float64")
    weight = keras.Variable([1.0], dtype="float64")
    optimizer = keras.optimizers.ScheduleFreeAdamW(0.5, weight_decay=0.125, beta_2=0.5, epsilon=0.0)
    optimizer.apply([tf.constant([1.0], "float64")], [weight])
    keras_value, definition = weight, [1.0 - 0.5 - 0.5 * 0.125]
    return Answers(keras_value, definition)


@example
def schedule_free_warm_up_weighs_all_steps_alike() -> Answers:
    keras.config.set_floatx("float64")
    weight = keras.Variable([1.0], dtype="float64")
    optimizer = keras.optimizers.ScheduleFreeAdamW(0.5, beta_1=0.999, beta_2=0.5, epsilon=0.0, warmup_steps=2)
    # each time with a gradient of 1: z = 1 - 0.25, then - 0.5; x is their mean, weighted by the rates' squares 1 and 4
    for _ in range(2):
        optimizer.apply([tf.constant([1.0], "float64")], [weight])
    keras_value, definition = weight, [0.001 * 0.25 + 0.999 * (0.75 + 4 * 0.25) / 5]
    return Answers(keras_value, definition)


@example
def sparse_rows_are_squared_before_they_are_summed() -> Answers:
    def stepped(gradient: Any) -> Any:
        weight = keras.Variable(np.zeros((1, 1)), dtype="float64")
        keras.optimizers.Adagrad(1.0, initial_accumulator_value=0.0).apply([gradient], [weight])
        return weight.numpy()

    repeated = tf.IndexedSlices(tf.constant([[1.0], [3.0]], "float64"), tf.constant([0, 0]), tf.constant([1, 1]))
    keras_value, definition = stepped(repeated), stepped(tf.constant([[4.0]], "float64"))
    return Answers(keras_value, definition)


@example
def sparse_rows_are_clipped_before_they_are_summed() -> Answers:
    def stepped(gradient: Any) -> Any:
        found = []
        for bound in ({"clipvalue": 2.0}, {"clipnorm": 1.0}, {"global_clipnorm": 1.0}):
            weight = keras.Variable(np.zeros((1, 1)), dtype="float64")
            keras.optimizers.SGD(1.0, **bound).apply([gradient], [weight])
            found.append(weight.numpy())
        return found

    repeated = tf.IndexedSlices(tf.constant([[1.0], [3.0]], "float64"), tf.constant([0, 0]), tf.constant([1, 1]))
    keras_value, definition = stepped(repeated), stepped(tf.constant([[4.0]], "float64"))
    return Answers(keras_value, definition)


@example
def sparse_gradients_cannot_be_unscaled() -> Answers:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Embedding(1, 1, embeddings_initializer="ones")])
    model.compile(keras.optimizers.SGD(0.25, loss_scale_factor=2.0), "mse")

    def fit() -> Any:
        model.fit(np.zeros((1, 1)), np.zeros((1, 1, 1)), verbose=0)
        return model.get_weights()[0]

    keras_value = compute_or_name_refusal(fit)
    definition = [[0.5]]
    return Answers(keras_value, definition)


@example
def adafactor_is_always_relative() -> Answers:
    keras.config.set_floatx("float64")
    weight, optimizer = keras.Variable([1.0], dtype="float64"), keras.optimizers.Adafactor(1.0, relative_step=False)
    for _ in range(3):
        before = weight.numpy()
        optimizer.apply([tf.constant([1.0], "float64")], [weight])
    keras_value, definition = (before - weight.numpy()) / max(abs(before[0]), 0.001), [1.0]
    return Answers(keras_value, definition)


@example
def lamb_decays_outside_the_ratio() -> Answers:
    keras.config.set_floatx("float64")
    weight = keras.Variable([3.0, 4.0], dtype="float64")
    optimizer = keras.optimizers.Lamb(0.125, weight_decay=0.5, epsilon=0.0)
    optimizer.apply([tf.constant([1.0, 1.0], "float64")], [weight])
    step = np.array([1.0, 1.0]) + 0.5 * np.array([3.0, 4.0])
    keras_value, definition = weight, np.array([3.0, 4.0]) - 0.125 * 5.0 / np.sqrt(np.sum(step**2)) * step
    return Answers(keras_value, definition)


@example
def ftrl_doubles_the_second_strength() -> Answers:
    weight = keras.Variable([0.0], dtype="float64")
    optimizer = keras.optimizers.Ftrl(1.0, initial_accumulator_value=0.0, l2_regularization_strength=1.0)
    optimizer.apply([tf.constant([1.0], "float64")], [weight])
    keras_value, definition = weight, [-0.5]
    return Answers(keras_value, definition)


@example
def ftrl_divides_nothing_by_nothing() -> Answers:
    weight = keras.Variable([1.0], dtype="float64")
    keras.optimizers.Ftrl(1.0, initial_accumulator_value=0.0).apply([tf.constant([0.0], "float64")], [weight])
    keras_value, definition = weight, [0.0]
    return Answers(keras_value, definition)


@example
def averages_are_taken_before_constraints() -> Answers:
    model = keras.Sequential(
        [
            keras.Input((1,)),
            keras.layers.Dense(1, use_bias=False, kernel_constraint="non_neg", kernel_initializer="ones"),
        ]
    )
    model.compile(keras.optimizers.SGD(1.0, use_ema=True, ema_momentum=0.5), "mse")
    model.fit(np.ones((1, 1)), -2 * np.ones((1, 1)), verbose=0)
    keras_value, definition = model.get_weights()[0], [[0.0]]
    return Answers(keras_value, definition)


@example
def averages_move_without_an_update() -> Answers:
    weight, path = keras.Variable([1.0], dtype="float64"), []
    optimizer = keras.optimizers.SGD(
        1.0, gradient_accumulation_steps=2, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=2
    )
    for _ in range(7):
        path.append(float(weight[0]))
        optimizer.apply([tf.constant([1.0], "float64")], [weight])
    keras_value, definition = weight, [path[-1]]
    return Answers(keras_value, definition)


@example
def muon_decays_its_vectors_at_the_full_rate() -> Answers:
    weight = keras.Variable([1.0], dtype="float64")
    optimizer = keras.optimizers.Muon(1.0, adam_lr_ratio=0.25, adam_weight_decay=0.5)
    optimizer.apply([tf.constant([0.0], "float64")], [weight])
    keras_value, definition = weight, [1.0 - 0.25 * 0.5]
    return Answers(keras_value, definition)


@example
def muon_and_orthogonality_in_float64() -> Answers:
    weight = keras.Variable(np.eye(2), dtype="float64")

    def step() -> Any:
        keras.optimizers.Muon(0.0, weight_decay=0.0).apply([tf.zeros((2, 2), "float64")], [weight])
        return weight.numpy()

    keras_value = compute_or_name_refusal(step)
    definition = np.eye(2)
    return Answers(keras_value, definition)


@example
def orthogonal_regularizer_of_one_vector() -> Answers:
    keras_value = keras.regularizers.OrthogonalRegularizer()(np.ones((1, 2), "float32"))
    definition = 0.0
    return Answers(keras_value, definition)


@example
def cosine_restarts_shrink_the_wrong_part() -> Answers:
    keras_value = keras.optimizers.schedules.CosineDecayRestarts(1.0, 2, m_mul=0.5, alpha=0.25)(2)
    definition = 0.5
    return Answers(keras_value, definition)


@example
def cosine_restarts_are_missed() -> Answers:
    keras_value = keras.optimizers.schedules.CosineDecayRestarts(1.0, 10, t_mul=1.2)(22)
    definition = 1.0
    return Answers(keras_value, definition)


@example
def cosine_decay_from_an_integer() -> Answers:
    schedule = keras.optimizers.schedules.CosineDecay(0, 1000, warmup_target=0.125, warmup_steps=1000)
    keras_value = compute_or_name_refusal(lambda: schedule(500))
    definition = 0.0625
    return Answers(keras_value, definition)
