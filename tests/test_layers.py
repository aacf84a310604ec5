"""Every registered layer against Keras: values, gradients of weights and inputs, complex steps. A new layer is tested because it exists."""

import keras
import numpy as np
import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from keras_ref import departures
from keras_ref import strategies as gt
from keras_ref.checks import check_gradients
from keras_ref.mirror import mirror
from keras_ref.retype import policy_of
from scratch import registry
from scratch.differences import UNIT

LAYERS = registry.names("layer")


@st.composite
def cases(draw, name, patterns=gt.PATTERNS):
    layer = draw(gt.specifications("layer", name))
    model = gt.model_of(layer, draw(gt.input_shapes_of(layer)))
    weights, x = draw(gt.weights_of(model, patterns)), draw(gt.inputs_of(model, patterns=patterns))
    return model, weights, [x[name] for name in model.inputs] if len(x) > 1 else x["x0"]


def flat(outputs):
    return [np.asarray(o) for o in keras.tree.flatten(outputs)]


def rounding_of(model, weights, x, outputs, unit):
    """What rounding may do to each output: how far it moves when weights and inputs move by units in the last place."""
    spread = [np.zeros(o.shape) for o in outputs]
    for seed in range(4):
        g = np.random.default_rng(seed)

        def nudge(a, g=g):
            return a if a.dtype.kind != "f" else a * (1 + 4 * unit * g.choice([-1.0, 1.0], a.shape))

        moved = model.forward({n: nudge(w) for n, w in weights.items()}, [nudge(a) for a in x] if isinstance(x, list) else nudge(x))
        spread = [np.maximum(s, np.abs(m - o)) for s, m, o in zip(spread, flat(moved), outputs, strict=True)]
    largest = max((float(np.max(np.abs(o), initial=0)) for o in outputs), default=0.0)
    return [8 * s + 64 * unit * largest for s in spread]


@pytest.mark.parametrize("name", LAYERS)
@given(data=st.data())
def test_forward(name, data):
    """Keras's values are those of the definition, to rounding that is measured."""
    model, weights, x = data.draw(cases(name))
    note(f"replay: {model.layers} on inputs {model.inputs}")
    built = mirror(model, weights)
    ours, theirs = flat(model.forward(weights, x)), flat(built(x))
    layer = next(iter(model.layers.values()))
    unit = UNIT if policy_of(layer) == "float64" else float(np.finfo(np.float32).eps)
    if departures.touching([layer]):
        note("a known departure touches this layer; its own test holds it")
        return
    for mine, keras_value, allowed in zip(ours, theirs, rounding_of(model, weights, x, ours, unit), strict=True):
        assert mine.shape == keras_value.shape
        assert (np.abs(mine - keras_value) <= allowed).all(), (mine, keras_value)


@pytest.mark.parametrize("name", LAYERS)
@given(data=st.data())
def test_gradient(name, data):
    """Autodiff's gradients of weights and inputs are the slopes of the twin, under random cotangents."""
    model, weights, x = data.draw(cases(name))
    note(f"replay: check_gradients({model.layers}, …) on inputs {model.inputs}")
    if not model.trainable and all(np.asarray(a).dtype.kind != "f" for a in (x if isinstance(x, list) else [x])):
        pytest.fail("a layer with neither weights nor float inputs has no gradient to test")
    wrt = ("weights", "inputs") if model.trainable else ("inputs",)
    report = check_gradients(model, x, weights=weights, oracles=("twin",), wrt=wrt, seed=data.draw(st.integers(0, 99)))
    assert report.ok, report.explain()


@pytest.mark.parametrize("name", LAYERS)
@given(data=st.data())
def test_complex_step(name, data):
    """The layer carries complex128 through: the real part is the value, the imaginary part a slope (finite, no warning)."""
    model, weights, x = data.draw(cases(name, patterns=("generic",)))
    real = flat(model.forward(weights, x))
    tilted = {n: w + 1e-100j * np.cos(np.arange(w.size)).reshape(w.shape) for n, w in weights.items()}
    ours = flat(model.forward(tilted, x))
    for mine, value, allowed in zip(ours, real, rounding_of(model, weights, x, real, UNIT), strict=True):
        assert (np.abs(mine.real - value) <= allowed).all()
        assert np.isfinite(mine).all()
