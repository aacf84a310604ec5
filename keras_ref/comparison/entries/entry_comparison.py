"""Entries of one variable compared by their own numbers. The allowed difference is derived here and nowhere else:

    allowed = truncation + rounding of the numeric slope + rounding of the autodiff value

each measured at the entry itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from keras_ref.comparison.entries.entry_slopes import (
    measure_beside_autodiff,
    measure_with_scheme,
    refine_by_complex_step,
    take_entries,
    widen_steps,
    with_entries,
)
from keras_ref.comparison.sources.autodiff import Autodiff
from keras_ref.comparison.sources.oracles import Oracle
from keras_ref.reports.verdict import Kind, Reason
from scratch.arrays import Array
from scratch.differences import Scheme
from scratch.one_sided import TIERS, Slopes


@dataclass(frozen=True)
class Judgements:
    """A kind for each entry (e,), as text, and the reasons that some have, by position."""

    kinds: Array
    reasons: Mapping[int, Reason] = field(default_factory=dict)

    def among(self, *kinds: Kind, without: Reason | None = None) -> Array:
        """The positions of the entries of these kinds; those left out that have a reason."""
        chosen = np.logical_or.reduce([self.kinds == kind.value for kind in kinds])  # NumPy is slow with enumerations
        if without is not None:
            chosen[self.because(without)] = False
        return np.flatnonzero(chosen)

    def because(self, reason: Reason) -> Array:
        """The positions of the entries that have this reason."""
        return np.array(sorted(i for i, one in self.reasons.items() if one is reason), dtype=int)


@dataclass(frozen=True, kw_only=True)
class EntryComparison:
    """Some entries of one variable at one point: measured slopes beside autodiff's values, and what they amount to.

    Shapes  entries, values, rounding: (e,), flat entries, autodiff's values there and their rounding error
    """

    oracle: Oracle
    name: str
    entries: Array
    values: Array
    rounding: Array
    slopes: Slopes
    judgements: Judgements

    @classmethod
    def of(
        cls,
        oracle: Oracle,
        name: str,
        *,
        autodiff: Autodiff,
        entries: Array,
        scheme: Scheme | None = None,
        tiers: Sequence[Array] = TIERS,
    ) -> EntryComparison:
        """The entries compared by their own numbers alone. A gradient that is None counts as zeros without error."""
        gradient = autodiff.gradient[name]
        values = np.zeros(len(entries)) if gradient is None else np.ravel(gradient)[entries].astype(float)
        if scheme is None:
            slopes = measure(oracle, name, entries=entries, values=values, autodiff=autodiff, tiers=tiers)
        else:
            slopes = measure_with_scheme(oracle, name, entries=entries, scheme=scheme)
        rounding = autodiff.rounding_of(name, entries)
        return cls(
            oracle=oracle,
            name=name,
            entries=entries,
            values=values,
            rounding=rounding,
            slopes=slopes,
            judgements=judge(slopes, values, rounding),
        )

    @property
    def allowed(self) -> Array:
        """The allowed difference of each entry."""
        return self.slopes.value.error + self.rounding

    def with_entries(self, at: Array, other: EntryComparison, *, reason: Reason | None) -> EntryComparison:
        """The same with what was found of the entries `at` (indices) in its place, and the reason for it; None for
        their own.
        """
        kinds, values, rounding = (a.copy() for a in (self.judgements.kinds, self.values, self.rounding))
        kinds[at], values[at], rounding[at] = other.judgements.kinds, other.values, other.rounding
        reasons = {k: r for k, r in self.judgements.reasons.items() if k not in set(map(int, at))}
        own = {int(at[k]): r for k, r in other.judgements.reasons.items()}
        reasons |= own if reason is None else dict.fromkeys(map(int, at), reason)
        return replace(
            self,
            values=values,
            rounding=rounding,
            slopes=with_entries(self.slopes, at, other.slopes),
            judgements=Judgements(kinds, reasons),
        )

    def part(self, at: Array) -> EntryComparison:
        """The same of the entries `at` (indices) alone; the reasons stay behind."""
        return replace(
            self,
            entries=self.entries[at],
            values=self.values[at],
            rounding=self.rounding[at],
            slopes=take_entries(self.slopes, at),
            judgements=Judgements(self.judgements.kinds[at]),
        )

    @property
    def excused(self) -> Array:
        """What a kink has to explain of each entry: how far autodiff is from the nearer side, or how far the sides are
        from each other where it lies between them.
        """
        left, right = self.slopes.left.value, self.slopes.right.value
        outside = np.minimum(np.abs(self.values - left), np.abs(self.values - right))
        return np.asarray(np.where(self.between, np.abs(right - left), outside))

    @property
    def between(self) -> Array:
        """Whether autodiff's value lies between the slopes from left and right, errors included."""
        return lie_between(self.slopes, self.values, self.rounding)


def lie_between(slopes: Slopes, values: Array, rounding: Array) -> Array:
    """Whether values (e,) lie between the slopes from left and right, errors included.

    Sides agree within their errors also where the loss bends by less, or closer to the point than noise lets be seen. A
    two-sided slope, whose own error is smaller than theirs, is then the mean of both, and autodiff has one of them: a
    mismatch with it that lies between the sides may be such a bend.
    """
    left, right = slopes.left, slopes.right
    low = np.minimum(left.value - left.error, right.value - right.error) - rounding
    high = np.maximum(left.value + left.error, right.value + right.error) + rounding
    return np.asarray((low <= values) & (values <= high))


def measure(
    oracle: Oracle,
    name: str,
    *,
    entries: Array,
    values: Array,
    autodiff: Autodiff,
    tiers: Sequence[Array] = TIERS,
) -> Slopes:
    """Slopes of the given flat entries beside autodiff's values: real steps, or complex ones where those are blunt."""
    finite = np.where(np.isfinite(values), values, np.inf)
    known = measure_beside_autodiff(oracle, name, entries=entries, values=finite, autodiff=autodiff, tiers=tiers)
    known = widen_steps(oracle, name, entries=entries, known=known, autodiff=finite)
    return refine_by_complex_step(oracle, name, entries=entries, known=known, autodiff=finite)


def judge(slopes: Slopes, values: Array, rounding: Array) -> Judgements:
    """Each entry by its own numbers alone; a kink is provisional until points beside it have been compared."""
    estimate = slopes.value
    kinds = np.full(len(values), Kind.UNDECIDED.value, dtype="<U16")
    with np.errstate(invalid="ignore"):
        match = slopes.smooth & (np.abs(estimate.value - values) <= estimate.error + rounding)
        measured = np.isfinite(estimate.value) & np.isfinite(estimate.error)
    not_finite = ~np.isfinite(values)
    no_slope = ~(slopes.smooth & measured) & not_finite
    # the later line decides
    for which, kind in (
        (slopes.smooth & measured, Kind.MISMATCH),
        (match, Kind.MATCH),
        (~slopes.smooth & measured, Kind.KINK),
        (slopes.jump, Kind.UNDECIDED),
        (not_finite, Kind.NAN),
    ):
        kinds[which] = kind.value
    reasons: dict[int, Reason] = {}
    for which, reason in (
        (slopes.jump, Reason.JUMP),
        (~measured & ~slopes.jump, Reason.NOT_FINITE_BESIDE),
        (no_slope, Reason.NO_SLOPE),
    ):
        reasons |= dict.fromkeys(map(int, np.flatnonzero(which)), reason)
    return Judgements(kinds, reasons)


def mark_none(found: EntryComparison) -> EntryComparison:
    """Where autodiff gives None, an entry without slope is disconnected; one with a slope is wrong, for that reason."""
    kinds = np.where(found.judgements.kinds == Kind.MATCH, Kind.DISCONNECTED, found.judgements.kinds)
    wrong = map(int, found.judgements.among(Kind.MISMATCH))
    reasons = {**found.judgements.reasons, **dict.fromkeys(wrong, Reason.NONE_WHERE_LOSS_MOVES)}
    return replace(found, judgements=Judgements(kinds, reasons))


def measure_rounding(found: EntryComparison, autodiff: Autodiff) -> EntryComparison:
    """Before reporting a kink or a mismatch: the entries judged with the measured rounding of autodiff's values."""
    if not len(found.judgements.among(Kind.KINK, Kind.MISMATCH)):
        return found
    rounding = np.ravel(autodiff.rounding[found.name])[found.entries]
    return replace(found, rounding=rounding, judgements=judge(found.slopes, found.values, rounding))
