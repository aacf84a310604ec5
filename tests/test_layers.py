"""Every registered layer against Keras: values, gradients of weights and inputs, complex steps. A new layer is tested
because it exists.
"""

import keras
import numpy as np
import pytest
from example_pools import cases, pool
from hypothesis import given, note
from hypothesis import strategies as st
from support_built import Built

from keras_ref.comparison.entries.proven_departures import list_subsets
from keras_ref.evaluation.changed_state.float64 import find_policy
from keras_ref.reports.verdict import Reason
from keras_ref.translation import departures
from keras_ref.translation.departures import Condition
from keras_ref.translation.departures.laws import as_keras, states_law
from scratch import fields as domains
from scratch import registry
from scratch.differences import UNIT
from scratch.losses.base import Projection
from scratch.objective import Objective
from scratch.one_sided import WIDER, slopes
from scratch.rounding import Rounding, make_noisy, round_objective

LAYERS = registry.names("layer")
#: entries of each variable and input that an example compares, other ones in each: a recurrence is nudged one by one
MOST = 3
FLOAT32 = float(np.finfo(np.float32).eps)
#: layers that jump by definition, as conditions of departures are: on the jump itself there is no slope to compare
JUMPS = (
    Condition(activations=("hard_shrink", "threshold")),
    Condition(activations=("relu",), where=lambda threshold: threshold != 0),
    Condition(names=("ReLU",), where=lambda threshold: threshold != 0),
)


@pytest.fixture(autouse=True)
def drawn(request):
    """The architectures are drawn before the examples are: Hypothesis does not like to draw while it draws."""
    pool(request.node.callspec.params["name"])


def flat(outputs):
    return [np.asarray(o) for o in keras.tree.flatten(outputs)]


def computed(model, x, shows_in, call):
    """What `call` gives for the layer as Keras has it; None where Keras refuses, and a departure says that it refuses
    this specification in these words."""
    (layer,) = model.layers.values()
    try:
        return call(Built.of(model, x))
    except Exception as refusal:
        known = departures.find_refusals([layer], shows_in, saying=str(refusal))
        if not known:
            raise
        note(f"Keras refuses: {type(refusal).__name__}, known as {known}")
        return None


def rounding_of(model, weights, x, outputs, unit):
    """What rounding may do to each output: how far it moves when weights and inputs move by units in the last place,
    and when every operation is off by rounding, whose terms may be larger than what they leave.
    """
    spread = [np.zeros(o.shape) for o in outputs]
    for seed in range(4):
        rounding = Rounding(np.random.default_rng(seed), common=seed % 2 == 1, alone=True)
        rolled = round_objective(Objective.of(model, [Projection() for _ in model.outputs]), rounding).model
        with np.errstate(all="ignore"):
            moved = flat(rolled.forward({n: make_noisy(w, rounding) for n, w in weights.items()}, x))
        spread = [np.fmax(s, np.abs(np.asarray(m) - o)) for s, m, o in zip(spread, moved, outputs, strict=True)]
    for seed in range(4):
        g = np.random.default_rng(seed)

        def nudge(a, g=g):
            return a if a.dtype.kind != "f" else a * (1 + 4 * unit * g.choice([-1.0, 1.0], a.shape))

        moved = model.forward(
            {n: nudge(w) for n, w in weights.items()}, [nudge(a) for a in x] if isinstance(x, list) else nudge(x)
        )
        spread = [np.maximum(s, np.abs(m - o)) for s, m, o in zip(spread, flat(moved), outputs, strict=True)]
    largest = max((float(np.max(np.abs(o), initial=0)) for o in outputs), default=0.0)
    return [8 * s + 64 * unit * largest for s in spread]


@pytest.mark.sampled
@pytest.mark.parametrize("name", LAYERS)
@given(data=st.data())
def test_forward(name, data):
    """Keras's values are those of the definition, to rounding that is measured."""
    model, weights, x = data.draw(cases(name))
    note(f"replay: {model.layers} on inputs {model.inputs}")
    (layer,) = model.layers.values()
    ours = flat(model.forward(weights, x))
    theirs = computed(model, x, "value", lambda built: built.values(weights, x))
    if theirs is None:
        return
    known = departing(model, x, "value")
    rough = any(entry.reading == "precision" and not states_law(entry.id) for entry in known)
    unit = FLOAT32 if rough or find_policy(layer) != "float64" else UNIT
    assert [o.shape for o in ours] == [o.shape for o in theirs]
    shapes = {name: [np.shape(a) for a in (x if isinstance(x, list) else [x])] for name in model.layers}
    objective = Objective.of(model, [Projection() for _ in model.outputs])
    stated = [entry.id for entry in known if states_law(entry.id)]

    def agrees(laws):
        law = as_keras(objective, laws, shapes).model
        values = flat(law.forward(weights, x))
        allowed = rounding_of(law, weights, x, values, unit)
        triples = zip(values, theirs, allowed, strict=True)
        return all((np.abs(mine - other) <= within).all() for mine, other, within in triples)

    assert any(agrees(laws) for laws in list_subsets(stated)), (stated, ours, theirs)


@pytest.mark.sampled
@pytest.mark.parametrize("name", LAYERS)
@given(data=st.data())
def test_gradient(name, data):
    """Autodiff's gradients of weights and inputs are the slopes of the twin, under random cotangents."""
    model, weights, x = data.draw(cases(name))
    seed = data.draw(st.integers(0, 99))
    note(f"replay: Built.of({model.layers}, x).verdicts(weights, x, seed={seed}) on inputs {model.inputs}")
    verdicts = computed(model, x, "gradient", lambda built: built.verdicts(weights, x, seed=seed, most=MOST))
    if verdicts is None:
        return
    assert sum(v.compared for v in verdicts), "a layer with neither weights nor float inputs has no gradient to test"
    (layer,) = model.layers.values()
    jumps = departures.meets_any(layer, JUMPS)
    wrong = [v for v in verdicts if v.failed and not (jumps and v.reason_code is Reason.JUMP)]
    assert not wrong, "\n\n".join(v.explain() for v in wrong)


def departing(model, x, shows_in):
    """The departures that the layer may show on these inputs, in inference and without a mask."""
    (layer,) = model.layers.values()
    shapes = [np.shape(a) for a in (x if isinstance(x, list) else [x])]
    return [
        departures.get_departure(known)
        for known in departures.find_departures([layer], shows_in, shapes=shapes, without=("mask", "training"))
    ]


@pytest.mark.sampled
@pytest.mark.parametrize("name", LAYERS)
@given(data=st.data())
def test_complex_step(name, data):
    """The layer carries complex128 through: real parts are the values, imaginary parts the slopes along a direction."""
    model, weights, x = data.draw(cases(name, patterns=("generic",)))
    real = flat(model.forward(weights, x))
    positive = {
        f"{name}/{part}"
        for name, own in model.layers.items()
        for part, d in own.weight_domains().items()
        if isinstance(d, domains.Positive)
    }
    # half a step along the direction is the farthest that slopes look: what has to be positive stays it
    direction = {
        n: np.cos(np.arange(w.size)).reshape(w.shape) * (w if n in positive else 1.0) for n, w in weights.items()
    }
    cotangents = [np.sin(np.arange(o.size) + 1.0).reshape(o.shape) for o in real]

    def along(step):
        outputs = flat(model.forward({n: w + step * direction[n] for n, w in weights.items()}, x))
        return outputs, sum((c * o).sum() for c, o in zip(cotangents, outputs, strict=True))

    outputs, total = along(1e-100j)
    errors = rounding_of(model, weights, x, real, UNIT)
    for mine, value, allowed in zip(outputs, real, errors, strict=True):
        assert (np.abs(mine.real - value) <= allowed).all()
        assert np.isfinite(mine).all()
    base = along(0.0)[1]
    noise = sum(float((np.abs(c) * error).sum()) for c, error in zip(cotangents, errors, strict=True))

    def line(offsets):
        return np.array([[along(t)[1] for t in row] for row in offsets])

    found = slopes(line, np.zeros(1), noise, base=base, exponents=WIDER)
    if found.smooth[0]:
        assert abs(total.imag / 1e-100 - found.value.value[0]) <= found.value.error[0] + noise
