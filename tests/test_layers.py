"""Every registered layer against Keras: values, gradients of weights and inputs, complex steps. A new layer is tested because it exists."""

import keras
import numpy as np
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from keras_ref import departures
from keras_ref import strategies as gt
from keras_ref.checks import check_gradients
from keras_ref.mirror import mirror
from keras_ref.retype import policy_of
from scratch import registry
from scratch.differences import UNIT
from scratch.slopes import WIDER, slopes

LAYERS = registry.names("layer")
#: entries of each variable and input that an example compares, other ones in each: a recurrence is nudged one by one
MOST = 6


@st.composite
def cases(draw, name, patterns=gt.PATTERNS):
    layer = draw(gt.specifications("layer", name))
    model = gt.model_of(layer, draw(gt.input_shapes_of(layer)))
    weights, x = draw(gt.weights_of(model, patterns)), draw(gt.inputs_of(model, patterns=patterns))
    return model, weights, [x[name] for name in model.inputs] if len(x) > 1 else x["x0"]


def flat(outputs):
    return [np.asarray(o) for o in keras.tree.flatten(outputs)]


def computed(layer, call):
    """What Keras computes; None where it refuses and departures.toml says that it refuses this specification."""
    try:
        return call()
    except Exception as refusal:
        known = departures.refusing([layer]) or departures.touching([layer])
        if not known:
            raise
        note(f"Keras refuses: {type(refusal).__name__}, known as {known}")
        return None


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
    layer = next(iter(model.layers.values()))
    ours, theirs = flat(model.forward(weights, x)), computed(layer, lambda: flat(mirror(model, weights)(x)))
    if theirs is None:
        return
    unit = UNIT if policy_of(layer) == "float64" else float(np.finfo(np.float32).eps)
    if departures.touching([layer], "value"):
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
    seed = data.draw(st.integers(0, 99))
    layer = next(iter(model.layers.values()))
    report = computed(layer, lambda: check_gradients(model, x, weights=weights, oracles=("twin",), wrt=wrt, seed=seed, most=MOST))
    # hard_shrink and threshold jump, by definition: on the jump itself there is no slope to compare
    jumps = report is not None and all(v.reason == "the loss jumps at the point" for v in report.failures)
    assert report is None or report.ok or (jumps and report.failures), report.explain()


@pytest.mark.parametrize("name", LAYERS)
@settings(max_examples=10)
@given(data=st.data())
def test_complex_step(name, data):
    """The layer carries complex128 through: the real part is the value, the imaginary part the slope along a direction."""
    model, weights, x = data.draw(cases(name, patterns=("generic",)))
    real = flat(model.forward(weights, x))
    direction = {n: np.cos(np.arange(w.size)).reshape(w.shape) for n, w in weights.items()}
    cotangents = [np.sin(np.arange(o.size) + 1.0).reshape(o.shape) for o in real]

    def along(step):
        outputs = flat(model.forward({n: w + step * direction[n] for n, w in weights.items()}, x))
        return outputs, sum((c * o).sum() for c, o in zip(cotangents, outputs, strict=True))

    outputs, total = along(1e-100j)
    for mine, value, allowed in zip(outputs, real, rounding_of(model, weights, x, real, UNIT), strict=True):
        assert (np.abs(mine.real - value) <= allowed).all()
        assert np.isfinite(mine).all()
    base = along(0.0)[1]
    size = sum(np.abs(c * o).sum() for c, o in zip(cotangents, real, strict=True))
    line = lambda offsets: np.array([[along(t)[1] for t in row] for row in offsets])  # noqa: E731
    found = slopes(line, np.zeros(1), 16 * UNIT * size, base=base, exponents=WIDER)
    if found.smooth[0]:
        assert abs(total.imag / 1e-100 - found.value.value[0]) <= found.value.error[0] + 16 * UNIT * size
