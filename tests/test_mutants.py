"""Wrong laws are caught by the check that compares the law, and the laws themselves pass.

Every registered layer, loss and optimizer has wrong laws because it exists: they are made from its source
(law_mutants.py) and tried on the examples that its other tests have (law_cases.py). Some are written by hand, too.
"""

from dataclasses import replace
from itertools import islice

import keras
import numpy as np
import pytest
from law_cases import ROOTS, always_departs, wrong_laws
from law_company import in_company

from keras_ref import check_gradients, check_updates
from keras_ref.translation import departures
from scratch import registry
from scratch.layers import core
from scratch.layers.recurrent_cells import GRUCell, LSTMCell
from scratch.losses.probabilistic import BinaryCrossentropy, CategoricalCrossentropy
from scratch.losses.regression import MeanSquaredError
from scratch.model import Model
from scratch.optimizers.adam import Adam
from scratch.optimizers.sgd import SGD

# Wrong laws of every definition ---------------------------------------------------------------------------------------

#: wrong laws of a definition that are tried, each with another kind of error
MOST = 2
DEFINITIONS = [pytest.param(kind, name, id=name) for kind in ROOTS for name in registry.names(kind)]


# a layer also says in what it is linear, which is no longer true of a wrong law: the engine notices, and warns
@pytest.mark.sampled
@pytest.mark.filterwarnings("ignore:.* of a layer must describe its forward pass:RuntimeWarning")
@pytest.mark.parametrize(("kind", "name"), DEFINITIONS)
def test_law_mutants(kind, name):
    """Each of the first wrong laws that show is caught, at a variable, by the oracle that knows the law."""
    found = list(islice(wrong_laws(kind, name), MOST))
    if not found and always_departs(kind, name):  # which examples there are depends on what was drawn before
        pytest.xfail(f"Keras departs from the definition of {name} on every example, and no wrong law shows there")
    assert found, f"{name} has no wrong law that shows on its examples"
    missed = [f"{name}-{one}" for one in found if one.verdict is None or not one.verdict.failed]
    assert not missed, missed
    assert {one.verdict.oracle for one in found} == {"update" if kind == "optimizer" else "twin"}
    assert all(one.verdict.name for one in found)


#: one definition of each kind, in every run; all of them in the slow one. Not MultiOptimizer, which computes nothing by
#: itself: a wrong route to its optimizers cannot be computed there, and what it counts is read from Keras at each step
SAMPLE = ("EinsumDense", "Dice", "SGD")
IN_COMPANY = [
    pytest.param(kind, name, id=name, marks=() if name in SAMPLE else pytest.mark.slow)
    for kind in ROOTS
    for name in registry.names(kind)
    if name != "MultiOptimizer"
]


@pytest.mark.sampled
@pytest.mark.filterwarnings("ignore:.* of a layer must describe its forward pass:RuntimeWarning")
@pytest.mark.parametrize(("kind", "name"), IN_COMPANY)
def test_law_mutants_in_company(kind, name):
    """The same in a model with embeddings, attention, pooling and a gelu (law_company.py): no departure excuses it."""
    first = next(wrong_laws(kind, name, company=True), None)
    if first is None and always_departs(kind, name):
        pytest.xfail(f"Keras departs from the definition of {name} on every example, and no wrong law shows there")
    assert first is not None, f"{name} has no wrong law that shows on its examples"
    assert first.verdict is not None and first.verdict.failed, str(first)
    assert first.verdict.oracle == ("update" if kind == "optimizer" else "twin")


def test_departures_of_the_company_are_known():
    """What might excuse a wrong law is there: those of gelu and attention, in a model of any layer."""
    dense = Model.chain([core.Dense(2)], (2,))
    before, after = (departures.find_departures(m.layers.values(), "gradient") for m in (dense, in_company(dense)))
    assert {"gelu-has-float32-constants", "multi-head-attention-scale-is-float32"} <= set(after) - set(before)


# Wrong laws by hand ---------------------------------------------------------------------------------------------------

X = np.array([[0.5, -1.25, 0.75], [1.5, 0.25, -0.5]])
ORIGINAL = {
    cls: getattr(cls, name)
    for cls, name in (
        (core.Dense, "forward"),
        (MeanSquaredError, "per_sample"),
        (BinaryCrossentropy, "per_sample"),
        (CategoricalCrossentropy, "per_sample"),
        (SGD, "update"),
        (Adam, "update"),
    )
}


def without_bias(self, weights, *inputs):
    return ORIGINAL[core.Dense](self, {**weights, "bias": 0 * weights["bias"]}, *inputs)


def transposed_kernel(self, weights, *inputs):
    return ORIGINAL[core.Dense](self, {**weights, "kernel": weights["kernel"].T}, *inputs)


def without_activation(self, weights, *inputs):
    return ORIGINAL[core.Dense](replace(self, activation="linear"), weights, *inputs)


#: name → (which check must fail, class, method, mutant)
MUTANTS = {
    "Dense loses its bias": ("gradients", core.Dense, "forward", without_bias),
    "Dense transposes its kernel": ("gradients", core.Dense, "forward", transposed_kernel),
    "Dense loses its activation": ("gradients", core.Dense, "forward", without_activation),
    "MeanSquaredError sums": (
        "gradients",
        MeanSquaredError,
        "per_sample",
        lambda self, t, p: ORIGINAL[MeanSquaredError](self, t, p) * 3,
    ),
    "MeanSquaredError takes the absolute value": (
        "gradients",
        MeanSquaredError,
        "per_sample",
        lambda self, t, p: np.abs(t - p).mean(axis=-1),
    ),
    "SGD climbs": ("updates", SGD, "update", lambda self, w, g, s, **more: ORIGINAL[SGD](self, w, -g, s, **more)),
    "SGD forgets its momentum": (
        "updates",
        SGD,
        "update",
        lambda self, w, g, s, **more: ORIGINAL[SGD](self, w, g, {k: 0 * v for k, v in s.items()}, **more),
    ),
    "Adam is a step ahead": (
        "updates",
        Adam,
        "update",
        lambda self, w, g, s, *, iterations, **more: ORIGINAL[Adam](self, w, g, s, iterations=iterations + 1, **more),
    ),
    "Adam loses its epsilon": (
        "updates",
        Adam,
        "update",
        lambda self, w, g, s, **more: ORIGINAL[Adam](replace(self, epsilon=1e-12), w, g, s, **more),
    ),
    "Adam confuses its moments": (
        "updates",
        Adam,
        "update",
        lambda self, w, g, s, **more: ORIGINAL[Adam](
            replace(self, beta_1=self.beta_2, beta_2=self.beta_1), w, g, s, **more
        ),
    ),
}


def network(optimizer):
    keras.utils.set_random_seed(4)
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(3, "tanh", bias_initializer="random_normal"), keras.layers.Dense(3)]
    )
    model.compile(optimizer=optimizer, loss="mse")
    return model


def optimizer_for(cls):
    return keras.optimizers.Adam(0.01) if cls is Adam else keras.optimizers.SGD(0.1, momentum=0.9)


def verdict(check, cls):
    model = network(optimizer_for(cls))
    if check == "gradients":
        return check_gradients(model, X, X[::-1].copy(), oracles=("twin",))
    return check_updates(model, X, X[::-1].copy(), steps=2)


@pytest.mark.parametrize(("check", "cls"), [("gradients", core.Dense), ("updates", SGD), ("updates", Adam)])
def test_the_laws_themselves_pass(check, cls):
    assert verdict(check, cls).ok


# the engine, too, notices that what a layer claims of its forward pass no longer holds, and warns
@pytest.mark.sampled
@pytest.mark.filterwarnings("ignore:.* of a layer must describe its forward pass:RuntimeWarning")
@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught(name, monkeypatch):
    check, cls, method, mutant = MUTANTS[name]
    monkeypatch.setattr(cls, method, mutant)
    report = verdict(check, cls)
    assert not report.ok
    assert {v.oracle for v in report.failures} == {"twin" if check == "gradients" else "update"}


GATES = {"swapped gates": [1, 0, 2, 3], "output for forget": [0, 3, 2, 1]}


@pytest.mark.sampled
@pytest.mark.parametrize("order", GATES)
@pytest.mark.parametrize(("cell", "count"), [(LSTMCell, 4), (GRUCell, 3)], ids=["LSTM", "GRU"])
def test_swapped_gates_are_caught(cell, count, order, monkeypatch):
    """Columns of the kernels read in another order: the twin of a recurrent layer no longer is the layer."""
    keras.utils.set_random_seed(5)
    layer = {LSTMCell: keras.layers.LSTM, GRUCell: keras.layers.GRU}[cell]
    model = keras.Sequential([keras.Input((2, 3)), layer(2)])
    x = np.stack([X, 2 * X])
    assert check_gradients(model, x, oracles=("twin",)).ok
    original = cell.forward
    places = [p for p in GATES[order] if p < count]

    def swapped(self, weights, *inputs, **more):
        cut = {n: np.split(w, count, axis=-1) for n, w in weights.items()}
        return original(
            self, {n: np.concatenate([parts[p] for p in places], axis=-1) for n, parts in cut.items()}, *inputs, **more
        )

    monkeypatch.setattr(cell, "forward", swapped)
    assert not check_gradients(model, x, oracles=("twin",)).ok
