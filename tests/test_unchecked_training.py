"""A check in inference that passes says which layers compute something else in training, and how to check that."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ref import check_gradients, check_layer
from keras_ref.evaluation.keras_objects.keras_parts import list_layers
from keras_ref.evaluation.keras_objects.training_modes import find_training_dependent

X = np.random.default_rng(0).normal(size=(3, 4, 2))
IMAGES = np.random.default_rng(1).uniform(size=(2, 4, 4, 3))


def times_two_in_training(x, training=False):
    return 2 * x if training else x


class Own(keras.layers.Layer):
    """A layer of a user's, right in inference; in training its backward pass has another factor."""

    def call(self, x, training=False):
        @tf.custom_gradient
        def forgetful(x):
            return 3 * x, lambda upstream: upstream * (1.0 if training else 3.0)

        return forgetful(x)


class Block(keras.layers.Layer):
    """A layer of a user's with another inside, which is not named beside it."""

    def __init__(self, **options):
        super().__init__(**options)
        self.inner = keras.layers.Dropout(0.5, seed=0)

    def call(self, x, training=False):
        return self.inner(x, training=training)


L = keras.layers
#: what is said to depend on training must, and what does not must not
LAYERS = {
    "dense": lambda: L.Dense(2),
    "dropout": lambda: L.Dropout(0.5, seed=0),
    "no dropout": lambda: L.Dropout(0.0),
    "spatial dropout": lambda: L.SpatialDropout1D(0.5, seed=0),
    "noise": lambda: L.GaussianNoise(0.5, seed=0),
    "no noise": lambda: L.GaussianNoise(0.0),
    "normalization": L.BatchNormalization,
    "frozen normalization": lambda: L.BatchNormalization(trainable=False),
    "layer normalization": L.LayerNormalization,
    "spectral normalization": lambda: L.SpectralNormalization(L.Dense(2)),
    "recurrent": lambda: L.LSTM(2),
    "recurrent with dropout": lambda: L.GRU(2, dropout=0.5, seed=0),
    "recurrent with recurrent dropout": lambda: L.LSTM(2, recurrent_dropout=0.5, seed=0),
    "cells": lambda: L.RNN([L.GRUCell(2), L.LSTMCell(2, dropout=0.5, seed=0)]),
    "wrapped": lambda: L.Bidirectional(L.SimpleRNN(2)),
    "wrapped with dropout": lambda: L.TimeDistributed(L.Dropout(0.5, seed=0)),
    "a function": lambda: L.Lambda(lambda x: 2 * x),
    "a function of training": lambda: L.Lambda(times_two_in_training),
    "attention": lambda: keras.Sequential([L.Input((4, 2)), Attending(0.0)]),
    "attention with dropout": lambda: keras.Sequential([L.Input((4, 2)), Attending(0.5)]),
    "nested": lambda: keras.Sequential([keras.Sequential([L.Dense(2), L.AlphaDropout(0.5, seed=0)])]),
    "a block": Block,
}


class Attending(keras.layers.Layer):
    """Self-attention, whose own `call` says nothing of training: Keras hands it on."""

    def __init__(self, rate):
        super().__init__()
        self.attention = L.MultiHeadAttention(1, 2, dropout=rate, seed=0)

    def call(self, x):
        return self.attention(x, x)


def says(report):
    return [note for note in report.notes if note.startswith("The forward pass of training was not checked")]


@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_named_where_they_compute_something_else_in_training(name):
    keras.utils.set_random_seed(0)
    layer = LAYERS[name]()
    inference = np.asarray(layer(X, training=False))
    differs = not np.array_equal(np.asarray(layer(X, training=True)), inference)
    assert bool(find_training_dependent(list_layers(layer))) == differs


def test_a_fault_in_training_alone_passes_in_inference_with_the_option_that_finds_it():
    model = keras.Sequential(
        [L.Input((2,)), L.Dense(2), Own(name="mine"), L.Dropout(0.5, name="drop"), Block(name="block")]
    )
    plain = check_gradients(model, X[0])
    assert plain.ok
    assert says(plain) == [
        (
            "The forward pass of training was not checked, in which these layers may compute something else: mine, "
            "drop, block. Check it with training=True, or --training."
        )
    ]
    in_training = check_gradients(model, X[0], training=True)
    assert not in_training.ok and in_training.culprit.layer == "mine" and not says(in_training)


@pytest.mark.parametrize("training", [{}, {"training": False}, {"training": True}], ids=str)
def test_a_call_that_says_the_mode_itself_needs_no_option(training):
    assert bool(says(check_layer(L.Dropout(0.5, seed=0), X, **training))) == (not training)


def test_a_layer_that_is_in_training_where_nothing_is_said_needs_no_option():
    assert not says(check_layer(L.RandomFlip(seed=0), IMAGES))
    model = keras.Sequential([L.Input((4, 4, 3)), L.RandomFlip(seed=0, name="flip"), L.Dense(1)])
    assert "flip" in says(check_gradients(model, IMAGES))[0]


def test_of_many_layers_the_note_names_a_few():
    model = keras.Sequential([L.Input((2,)), *(L.Dropout(0.1) for _ in range(9)), L.Dense(1)])
    assert (
        says(check_gradients(model, X[0]))[0].count("dropout") == 5
        and "and 4 more" in says(check_gradients(model, X[0]))[0]
    )


def test_layers_of_keras_2():
    two = pytest.importorskip("tf_keras", reason="needs gradtwin[keras2]")
    layers = two.layers
    for dropout, named in ((0.5, True), (0.0, False)):
        model = two.Sequential([layers.Input((2,)), layers.Dense(2), layers.Dropout(dropout, name="drop")])
        assert ["drop" in note for note in says(check_gradients(model, X[0]))] == [True] * named
