"""The engine equals the plain loop, to rounding, for every registered layer and loss, in graphs of every kind."""

import numpy as np
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from keras_ref import strategies as gt
from scratch import domain, registry
from scratch.differences import UNIT
from scratch.gradient import Nudges
from scratch.layers.core import Activation, Dense
from scratch.losses.base import Projection
from scratch.model import Call, Model
from scratch.objective import Objective

LAYERS, LOSSES = registry.names("layer"), registry.names("loss")
SMOOTH = ("tanh", "sigmoid", "softmax", "relu", "gelu", "linear")
OFFSETS = (1e-6, -1e-6, 0.3, 0.0, 1e-20j)


def reals(layer, count):
    """Which of the inputs take any real number."""
    own = layer.input_domains()
    return [isinstance(own[min(i, len(own) - 1)], domain.Real) for i in range(count)]


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
            output, width = f"{output}'", width if isinstance(layers[after], Activation) else 2
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


def allowed(nudges, losses):
    """What rounding may do to a loss: how far it moves when everything moves by some units in the last place."""
    point, base = nudges.point, nudges.base
    spread = 0.0
    for seed in range(3):
        g = np.random.default_rng(seed)
        moved = [
            {n: a * (1 + 8 * UNIT * g.choice([-1.0, 1.0], a.shape)) if a.dtype.kind == "f" else a for n, a in arrays.items()}
            for arrays in (point.weights, point.inputs)
        ]
        with np.errstate(all="ignore"):
            spread = max(spread, abs(point.loss(*moved) - base))
    return 32 * spread + 512 * UNIT * np.maximum(np.abs(losses), abs(base))


def check_equal(objective, weights, x, y, wanted=None, **options):
    """Every loss of the engine is that of the plain loop."""
    fast = Nudges(objective, weights, x, y, **options)
    plain = Nudges(objective, weights, x, y, plain=True, **options)
    assert fast.base == plain.base
    for name in [*objective.model.trainable, *(f"input:{n}" for n, a in fast.point.inputs.items() if a.dtype.kind == "f")]:
        size = fast.value(name).size
        entries = np.unique(np.linspace(0, size - 1, min(size, 5)).astype(int))
        for kind in (float, complex):
            offsets = np.array([o for o in OFFSETS if kind is complex or not isinstance(o, complex)], kind)
            offsets = offsets[:, None] * np.ones(len(entries))
            mine, true = fast.losses(name, entries, offsets), plain.losses(name, entries, offsets)
            assert mine.shape == true.shape and mine.dtype == true.dtype
            finite = np.isfinite(true)
            assert (np.abs(mine - true)[finite] <= np.broadcast_to(allowed(plain, true), true.shape)[finite]).all(), (name, mine, true)
            if kind is complex:
                tiny, flat = 1e20, np.isfinite(true[-1])
                error = np.abs(mine[-1].imag - true[-1].imag)[flat] * tiny
                size_of = max(1.0, float(np.max(np.abs(true[-1].imag[flat]) * tiny, initial=0)))
                assert (error <= 1e-8 * size_of).all(), (name, mine[-1].imag * tiny, true[-1].imag * tiny)


@pytest.mark.parametrize("name", LAYERS)
@settings(max_examples=10)
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
