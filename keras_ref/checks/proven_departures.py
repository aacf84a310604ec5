"""A known departure excuses a twin that differs from Keras only where it is shown to be what makes the difference.

Three proofs, tried in this order at the entries that fail and at no others:

    by value    entries that state what Keras computes instead (departures/laws): with that in it, and with nothing else
                changed, the twin agrees with autodiff as closely as any other twin has to
    by bound    parts that Keras computes in float32: what is left differs by no more than rounding to float32 in these
                parts moves the slope
    by place    entries that show in the gradient only: the slope of the twin is that of Keras's own forward pass, which
                therefore follows the definition, and autodiff differs from both. What autodiff says instead is not
                looked at: it is what memory held, say. The variable has to feed a part that shows the entry.

What none of them proves stays a mismatch. An entry without which the proof succeeds too is not named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from keras_ref.comparison.entrywise import Autodiff, compare
from keras_ref.comparison.monte_carlo_arithmetic import ROLLS
from keras_ref.comparison.oracles import ForwardOracle, TwinOracle
from keras_ref.evaluation.float64 import DTYPE, policy_of
from keras_ref.reports.verdict import Verdict
from keras_ref.translation.departures import (
    Departure,
    load_departures,
    meets_any,
    nested_specifications,
)
from keras_ref.translation.departures.laws import as_keras, states_law
from keras_ref.translation.departures.rounded_parts import with_rounded_parts
from scratch.arrays import Array
from scratch.differences import ComplexStep
from scratch.gradient import Nudges
from scratch.objective import Objective
from scratch.one_sided import WIDER, Slopes, slopes

#: the entry of layers that have no float64 kernels: they compute in float32, and their twin does not
WITHOUT_FLOAT64 = "three-dimensional-pooling-in-float64"
#: a slope that moves by more than this share of the largest one when a part is rounded to float32 is not known to be
#: right but for rounding: float32 has 24 bits, and half of them are left here for what a part amplifies
ROUNDING = 2.0**-12


@dataclass(frozen=True)
class Proof:
    """That a verdict is a known departure: the ids of the entries and in words how that was shown."""

    ids: tuple[str, ...]
    how: str


@dataclass(frozen=True, kw_only=True)
class Departing:
    """A twin at a point, with what is known of Keras's departures in its parts.

    forward   makes the oracle of Keras's own forward pass at the same point
    """

    twin: TwinOracle
    autodiff: Autodiff
    forward: Callable[[], ForwardOracle]
    seed: int = 0

    @property
    def objective(self) -> Objective:
        """The model of the twin and its losses."""
        return self.twin.nudges.objective

    @cached_property
    def parts(self) -> dict[str, Any]:
        """The specifications of layers by name, and of losses by number."""
        losses = {f"loss {i}": loss for i, loss in enumerate(self.objective.losses) if loss is not None}
        return {**self.objective.model.layers, **losses}

    @cached_property
    def shapes(self) -> dict[str, list[tuple[int, ...]]]:
        """Shapes of the inputs of each layer, where it is called first."""
        run = self.twin.nudges.point.run
        calls = reversed(self.objective.model.calls)
        return {call.layer: [np.shape(run.tensors[name]) for name in call.inputs] for call in calls}

    @cached_property
    def entries(self) -> dict[str, tuple[Departure, frozenset[str]]]:
        """By id the departures that parts of the twin may show here, each with the names of those parts."""
        point, found = self.twin.nudges.point, {}
        missing = {"training"} if not point.training else set()
        missing |= {"mask"} if not point.masked else set()
        for entry in load_departures():
            without = entry.reading == "refusal" or "gradient" not in entry.shows_in or set(entry.only) & missing
            parts = frozenset() if without else frozenset(name for name in self.parts if self._shows(name, entry))
            if entry.id == WITHOUT_FLOAT64:
                parts = frozenset(name for name, part in self.parts.items() if _lacks_float64(part))
            if parts:
                found[entry.id] = entry, parts
        return found

    def _shows(self, name: str, entry: Departure) -> bool:
        return meets_any(self.parts[name], entry.applies, self.parts.values(), self.shapes.get(name))

    @property
    def by_value(self) -> tuple[str, ...]:
        """Ids of the entries that state what Keras computes instead."""
        return tuple(id for id in self.entries if states_law(id))

    @property
    def by_bound(self) -> tuple[str, ...]:
        """Ids of the entries by which parts compute in float32."""
        return tuple(
            id
            for id, (entry, _) in self.entries.items()
            if id == WITHOUT_FLOAT64 or (entry.reading == "precision" and not states_law(id))
        )

    @property
    def by_place(self) -> tuple[str, ...]:
        """Ids of the entries that show in the gradient alone."""
        return tuple(id for id, (entry, _) in self.entries.items() if entry.shows_in == ("gradient",))

    # Proofs ------------------------------------------------------------------------------------------------------

    def prove(self, verdict: Verdict) -> Proof | None:
        """The proof that a failing verdict on the twin is a known departure, if there is one."""
        values = self.by_value
        for proves, ids, how in (
            (self._agrees, values, "with what Keras computes there the twin agrees"),
            (self._is_rounding, (*values, *self.by_bound), "the difference is within rounding to float32 there"),
            (
                self._is_autodiff_alone,
                (*values, *self._feeding(verdict.name)),
                "Keras's own forward pass has the slope of the twin",
            ),
        ):
            if ids and proves(verdict, ids):
                return Proof(_needed(ids, lambda rest, proves=proves: proves(verdict, rest)), how)
        return None

    def _agrees(self, verdict: Verdict, ids: Sequence[str]) -> bool:
        laws = [id for id in ids if states_law(id)]
        return bool(laws) and self._passes(self._hybrid(laws), verdict, self.autodiff)

    def _is_rounding(self, verdict: Verdict, ids: Sequence[str]) -> bool:
        parts = self._parts_of(id for id in ids if not states_law(id))
        if not parts:
            return False
        hybrid = self._hybrid([id for id in ids if states_law(id)])
        spread = self._spread(hybrid, verdict, parts)
        return spread is not None and self._passes(hybrid, verdict, _wider(self.autodiff, verdict.name, spread))

    def _is_autodiff_alone(self, verdict: Verdict, ids: Sequence[str]) -> bool:
        if not any(id in self.by_place for id in ids):
            return False
        entries, name = np.array(verdict.accused, int), verdict.name
        gradient = self.autodiff.gradient[name]
        if gradient is None:
            return False
        forward = self.forward()
        ours = _slopes(self._hybrid([id for id in ids if states_law(id)]), name, entries)
        keras = _slopes(forward, name, entries)
        said, rounding = np.ravel(gradient)[entries], np.ravel(self.autodiff.rounding[name])[entries]
        with np.errstate(invalid="ignore"):
            alike = np.all(
                [
                    np.abs(a.value - b.value) <= a.error + b.error
                    for a, b in ((ours.left, keras.left), (ours.right, keras.right))
                ],
                axis=0,
            )
            # a forward pass that is too noisy to tell autodiff's value from its own slope shows nothing
            apart = ~(np.abs(keras.value.value - said) <= keras.value.error + rounding)
        return bool((alike & apart).all())

    def _feeding(self, name: str) -> tuple[str, ...]:
        """Ids of the entries that show in the gradient alone, in a part whose input (or weight) this variable is."""
        model, own = self.objective.model, self.twin.names[name]
        reached = {own.removeprefix("input:")} if own.startswith("input:") else set()
        layers = set()
        for call in model.calls:
            if own.startswith(call.layer + "/") or reached.intersection(call.tensors):
                layers.add(call.layer)
                reached.update(call.outputs)
        fed = layers | {name for name in self.parts if name not in model.layers}
        return tuple(id for id in self.by_place if self.entries[id][1] & fed)

    def _parts_of(self, ids: Iterable[str]) -> frozenset[str]:
        return frozenset(name for id in ids for name in self.entries[id][1])

    def _hybrid(self, ids: Sequence[str]) -> TwinOracle:
        """The twin with what Keras computes instead, by the laws of these entries."""
        if not ids:
            return self.twin
        return self._with(lambda objective: as_keras(objective, ids, self.shapes))

    def _with(self, change: Callable[[Objective], Objective]) -> TwinOracle:
        twin = self.twin
        made = TwinOracle.at(
            lambda values: _changed(twin.make(values), change), twin.names, twin.values, seed=self.seed
        )
        return replace(made, kinks=twin.kinks)

    def _passes(self, hybrid: TwinOracle, verdict: Verdict, autodiff: Autodiff) -> bool:
        entries = np.array(verdict.accused, int)
        return not compare(hybrid, verdict.name, autodiff, entries, seed=self.seed).failed

    def _spread(self, hybrid: TwinOracle, verdict: Verdict, parts: frozenset[str]) -> Array | None:
        """How far rounding these parts to float32 may move the slopes of the accused entries; None where that is more
        than rounding. Complex steps stay on the branch that the point is on."""
        entries, name = np.array(verdict.accused, int), self.twin.names[verdict.name]

        def slopes_of(nudges: Nudges) -> Array:
            at = np.ravel(nudges.value(name))[entries]
            return np.asarray(ComplexStep()(lambda offsets: nudges.losses(name, entries, offsets), at, 0.0).value)

        centre, spread = slopes_of(hybrid.nudges), np.zeros(len(entries))
        for roll in range(ROLLS):
            rounded = _changed(
                hybrid.nudges, lambda objective, roll=roll: with_rounded_parts(objective, parts, roll), plain=True
            )
            spread = np.fmax(spread, np.abs(slopes_of(rounded) - centre))
        gradient = self.autodiff.gradient[verdict.name]
        largest = np.nanmax(np.abs(gradient), initial=np.abs(centre).max())
        small = bool(np.isfinite(spread).all() and (2 * spread <= ROUNDING * largest).all())
        return 2 * spread if small else None


def _needed(ids: Sequence[str], proves: Callable[[tuple[str, ...]], bool]) -> tuple[str, ...]:
    """The ids without those that the proof does not need."""
    kept = tuple(ids)
    for id in ids:
        rest = tuple(one for one in kept if one != id)
        kept = rest if rest and proves(rest) else kept
    return kept


def _lacks_float64(part: Any) -> bool:
    return any(policy_of(own) != DTYPE for own in nested_specifications(part))


def _changed(nudges: Nudges, change: Callable[[Objective], Objective], *, plain: bool = False) -> Nudges:
    """The same nudges of another objective."""
    point = nudges.point
    return Nudges(
        change(point.objective),
        point.weights,
        point.inputs,
        point.y,
        sample_weight=point.sample_weight,
        training=point.training,
        draws=point.draws,
        masks=point.masks,
        executor=nudges.executor,
        progress=nudges.progress,
        plain=plain or nudges.plain,
    )


def _wider(autodiff: Autodiff, name: str, spread: Array) -> Autodiff:
    """Autodiff's gradient with more rounding in the accused entries of one variable, here and at points close by."""
    raise NotImplementedError


def _slopes(oracle: Any, name: str, entries: Array) -> Slopes:
    at = np.ravel(oracle.values[name])[entries]
    return slopes(
        lambda offsets: np.asarray(oracle.losses(name, entries, offsets), float),
        at,
        oracle.noise,
        base=oracle.base,
        exponents=WIDER,
    )


def prove_departures(
    verdicts: Sequence[Verdict], *, twin: TwinOracle, autodiff: Autodiff, forward: Callable[[], ForwardOracle], seed: int = 0
) -> tuple[list[Verdict], list[str]]:
    raise NotImplementedError
