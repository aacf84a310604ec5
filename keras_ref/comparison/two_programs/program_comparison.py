"""Two programs at one point: every place, the first one where they part, and which of the two is right there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keras_ref.comparison.two_programs.program_rounding import Measured, measure
from keras_ref.comparison.two_programs.tensor_alignment import align, drop_lone_tensors
from keras_ref.comparison.two_programs.umpire import slope_at
from keras_ref.comparison.two_programs.weight_matching import Matching, Pair
from keras_ref.programs.program import Facts, Point, Program, Stage
from keras_ref.reports.comparison import Matched, Row
from scratch.arrays import Array, index_of
from scratch.progress import Progress

#: the parts of a comparison, as its progress names them
PARTS = ("loading A", "loading B", "running A", "running B", "judging")


def report_part(progress: Progress | None, part: str) -> None:
    """Say which of the parts begins, if progress was asked for."""
    if progress is not None:
        progress(PARTS.index(part), len(PARTS), part)


@dataclass(frozen=True, kw_only=True)
class Side:
    """A program, what it says of itself, and what was measured of it."""

    program: Program
    facts: Facts
    point: Point
    measured: Measured


@dataclass(frozen=True, kw_only=True)
class Both:
    """Two programs at the same point, and which weights have the same values.

    aligned   pairs of tensors in the order of the computation
    """

    a: Side
    b: Side
    matching: Matching
    aligned: tuple[tuple[str, str], ...]

    def gradient_of_b(self, pair: Pair) -> Array | None:
        """The gradient of B for a pair of weights, in the layout of A."""
        return to_a(pair, self.b.measured.trace.gradient.get(pair.b.name))

    @property
    def rows(self) -> tuple[Row, ...]:
        """Every place that both can be compared at, in the order of the computation."""
        return (
            *self._compare_weights(),
            *self._compare_forward(),
            *self._compare_loss(),
            *self._compare_gradient(),
            *self._update(),
        )

    def _compare_weights(self) -> Iterator[Row]:
        for weight in self.matching.only_a:
            yield Row(stage=Stage.WEIGHTS, a=weight.name, b="")
        for weight in self.matching.only_b:
            yield Row(stage=Stage.WEIGHTS, a="", b=weight.name)

    def _compare_forward(self) -> Iterator[Row]:
        a, b = self.a.measured, self.b.measured
        for one, other in drop_lone_tensors(self.aligned):
            first, second = a.trace.tensors[one], b.trace.tensors[other]
            yield compare_arrays(Stage.FORWARD, (one, other), first, second, allowed=a.tensors[one] + b.tensors[other])

    def _compare_loss(self) -> Iterator[Row]:
        a, b = self.a.measured, self.b.measured
        if not (np.isnan(a.trace.loss) or np.isnan(b.trace.loss)) and self.a.point.cotangent is None:
            yield compare_arrays(
                Stage.LOSS,
                ("loss", "loss"),
                np.asarray(a.trace.loss),
                np.asarray(b.trace.loss),
                allowed=a.loss + b.loss,
            )

    def _compare_gradient(self) -> Iterator[Row]:
        a, b = self.a.measured, self.b.measured
        if not (a.trace.gradient and b.trace.gradient):
            return
        for pair in reversed(self.matching.pairs):  # a backward pass goes from the end to the start
            first, second = a.trace.gradient.get(pair.a.name), self.gradient_of_b(pair)
            if first is None and second is None:
                continue
            names = (pair.a.name, pair.b.name)
            if first is None or second is None:
                missing = "A" if first is None else "B"
                yield replace(
                    Row(stage=Stage.GRADIENT, a=names[0], b=names[1], difference=np.inf),
                    note=f"{missing} has no gradient there",
                )
                continue
            yield compare_arrays(
                Stage.GRADIENT, names, first, second, allowed=a.gradient[pair.a.name] + b.gradient.get(pair.b.name, 0.0)
            )

    def _update(self) -> Iterator[Row]:
        """A row a weight: the first step after which it differs, else the last; the earliest step first."""
        steps = range(min(len(self.a.measured.trace.steps), len(self.b.measured.trace.steps)))
        found = []
        for pair in self.matching.pairs:
            rows = [(k, row) for k in steps if (row := self._compare_updated(pair, k)) is not None]
            if rows:
                found.append(next(((k, row) for k, row in rows if not row.agrees), rows[-1]))
        for k, row in sorted(found, key=lambda one: one[0]):
            numbers = f"{row.difference:.1e} where {row.allowed:.0e} is allowed" if not row.agrees else ""
            yield replace(row, note=f"step {k + 1}: {row.note or numbers}") if numbers else row

    def _compare_updated(self, pair: Pair, k: int) -> Row | None:
        a, b = self.a.measured, self.b.measured
        one, other = a.trace.steps[k].get(pair.a.name), to_a(pair, b.trace.steps[k].get(pair.b.name))
        if one is None or other is None:
            return None
        allowed = a.steps[k][pair.a.name] + b.steps[k][pair.b.name]
        return compare_arrays(Stage.UPDATE, (pair.a.name, pair.b.name), one, other, allowed=allowed)


def to_a(pair: Pair, value: Array | None) -> Array | None:
    """A value of B in the layout of A; None where there is none, or where its shape is not that of the weight."""
    if value is None:
        return None
    return pair.to_a(value) if np.shape(value) == pair.b.shape else np.asarray(value)


def compare_arrays(stage: Stage, names: tuple[str, str], a: Array, b: Array, *, allowed: float) -> Row:
    """The row of two arrays, which should differ by no more than is allowed."""
    row = Row(stage=stage, a=names[0], b=names[1], allowed=allowed)
    if np.shape(a) != np.shape(b):
        return replace(row, difference=float("inf"), note=f"shape {np.shape(a)} in A, {np.shape(b)} in B")
    if not np.size(a):
        return row
    first, second = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    with np.errstate(invalid="ignore"):
        difference = np.abs(first - second)
        both = (first == second) | (np.isnan(first) & np.isnan(second))
        difference = np.where(both, 0.0, np.nan_to_num(difference, nan=np.inf))
    worst = index_of(np.argmax(difference), difference.shape)
    return replace(
        row,
        difference=float(difference[worst]),
        worst=worst,
        value_a=float(first[worst]),
        value_b=float(second[worst]),
    )


def compare_at(
    a: tuple[Program, Facts],
    b: tuple[Program, Facts],
    points: tuple[Point, Point],
    matching: Matching,
    *,
    seed: int,
    progress: Progress | None = None,
) -> Both:
    """Both programs run and measured at their points."""

    def side(letter: str, program: Program, facts: Facts, point: Point) -> Side:
        report_part(progress, f"running {letter}")
        return Side(program=program, facts=facts, point=point, measured=measure(program, point, seed=seed))

    first, second = side("A", *a, points[0]), side("B", *b, points[1])
    tensors_a, tensors_b = first.measured.trace.tensors, second.measured.trace.tensors
    if list(tensors_a) == list(tensors_b):
        aligned = [(name, name) for name in tensors_a]
    else:
        agree = {
            (one, other): compare_arrays(
                Stage.FORWARD, (one, other), x, y, allowed=first.measured.tensors[one] + second.measured.tensors[other]
            ).agrees
            for one, x in tensors_a.items()
            for other, y in tensors_b.items()
            if x.shape == y.shape
        }
        aligned = align(tensors_a, tensors_b, agree)
    return Both(a=first, b=second, matching=matching, aligned=tuple(aligned))


def judge_row(both: Both, row: Row) -> Row:
    """A gradient that differs, with the slope of each side's own loss and which of the two it speaks for."""
    if row.stage != Stage.GRADIENT or not row.worst:
        return row
    pair = next(p for p in both.matching.pairs if p.a.name == row.a)
    flat = int(np.ravel_multi_index(row.worst, pair.a.shape)) if pair.a.shape else 0
    place_b = int(
        np.flatnonzero(np.ravel(pair.to_b(np.arange(np.prod(pair.a.shape)).reshape(pair.a.shape))) == flat)[0]
    )
    verdicts = {}
    slopes = {}
    for letter, side, name, entry, value, error in (
        ("A", both.a, pair.a.name, flat, row.value_a, both.a.measured.gradient[row.a]),
        ("B", both.b, pair.b.name, place_b, row.value_b, both.b.measured.gradient.get(pair.b.name, 0.0)),
    ):
        found = slope_at(side.program, side.point, name, entry, loss=side.measured.trace.loss, noise=side.measured.loss)
        if found is not None and abs(found.value[0] - value) > 0:
            slopes[letter] = float(found.value[0])
        if found is not None and found.error[0] < row.difference / 2:
            slopes[letter] = float(found.value[0])
            verdicts[letter] = bool(abs(found.value[0] - value) <= found.error[0] + error)
    if not verdicts:
        return row
    right = [letter for letter, holds in verdicts.items() if holds]
    words = "both" if len(right) > 1 else right[0] if right else "neither" if len(verdicts) > 1 else ""
    slope = slopes.get(right[0]) if right else next(iter(slopes.values()))
    return replace(row, right=words, slope=float("nan") if slope is None else slope)


def list_matched(matching: Matching) -> tuple[Matched, ...]:
    """The pairs as the report has them."""
    return tuple(Matched(a=p.a.name, b=p.b.name, layout=p.layout.words) for p in matching.pairs)


def find_first_parting(rows: tuple[Row, ...]) -> Row | None:
    """The first row that does not agree; a difference in values says more than a weight on one side only."""
    return next((row for row in rows if not row.agrees), None)


def match_weights_of(matching: Matching, values: Mapping[str, Array], own_b: Mapping[str, Array]) -> dict[str, Any]:
    """The weights of B: those of A in B's layout, and B's own where A has no counterpart."""
    return {**own_b, **{p.b.name: p.to_b(values[p.a.name]) for p in matching.pairs}}
