"""The engine equals the plain loop, to rounding, for every registered layer and loss, in graphs of every kind."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from keras_ref import strategies as gt
from scratch import fields as domains
from scratch import registry
from scratch.calls import Call
from scratch.differences import UNIT, Central
from scratch.gradient import Nudges, numeric_gradient
from scratch.layers.core import Activation, Dense
from scratch.losses.base import Projection
from scratch.model import Model
from scratch.nudging import propagate
from scratch.nudging.linear_structure import find_mixing, find_responses
from scratch.objective import Objective
from scratch.regularizers import L1, L2, OrthogonalRegularizer

LAYERS, LOSSES = registry.names("layer"), registry.names("loss")
SMOOTH = ("tanh", "sigmoid", "softmax", "relu", "gelu", "linear")
#: plain loops are slow: a fifth of what the profile asks for
FEW = max(3, settings().max_examples // 5)
OFFSETS = (1e-6, -0.3, 0.0, 1e-20j)


def reals(layer, count):
    """Which of the inputs take any real number."""
    own = layer.input_domains()
    return [isinstance(own[min(i, len(own) - 1)], domains.Real) for i in range(count)]


@st.composite
def graphs(draw, name):
    """A registered layer with a nudged Dense before it, a chain behind it, and now and then a Dense that is shared."""
    layer = draw(gt.specifications("layer", name))
    shapes = draw(gt.input_shapes_of(layer))
    alone = gt.model_of(layer, shapes)
    (call,), layers, calls = alone.calls, dict(alone.layers), []
    inputs, names = dict(alone.inputs), list(call.inputs)
    for i, (shape, real) in enumerate(zip(shapes, reals(layer, len(shapes)), strict=True)):
        if real and len(shape) > 1 and draw(st.booleans()):
            before = f"before_{shape[-1]}"  # inputs of one size share it
            layers[before] = Dense(shape[-1], draw(st.sampled_from(SMOOTH)))
            calls.append(Call(before, (names[i],), (f"h{i}",)))
            names[i] = f"h{i}"
    calls.append(Call(call.layer, tuple(names), call.outputs, call.keywords))
    with np.errstate(all="ignore"):
        made = Model(inputs, layers, tuple(calls), call.outputs).shapes
    outputs = []
    for output in call.outputs:
        width = made[output][-1] if len(made[output]) > 1 else 0
        for _ in range(draw(st.integers(0, 2)) if width else 0):
            layer = draw(st.sampled_from([Activation("tanh"), *(Dense(2, a) for a in SMOOTH)]))
            after = f"after_{width}"  # outputs of one size share it, and one of two units may be called twice in a row
            layers.setdefault(after, layer)
            calls.append(Call(after, (output,), (f"{output}'",)))
            output, width = f"{output}'", width if isinstance(layers[after], Activation) else 2  # noqa: PLW2901
        outputs.append(output)
    return Model(inputs, layers, tuple(calls), tuple(outputs)), shapes


@st.composite
def draws_of(draw, model, shapes):
    """Random arrays for the layers that take them."""
    generator, drawn = np.random.default_rng(draw(st.integers(0, 99))), {}
    for call in model.calls:
        wanted = model.layers[call.layer].draw_shapes(*(shapes[name] for name in call.inputs))
        drawn[call.outputs[0]] = {
            n: generator.normal(size=s) if n.endswith("noise") else generator.random(s) < 0.7 for n, s in wanted.items()
        }
    return drawn


def spread_of(nudges):
    """How far rounding moves a loss: all weights and inputs move by some units in the last place, eight times."""
    point, found = nudges.point, []
    for seed in range(8):
        g = np.random.default_rng(seed)
        moved = [
            {
                n: a * (1 + 8 * UNIT * g.choice([-1.0, 1.0], a.shape)) if a.dtype.kind == "f" else a
                for n, a in arrays.items()
            }
            for arrays in (point.weights, point.inputs)
        ]
        with np.errstate(all="ignore"):
            found.append(abs(point.loss(*moved) - nudges.base))
    return float(np.fmax.reduce(found))


def check_equal(objective, weights, x, y, offsets=OFFSETS, entries=3, **options):
    """Every loss of the engine is that of the plain loop."""
    fast = Nudges(objective, weights, x, y, **options)
    plain = Nudges(objective, weights, x, y, plain=True, **options)
    assert fast.base == plain.base
    rounding = 32 * spread_of(plain)
    for name in [
        *objective.model.trainable,
        *(f"input:{n}" for n, a in fast.point.inputs.items() if a.dtype.kind == "f"),
    ]:
        size = fast.value(name).size
        which = np.unique(np.linspace(0, size - 1, min(size, entries)).astype(int))
        for kind in (float, complex):
            steps = np.array([o for o in offsets if isinstance(o, complex) is (kind is complex)], kind)
            steps = steps[:, None] * np.ones(len(which))
            mine, true = fast.losses(name, which, steps), plain.losses(name, which, steps)
            assert mine.shape == true.shape and mine.dtype == true.dtype
            finite = np.isfinite(true)
            allowed = rounding + 512 * UNIT * np.maximum(np.abs(true), abs(plain.base))
            assert (np.abs(mine - true)[finite] <= allowed[finite]).all(), (name, mine, true)
            if kind is complex:
                tiny, flat = 1e20, np.isfinite(true[-1])
                error = np.abs(mine[-1].imag - true[-1].imag)[flat] * tiny
                size_of = max(1.0, float(np.max(np.abs(true[-1].imag[flat]) * tiny, initial=0)))
                assert (error <= 1e-8 * size_of).all(), (name, mine[-1].imag * tiny, true[-1].imag * tiny)


@pytest.mark.sampled
@pytest.mark.parametrize("name", LAYERS)
@settings(max_examples=FEW)
@given(data=st.data())
def test_layers(name, data):
    """A registered layer in a graph: weights and inputs, in training and not, with masks, draws and sample weights."""
    model, shapes = data.draw(graphs(name))
    note(f"replay: {model.layers} calls {model.calls} shapes {shapes}")
    weights = data.draw(gt.weights_of(model, ("generic",)))
    batch = shapes[0][0]
    x = data.draw(gt.inputs_of(model, batch=batch, patterns=("generic",)))
    training = data.draw(st.booleans())
    made = {**model.shapes, **{n: a.shape for n, a in x.items()}}
    made = {n: (batch, *s[1:]) for n, s in made.items()}
    draws = data.draw(draws_of(model, made)) if training else None
    generator = np.random.default_rng(data.draw(st.integers(0, 99)))
    with np.errstate(all="ignore"):
        run = model.run(weights, x, training=training, draws=draws)
    y = [generator.normal(size=run.tensors[name].shape) for name in model.outputs]
    masked = any(run.masks[name] is not None for name in model.outputs)  # of which a projection knows nothing
    loss = registry.get("loss", "MeanSquaredError")() if masked or data.draw(st.booleans()) else Projection()
    losses = (loss,) * len(y)
    check_equal(Objective.of(model, losses), weights, x, y if len(y) > 1 else y[0], training=training, draws=draws)


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=FEW)
@given(data=st.data())
def test_losses(name, data):
    """A registered loss, every reduction, with and without sample weights, on predictions of its own domains."""
    loss = data.draw(gt.specifications("loss", name))
    loss = replace(loss, reduction="sum") if loss.reduction in (None, "none") else loss
    shapes, domains = loss.shapes(gt.sizes(data.draw)), loss.domains()
    y, x = (data.draw(gt.samples(s, d, ("generic",))) for s, d in zip(shapes, domains, strict=True))
    if x.ndim > 1 and data.draw(st.booleans()):
        model = Model.chain([Dense(x.shape[-1])], x.shape[1:])
        weights = {"dense/kernel": np.eye(x.shape[-1]), "dense/bias": np.zeros(x.shape[-1])}
    else:
        model, weights = Model.chain([Activation("linear")], x.shape[1:]), {}
    led = loss.per_sample(y, x).shape[:1] == (len(x),)  # an axis of 0 leaves no values that belong to samples
    share = np.arange(1.0, len(x) + 1) if led and data.draw(st.booleans()) else None
    note(f"replay: {loss} y={y!r} x={x!r}")
    check_equal(Objective.of(model, loss), weights, x, y, offsets=(1e-7, -1e-7, 1e-20j), sample_weight=share)


# Graphs of every kind -------------------------------------------------------------------------------------------------


def get(name, *arguments, **fields):
    return registry.get("layer", name)(*arguments, **fields)


def case(model, *shapes, seed=0, batch=3, **options):
    """Generic weights, inputs and targets of a model."""
    g = np.random.default_rng(seed)
    weights = {
        n: g.uniform(0.5, 1.5, s) if "variance" in n else g.normal(size=s) for n, s in model.weight_shapes.items()
    }
    x = {n: g.normal(size=(batch, *s[1:])) for n, s in model.inputs.items()}
    y = [g.normal(size=(batch, *model.shapes[o][1:])) for o in model.outputs]
    return {"weights": weights, "x": x, "y": y if len(y) > 1 else y[0], **options}


def graph(layers, calls, inputs, outputs, **more):
    return Model(inputs, layers, tuple(Call(*call) for call in calls), outputs, **more)


SHARED = graph(
    {"d": Dense(3, "tanh"), "add": get("Add"), "out": Dense(2)},
    [("d", ("x",), ("a",)), ("d", ("a",), ("b",)), ("add", ("x", "b"), ("c",)), ("out", ("c",), ("y",))],
    {"x": (None, 3)},
    ("y", "b"),
)
TWO_INPUTS = graph(
    {"left": Dense(4, "sigmoid"), "right": Dense(4, "relu"), "join": get("Concatenate"), "out": Dense(2, "softmax")},
    [("left", ("u",), ("a",)), ("right", ("v",), ("b",)), ("join", ("a", "b"), ("c",)), ("out", ("c",), ("y",))],
    {"u": (None, 3), "v": (None, 2)},
    ("y",),
)
MASKED = Model.chain([Dense(3, "relu"), get("Masking"), get("LSTM", 2, return_sequences=True), Dense(2)], (4, 3))
CONVOLUTION = Model.chain(
    [get("Conv2D", 3, 2, activation="tanh"), get("MaxPooling2D", 2), get("Flatten"), Dense(2)], (5, 5, 2)
)
NORMALIZED = Model.chain(
    [Dense(4), get("BatchNormalization"), Activation("tanh"), get("Dropout", 0.5), get("LayerNormalization"), Dense(2)],
    (3,),
)
PENALIZED = Model.chain(
    [Dense(3, "tanh"), Dense(2)],
    (4,),
    regularizers={"dense/kernel": L2(0.1), "dense/bias": L1(0.1), "dense_1/kernel": OrthogonalRegularizer(0.1)},
    activity_regularizers={"dense": L2(0.3)},
)
DROPPED = {"dropout": {"keep": np.arange(12).reshape(3, 4) % 3 > 0}}
GRAPHS = {
    "shared": (SHARED, {}),
    "two inputs": (TWO_INPUTS, {}),
    "masked": (MASKED, {"masks": {"input": np.array([[1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 1, 1]], bool)}}),
    "weighted": (TWO_INPUTS, {"sample_weight": np.array([0.0, 2.0, -1.0])}),
    "convolution": (CONVOLUTION, {}),
    "inference": (NORMALIZED, {}),
    "training": (NORMALIZED, {"training": True, "draws": DROPPED}),
    "penalized": (PENALIZED, {}),
    "penalized, weighted": (PENALIZED, {"sample_weight": np.array([0.5, 2.0, 1.0])}),
}


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("loss", ["MeanSquaredError", "CosineSimilarity"])
def test_graphs(name, loss):
    """Shared layers, branches, masks, training, penalties: each in full, all entries."""
    model, options = GRAPHS[name]
    given = case(model, **options)
    count = len(model.outputs)
    objective = Objective.of(model, (loss,) * count, (2.0, 0.5)[:count])
    check_equal(objective, given.pop("weights"), given.pop("x"), given.pop("y"), entries=10**6, **given)


def test_dense_is_never_run_twice():
    """A nudge of a weight repeats nothing that comes before it, and of what comes after only what it changes."""
    calls = []

    class Counted(Dense):
        def forward(self, weights, *inputs):
            calls.append(inputs[0].shape)
            return super().forward(weights, *inputs)

    model = Model.chain([Counted(3, "tanh"), Counted(4, "tanh"), Counted(2)], (2,))
    given = case(model)
    nudges = Nudges(Objective.of(model, "MeanSquaredError"), given["weights"], given["x"], given["y"])
    entries = np.arange(12)
    nudges.losses("counted_1/kernel", entries, np.full((1, 12), 1e-3))
    calls.clear()
    nudges.losses("counted_1/kernel", entries, np.full((1, 12), 2e-3))
    assert calls == []  # a channel moves, and one row of the last kernel goes with it


# Claims and shifts ----------------------------------------------------------------------------------------------------


def test_a_wrong_claim_is_not_used():
    """Responses and mixing are compared with the forward pass before they are used."""

    class Boastful(Dense):
        def responses(self, weights, name, *inputs):
            features, feature, channel = super().responses(weights, name, *inputs)
            return features, feature, channel[::-1]

        def mixing(self, weights):
            return weights["kernel"] * 2

    layer, g = Boastful(3), np.random.default_rng(0)
    weights = {"kernel": g.normal(size=(2, 3)), "bias": g.normal(size=3)}
    with pytest.warns(RuntimeWarning, match="`responses` of a layer must describe its forward pass"):
        assert find_responses(layer, weights, "kernel", g.normal(size=(4, 2))) is None
    with pytest.warns(RuntimeWarning, match="`mixing` of a layer must describe its forward pass"):
        assert find_mixing(layer, weights, g.normal(size=(4, 2))) is None


@pytest.mark.parametrize("block", [1, 40, 2**18])
def test_what_is_added_is_carried_through_matrices(block, monkeypatch):
    """Dense layers of every kind of activation after one another, split at each of them: short and long last axes."""
    monkeypatch.setattr(propagate, "BLOCK", block)
    layers = [Dense(n, name) for n, name in ((5, "tanh"), (40, "sigmoid"), (3, "linear"), (4, "relu"), (33, "tanh"))]
    model = Model.chain([*layers, Dense(2, "softmax")], (6, 3))
    g = np.random.default_rng(0)
    weights = {n: g.normal(size=s) / 2 for n, s in model.weight_shapes.items()}
    x, y = g.normal(size=(7, 6, 3)), g.normal(size=(7, 6, 2))
    check_equal(Objective.of(model, "MeanSquaredError"), weights, x, y, offsets=(1e-6, 1e-4, -0.3, 1e-20j))


@pytest.mark.sampled
def test_a_model_of_many_layers():
    """More than Python allows calls inside of one another, two for each layer."""
    count = sys.getrecursionlimit() // 2 + 50
    model = Model.chain([Dense(1) for _ in range(count)], (1,))
    weights = {n: np.full(s, float(n.endswith("kernel"))) for n, s in model.weight_shapes.items()}
    nudges = Nudges(Objective.of(model, "MeanSquaredError"), weights, np.ones((1, 1)), np.zeros((1, 1)))
    assert nudges.base == 1.0
    assert nudges.losses(next(iter(weights)), np.array([0]), np.array([[1.0]])) == 4.0


def test_an_input_that_is_not_finite_is_computed_in_full():
    """∞ - ∞ is no change: a layer that multiplies an infinite tensor is computed as it is. The loss is finite here."""
    model = Model.chain([Dense(2, "exponential"), Dense(2, "tanh"), Dense(2)], (2,))
    weights = {n: np.ones(s) for n, s in model.weight_shapes.items()}
    x, y = np.array([[0.5, 0.25], [800.0, 0.5]]), np.zeros((2, 2))
    objective = Objective.of(model, "MeanSquaredError")
    fast, plain = (Nudges(objective, weights, x, y, plain=way) for way in (False, True))
    assert np.isfinite(fast.base)
    assert np.isinf(fast.point.run.tensors["dense"]).any()
    found, true = (way.losses("dense/kernel", np.arange(4), np.full((1, 4), 1e-4)) for way in (fast, plain))
    assert (np.abs(found - true) <= 8 * UNIT * np.abs(true)).all()
    assert (found != fast.base).any()


# The gradient ---------------------------------------------------------------------------------------------------------


def test_numeric_gradient():
    """All trainable weights, or what `wrt` names; complex steps and differences agree."""
    model = replace(TWO_INPUTS, frozen=frozenset({"left/bias"}))
    given = case(model)
    point = given["weights"], given["x"], given["y"]
    gradient = numeric_gradient(model, *point, loss="MeanSquaredError")
    assert set(gradient) == {"left/kernel", "right/kernel", "right/bias", "out/kernel", "out/bias"}
    exact = numeric_gradient(
        model, *point, loss="MeanSquaredError", scheme=registry_complex(), wrt=("weights", "inputs", "left/bias")
    )
    assert set(exact) == {*gradient, "left/bias", "input:u", "input:v"}
    for name, estimate in gradient.items():
        assert estimate.value.shape == model.weight_shapes[name]
        assert (np.abs(estimate.value - exact[name].value) <= estimate.error + exact[name].error).all()
    with pytest.raises(ValueError, match="`wrt` must hold 'weights', 'inputs', or names of weights or float inputs"):
        numeric_gradient(model, *point, loss="MeanSquaredError", wrt=("left",))


def registry_complex():
    from scratch.differences import ComplexStep

    return ComplexStep()


def test_directional():
    """All weights at once along a direction: the slope is the sum of the slopes."""
    given = case(TWO_INPUTS)
    nudges = Nudges(Objective.of(TWO_INPUTS, "MeanSquaredError"), given["weights"], given["x"], given["y"])
    direction = {n: np.ones(w.shape) for n, w in given["weights"].items()}
    up, down, here = nudges.directional(direction, np.array([1e-6, -1e-6, 0.0]))
    gradient = numeric_gradient(
        TWO_INPUTS, given["weights"], given["x"], given["y"], loss="MeanSquaredError", scheme=Central()
    )
    assert here == nudges.base
    assert abs((up - down) / 2e-6 - sum(e.value.sum() for e in gradient.values())) <= 1e-8


def test_float32_is_taken_in_float64():
    """Weights and inputs held in float32 are nudged in float64: steps of 1e-9 are seen."""
    model = Model.chain([Dense(2, "tanh")], (3,))
    given = case(model)
    single = {n: w.astype(np.float32) for n, w in given["weights"].items()}
    nudges = Nudges(Objective.of(model, "MeanSquaredError"), single, given["x"]["input"].astype(np.float32), given["y"])
    low, high = nudges.losses("dense/kernel", np.array([0]), np.array([[-1e-9], [1e-9]]))[:, 0]
    assert low != nudges.base != high and nudges.value("dense/kernel").dtype == np.float64


def test_a_loss_must_be_one_number():
    model = Model.chain([Dense(2)], (3,))
    given = case(model)
    loss = registry.get("loss", "MeanSquaredError")(reduction="none")
    with pytest.raises(ValueError, match="A loss must be one number"):
        _ = Nudges(Objective.of(model, loss), given["weights"], given["x"], given["y"]).base
