"""The engine of the page, assets/engine.js, held to the Python engine over 200 random states and edits."""

import numpy as np
import pytest
from lesson_pages import until

from scratch.differences import ComplexStep
from scratch.gradient import numeric_gradient
from scratch.layers.core import Dense
from scratch.losses.regression import MeanAbsoluteError, MeanSquaredError
from scratch.model import Model
from scratch.objective import Objective
from scratch.optimizers.adagrad import RMSprop
from scratch.optimizers.adam import Adam
from scratch.optimizers.base import State
from scratch.optimizers.sgd import SGD
from scratch.training import split_batches

CASES = 200
#: relative, as the issue asks for; sums are compared on the scale of their largest entry
EQUAL = 1e-12
ACTIVATIONS = ("linear", "relu", "leaky_relu", "tanh", "sigmoid")
LOSSES = {"squared": MeanSquaredError(), "absolute": MeanAbsoluteError()}
OPTIMIZERS = {"sgd": SGD, "momentum": lambda rate: SGD(rate, momentum=0.9), "rmsprop": RMSprop, "adam": Adam}
RUN = """
return arguments[0].map(({given, edit, gradients}) => {
  const state = engine[edit[0]](engine.begin(given), ...edit.slice(1));
  const all = engine.everySample(state), size = state.batch || all.length, batches = [];
  for (let at = 0; at < all.length; at += size) batches.push(all.slice(at, at + size));
  const updated = gradients.map((g) => g.slice(0, state.weights.length)).reduce(engine.update, state);
  const nudges = state.weights.map((_, i) => engine.nudge(state, i));
  return {state, loss: engine.lossOf(state), nudges, predictions: all.map((s) => engine.forward(state, s).prediction),
    gradients: batches.map((samples) => engine.backpropagate(state, samples)), slopes: engine.nudgeAll(state),
    updated: updated.weights, slots: updated.slots, stepped: engine.step(state, engine.backpropagate).weights};
});
"""


def _states(seed=0):
    """Random states with an edit each, and gradients to step along: numbers of both signs, not round."""
    draw = np.random.default_rng(seed)
    for _ in range(CASES):
        units, samples = int(draw.integers(0, 7)), int(draw.integers(1, 7))
        count = 3 * units + 1 if units else 2

        def numbers(size):
            return draw.normal(size=size).tolist()

        given = {
            "units": units,
            "activation": str(draw.choice(ACTIVATIONS)),
            "loss": str(draw.choice(list(LOSSES))),
            "optimizer": str(draw.choice(list(OPTIMIZERS))),
            "rate": float(draw.uniform(0.001, 0.1)),
            "nudge": float(10.0 ** -draw.uniform(2, 6)),
            "batch": int(draw.integers(0, samples)),
            "x": numbers(samples),
            "y": numbers(samples),
            "weights": numbers(count),
        }
        edits = (
            ["setWeight", int(draw.integers(count)), *numbers(1)],
            ["setSample", int(draw.integers(samples)), *numbers(2)],
            ["setSamples", numbers(samples + 1), numbers(samples + 1)],
            ["set", "activation", str(draw.choice(ACTIVATIONS))],
            ["set", "loss", str(draw.choice(list(LOSSES)))],
            ["set", "optimizer", str(draw.choice(list(OPTIMIZERS)))],
            ["setUnits", int(draw.integers(0, 7))],
        )
        yield {
            "given": given,
            "edit": edits[int(draw.integers(len(edits)))],
            "gradients": [numbers(19) for _ in range(3)],
        }


def _edited(given, edit):
    """What an edit makes of a state, said a second time; weights of new units are taken from the page."""
    verb, *what = edit
    if verb == "setWeight":
        return given | {"weights": [what[1] if i == what[0] else w for i, w in enumerate(given["weights"])]}
    if verb == "setSample":
        return given | {
            part: [value if k == what[0] else old for k, old in enumerate(given[part])]
            for part, value in zip("xy", what[1:], strict=True)
        }
    if verb == "setSamples":
        return given | {"x": what[0], "y": what[1]}
    return given | ({"units": what[0]} if verb == "setUnits" else {what[0]: what[1]})


def _network(state):
    """The state as a model of scratch: objective, weights by name, x and y."""
    units, kernel = state["units"], np.array(state["weights"])
    layers = {"hidden": Dense(units, state["activation"])} if units else {}
    model = Model.chain({**layers, "output": Dense(1)}, (1,))
    weights, at = {}, 0
    for name, shape in model.weight_shapes.items():
        size = int(np.prod(shape))
        weights[name] = kernel[at : at + size].reshape(shape)
        at += size
    x, y = (np.array(state[part])[:, None] for part in "xy")
    return Objective.of(model, LOSSES[state["loss"]]), weights, x, y


def _gradient(model, weights, x, y, loss):
    """The gradient by the complex step, which subtracts nothing: exact to the rounding of one evaluation."""
    found = numeric_gradient(model, weights, x, y, loss=LOSSES[loss], scheme=ComplexStep(), noise=0.0, training=True)
    return {name: estimate.value for name, estimate in found.items()}


def _flat(arrays):
    return np.concatenate([np.ravel(a) for a in arrays.values()])


def _same(mine, theirs, case, scale=0.0):
    mine, theirs = np.array(mine, dtype=float), np.array(theirs, dtype=float)
    assert mine.shape == theirs.shape
    allowed = EQUAL * max(float(np.max(np.abs(theirs), initial=0.0)), scale)
    assert np.max(np.abs(mine - theirs), initial=0.0) <= allowed, (case, mine, theirs)


@pytest.mark.sampled
@pytest.mark.parametrize("shown", ["recipe1"], indirect=True)
def test_equal_to_the_python_engine(shown, driver):
    until(driver, "return typeof engine !== 'undefined'")
    cases = list(_states())
    for case, found in zip(cases, driver.execute_script(RUN, cases), strict=True):
        state = found["state"]
        wanted = _edited(case["given"], case["edit"])
        same = [name for name in wanted if name != "weights" or case["edit"][0] != "setUnits"]
        assert {name: state[name] for name in same} == {name: wanted[name] for name in same}
        objective, weights, x, y = _network(state)
        run = objective.model.run(weights, x, training=True)
        _same(found["predictions"], np.ravel(run.tensors[objective.model.outputs[0]]), case)
        loss = objective(weights, x, y, training=True)
        _same(found["loss"], loss, case)
        flat, h = _flat(weights), state["nudge"]
        for i, nudge in enumerate(found["nudges"]):
            moved = flat.copy()
            moved[i] += h
            after = objective(_network(state | {"weights": moved.tolist()})[1], x, y, training=True)
            _same([nudge["before"], nudge["after"], nudge["change"]], [loss, after, after - loss], case)
            assert nudge["slope"] == nudge["change"] / h == found["slopes"][i]
        stepped, optimizer = weights, OPTIMIZERS[state["optimizer"]](state["rate"])
        slots = optimizer.init(weights)
        for index, exact in zip(
            split_batches(len(x), state["batch"] or None, generator=None), found["gradients"], strict=True
        ):
            part = x[index], y[index], state["loss"]
            _same(exact, _flat(_gradient(objective.model, weights, *part)), case)
            stepped, slots = optimizer.step(stepped, _gradient(objective.model, stepped, *part), slots)
        _same(found["stepped"], _flat(stepped), case)
        updated, slots = weights, optimizer.init(weights)
        for given in case["gradients"]:
            like = _network(state | {"weights": given[: len(flat)]})[1]
            updated, slots = optimizer.step(updated, like, slots)
        assert isinstance(slots, State) and slots.iterations == len(case["gradients"])
        _same(found["updated"], _flat(updated), case)
        for name, values in found["slots"].items():
            _same(values, _flat({n: s[name] for n, s in slots.slots.items()}), case)
