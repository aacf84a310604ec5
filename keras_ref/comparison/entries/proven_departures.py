"""A known departure excuses a twin that differs from Keras only where it is shown to be what makes the difference.

Three proofs, tried in this order, at the entries that fail and at no others:

    by value   entries that state what Keras computes instead (translation/departures/laws): with that in it, and with
               nothing else changed, the twin agrees with autodiff as closely as any other twin has to
    by bound   parts that Keras computes in float32 (entries of reading "precision" without a law, and layers without
               float64 kernels): what is left is no more than rounding to float32 in these parts may move the slope
    by place   entries that show in the gradient only: the slope of the twin is that of Keras's own forward pass, which
               therefore follows the definition, and autodiff differs from both. What autodiff says instead is not
               looked at (it may be what memory held). The variable has to feed a part that shows the entry. An entry of
               special points may be one where the definition has no slope either: then the twin and autodiff agree at
               generic points beside it, on both sides

What none of them proves stays what it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from itertools import chain, combinations, islice
from typing import Any

import numpy as np

from keras_ref.comparison.entries.entrywise import compare_entries
from keras_ref.comparison.entries.neighbourhood import draw_opposite_pairs
from keras_ref.comparison.sources.autodiff import Autodiff
from keras_ref.comparison.sources.monte_carlo_arithmetic import ROLLS
from keras_ref.comparison.sources.oracles import ForwardOracle, Oracle, TwinOracle
from keras_ref.evaluation.changed_state.float64 import DTYPE, find_policy
from keras_ref.reports.verdict import Verdict
from keras_ref.translation.departures import Departure, any_meets, list_parts, load_departures
from keras_ref.translation.departures.laws import as_keras, states_law
from keras_ref.translation.departures.rounded_parts import with_rounded_parts
from scratch.arrays import Array
from scratch.differences import ComplexStep
from scratch.gradient import Nudges
from scratch.objective import Objective
from scratch.one_sided import WIDER, Slopes, slopes

#: the entry of layers that have no float64 kernels: they compute in float32, and their twin does not
WITHOUT_FLOAT64 = "three-dimensional-pooling-in-float64"
#: the largest share of a variable's largest slope that rounding to float32 may come to: half of float32's 24 bits. A
#: part that amplifies it more than that is not known to be right but for rounding
ROUNDING = 2.0**-12


@dataclass(frozen=True)
class Proof:
    """That a failing verdict is a known departure: the ids of the entries, and in words what shows it."""

    ids: tuple[str, ...]
    shown: str


@dataclass(frozen=True, kw_only=True)
class DepartingTwin:
    """The twin of a model at a point, beside autodiff, with what is known of Keras's departures in its parts.

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
        """The specifications of layers by name, and of losses as “loss 0”, …"""
        losses = {f"loss {i}": loss for i, loss in enumerate(self.objective.losses) if loss is not None}
        return {**self.objective.model.layers, **losses}

    @cached_property
    def inside(self) -> dict[str, list[Any]]:
        """Each of the parts by name, with what its fields hold at any depth."""
        return {name: list_parts([part]) for name, part in self.parts.items()}

    @cached_property
    def all_inside(self) -> list[Any]:
        """The parts of the whole model, with what their fields hold."""
        return list_parts(self.parts.values())

    @cached_property
    def shapes(self) -> dict[str, list[tuple[int, ...]]]:
        """Shapes of the inputs of each layer, where it is called first."""
        run = self.twin.nudges.point.run
        calls = reversed(self.objective.model.calls)
        return {call.layer: [np.shape(run.tensors[name]) for name in call.inputs] for call in calls}

    @cached_property
    def entries(self) -> dict[str, tuple[Departure, frozenset[str]]]:
        """By id the departures that may show in a gradient here, each with the names of the parts that show it."""
        point = self.twin.nudges.point
        there = {"training": point.training, "mask": point.has_masks, "special points": True}
        missing = {name for name, is_there in there.items() if not is_there}
        found = {}
        for entry in load_departures():
            parts = frozenset(name for name in self.parts if self._shows(name, entry, missing))
            if parts:
                found[entry.id] = entry, parts
        return found

    def _shows(self, name: str, entry: Departure, missing: set[str]) -> bool:
        if entry.id == WITHOUT_FLOAT64:
            return any(find_policy(own) != DTYPE for own in self.inside[name])
        if entry.reading == "refusal" or "gradient" not in entry.shows_in or missing.intersection(entry.only):
            return False
        return any_meets(self.inside[name], entry.applies, self.all_inside, self.shapes.get(name))

    @property
    def by_value(self) -> tuple[str, ...]:
        """Ids of the entries that state what Keras computes instead."""
        return tuple(known for known in self.entries if states_law(known))

    @property
    def by_bound(self) -> tuple[str, ...]:
        """Ids of the entries by which parts compute in float32."""
        return tuple(
            known
            for known, (entry, _) in self.entries.items()
            if known == WITHOUT_FLOAT64 or (entry.reading == "precision" and not states_law(known))
        )

    @property
    def by_place(self) -> tuple[str, ...]:
        """Ids of the entries that show in the gradient alone."""
        return tuple(known for known, (entry, _) in self.entries.items() if entry.shows_in == ("gradient",))

    def prove(self, verdict: Verdict) -> Proof | None:
        """The proof that a failing verdict on this twin is a known departure; None where there is none.

        An entry that may show need not: the fewest that prove it are named.
        """
        stated, place = self.by_value, self._find_feeding(verdict.name)
        for proves, fixed, shown in (
            (self._agrees, (), "with what Keras computes there, the twin agrees"),
            (self._is_rounding, self.by_bound, "within rounding to float32 there"),
            (self._is_autodiff_alone, place, "Keras's own forward pass has the slope of the twin"),
            (self._is_right_beside, self._find_special(place), "autodiff agrees with the twin beside this very point"),
        ):
            if proves != self._agrees and not fixed:
                continue
            for laws in list_subsets(stated):
                if (laws or fixed) and proves(verdict, (*laws, *fixed)):
                    return Proof((*laws, *fixed), shown)
        return None

    # Proofs ------------------------------------------------------------------------------------------------------

    def _agrees(self, verdict: Verdict, ids: Sequence[str]) -> bool:
        return self._passes(self._build_hybrid(ids), verdict, self.autodiff)

    def _is_rounding(self, verdict: Verdict, ids: Sequence[str]) -> bool:
        hybrid = self._build_hybrid(ids)
        parts = frozenset(name for known in ids if not states_law(known) for name in self.entries[known][1])
        spread = self._spread(hybrid, verdict, parts)
        return spread is not None and self._passes(hybrid, verdict, _widen(self.autodiff, verdict, spread))

    def _is_autodiff_alone(self, verdict: Verdict, ids: Sequence[str]) -> bool:
        entries, name = np.array(verdict.accused, int), verdict.name
        gradient = self.autodiff.gradient[name]
        if gradient is None:
            return False
        ours, keras = _slopes(self._build_hybrid(ids), name, entries), _slopes(self.forward(), name, entries)
        said = np.ravel(gradient)[entries]
        with np.errstate(invalid="ignore"):
            sides = ((ours.left, keras.left), (ours.right, keras.right))
            alike = np.all([np.abs(a.value - b.value) <= a.error + b.error for a, b in sides], axis=0)
            # a forward pass too noisy to tell autodiff's value from its own slope shows nothing. Autodiff's rounding is
            # no part of that: a gradient from anywhere has any
            apart = ~(np.abs(keras.value.value - said) <= keras.value.error)
        return bool((alike & apart).all())

    def _find_special(self, ids: Sequence[str]) -> tuple[str, ...]:
        return tuple(known for known in ids if "special points" in self.entries[known][0].only)

    def _is_right_beside(self, verdict: Verdict, ids: Sequence[str]) -> bool:
        entries, name = np.array(verdict.accused, int), verdict.name
        hybrid = self._build_hybrid(ids)
        here = _slopes(hybrid, name, entries)
        if (np.isfinite(here.value.error) & here.smooth & ~here.jump).any():
            return False
        return all(
            not compare_entries(
                hybrid.moved(point), name, autodiff=self.autodiff.at(point), entries=entries, seed=self.seed
            ).failed
            for point in islice(draw_opposite_pairs(self.twin.values, np.random.default_rng(self.seed)), 2)
        )

    def _find_feeding(self, name: str) -> tuple[str, ...]:
        """Ids of the entries that show in the gradient alone, in a part that this variable or input feeds."""
        model, own = self.objective.model, self.twin.names[name]
        reached, fed = (
            {own.removeprefix("input:")},
            {part for part in self.parts if part not in self.objective.model.layers},
        )
        for call in model.calls:
            if own.startswith(call.layer + "/") or reached.intersection(call.tensors):
                fed.add(call.layer)
                reached.update(call.outputs)
        return tuple(known for known in self.by_place if self.entries[known][1] & fed)

    def _build_hybrid(self, ids: Iterable[str]) -> TwinOracle:
        """The twin with what Keras computes instead, by the laws that some of these entries state."""
        laws = tuple(known for known in ids if states_law(known))
        return self._with_laws(laws) if laws else self.twin

    @cached_property
    def _with_laws(self) -> Callable[[tuple[str, ...]], TwinOracle]:
        """The twin with laws of Keras in it, made once for each choice of them."""
        twin = self.twin

        def make(values: Any, *, laws: tuple[str, ...]) -> Nudges:
            return _change_objective(twin.make(values), lambda objective: as_keras(objective, laws, self.shapes))

        def with_laws(laws: tuple[str, ...]) -> TwinOracle:
            found = TwinOracle.at(partial(make, laws=laws), names=twin.names, values=twin.values)
            return replace(found, inputs=twin.inputs)

        return cache(with_laws)

    def _passes(self, oracle: TwinOracle, verdict: Verdict, autodiff: Autodiff) -> bool:
        entries = np.array(verdict.accused, int)
        return not compare_entries(oracle, verdict.name, autodiff=autodiff, entries=entries, seed=self.seed).failed

    def _spread(self, oracle: TwinOracle, verdict: Verdict, parts: frozenset[str]) -> Array | None:
        """How far rounding these parts to float32 may move the slopes of the accused entries, twice the worst of ROLLS.

        None where that is more than rounding. Complex steps stay on the branch that the point is on.
        """
        entries, name = np.array(verdict.accused, int), self.twin.names[verdict.name]

        def slopes_of(nudges: Nudges) -> Array:
            at = np.ravel(nudges.value(name))[entries]
            return np.asarray(ComplexStep()(lambda offsets: nudges.losses(name, entries, offsets), at, 0.0).value)

        centre, spread = slopes_of(oracle.nudges), np.zeros(len(entries))
        for roll in range(ROLLS):
            off = _change_objective(oracle.nudges, partial(with_rounded_parts, parts=parts, seed=roll), plain=True)
            spread = np.fmax(spread, 2 * np.abs(slopes_of(off) - centre))
        gradient = self.autodiff.gradient[verdict.name]
        largest = np.abs(centre).max() if gradient is None else np.nanmax(np.abs(gradient), initial=0.0)
        return spread if bool(np.isfinite(spread).all() and (spread <= ROUNDING * largest).all()) else None


def list_subsets(ids: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """All subsets, the smallest first."""
    return chain.from_iterable(combinations(ids, size) for size in range(len(ids) + 1))


def _change_objective(nudges: Nudges, change: Callable[[Objective], Objective], *, plain: bool = False) -> Nudges:
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


def _widen(autodiff: Autodiff, verdict: Verdict, spread: Array) -> Autodiff:
    """Autodiff's gradient with more rounding in the accused entries of one variable, at the point and beside it."""

    def plus(rounding: Any) -> dict[str, Array]:
        own = np.array(rounding[verdict.name], float)
        own.reshape(-1)[np.array(verdict.accused, int)] += spread
        return {**rounding, verdict.name: own}

    wider = Autodiff(
        gradient=autodiff.gradient,
        at=lambda point: _widen(autodiff.at(point), verdict, spread),
        measure_rounding=lambda: plus(autodiff.rounding),
        how=autodiff.how,
    )
    _ = wider.rounding  # or a unit in the last place would stand for it until a value is called wrong
    return wider


def _slopes(oracle: Oracle, name: str, entries: Array) -> Slopes:
    at = np.ravel(oracle.values[name])[entries]
    return slopes(
        lambda offsets: np.asarray(oracle.losses(name, entries, offsets), float),
        at,
        oracle.noise,
        base=oracle.base,
        exponents=WIDER,
    )
