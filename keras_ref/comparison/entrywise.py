"""Numeric slopes against autodiff, entry by entry. The allowed difference is derived here and nowhere else:

    allowed = truncation + rounding of the numeric slope + rounding of the autodiff value

each measured at the entry itself. An entry is measured with few steps first; where those leave doubt (too wide an
error, sides that differ, a difference that is not allowed) with more, down to the last bits of the weight. Before a
value is called wrong, both errors are measured again in more expensive ways, and points close by are compared too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from keras_ref.comparison.autodiff import SHARP, Autodiff
from keras_ref.comparison.entry_slopes import (
    measure_beside_autodiff,
    measure_with_scheme,
    refine_by_complex_step,
    with_entries,
)
from keras_ref.comparison.neighbourhood import Tally, conclude, opposite_pairs, tally_neighbours
from keras_ref.comparison.oracles import Oracle
from keras_ref.comparison.taylor_remainder import remainder_order
from keras_ref.reports.heat_map import ErrorWindow
from keras_ref.reports.verdict import FAILING, Kind, Reason, Verdict, worst_of
from scratch.arrays import Array
from scratch.differences import UNIT, Scheme
from scratch.one_sided import Slopes

#: pairs of opposite points beside an entry that is looked at more closely
PAIRS = 2


@dataclass(frozen=True)
class Judgements:
    """A kind for each entry (e,), as text, and the reasons that some have, by position."""

    kinds: Array
    reasons: Mapping[int, Reason] = field(default_factory=dict)

    def among(self, *kinds: Kind) -> Array:
        """The positions of the entries of these kinds."""
        return np.flatnonzero(np.isin(self.kinds, kinds))


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
        cls, oracle: Oracle, name: str, *, autodiff: Autodiff, entries: Array, scheme: Scheme | None = None
    ) -> EntryComparison:
        """The entries compared by their own numbers alone. A gradient that is None counts as zeros without error."""
        gradient = autodiff.gradient[name]
        values = rounding = np.zeros(len(entries))
        if gradient is not None:
            values = np.ravel(gradient)[entries].astype(float)
            rounding = np.ravel(autodiff.rounding[name])[entries]
        if scheme is None:
            slopes = measure(oracle, name, entries=entries, values=values, rounding=rounding)
        else:
            slopes = measure_with_scheme(oracle, name, entries=entries, scheme=scheme)
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

    @property
    def between(self) -> Array:
        """Whether autodiff's value lies between the slopes from left and right, errors included."""
        left, right = self.slopes.left, self.slopes.right
        low = np.minimum(left.value - left.error, right.value - right.error) - self.rounding
        high = np.maximum(left.value + left.error, right.value + right.error) + self.rounding
        return np.asarray((low <= self.values) & (self.values <= high))


def compare_entries(
    oracle: Oracle,
    name: str,
    *,
    autodiff: Autodiff,
    entries: Array | None = None,
    seed: int = 0,
    scheme: Scheme | None = None,
) -> Verdict:
    """The verdict on one variable (all its entries, or the given flat ones) against one oracle.

    `scheme` None lets every entry have as many steps as its own doubt asks for, and sees kinks.
    """
    value = oracle.values[name]
    entries = np.arange(value.size) if entries is None else entries
    found = EntryComparison.of(oracle, name, autodiff=autodiff, entries=entries, scheme=scheme)
    if autodiff.gradient[name] is None:
        found = mark_none(found)
    elif scheme is None:
        found = look_beside(measure_errors_again(found, autodiff), autodiff, seed=seed)
    verdict = summarize(found, value.shape, autodiff.how)
    if verdict.verdict is not Kind.MISMATCH:
        return verdict
    worst = int(np.ravel_multi_index(verdict.worst, value.shape)) if value.shape else 0
    return replace(verdict, order=remainder_order(found.oracle, name, entry=worst, autodiff=verdict.autodiff))


def measure(oracle: Oracle, name: str, *, entries: Array, values: Array, rounding: Array) -> Slopes:
    """Slopes of the given flat entries beside autodiff's values: real steps, and complex ones where those are blunt."""
    known = measure_beside_autodiff(
        oracle, name, entries=entries, autodiff=np.where(np.isfinite(values), values, np.inf), rounding=rounding
    )
    return refine_by_complex_step(oracle, name, entries=entries, known=known)


def judge(slopes: Slopes, values: Array, rounding: Array) -> Judgements:
    """Each entry by its own numbers alone; a kink is provisional until points beside it have been compared."""
    estimate = slopes.value
    kinds = np.full(len(values), Kind.UNDECIDED, dtype="<U16")
    with np.errstate(invalid="ignore"):
        match = slopes.smooth & (np.abs(estimate.value - values) <= estimate.error + rounding)
        measured = np.isfinite(estimate.value) & np.isfinite(estimate.error)
    not_finite = ~np.isfinite(values)
    no_slope = ~slopes.smooth & not_finite
    # the later line decides
    for which, kind in (
        (slopes.smooth & measured, Kind.MISMATCH),
        (match, Kind.MATCH),
        (~slopes.smooth & measured, Kind.KINK),
        (not_finite & slopes.smooth & measured, Kind.NAN),
        (slopes.jump | no_slope, Kind.UNDECIDED),
    ):
        kinds[which] = kind
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


def measure_errors_again(found: EntryComparison, autodiff: Autodiff) -> EntryComparison:
    """Before reporting a mismatch: both errors of those entries measured in more expensive ways, and judged again.

    Autodiff's rounding is measured in its second way; rounding that is constant over the neighbourhood is added to the
    oracle's noise, and the slopes are measured with that.
    """
    accused = found.judgements.among(Kind.MISMATCH)
    if not len(accused):
        return found
    rounding, slopes = found.rounding.copy(), found.slopes
    rounding[accused] = np.ravel(autodiff.largest_rounding[found.name])[found.entries[accused]]
    oracle = found.oracle.with_hidden_noise()
    if oracle.noise > found.oracle.noise:
        again = measure(
            oracle,
            found.name,
            entries=found.entries[accused],
            values=found.values[accused],
            rounding=rounding[accused],
        )
        slopes = with_entries(slopes, accused, again)
    return replace(
        found, oracle=oracle, rounding=rounding, slopes=slopes, judgements=judge(slopes, found.values, rounding)
    )


def look_beside(found: EntryComparison, autodiff: Autodiff, *, seed: int) -> EntryComparison:
    """Kinks and mismatches decided by autodiff against differences at generic points close by."""
    special = found.judgements.among(Kind.KINK, Kind.MISMATCH)
    if not len(special):
        return found
    oracle, name = found.oracle, found.name
    at_kink, between = found.judgements.kinds[special] == Kind.KINK, found.between[special]
    points = opposite_pairs(oracle.values, np.random.default_rng(seed))

    def judge_at(_: int, pending: Array) -> Tally:
        point, entries = next(points), found.entries[special[pending]]
        beside = autodiff.at(point)
        gradient = beside.gradient[name]
        values = np.full(len(entries), np.nan) if gradient is None else np.ravel(gradient)[entries].astype(float)
        rounding = np.ravel(beside.rounding[name])[entries]
        around = measure_beside_autodiff(oracle.moved(point), name, entries=entries, autodiff=values, rounding=rounding)
        kinds = judge(around, values, rounding).kinds
        return Tally(kinds == Kind.MATCH, np.isin(kinds, (Kind.MISMATCH, Kind.NAN)))

    tally = tally_neighbours(judge_at, between=at_kink & between, points=2 * PAIRS, paired=True)
    kinds, reasons = found.judgements.kinds.copy(), dict(found.judgements.reasons)
    for k, i in enumerate(map(int, special)):
        concluded = conclude(
            at_kink=bool(at_kink[k]),
            between=bool(between[k]),
            right=int(tally.right[k]),
            wrong=int(tally.wrong[k]),
            has_kinks=oracle.has_kinks,
        )
        kinds[i] = concluded.kind
        if concluded.reason is not None:
            reasons[i] = concluded.reason
    return replace(found, judgements=Judgements(kinds, reasons))


def summarize(found: EntryComparison, shape: tuple[int, ...], how: str) -> Verdict:
    """One verdict on all entries compared: the worst kind, its worst entry, and what would have been seen."""
    kinds, estimate, allowed = found.judgements.kinds, found.slopes.value, found.allowed
    present, counts = np.unique(kinds, return_counts=True)
    kind = worst_of(map(str, present)) if len(present) else Kind.MATCH
    verdict = Verdict(
        found.name,
        found.oracle.name,
        kind,
        len(found.entries),
        int(np.prod(shape)),
        dict(zip(map(str, present), map(int, counts), strict=True)),
        how=how,
    )
    among = found.judgements.among(kind)
    if not len(among):
        return verdict
    with np.errstate(invalid="ignore", divide="ignore"):
        excess = np.nan_to_num(np.abs(estimate.value - found.values) / allowed, nan=np.inf)
        clean = np.isin(kinds, (Kind.MATCH, Kind.DISCONNECTED)) & np.isfinite(allowed)
        # an error E shows itself where |E| - |numeric - true slope| > allowed; numeric is within allowed of the truth
        visible = 2 * allowed[clean]
        relative = visible / np.abs(estimate.value[clean])
    # a slope that is nothing but the rounding of the loss is no size to compare an error with
    base = found.oracle.base
    meaningful = relative[np.abs(estimate.value[clean]) > 1 / SHARP * UNIT * max(abs(base), UNIT)]
    i = int(among[np.argmax(excess[among])])
    verdict = replace(
        verdict,
        worst=tuple(int(k) for k in np.unravel_index(found.entries[i], shape)) if shape else (),
        autodiff=float(found.values[i]),
        numeric=float(estimate.value[i]),
        left=float(found.slopes.left.value[i]),
        right=float(found.slopes.right.value[i]),
        truncation=float(estimate.truncation[i]),
        rounding=float(estimate.rounding[i] + found.rounding[i]),
        visible=float(visible.max()) if visible.size else float("nan"),
        visible_relative=float(meaningful.max()) if meaningful.size else float("nan"),
        cells=ErrorWindow.around(int(found.entries[i]), shape, found.entries, estimate.value, found.values),
        accused=tuple(map(int, found.entries[found.judgements.among(*FAILING)])),
    )
    reason = found.judgements.reasons.get(i)
    return verdict if reason is None else verdict.because(reason)
