"""scratch.training against model.fit: trajectories of every optimizer, batches, epochs, shuffling, constraints,
averages.

Both sides run freely, numeric gradients on one, autodiff on the other; the only thing they share is where they start.
"""

from dataclasses import replace

import numpy as np
import optimizer_cases as cases
import pytest
import tensorflow as tf
from hypothesis import given, note
from hypothesis import strategies as st

from keras_ref.evaluation.changed_state.float64 import in_float64
from keras_ref.translation import departures
from keras_ref.translation.exceptions.optimizers import as_keras
from keras_ref.translation.to_keras import mirror, mirror_object
from keras_ref.translation.weights import map_variables
from scratch import registry
from scratch.calls import Call
from scratch.constraints import MaxNorm, NonNeg
from scratch.differences import UNIT
from scratch.gradient import numeric_gradient
from scratch.layers.batch_normalization import BatchNormalization
from scratch.layers.core import Dense
from scratch.losses.regression import MeanAbsoluteError, MeanSquaredError
from scratch.model import Model
from scratch.objective import Objective
from scratch.optimizers.adam import Adam
from scratch.optimizers.sgd import SGD
from scratch.training import apply_step, fit, split_batches

GENERATOR = np.random.default_rng(7)
X, Y = GENERATOR.normal(size=(6, 3)), GENERATOR.normal(size=(6, 1))
MODEL = Model.chain([Dense(2, "tanh"), Dense(1)], (3,))
START = {name: np.random.default_rng(3).normal(size=shape) for name, shape in MODEL.weight_shapes.items()}
#: Keras optimizers that multiply a number with a keras.Variable: np.float64 on the left (in_float64) asks the variable
#: for its value, which it does not have in a graph; a constant tensor does not
FLOAT_FIRST = ("Adadelta", "Muon")
#: how often training is repeated with everything off by its error
ROLLS = 4


def keras_fit(model, weights, optimizer, x, y, *, epochs=1, batch_size=2, order=None, eager=True, built_first=False):
    """Weights and losses of model.fit(shuffle=False) in float64; with `order`, epoch i takes the samples order[i]."""
    keras_model = keras_twin(model)
    named = map_variables(keras_model, model)
    for name, variable in named.items():
        variable.assign(weights[name])
    with in_float64():
        made = mirror_object(optimizer)
    with in_float64(keras_model, made):
        keras_model.compile(
            made, mirror_object(MeanSquaredError(), dtype="float64"), run_eagerly=eager, jit_compile=False
        )
        if not eager and type(optimizer).__name__ in FLOAT_FIRST:
            vars(made).update({n: tf.constant(v) for n, v in vars(made).items() if type(v) is np.float64})
        if built_first:
            made.build(keras_model.trainable_variables)
        options = {"batch_size": batch_size, "shuffle": False, "verbose": 0}
        runs = [(x, y, epochs)] if order is None else [(x[index], y[index], 1) for index in order]
        losses = [
            loss for x, y, epochs in runs for loss in keras_model.fit(x, y, epochs=epochs, **options).history["loss"]
        ]
        return {name: v.numpy() for name, v in named.items()}, losses


_TWINS = {}


def keras_twin(model):
    """The Keras model of an architecture, made once."""
    return _TWINS.setdefault(repr(model), mirror(model))


def rolled_training(model, weights, optimizer, x, y, order, batch_size, seed):
    """The same training as scratch.fit with every gradient off by its own error, and every weight by rounding.

    The gradient of a step is taken where this run is, so that the law and the loss carry on what went before.
    """
    g = np.random.default_rng(seed)
    current = {n: w * (1 + UNIT * g.choice([-1.0, 1.0], w.shape)) for n, w in weights.items()}
    state = optimizer.init({n: current[n] for n in model.trainable})
    for index in order:
        for start in range(0, len(index), batch_size):
            part = index[start : start + batch_size]
            estimates = numeric_gradient(model, current, x[part], y[part], loss=MeanSquaredError(), training=True)
            gradients = {
                n: (e.value + e.error * g.choice([-1.0, 1.0], e.value.shape)) * optimizer.loss_scale(state)
                for n, e in estimates.items()
            }
            current, state = apply_step(model, current, gradients, x[part], optimizer=optimizer, state=state)
            current = {n: w * (1 + UNIT * g.choice([-1.0, 1.0], w.shape)) for n, w in current.items()}
    return finished(model, current, optimizer, state)


def finished(model, weights, optimizer, state):
    """The weights when training ends."""
    return {**weights, **optimizer.finalize({n: weights[n] for n in model.trainable}, state)}


def allowed(model, weights, optimizer, x, y, order, batch_size, centre):
    """What a free run may be off by: twice the largest distance of ROLLS runs with random errors, and eight units."""
    spread = {n: np.zeros_like(w) for n, w in centre.items()}
    for seed in range(ROLLS):
        there = rolled_training(model, weights, optimizer, x, y, order, batch_size, seed)
        spread = {n: np.maximum(s, np.abs(there[n] - centre[n])) for n, s in spread.items()}
    return {n: 2 * s + 8 * UNIT * np.abs(centre[n]) for n, s in spread.items()}


def disagreeing(ours, theirs, within):
    """The weights that differ by more than allowed."""
    return [(n, ours[n], theirs[n], within[n]) for n in ours if not (np.abs(ours[n] - theirs[n]) <= within[n]).all()]


@pytest.mark.sampled
@pytest.mark.parametrize("mode", ["eager", "graph"])
@pytest.mark.parametrize("name", cases.OPTIMIZERS)
def test_trajectory(name, mode):
    """Every optimizer with default arguments: after six steps both sides have the same weights, eager and as a graph.

    ScheduleFreeAdamW is built before: in a graph it forgets where it started (schedule-free-fit-forgets-the-start).
    """
    spec = registry.get("optimizer", name)()
    built_first = "schedule-free-fit-forgets-the-start" in departures.find_departures([spec])
    theirs, _ = keras_fit(MODEL, START, spec, X, Y, epochs=2, eager=mode == "eager", built_first=built_first)
    if left := compared(spec, theirs):
        assert departures.find_departures([spec]), left
        assert not compared(as_keras(spec), theirs)


def compared(spec, theirs):
    """The weights at which six steps of the twin end elsewhere than Keras's; trained once for both modes."""
    key = (type(spec), spec)
    if key not in _TRAINED:
        history = fit(MODEL, START, X, Y, loss=MeanSquaredError(), optimizer=spec, epochs=2, batch_size=2)
        ours = dict(history.weights)
        _TRAINED[key] = ours, allowed(MODEL, START, spec, X, Y, [np.arange(len(X))] * 2, 2, ours)
    return disagreeing(_TRAINED[key][0], theirs, _TRAINED[key][1])


_TRAINED = {}
LINEAR = Model.chain([Dense(1)], (3,))
LIMITED = {
    "free": LINEAR,
    "short": replace(LINEAR, constraints={"dense/kernel": MaxNorm(0.5)}),
    "positive": replace(LINEAR, constraints={"dense/kernel": NonNeg(), "dense/bias": NonNeg()}),
}
ALONE = {"dense/kernel": np.array([[0.5], [-0.25], [0.125]]), "dense/bias": np.array([0.125])}
AVERAGES = (
    {},
    {"use_ema": True, "ema_momentum": 0.75},
    {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 2},
)


@pytest.mark.sampled
@given(
    limit=st.sampled_from(sorted(LIMITED)),
    averages=st.sampled_from(AVERAGES),
    samples=st.integers(1, 5),
    batch_size=st.integers(1, 6),
    epochs=st.integers(1, 2),
)
def test_fit(limit, averages, samples, batch_size, epochs):
    """Any batch size (the last batch may be smaller), epochs, constraints and moving averages: model.fit's weights."""
    model, spec = LIMITED[limit], SGD(0.125, momentum=0.5, **averages)
    note(f"{spec}, {model.constraints}")
    x, y = X[:samples], Y[:samples]
    theirs, losses = keras_fit(model, ALONE, spec, x, y, epochs=epochs, batch_size=batch_size)
    law = spec if not (averages and model.constraints) else as_keras(spec)  # averages-are-taken-before-constraints
    assert law is spec or any(d.id == "averages-are-taken-before-constraints" for d in departures.load_departures())
    history = fit(model, ALONE, x, y, loss=MeanSquaredError(), optimizer=law, epochs=epochs, batch_size=batch_size)
    ours = dict(history.weights)
    within = allowed(model, ALONE, law, x, y, [np.arange(samples)] * epochs, batch_size, ours)
    assert not disagreeing(ours, theirs, within)
    # a loss is off by what the weights are off by times its slope, at most 2·√loss·(Σ|x| + 1), but for the square of it
    error = max(float(np.max(w)) for w in within.values())
    slope = 2 * np.sqrt(max(*losses, 1.0)) * (1 + np.abs(x).sum(axis=1).max())
    assert np.abs(np.array(losses) - history.losses).max() <= slope * error + 16 * UNIT * max(losses)


@pytest.mark.sampled
@given(seed=st.integers(0, 2**16), batch_size=st.integers(2, 6), epochs=st.integers(1, 2))
def test_shuffle(seed, batch_size, epochs):
    """A seed gives the order of every epoch: Keras on the samples in that order ends in the same place."""
    generator = np.random.default_rng(seed)
    order = [np.concatenate(list(split_batches(len(X), batch_size, generator=generator))) for _ in range(epochs)]
    assert all(sorted(index) == list(range(len(X))) for index in order)
    spec = SGD(0.125, momentum=0.5)
    theirs, _ = keras_fit(LINEAR, ALONE, spec, X, Y, batch_size=batch_size, order=order)
    options = {"optimizer": spec, "epochs": epochs, "batch_size": batch_size, "shuffle": True, "seed": seed}
    history, again = (fit(LINEAR, ALONE, X, Y, loss=MeanSquaredError(), **options) for _ in range(2))
    assert not disagreeing(
        dict(history.weights), theirs, allowed(LINEAR, ALONE, spec, X, Y, order, batch_size, dict(history.weights))
    )
    assert again.losses == history.losses


@pytest.mark.sampled
def test_batch_normalization_in_training():
    """Moving averages of the layers follow the batches as in model.fit."""
    model = Model.chain([Dense(2), BatchNormalization(momentum=0.5), Dense(1)], (3,))
    weights = {n: np.random.default_rng(5).uniform(0.25, 1.0, size=shape) for n, shape in model.weight_shapes.items()}
    spec = SGD(0.0625)
    theirs, _ = keras_fit(model, weights, spec, X, Y, epochs=2, batch_size=3)
    history = fit(model, weights, X, Y, loss=MeanSquaredError(), optimizer=spec, epochs=2, batch_size=3)
    within = allowed(model, weights, spec, X, Y, [np.arange(6)] * 2, 3, dict(history.weights))
    assert not disagreeing(dict(history.weights), theirs, within)
    assert any("moving" in n and not np.array_equal(w, weights[n]) for n, w in history.weights.items())


def test_training_ends_with_the_averages():
    """The final weights are what `finalize` makes of the last epoch's: with use_ema the moving averages; of no epoch,
    nothing.
    """
    options = {"loss": MeanSquaredError(), "optimizer": SGD(0.125, use_ema=True, ema_momentum=0.5), "batch_size": 2}
    history = fit(LINEAR, ALONE, X, Y, epochs=2, **options)
    for name, own in history.state.slots.items():
        assert np.array_equal(history.weights[name], own["average"])
        assert not np.array_equal(history.weights[name], history.epochs[-1].weights[name])
    assert all(np.array_equal(w, ALONE[n]) for n, w in fit(LINEAR, ALONE, X, Y, epochs=0, **options).weights.items())


@pytest.mark.sampled
@given(first=st.integers(0, 3), second=st.integers(0, 3))
def test_training_can_be_continued(first, second):
    """first epochs, then second more from the state that was left, are first + second epochs, bit for bit."""
    options = {"loss": MeanSquaredError(), "optimizer": Adam(0.125), "batch_size": 4}
    whole = fit(LINEAR, ALONE, X, Y, epochs=first + second, **options)
    half = fit(LINEAR, ALONE, X, Y, epochs=first, **options)
    rest = fit(LINEAR, half.weights, X, Y, epochs=second, state=half.state, **options)
    assert all(np.array_equal(whole.weights[n], rest.weights[n]) for n in ALONE)
    assert whole.losses == half.losses + rest.losses
    assert whole.state.iterations == rest.state.iterations == 2 * (first + second)


@pytest.mark.parametrize("form", ["array", "rows", "lists", "alone in a list", "by name"])
def test_forms_of_data(form):
    """Data in any form that the model takes are taken in the same batches: rows in a list are samples, not inputs."""
    x, y = {
        "array": (X, Y),
        "rows": (list(X), list(Y)),
        "lists": (X.tolist(), Y.tolist()),
        "alone in a list": (X, [Y]),
        "by name": ({"input": X}, {LINEAR.outputs[0]: Y}),
    }[form]
    options = {"loss": MeanSquaredError(), "optimizer": SGD(0.125), "batch_size": 2, "epochs": 2}
    wanted, found = fit(LINEAR, ALONE, X, Y, **options), fit(LINEAR, ALONE, x, y, **options)
    assert found.state.iterations == wanted.state.iterations == 2 * len(X) / 2
    assert all(np.array_equal(found.weights[n], w) for n, w in wanted.weights.items())


FORKED = Model(
    {"x": (None, 3)},
    {"left": Dense(1), "right": Dense(1)},
    (Call("left", ("x",), ("left",)), Call("right", ("x",), ("right",))),
    ("left", "right"),
)


def test_targets_by_name():
    """Targets in a mapping are those of the outputs that it names, in whatever order; sample weights too."""
    weights = {n: np.random.default_rng(5).normal(size=shape) for n, shape in FORKED.weight_shapes.items()}
    loss, shares = (MeanSquaredError(), MeanAbsoluteError()), {"left": np.arange(6.0), "right": np.ones(6)}
    targets = {"left": Y, "right": 2 * Y}
    wanted = Objective.of(FORKED, loss)(weights, X, [*targets.values()], sample_weight=[*shares.values()])
    turned = dict(reversed(targets.items())), dict(reversed(shares.items()))
    assert Objective.of(FORKED, loss)(weights, X, turned[0], sample_weight=turned[1]) == wanted
    trained = [
        fit(FORKED, weights, X, y, loss=loss, sample_weight=share, batch_size=2).weights
        for y, share in (([*targets.values()], [*shares.values()]), turned)
    ]
    assert all(np.array_equal(w, trained[1][n]) for n, w in trained[0].items())
    for wrong in ({"left": Y}, {"left": Y, "other": Y}, [Y], [Y, Y, Y]):
        with pytest.raises(ValueError, match=r"must be one for each output \(left, right\)\. Received: "):
            Objective.of(FORKED, loss)(weights, X, wrong)


def test_history():
    """An epoch has its number, the mean of its batches' losses before each step, and weights of its own."""
    start = {n: w.copy() for n, w in ALONE.items()}
    seen = []
    history = fit(
        LINEAR,
        start,
        X,
        Y,
        loss=MeanSquaredError(),
        optimizer="SGD",
        epochs=8,
        batch_size=4,
        progress=lambda done, of: seen.append((done, of)),
    )
    assert all(np.array_equal(start[n], ALONE[n]) for n in ALONE)
    assert seen == [(k, 8) for k in range(1, 9)]
    assert [epoch.number for epoch in history.epochs] == list(range(1, 9))
    assert all(np.array_equal(history.weights[n], history.epochs[-1].weights[n]) for n in ALONE)
    assert not np.array_equal(history.epochs[0].weights["dense/kernel"], history.epochs[1].weights["dense/kernel"])
    one = fit(LINEAR, start, X, Y, loss=MeanSquaredError(), optimizer="SGD", epochs=1, batch_size=6)
    assert one.losses == (float(np.mean((X @ ALONE["dense/kernel"] + ALONE["dense/bias"] - Y) ** 2)),)
    rows = [f"  epoch {k:>4}  loss {loss:.8g}" for k, loss in enumerate(history.losses, start=1)]
    assert repr(history) == "\n".join(["History of 8 epochs", *rows[:3], "  …", *rows[-3:]])


REFUSALS = {
    "epochs": (
        {"epochs": -1},
        "`epochs` must be a whole number, at least 0. Received: epochs=-1. Pass 1, say.",
    ),
    "half-epochs": (
        {"epochs": 1.5},
        "`epochs` must be a whole number, at least 0. Received: epochs=1.5. Pass 1, say.",
    ),
    "batch-size": (
        {"batch_size": 0},
        "`batch_size` must be a positive integer. Received: 0. Pass 1 or more, or None for all.",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusal(case):
    """What is refused, in whole sentences."""
    options, message = REFUSALS[case]
    with pytest.raises(ValueError) as refusal:
        fit(LINEAR, ALONE, X, Y, loss=MeanSquaredError(), **options)
    assert str(refusal.value) == message
