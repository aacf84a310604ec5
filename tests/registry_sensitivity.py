"""Sensitivity of the checks of everything that is registered: for every layer and loss a correct gradient that is
accepted, and errors planted in it that are found, in every variable and input that has a gradient.

    python tests/registry_sensitivity.py

prints a row per class of planted error. The suite plants the smallest ones (test_sensitivity.py).
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import sensitivity
from hypothesis import HealthCheck, Phase, find, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample
from support_sides import twin_sides

from keras_ref import strategies as gt
from keras_ref.comparison.entries.entrywise import compare_entries
from keras_ref.comparison.sources.autodiff import Autodiff
from keras_ref.comparison.sources.oracles import Oracle
from keras_ref.translation import departures
from scratch import registry
from scratch.arrays import Array
from scratch.differences import UNIT, ComplexStep, Estimate
from scratch.gradient import Nudges
from scratch.layers.core import Activation
from scratch.losses.base import Loss, Projection
from scratch.model import Model
from scratch.objective import Objective

NAMES = tuple((kind, name) for kind in ("layer", "loss") for name in registry.names(kind))
#: how an example is looked for: the first that serves, which needs no shrinking
SEARCH = settings(
    max_examples=200,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@dataclass(frozen=True)
class Subject:
    """A registered definition at a generic point, as a model with a loss (None: under random cotangents)."""

    spec: Any
    model: Model = field(repr=False)
    weights: dict[str, Array] = field(repr=False)
    x: list[Array] = field(repr=False)
    y: Any = field(default=None, repr=False)
    loss: Loss | None = None

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))  # Hypothesis would print every array

    @property
    def given(self) -> Any:
        """The inputs as a model takes them."""
        return self.x if len(self.x) > 1 else self.x[0]

    @property
    def departs(self) -> bool:
        """Whether Keras is known to compute something else here, or to refuse."""
        return bool(departures.find_departures([self.spec]) or departures.find_refusals([self.spec]))

    @property
    def nudges(self) -> Nudges:
        """The loss of the twin."""
        shapes = [np.shape(o) for o in flat(self.model.forward(self.weights, self.given))]
        cotangents = [np.sin(1.0 + np.arange(int(np.prod(s)))).reshape(s) for s in shapes]
        objective = Objective.of(self.model, self.loss or tuple(Projection() for _ in self.model.outputs))
        return Nudges(
            objective,
            self.weights,
            self.given,
            self.y if self.loss else cotangents if len(cotangents) > 1 else cotangents[0],
        )

    @property
    def moves(self) -> bool:
        """Whether the loss is finite and some float of it makes a difference, other than in its last bits."""
        nudges = self.nudges
        floats = {n: nudges.value(n) for n in names_of(nudges)}
        direction = {n: np.cos(np.arange(v.size)).reshape(v.shape) for n, v in floats.items()}
        loss = nudges.directional(direction, np.array([0.0, 2.0**-10]))
        return bool(np.isfinite(loss).all() and abs(loss[1] - loss[0]) > 2.0**-30 * max(abs(loss[0]), 2.0**-10))


def names_of(nudges: Nudges) -> tuple[str, ...]:
    """Trained weights and float inputs, as the twin names them."""
    return (
        *nudges.point.model.trainable,
        *(f"input:{n}" for n, v in nudges.point.inputs.items() if v.dtype.kind == "f"),
    )


def flat(value: Any) -> list[Any]:
    return [leaf for one in value for leaf in flat(one)] if isinstance(value, (tuple, list)) else [value]


@st.composite
def layers(draw: st.DrawFn, name: str) -> Subject:
    spec = draw(gt.specifications("layer", name))
    model = gt.model_of(spec, draw(gt.input_shapes_of(spec)))
    x = draw(gt.inputs_of(model, patterns=("generic",)))
    return Subject(spec, model, draw(gt.weights_of(model, ("generic",))), [x[n] for n in model.inputs])


@st.composite
def losses(draw: st.DrawFn, name: str) -> Subject:
    spec = draw(gt.specifications("loss", name))
    spec = replace(spec, reduction="sum") if spec.reduction in (None, "none") else spec
    shapes, domains = spec.shapes(gt.sizes(draw)), spec.domains()
    y, x = (draw(gt.samples(tuple(s), d, ("generic",))) for s, d in zip(shapes, domains, strict=True))
    # generic numbers are the same for both, and then nothing would be wrong anywhere, nor where both point the same way
    y = y[..., ::-1] / 2 if y.dtype.kind == "f" else y
    model = Model.chain([Activation("linear")], tuple(x.shape[1:]))
    return Subject(spec, model, {}, [x], y, spec)


def subject(kind: str, name: str) -> Subject:
    """The first example of a definition that moves, of those that Keras computes by the definition if there are any."""
    drawn = {"layer": layers, "loss": losses}[kind](name)

    def quick(one: Subject) -> bool:
        # a convolution of channels_first is compiled by XLA, anew for every shape: minutes for one gradient
        return getattr(one.spec, "data_format", None) != "channels_first"

    try:
        return find(drawn, lambda one: quick(one) and not one.departs and one.moves, settings=SEARCH)
    except NoSuchExample:
        return find(drawn, lambda one: one.moves, settings=SEARCH)


@dataclass(frozen=True)
class TwinAlone(Oracle):
    """The twin as its own oracle, under its own names: for what Keras computes otherwise, or refuses."""

    nudges: Nudges
    values: dict[str, Array]
    base: float
    noise: float
    name: str = "twin"
    supports_complex: bool = True

    @classmethod
    def of(cls, nudges: Nudges) -> TwinAlone:
        return cls(
            nudges,
            {n: nudges.value(n) for n in names_of(nudges)},
            float(nudges.base),
            16 * UNIT * max(abs(float(nudges.base)), 1.0),
        )

    @property
    def names(self) -> dict[str, str]:
        return {n: n for n in self.values}

    def losses(self, name: str, entries: Array, offsets: Array) -> Array:
        return self.nudges.losses(name, entries, offsets)

    def moved(self, values: dict[str, Array]) -> TwinAlone:
        point = self.nudges.point
        weights = {n: values.get(n, w) for n, w in point.weights.items()}
        inputs = {n: values.get(f"input:{n}", v) for n, v in point.inputs.items()}
        return TwinAlone.of(Nudges(point.objective, weights, inputs, point.y))

    def exact(self, values: dict[str, Array]) -> Autodiff:
        """Complex steps in the place of autodiff: right to rounding, and no difference of anything."""
        here = self.moved(values)

        def slopes_of(name: str, value: Array) -> Estimate:
            return ComplexStep()(
                lambda offsets: here.losses(name, np.arange(value.size), offsets), value.ravel(), here.noise
            ).reshape(value.shape)

        slopes = {n: slopes_of(n, v) for n, v in here.values.items()}
        return Autodiff(
            gradient={n: e.value for n, e in slopes.items()},
            at=self.exact,
            measure_rounding=lambda: {n: e.error + 16 * UNIT for n, e in slopes.items()},
            how="complex step",
        )


def sides(one: Subject) -> AbstractContextManager[tuple[Any, Autodiff]]:
    """Oracle and gradient: Keras's where Keras follows the definition, the twin's own complex step elsewhere."""
    if one.departs:
        alone = TwinAlone.of(one.nudges)
        return nullcontext((alone, alone.exact(alone.values)))
    return twin_sides(one.model, one.weights, one.x, one.y, one.loss)


def judged(one: Subject, labels: tuple[str, ...]) -> Iterator[tuple[str, str, Any]]:
    """(variable, class of planted error or "correct", verdict) for every variable whose gradient is not rounding."""
    with sides(one) as (oracle, measured):
        autodiff = sensitivity.remembered(measured)
        for variable in oracle.names:
            yield variable, "correct", compare_entries(oracle, variable, autodiff=autodiff)
            gradient = autodiff.gradient[variable]
            if gradient is None or not gradient.size:
                continue
            entry = int(np.argmax(np.abs(gradient)))
            if 1e-6 * abs(gradient.flat[entry]) <= autodiff.rounding[variable].flat[entry]:
                continue  # zero but for rounding, as the bias of a key before a softmax: there is nothing to be wrong
            for label in labels:
                wrong = sensitivity.planted(autodiff, variable, sensitivity.PLANTS[label], entry)
                if not np.array_equal(wrong.gradient[variable], gradient):
                    # at the largest entry alone: each error has to be seen there, whatever the others show
                    yield variable, label, compare_entries(oracle, variable, autodiff=wrong, entries=np.array([entry]))


def main() -> int:
    tally: Counter[tuple[str, bool]] = Counter()
    for kind, name in NAMES:
        for variable, label, verdict in judged(subject(kind, name), tuple(sensitivity.PLANTS)):
            right = verdict.failed == (label != "correct")
            tally[label, right] += 1
            if not right:
                print(f"{kind} {name} {variable}, {label}\n{verdict.explain()}", file=sys.stderr)
    print("| planted error | planted | caught |\n|---|---|---|")
    for label in sensitivity.PLANTS:
        print(f"| {label} | {tally[label, True] + tally[label, False]} | {tally[label, True]} |")
    print(
        f"\ncorrect gradients: {tally['correct', True] + tally['correct', False]}, accused: {tally['correct', False]}"
    )
    return int(any(not right and n for (_, right), n in tally.items()))


if __name__ == "__main__":
    sys.exit(main())
