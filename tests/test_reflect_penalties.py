"""Keras → scratch: regularizers and constraints, whichever argument of whichever layer they were given as."""

import inspect

import keras
import numpy as np
import pytest
from keras import layers

from keras_ref.checks.gradients import check_gradients
from keras_ref.evaluation.changed_state.float64 import in_float64
from keras_ref.translation.from_keras import NoTwin, reflect, reflect_with_variables
from keras_ref.translation.to_keras import mirror
from scratch.constraints import MaxNorm
from scratch.differences import UNIT
from scratch.objective import Objective
from scratch.regularizers import L2

MATRIX, SEQUENCE, IMAGE = (4,), (3, 4), (4, 4, 2)
#: {name: (class, its arguments, what holds the layer, the shape of the input)}: every way in which a weight is kept
LAYERS = {
    "Dense": (layers.Dense, {"units": 2}, None, MATRIX),
    "Embedding": (layers.Embedding, {"input_dim": 5, "output_dim": 2}, None, MATRIX),
    "BatchNormalization": (layers.BatchNormalization, {}, None, MATRIX),
    "EinsumDense": (layers.EinsumDense, {"equation": "ab,bc->ac", "output_shape": 3, "bias_axes": "c"}, None, MATRIX),
    "DepthwiseConv2D": (layers.DepthwiseConv2D, {"kernel_size": 2}, None, IMAGE),
    "SeparableConv2D": (layers.SeparableConv2D, {"filters": 2, "kernel_size": 2}, None, IMAGE),
    "Conv2DTranspose": (layers.Conv2DTranspose, {"filters": 2, "kernel_size": 2}, None, IMAGE),
    "PReLU": (layers.PReLU, {}, None, MATRIX),
    "LSTM": (layers.LSTM, {"units": 2}, None, SEQUENCE),
    "MultiHeadAttention": (layers.MultiHeadAttention, {"num_heads": 2, "key_dim": 2}, None, SEQUENCE),
    "GroupQueryAttention": (
        layers.GroupQueryAttention,
        {"head_dim": 2, "num_query_heads": 2, "num_key_value_heads": 1},
        None,
        SEQUENCE,
    ),
    "Bidirectional": (layers.GRU, {"units": 2}, layers.Bidirectional, SEQUENCE),
    "TimeDistributed": (layers.Dense, {"units": 2}, layers.TimeDistributed, SEQUENCE),
    "RNN": (layers.SimpleRNNCell, {"units": 2}, layers.RNN, SEQUENCE),
    "RNN of two cells": (
        layers.GRUCell,
        {"units": 2},
        lambda cell: layers.RNN([cell, layers.LSTMCell(2)]),
        SEQUENCE,
    ),
    "SpectralNormalization": (layers.Dense, {"units": 2}, layers.SpectralNormalization, MATRIX),
    "Pipeline": (layers.Dense, {"units": 2}, lambda one: layers.Pipeline([one, layers.Dense(1)]), MATRIX),
}


def arguments_that_end_with(cls, end):
    return [
        name
        for name in inspect.signature(cls.__init__).parameters
        if name.endswith(end) and not name.startswith("activity")
    ]


def built(name, **given):
    """A model of one layer, with these arguments beside its own."""
    cls, own, holding, shape = LAYERS[name]
    layer = cls(**own, **given)
    layer = layer if holding is None else holding(layer)
    x = keras.Input(shape, dtype="int32" if cls is layers.Embedding else None)
    return keras.Model(x, layer(x, x) if "Attention" in name else layer(x))


@pytest.mark.sampled
@pytest.mark.parametrize("name", LAYERS)
def test_penalties_of_every_argument(name):
    """What a layer adds to the loss for its weights, its twin adds, for each argument that says so, alone."""
    for argument in arguments_that_end_with(LAYERS[name][0], "_regularizer"):
        keras.utils.set_random_seed(0)
        model = built(name, **{argument: keras.regularizers.L2(0.25)})
        for variable in model.trainable_variables:  # a bias of zeros has no penalty
            variable.assign(np.random.default_rng(0).uniform(0.5, 1.0, variable.shape))
        with in_float64(model):
            twin, weights = reflect(model)
            ours, theirs = Objective(twin, ()).penalty(None, weights), sum(map(float, model.losses))
        assert theirs > 0, argument
        assert abs(ours - theirs) <= 64 * UNIT * theirs, argument


@pytest.mark.sampled
@pytest.mark.parametrize("name", LAYERS)
def test_constraints_of_every_argument(name):
    """The twin constrains the weights that Keras does."""
    for argument in arguments_that_end_with(LAYERS[name][0], "_constraint"):
        twin, variables = reflect_with_variables(built(name, **{argument: keras.constraints.NonNeg()}))
        constrained = {own for own, variable in variables.items() if variable.constraint is not None}
        assert constrained, argument
        assert set(twin.constraints) == constrained, argument


@pytest.mark.sampled
@pytest.mark.parametrize("name", ["MultiHeadAttention", "Bidirectional", "TimeDistributed", "SeparableConv2D"])
def test_no_right_penalty_is_accused(name):
    """A layer inside another one may have a regularizer, and agrees with its twin."""
    keras.utils.set_random_seed(0)
    argument = arguments_that_end_with(LAYERS[name][0], "_regularizer")[0]
    model = built(name, **{argument: "l2"})
    x, y = (np.random.default_rng(0).normal(size=(2, *one.shape[1:])) for one in (model.inputs[0], model.outputs[0]))
    model.compile("sgd", "mse")
    report = check_gradients(model, x, y)
    assert report.ok, report.explain()
    assert {"forward", "twin"} == {v.oracle for v in report.verdicts}


def test_frozen_weights_have_no_penalty():
    """Keras adds the penalties of trained weights alone."""
    x = keras.Input(MATRIX)
    twin, _ = reflect(keras.Model(x, layers.Dense(2, kernel_regularizer="l2", trainable=False)(x)))
    assert not twin.regularizers


@pytest.mark.parametrize(
    "layer",
    [
        lambda **activity: layers.Bidirectional(layers.SimpleRNN(2), backward_layer=backwards(**activity)),
        lambda **activity: layers.SpectralNormalization(layers.Dense(2, **activity)),
        lambda **activity: layers.TimeDistributed(layers.Dense(2, **activity)),
    ],
    ids=["Bidirectional", "SpectralNormalization", "TimeDistributed"],
)
def test_an_activity_regularizer_inside(layer):
    """What a layer inside another one adds for its output is not said to be nothing: such a layer has no twin."""
    x = keras.Input(SEQUENCE)
    assert reflect(keras.Model(x, layer()(x)))
    with pytest.raises(NoTwin, match="inside another one must have no activity regularizer"):
        reflect(keras.Model(x, layer(activity_regularizer="l2")(x)))


def backwards(**activity):
    return layers.LSTM(2, go_backwards=True, **activity)


@pytest.mark.parametrize("name", ["Dense", "DepthwiseConv2D", "SeparableConv2D", "Bidirectional", "MultiHeadAttention"])
def test_mirrored_penalties(name):
    """scratch → Keras: every weight has the regularizer and the constraint that the model of scratch gives it."""
    plain, weights = reflect(built(name))
    roles = {"regularizers": dict.fromkeys(weights, L2(0.25)), "constraints": dict.fromkeys(weights, MaxNorm(2.0))}
    model = mirror(type(plain)(plain.inputs, plain.layers, plain.calls, plain.outputs, **roles), weights)
    again, same = reflect(model)
    assert again.regularizers == roles["regularizers"]
    assert again.constraints == roles["constraints"]
    ours, theirs = Objective(again, ()).penalty(None, same), sum(map(float, model.losses))
    assert abs(ours - theirs) <= 64 * UNIT * max(theirs, 1.0)
