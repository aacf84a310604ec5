"""What a law is tried on, whether a mutant of it shows there, and the verdicts of the check that has to catch it.

A case is built once for a definition and an example of it: the Keras side does not change when the law does. A mutant
shows where it changes the slope of the loss along a random direction (of an optimizer: the weights after the steps);
where it does not, or cannot be computed, it is no wrong law and the next one is tried.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any, Protocol

import keras
import numpy as np
import optimizer_cases
from example_pools import Architecture, drawn, losses, pool
from hypothesis import strategies as st
from law_company import COMPANY, company_weights, in_company, trained_in_company, words
from law_mutants import Mutant, kinds, mutants
from support_built import Built

from keras_ref import check_updates
from keras_ref import strategies as gt
from keras_ref.checks.annotations import mark_departures
from keras_ref.comparison.entries.entrywise import compare_entries
from keras_ref.comparison.sources.autodiff import Autodiff, run_autodiff
from keras_ref.comparison.sources.evidence import Evidence, Outcome
from keras_ref.comparison.sources.settings import Settings
from keras_ref.reports.verdict import Verdict
from keras_ref.translation import departures
from keras_ref.translation.to_keras import mirror_object
from scratch import registry
from scratch.arrays import Array
from scratch.calls import Call
from scratch.losses.regression import MeanSquaredError
from scratch.model import Model

#: the methods that a law starts from
ROOTS = {"layer": ("forward",), "loss": ("per_sample",), "optimizer": ("update", "advance", "step")}
#: a step for slopes, exact in binary; its truncation is the same before and after, to first order
STEP = 2.0**-13
#: a law that changes a slope by less than this share of it is not called wrong: a hundred times what STEP truncates
#: (2^-26 times a third derivative), and far more than the smallest error that the checks see
SHOWS = 2.0**-16
#: entries of each variable that a verdict compares: those at which the law seems farthest from Keras
MOST = 2
#: examples of a definition, and mutants of one kind, that are tried before the kind is called equivalent to the law
EXAMPLES, SITES = 3, 6


class Case(Protocol):
    """A definition's law on one example."""

    @property
    def specifications(self) -> tuple[Any, ...]:
        """What departures may be known of."""

    def numbers(self) -> Array:
        """What a wrong law changes."""

    def difference(self) -> Verdict | None:
        """The first verdict other than "match" of the check that compares the law, as it stands, with Keras."""


@dataclass(frozen=True, eq=False)
class Slopes:
    """The slopes of a loss by the twin beside Keras's autodiff, at one point."""

    built: Built
    weights: Mapping[str, Array]
    x: Any
    y: Any = None

    @property
    def specifications(self) -> tuple[Any, ...]:
        return tuple(self.built.model.layers.values())

    def numbers(self) -> Array:
        with self.built.at(self.weights, self.x, self.y) as probe:
            oracle = self.built.twin(probe)
            generator = np.random.default_rng(1)
            direction = {
                n: generator.uniform(0.5, 1.0, np.shape(v))
                for n, v in oracle.values.items()
                if n in oracle.names and COMPANY not in n
            }
            left, right = oracle.directional(direction, np.array([-STEP, STEP]))
        return np.array([(right - left) / (2 * STEP)])

    @cached_property
    def _autodiff(self) -> Autodiff:
        with self.built.at(self.weights, self.x, self.y) as probe:
            return run_autodiff(probe, probe.values, mode=self.built.first_mode)

    def difference(self) -> Verdict | None:
        autodiff = self._autodiff
        with self.built.at(self.weights, self.x, self.y) as probe:
            oracle = self.built.twin(probe)
            names = tuple(name for name in oracle.values if name in oracle.names and COMPANY not in name)
            evidence = Evidence(
                subject="law",
                loss=probe,
                oracles=(oracle,),
                autodiff=autodiff,
                names=names,
                settings=Settings(),
                contracted=lambda direction: probe,
            )
            for name in names:
                gradient = autodiff.gradient[name]
                every = np.arange(evidence.size(name))
                behind, ahead = oracle.losses(name, every, np.multiply.outer([-STEP, STEP], np.ones(len(every))))
                with np.errstate(invalid="ignore"):
                    apart = np.abs((ahead - behind) / (2 * STEP) - (0 if gradient is None else np.ravel(gradient)))
                entries = np.sort(np.argsort(-apart, kind="stable")[:MOST])
                found = Outcome((compare_entries(oracle, name, autodiff=autodiff, entries=entries),))
                (verdict,) = mark_departures(found, evidence=evidence).verdicts
                if verdict.verdict != "match":
                    return verdict
        return None


@dataclass(frozen=True, eq=False)
class Steps:
    """The weights after two steps of an optimizer beside Keras's, of a Dense layer alone or in company."""

    spec: Any
    in_company: bool = False

    @property
    def specifications(self) -> tuple[Any, ...]:
        return (self.spec,)

    def numbers(self) -> Array:
        generator = np.random.default_rng(2)
        weights = {n: generator.normal(size=shape) for n, shape in SHAPES.items()}
        state = self.spec.init(weights)
        for k in range(STEPS):
            if self.in_company:  # indices occur twice there: a step starts from what Keras says that it has counted
                state = replace(state, iterations=k)
            gradients = {n: self.spec.loss_scale(state) * generator.normal(size=w.shape) for n, w in weights.items()}
            weights, state = self.spec.step(weights, gradients, state)
        return np.concatenate([w.ravel() for w in weights.values()])

    def difference(self) -> Verdict | None:
        keras.utils.set_random_seed(0)
        inputs = keras.Input((2,))  # in a functional model, whose weights have the paths that the examples route by
        outputs, x, y = keras.layers.Dense(2, "tanh", name="dense")(inputs), X, Y
        if self.in_company:
            indices = keras.Input((2,), dtype="int32")
            inputs, outputs, x, y = [inputs, indices], trained_in_company(outputs, indices), [X, words(3)], Y[:, :1]
        model = keras.Model(inputs, outputs)
        assert [v.path for v in model.trainable_variables][: len(SHAPES)] == list(SHAPES)
        model.compile(mirror_object(self.spec), "mse")
        report = check_updates(model, x, y, steps=STEPS)
        return next((v for v in report.verdicts if v.verdict != "match"), None)


STEPS = 2
GENERIC = ("generic",)
SHAPES = {"dense/kernel": (2, 2), "dense/bias": (2,)}
X, Y = np.array([[1, -3], [2, 5], [-7, 4]]) / 8, np.array([[3, 1], [-2, 5], [6, -4]]) / 8
#: what a changed expression may raise: it is no wrong law then, but none
CANNOT_BE_COMPUTED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RuntimeWarning)
#: which of the drawn points is taken
LATER = 3


@dataclass(frozen=True, eq=False)
class Point:
    """Arrays; no two of them are equal, so that `drawn` keeps all."""

    values: tuple[Any, ...]


SPECS = {"layer": pool, "loss": losses, "optimizer": optimizer_cases.pool}


def always_departs(kind: str, name: str) -> bool:
    """Whether Keras may compute something else on every example of a definition."""
    return all(any(_may_hide(spec)) for spec in SPECS[kind](name))


@cache
def cases(kind: str, name: str, *, company: bool = False) -> tuple[Case, ...]:
    """Examples of a definition's law, such as hide no wrong one if there are any: the smallest ones, which are fast; of
    an optimizer, whose numbers cost nothing, all of them. With `company` other layers are there.
    """
    specs = [spec for spec in SPECS[kind](name) if not (company and kind == "optimizer" and _refuses_sparse(spec))]
    ranks = [_may_hide(spec) for spec in specs]
    make = {"layer": _layer, "loss": _loss, "optimizer": Steps}[kind]
    ordered = sorted((spec for spec, rank in zip(specs, ranks, strict=True) if rank == min(ranks)), key=_size)
    # where every example departs, or may be refused, few of them decide anything
    most = len(ordered) if any(min(ranks)) else EXAMPLES
    return tuple(make(spec, company) for spec in (ordered if kind == "optimizer" else ordered[:most]))


def _may_hide(spec: Any) -> tuple[bool, bool]:
    """Whether Keras may compute something else on this example, and whether it may refuse it.

    At a generic point, and without a mask. A rounding to float32 hides no wrong law.
    """
    own, shapes = (
        getattr(spec, "layer", spec),
        getattr(spec, "shapes", None) if isinstance(spec, Architecture) else None,
    )
    known = departures.find_departures([own], shapes=shapes, without=("mask", "special points"))
    faults = any(departures.get_departure(one).reading != "precision" for one in known)
    return faults, bool(departures.find_refusals([own]))


def _refuses_sparse(optimizer: Any) -> bool:
    """Whether Keras cannot take a sparse step by it: the company has an embedding."""
    known = departures.get_departure("sparse-gradients-cannot-be-unscaled")
    return known.reading == "refusal" and bool(optimizer_cases.settings(optimizer, "loss_scale_factor"))


def _size(spec: Any) -> int:
    """The numbers of an architecture; of anything else as many as it has arguments."""
    if not isinstance(spec, Architecture):
        return len(repr(spec))
    return sum(math.prod(shape) for shape in (*spec.shapes, *spec.model.weight_shapes.values()))


def _layer(one: Architecture, company: bool) -> Slopes:
    model, batch = one.model, one.shapes[0][0]
    weights, x = point(gt.weights_of(model, GENERIC), gt.inputs_of(model, batch=batch, patterns=GENERIC))
    given = [x[own] for own in model.inputs] if len(x) > 1 else x["x0"]
    # the law of a layer that does nothing in inference is that of training
    idle = "draw" in one.layer.accepts and np.array_equal(model.forward(weights, given), given)
    if company:
        model = in_company(model)
        given = [*(given if isinstance(given, list) else [given]), words(batch)]
        weights = {**weights, **company_weights(model)}
    return Slopes(Built.of(model, given, training=idle), weights, given)


def _loss(loss: Any, company: bool) -> Slopes:
    shapes, domains = loss.shapes(lambda low, high: high), loss.domains()
    y_true, y_pred = point(*(gt.samples(tuple(s), d, GENERIC) for s, d in zip(shapes, domains, strict=True)))
    linear = registry.get("layer", "Activation")("linear")
    model = Model({"x": y_pred.shape}, {"linear": linear}, (Call("linear", ("x",), ("y",)),), ("y",))
    summed = replace(loss, reduction="sum") if loss.reduction in (None, "none") else loss
    if not company:
        return Slopes(Built.of(model, y_pred, y=y_true, loss=summed), {}, y_pred, y_true)
    model, x, y = in_company(model), [y_pred, words(len(y_pred))], [y_true, np.zeros((len(y_pred), 1))]
    built = Built.of(model, x, y=y, loss=[summed, MeanSquaredError()])
    return Slopes(built, company_weights(model), x, y)


def point(*strategies: st.SearchStrategy[Any]) -> tuple[Any, ...]:
    """A generic point: a later example, for in the first one all arrays of a shape are the same."""
    return drawn(st.builds(lambda *values: Point(values), *strategies), LATER, "point")[-1].values


@dataclass(frozen=True)
class Wrong:
    """A mutant that shows on an example, and what the check says of it: None where it is missed."""

    mutant: Mutant
    verdict: Verdict | None

    def __str__(self) -> str:
        said = "nothing" if self.verdict is None else f"{self.verdict.verdict} ({self.verdict.reason})"
        return f"{self.mutant.kind}: {said} is said of {self.mutant}"


def wrong_laws(kind: str, name: str, *, company: bool = False) -> Iterator[Wrong]:
    """Of every kind of error the first mutant that shows on an example, if one does."""
    found = mutants(registry.get(kind, name), ROOTS[kind])
    for error in kinds(registry.get(kind, name), ROOTS[kind]):
        same = [mutant for mutant in found if mutant.kind == error][:SITES]
        tries = (_wrong(case, mutant) for case in cases(kind, name, company=company) for mutant in same)
        first = next((found for found in tries if found is not None), None)
        if first is not None:
            yield first


def _wrong(case: Case, mutant: Mutant) -> Wrong | None:
    """What the check says of a mutant; None where it is the same law on this example, or cannot be computed."""
    try:
        with mutant.applied(), np.errstate(all="ignore"):
            numbers = case.numbers()
        if not _differ(numbers, _numbers(case)) or not _decides(case):
            return None
        with mutant.applied(), np.errstate(all="ignore"):
            return Wrong(mutant, case.difference())
    except CANNOT_BE_COMPUTED:
        return None


@cache
def _numbers(case: Case) -> Array:
    """What the law itself computes."""
    return case.numbers()


@cache
def _decides(case: Case) -> bool:
    """Whether the law's own check accepts it on this example: not where the gradient is zero, which decides nothing,
    and where Keras is known to refuse it.
    """
    try:
        found = case.difference()
    except Exception as refusal:
        if not departures.find_refusals(case.specifications, saying=str(refusal)):
            raise
        return False
    if found is not None and found.verdict == "undecided":
        return False
    assert found is None or not found.failed, found.explain()
    return True


def _differ(wrong: Array, right: Array) -> bool:
    changed = np.abs(wrong - right) > SHOWS * np.maximum(np.abs(right), np.abs(wrong))
    return bool(np.isfinite(wrong).all() and changed.any())
