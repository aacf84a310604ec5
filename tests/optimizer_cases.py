"""What the tests of the optimizers share: specifications drawn from their fields, gradients of every kind, and one step
of Keras beside one of the twin (what rounding may do to a step: optimizer_rounding.py).

Keras computes in float64 with every hyper-parameter exact (retype.in_float64); its variables are made once.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Annotated, Any

import example_pools as pools
import keras
import numpy as np
import tensorflow as tf
from hypothesis import settings as profile
from hypothesis import strategies as st

from keras_ref import strategies as gt
from keras_ref.evaluation.changed_state.float64 import in_float64
from keras_ref.translation import departures
from keras_ref.translation.exceptions.optimizers import read_state
from keras_ref.translation.to_keras import mirror_object
from scratch import registry
from scratch.arrays import Array
from scratch.constraints import MaxNorm, MinMaxNorm, NonNeg, UnitNorm
from scratch.fields import list_alternatives
from scratch.optimizers.base import Optimizer, State
from scratch.optimizers.wrappers import LossScaleOptimizer, MultiOptimizer
from scratch.schedules import Schedule

OPTIMIZERS = registry.names("optimizer")
SCHEDULES = registry.names("schedule")
WRAPPERS = ("LossScaleOptimizer", "MultiOptimizer")
PLAIN = tuple(name for name in OPTIMIZERS if name not in WRAPPERS)
CLIPPING = ("clipnorm", "clipvalue", "global_clipnorm")

#: a matrix, a vector, a table that gets sparse gradients, and a rank that is no matrix
SHAPES = {"dense/kernel": (3, 2), "dense/bias": (2,), "embedding/embeddings": (4, 2), "conv/kernel": (2, 1, 2)}
TABLE = "embedding/embeddings"
PATHS = {name: name for name in SHAPES}
CONSTRAINTS = {
    "dense/kernel": MaxNorm(1.0),
    "dense/bias": NonNeg(),
    TABLE: UnitNorm(1),
    "conv/kernel": MinMaxNorm(0.25, 0.75, 0.5, (0, 1)),
}


# Specifications -------------------------------------------------------------------------------------------------------


@st.composite
def schedules(draw: st.DrawFn, name: str | None = None) -> Schedule:
    """Any registered schedule, all of its fields drawn."""
    name = draw(st.sampled_from(SCHEDULES)) if name is None else name
    cls = registry.get("schedule", name)
    if name == "PiecewiseConstantDecay":  # one value more than boundaries: a rule between fields
        count = draw(st.integers(1, 3))
        boundaries = draw(st.lists(st.integers(0, 8), min_size=count, max_size=count, unique=True).map(sorted))
        return cls(
            tuple(boundaries),
            tuple(k / 8 for k in draw(st.lists(st.integers(0, 8), min_size=count + 1, max_size=count + 1))),
        )
    return cls(**{f.name: draw(field_values(registry.read_hints(cls)[f.name])) for f in fields(cls)})


def field_values(hint: Any) -> st.SearchStrategy[Any]:
    """Legal values of a field, those that are schedules and optimizers themselves included."""
    options = []
    for plain, found in list_alternatives(hint):
        if plain is Schedule:
            options.append(schedules())
        elif plain is Optimizer:
            options.append(optimizers(("SGD", "Adam", "Nadam", "Ftrl", "Muon", "RMSprop")))
        else:
            options.append(gt.values(Annotated[(plain, *found)] if found else plain))
    return st.one_of(options)


@st.composite
def optimizers(draw: st.DrawFn, names: tuple[str, ...] = OPTIMIZERS) -> Any:
    """Any of the named optimizers, every argument drawn, one way of clipping at most."""
    name = draw(st.sampled_from(names))
    cls = registry.get("optimizer", name)
    if name == "MultiOptimizer":
        return _routed(draw, cls)
    shared = {f.name for f in fields(Optimizer)}
    chosen: dict[str, Any] = {}
    if name not in WRAPPERS:
        clipping = draw(st.sampled_from((None, *CLIPPING)))
        if clipping:
            chosen[clipping] = draw(
                gt.values(registry.read_hints(cls)[clipping]).filter(lambda bound: bound is not None)
            )
    for field in fields(cls):
        if field.name in CLIPPING or (name in WRAPPERS and field.name in shared):
            continue
        if field.name == "exclude_layers":  # a tuple of patterns; the paths are those of SHAPES
            chosen[field.name] = draw(st.sampled_from(((), ("kernel",), ("dense",))))
        elif not field.kw_only or draw(st.booleans()):
            chosen[field.name] = draw(field_values(registry.read_hints(cls)[field.name]))
    return cls(**chosen)


@cache
def pool(name: str) -> tuple[Any, ...]:
    """The specifications of an optimizer, as many as there are examples, every option among them."""
    return pools.covering(optimizers((name,)), "optimizer", name, profile.default.max_examples)


def _routed(draw: st.DrawFn, cls: Any) -> Any:
    """Two or three optimizers over the paths of SHAPES: by expression, by name, one object under two patterns."""
    inner = [draw(optimizers(("SGD", "Adam", "RMSprop", "Lion", "Nadam"))) for _ in range(3)]
    inner = [replace(one, loss_scale_factor=None) for one in inner]  # the wrapper's own is that of all
    routes = draw(
        st.sampled_from(
            ({}, {"dense/.*": inner[0]}, {"dense/kernel": inner[0], "embed.*": inner[1], "conv/kernel": inner[0]})
        )
    )
    return cls(inner[2], routes, loss_scale_factor=draw(st.sampled_from((None, 4.0))))


# One step of both -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Moment:
    """The weights and the optimizer's state between two steps."""

    weights: Mapping[str, Array]
    state: State


@dataclass(frozen=True)
class Sparse:
    """The gradient of a table as rows and their indices."""

    rows: Array
    indices: Array

    @property
    def dense(self) -> Array:
        """The same as an array of SHAPES[TABLE], repeated indices added up."""
        total = np.zeros(SHAPES[TABLE])
        np.add.at(total, self.indices, self.rows)
        return total

    @property
    def tensor(self) -> tf.IndexedSlices:
        """The same as TensorFlow has it."""
        return tf.IndexedSlices(tf.constant(self.rows), tf.constant(self.indices), tf.constant(SHAPES[TABLE]))


def dense(gradients: Mapping[str, Any]) -> dict[str, Array | None]:
    """Gradients as the twin takes them."""
    return {name: g.dense if isinstance(g, Sparse) else g for name, g in gradients.items()}


@cache
def variables() -> dict[str, keras.Variable]:
    """The Keras variables, made once."""
    made = {}
    for name, shape in SHAPES.items():
        scope, _, own = name.rpartition("/")
        with keras.name_scope(scope):
            made[name] = keras.Variable(np.zeros(shape), dtype="float64", name=own)
        assert made[name].path == name
    return made


@contextmanager
def keras_optimizer(
    spec: Any, *, weights: Mapping[str, Array], constrained: bool = False, exclude: str | None = None
) -> Iterator[Any]:
    """The Keras optimizer of a specification, built on `variables()` holding `weights`, computing in float64.

    `exclude` is a pattern of variables that do not decay, told to it and to what it wraps.
    """
    for name, variable in variables().items():
        variable.assign(weights[name])
        variable.constraint = mirror_object(CONSTRAINTS[name]) if constrained and name in CONSTRAINTS else None
    with in_float64():
        made = mirror_object(spec)
        inner = [made, getattr(made, "inner_optimizer", None), *getattr(made, "_inner_optimizers", ())]
        for one in inner if exclude else ():
            if one is not None:
                one.exclude_from_weight_decay(var_names=[exclude])
        for one in inner:  # a list of rates is not made exact by in_float64
            rates = getattr(one, "_learning_rate", None)
            if isinstance(rates, keras.optimizers.schedules.PiecewiseConstantDecay):
                rates.values = [np.float64(value) for value in rates.values]
        with in_float64(made):
            made.build(list(variables().values()))
            yield made


def excluded(exclude: str | None) -> frozenset[str]:
    """The names that a pattern keeps from decaying."""
    return frozenset(name for name in SHAPES if exclude and re.search(exclude, name))


def moment(optimizer: Any) -> Moment:
    """Where Keras is."""
    return Moment({name: v.numpy() for name, v in variables().items()}, read_state(optimizer, PATHS))


def advance(optimizer: Any, steps: int) -> None:
    """Tell a Keras optimizer, and those that it wraps, that so many steps have been taken."""
    for one in (optimizer, getattr(optimizer, "inner_optimizer", None), *getattr(optimizer, "_inner_optimizers", ())):
        if one is not None and one.built:
            one._iterations.assign(steps)


def apply(optimizer: Any, gradients: Mapping[str, Any]) -> None:
    """One step of Keras; that a gradient is missing is what some examples are for, so its warning is not an error."""
    tensors = [g.tensor if isinstance(g, Sparse) else None if g is None else tf.constant(g) for g in gradients.values()]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Gradients do not exist")
        optimizer.apply(tensors, list(variables().values()))


def step(
    spec: Any, at: Moment, gradients: Mapping[str, Any], *, constrained: bool = False, exclude: str | None = None
) -> Moment:
    """One step of the twin."""
    constraints = CONSTRAINTS if constrained else {}
    with np.errstate(all="ignore"):  # a law with Keras's 0/0 in it says NaN, as Keras does
        weights, state = spec.step(
            at.weights,
            dense(gradients),
            at.state,
            constraints=constraints,
            excluded_from_weight_decay=excluded(exclude),
            paths=PATHS,
        )
    return Moment(weights, state)


# Departures -----------------------------------------------------------------------------------------------------------


def inside(spec: Any) -> tuple[Any, ...]:
    """A specification and the optimizers that it holds, in the pairs of a map too."""
    return (
        spec,
        *(spec.optimizers if isinstance(spec, MultiOptimizer) else ()),
        *(getattr(spec, "inner_optimizer", None),) * hasattr(spec, "inner_optimizer"),
    )


def settings(spec: Any, name: str) -> list[Any]:
    """What a specification and the optimizers inside it are given for an argument, where it is switched on."""
    return [value for part in inside(spec) if (value := getattr(part, name, None))]


def named(spec: Any, gradients: Mapping[str, Any], *, constrained: bool = False, **_: Any) -> tuple[str, ...]:
    """Ids of the known departures that a step may show: those of the specification, and those of what happens to it."""
    ids = departures.find_departures(inside(spec))
    table = gradients[TABLE]
    if isinstance(table, Sparse):
        repeated = len(set(table.indices)) < len(table.indices)
        ids += ("sparse-rows-are-squared-before-they-are-summed",) * repeated
        ids += ("sparse-rows-are-clipped-before-they-are-summed",) * (
            repeated and any(settings(spec, way) for way in CLIPPING)
        )
    if constrained:
        ids += ("averages-are-taken-before-constraints",) * bool(settings(spec, "use_ema"))
        ids += ("averages-move-without-an-update",) * bool(settings(spec, "gradient_accumulation_steps"))
    known = {d.id for d in departures.load_departures()}
    return tuple(one for one in ids if one in known)


# Weights and gradients ------------------------------------------------------------------------------------------------

KINDS = ("eighths", "generic", "zeros", "equal")


@st.composite
def points(draw: st.DrawFn) -> dict[str, Array]:
    """Weights, special ones (zeros, equal ones) included."""
    return {name: draw(gt.special_points(shape, KINDS)) for name, shape in SHAPES.items()}


@st.composite
def sparse(draw: st.DrawFn, *, unique: bool = True) -> Sparse:
    """Rows of the table with indices in any order, each once (or else one of them twice)."""
    rows = SHAPES[TABLE][0]
    indices = draw(st.lists(st.integers(0, rows - 1), min_size=1, max_size=rows, unique=True))
    indices = indices if unique else [*indices, indices[0]]
    return Sparse(draw(gt.special_points((len(indices), SHAPES[TABLE][1]), KINDS)), np.array(indices))


@st.composite
def gradients(draw: st.DrawFn, spec: Any) -> dict[str, Any]:
    """Gradients of every variable: dense, zero, missing, sparse, and for a loss scale that adapts some that are not
    finite.

    Keras's MultiOptimizer refuses a step in which one of its optimizers gets no gradient at all: there, one gradient
    may be missing, that of a variable which shares its optimizer on every route.
    """
    multi, infinite = isinstance(spec, MultiOptimizer), isinstance(spec, LossScaleOptimizer)
    scaled = bool(settings(spec, "loss_scale_factor"))  # Keras refuses sparse ones: sparse-gradients-cannot-be-unscaled
    missing = ("conv/kernel",) if multi else ("conv/kernel", "dense/bias")
    found: dict[str, Any] = {}
    for name, shape in SHAPES.items():
        other = "sparse" if name == TABLE and not scaled else "missing" if name in missing else "dense"
        kind = draw(st.sampled_from(("dense", "dense", other)))
        found[name] = (
            draw(gt.special_points(shape, KINDS)) if kind == "dense" else draw(sparse()) if kind == "sparse" else None
        )
    if infinite and draw(st.integers(0, 3)) == 3:
        found["dense/bias"] = np.array([1.0, draw(st.sampled_from((np.inf, np.nan)))])
    return found
