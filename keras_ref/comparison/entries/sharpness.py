"""A match must have decided something: an error as large as the gradient itself must not have passed.

Such a comparison is called blunt. It is repeated with all weights and inputs scaled: the backward pass of a network
that has learned its data is the same code with smaller weights, where the loss can carry its numbers. So is one that
would have let an error of DULL of the gradient pass, where that makes it sharper. What stays blunt is undecided, except
where it is sharp beside the largest gradient of the whole loss, or where the gradient is zero to its own rounding at
all smaller scales as well. Of a gradient that is zero everywhere (a bias before a normalization) no error is as small.

Before that its steps are made longer: a loss that is a polynomial of a weight can be seen from as far as one likes.

What is said to be a small entry of a gradient that nothing is seen of need not be one. At another scale it has to be
seen for itself, as the largest is, or be small at the smallest scale as well.

A difference that noise may hide is decided elsewhere too: it is no mismatch where autodiff is right at another scale,
by less than it.

At another scale a subject that computes in float32 may be steeper than its steps are short: weights of 2^-8 come near
the epsilon of a normalization. What differs there alone accuses only where an error of its size would have been seen,
and of a loss that is as coarse as float32 only where no term that noise hides may explain it.

A twin of whose definition Keras is known to depart accuses nothing at another scale: a difference there may be that
departure, which is proven at the point itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from keras_ref.comparison.entries.entry_comparison import EntryComparison, Judgements, judge, measure_rounding
from keras_ref.comparison.entries.entry_slopes import lengthen_steps, slope_within_noise, take_entries
from keras_ref.comparison.entries.neighbourhood import look_beside
from keras_ref.comparison.sources.autodiff import Autodiff, Gradient
from keras_ref.comparison.sources.noise import SUSPICIOUS
from keras_ref.comparison.sources.oracles import Oracle
from keras_ref.reports.verdict import Kind, Reason
from keras_ref.translation.departures import find_departures
from scratch.arrays import Array
from scratch.differences import SAFETY, UNIT, scale_of
from scratch.one_sided import TIERS

#: by what weights and inputs are scaled, one after another while a comparison stays blunt. Down, what had saturated
#: moves again; up, they are away from a kink that lies closer than rounding lets a slope be taken
SCALES = (0.5, 0.125, 2.0**-5, 2.0**-8, 2.0**10, 2.0**20, 2.0**40)
#: a comparison is repeated while it would have let an error of this share of the gradient pass: the smallest planted
DULL = 1e-6
#: where: what has learned its data to a residual of its last digits has a residual as large as itself there. A gradient
#: of 0 is looked at again there too
SCALES_BELOW = (0.125, 2.0**-8)
#: where all weights and inputs are smaller than this, steps, which are shares of them, are too short for the loss to
#: carry the digits: they are compared again where the largest is 1 to 2
SMALL = 2.0**-6
#: where a difference that noise may hide is looked at again; of a deep network that is homogeneous in its weights
#: nothing is left at smaller ones
DISPUTED_SCALES = (0.5, 0.125, 2.0**-5, 2.0**-8, 2.0, 8.0)


def require_sharp(found: EntryComparison, autodiff: Autodiff) -> EntryComparison:
    """The comparison with its blunt matches decided elsewhere, or undecided."""
    if not np.any(autodiff.gradient[found.name]):
        return _find_missing(found, autodiff)
    gradient = _find_largest_gradient(found, autodiff)
    if not gradient > 0:  # no entry is finite, which is judged by itself
        return found
    own = np.abs(found.values) / gradient
    found = _with_longer_steps(found, autodiff, gradient, accusing=np.ones(len(own), bool))
    found = _settle_disputed(found, autodiff, own=own, gradient=gradient)
    matches = found.judgements.among(Kind.MATCH, without=Reason.DECIDED_BESIDE)
    passed = np.zeros(len(found.entries))
    passed[matches] = _share_passed(found, gradient)[matches]
    excused = np.intersect1d(matches, _find_excused(found, gradient))
    passed[excused] = np.maximum(passed[excused], 1.0)
    if (passed < DULL).all() or (_is_small(found) and autodiff.is_zero(found.name) and _is_zero_below(found, autodiff)):
        return found
    known = _Sharpened(found, passed, own)
    if (enlarged := _scale_of_small(found)) > 1:
        known = known.compare_again(autodiff, np.flatnonzero(known.passed >= DULL), enlarged)
    for scale in SCALES:
        known = known.compare_again(autodiff, np.flatnonzero(known.passed >= 1), scale)
    for scale in SCALES_BELOW:
        dull = np.flatnonzero((known.passed >= DULL) & (known.passed < 1))
        if not len(dull):
            break
        # where the loss is as noisy everywhere, all of them would take their time for nothing: one tells
        dullest = dull[[np.argmax(known.passed[dull])]]
        known = known.compare_again(autodiff, dullest, scale)
        if known.passed[dullest[0]] < DULL:
            known = known.compare_again(autodiff, dull, scale)
    found, blunt = known.found, np.flatnonzero(known.passed >= 1)
    size = scale_of(np.ravel(found.oracle.values[found.name]))[found.entries]
    share = _find_largest_share(autodiff.gradient, found.oracle.values)
    is_large = _compute_visible(found) * size >= share
    is_large[np.intersect1d(excused, _find_excused(found, gradient))] = True
    return _leave_undecided(found, blunt[is_large[blunt]])


def _find_excused(found: EntryComparison, gradient: float) -> Array:
    """The entries that differ by as much as they are, which only the rounding of autodiff allows: nothing is decided.

    Rounding does not see whether a backward pass jumps at the point. Entries that are nothing beside the others, as
    large as rounding, are no such. Nor are slopes of less than the noise of the loss, of which a complex step says
    nothing: those of a softmax's scores, whose values are all the same.
    """
    estimate = found.slopes.value
    size = scale_of(np.ravel(found.oracle.values[found.name]))[found.entries]
    with np.errstate(invalid="ignore"):
        difference = np.abs(estimate.value - found.values)
        as_large = SAFETY * difference >= np.abs(estimate.value)
        is_seen = (difference > estimate.error) & (difference * size > found.oracle.noise)
        return np.flatnonzero(is_seen & as_large & (difference >= DULL * gradient))


def _leave_undecided(found: EntryComparison, at: Array) -> EntryComparison:
    """The comparison with the entries `at` (indices) undecided, since the loss does not carry their digits."""
    kinds = found.judgements.kinds.copy()
    kinds[at] = Kind.UNDECIDED
    reasons = {**found.judgements.reasons, **dict.fromkeys(map(int, at), Reason.BLUNT)}
    return replace(found, judgements=Judgements(kinds, reasons))


@dataclass(frozen=True)
class _Sharpened:
    """A comparison with some of its entries decided at other points.

    Shapes  passed: (e,) the largest error of each entry that would have passed, as a share of the largest gradient
            own: (e,) each entry's gradient, as a share of the largest
    """

    found: EntryComparison
    passed: Array
    own: Array

    def compare_again(self, autodiff: Autodiff, at: Array, scale: float) -> _Sharpened:
        """The same with the entries `at` (indices) decided with weights and inputs scaled, where that is sharper."""
        if not len(at):
            return self
        there, gradient = _compare_scaled(self.found, autodiff, at, scale)
        kinds = there.judgements.kinds
        with np.errstate(divide="ignore", invalid="ignore"):
            # an entry that is small beside the others there, and was not here, has to be seen for itself
            own = _compute_visible(there) / np.abs(there.values) * self._own_at(at, scale)
        passed = np.fmax(_share_passed(there, gradient), own)
        right = (kinds == Kind.MATCH) & (passed < np.minimum(self.passed[at], 1))
        right[_find_excused(there, gradient)] = False
        # a loss that overflows there says nothing; nor does a difference at larger weights, whose steps may be longer
        # than the loss is smooth, unless there was one here
        enlarged = np.full(len(at), scale == _scale_of_small(self.found)) & there.slopes.smooth
        trusted = (scale < 1) | enlarged
        differed = self.found.judgements.kinds[at] == Kind.MISMATCH
        wrong = (kinds == Kind.MISMATCH) & (trusted | differed)
        # what differs at two scales needs no more than to differ; what does at another scale alone has to be seen there
        alone = _may_be_hidden(there, safety=SAFETY, terms=is_coarse(there.oracle))
        hidden = np.where(differed, there.between, alone)
        wrong &= ~hidden & (not _departs(self.found))
        found, new = self.found, self.passed.copy()
        for which, reason in ((right, Reason.DECIDED_BESIDE), (wrong, Reason.WRONG_BESIDE)):
            chosen = np.flatnonzero(which)
            found = found.with_entries(at[chosen], there.part(chosen), reason=reason)
        new[at] = np.where(wrong, 0, np.where(right, passed, new[at]))
        return replace(self, found=found, passed=new)

    def _own_at(self, at: Array, scale: float) -> Array:
        """The gradients of the entries `at` as shares of the largest: as large as that where nothing is seen of them.

        Autodiff alone says that they are small, which may be what is wrong. At the smallest scale its value is
        accepted: there an entry that is small everywhere (of a unit that is off) has been compared at all scales.
        """
        return np.where((self.passed[at] >= 1) & (scale != min(SCALES)), 1.0, self.own[at])


def _with_longer_steps(
    found: EntryComparison, autodiff: Autodiff, gradient: float, *, accusing: Array
) -> EntryComparison:
    """The comparison with the dull matches of smooth entries compared again with longer steps, where those are sharper.

    What then differs is a mismatch, which has to be confirmed at another scale, where the gradient was seen with the
    shorter steps: of one that was not, something that dies within less than a longer step may be all. `accusing` (e,)
    says of which entries it may be one.
    """
    matches = found.judgements.among(Kind.MATCH, without=Reason.DECIDED_BESIDE)
    passed = _share_passed(found, gradient)
    dull = matches[(passed[matches] >= DULL) & np.isfinite(passed[matches])]
    if not len(dull):
        return found
    # where the loss bends they are no better, mostly for all entries: one tells
    dullest = dull[[np.argmax(passed[dull])]]
    there = _lengthen(found.part(dullest), autodiff)
    if not there.allowed[0] < found.allowed[dullest[0]] / SAFETY:
        return found
    there = _lengthen(found.part(dull), autodiff)
    sharper = there.judgements.kinds == Kind.MATCH
    wrong = (there.judgements.kinds == Kind.MISMATCH) & ~there.between & (passed[dull] < 1)
    wrong &= accusing[dull] & (not _departs(found))
    wrong &= np.abs(there.slopes.value.value - there.values) > SAFETY * there.allowed
    chosen = np.flatnonzero(sharper | wrong)
    return found.with_entries(dull[chosen], there.part(chosen), reason=None)


def _lengthen(found: EntryComparison, autodiff: Autodiff) -> EntryComparison:
    """The same entries with longer steps, where those are sharper, and the measured rounding of autodiff's values."""
    slopes = lengthen_steps(found.oracle, found.name, entries=found.entries, known=found.slopes)
    known = replace(found, slopes=slopes, judgements=judge(slopes, found.values, found.rounding))
    return measure_rounding(known, autodiff)


def _settle_disputed(found: EntryComparison, autodiff: Autodiff, *, own: Array, gradient: float) -> EntryComparison:
    """The comparison with its mismatches decided elsewhere, or undecided, that a term within the noise may explain.

    Steps do not see the slope of a term of the loss that is smaller than the noise and dies within less than a step:
    exp(25w) beside 1e12. At a smaller scale it is another term. An entry that differs there too stays a mismatch.
    """
    mismatches = found.judgements.among(Kind.MISMATCH)
    mismatches = mismatches[found.slopes.smooth[mismatches]]
    disputed = mismatches[_may_be_hidden(found)[mismatches]]
    if not len(disputed):
        return found
    passed = np.zeros(len(found.entries))
    passed[mismatches] = np.abs(found.slopes.value.value - found.values)[mismatches] / gradient
    known = _Sharpened(found, passed, own)
    if _departs(found):  # which may be the difference, as large as it is
        return found
    for scale in DISPUTED_SCALES:
        known = known.compare_again(autodiff, disputed, scale)
        disputed = np.setdiff1d(disputed, known.found.judgements.because(Reason.WRONG_BESIDE))
        disputed = np.intersect1d(disputed, known.found.judgements.among(Kind.MISMATCH))
    return _leave_undecided(known.found, disputed)


def _may_be_hidden(found: EntryComparison, *, safety: float = 1.0, terms: bool = True) -> Array:
    """Whether the difference of each entry (e,) may be that of a bend, or (`terms`) a term, that noise hides from its
    steps.

    `safety` is how many times as large as what is allowed, and as what noise hides, it may be for that.
    """
    with np.errstate(invalid="ignore"):
        difference = np.abs(found.slopes.value.value - found.values)
    unseen = slope_within_noise(found.oracle, found.name, found.entries) if terms else 0.0
    return np.asarray(found.between | (difference <= safety * (found.allowed + unseen)))


def is_coarse(oracle: Oracle) -> bool:
    """Whether more than the rounding of float64 is in the loss: a part of it that is computed in float32."""
    return oracle.noise > SUSPICIOUS * abs(oracle.base)


def _find_missing(found: EntryComparison, autodiff: Autodiff) -> EntryComparison:
    """The comparison of a gradient that is 0, which may be missing: the loss moves where what had saturated moves."""
    if _departs(found):
        return found
    for scale in SCALES_BELOW:
        matches = found.judgements.among(Kind.MATCH)
        there, _ = _compare_scaled(found, autodiff, matches, scale)
        wrong = there.judgements.among(Kind.MISMATCH)
        found = found.with_entries(matches[wrong], there.part(wrong), reason=Reason.WRONG_BESIDE)
    excused = _find_excused(found, _find_largest_gradient(found, autodiff))
    return _leave_undecided(found, np.intersect1d(found.judgements.among(Kind.MATCH), excused))


def _departs(found: EntryComparison) -> bool:
    """Whether Keras is known to depart from a definition that the oracle follows."""
    return bool(find_departures(found.oracle.specifications))


def _is_small(found: EntryComparison) -> bool:
    """Whether no error that would have passed moves the loss by as much as it is, where a weight moves by its size.

    A gradient as large as a rounding error that is larger than the loss need not be zero.
    """
    size = scale_of(np.ravel(found.oracle.values[found.name]))[found.entries]
    return bool((_compute_visible(found) * size <= max(abs(found.oracle.base), found.oracle.noise / UNIT)).all())


def _is_zero_below(found: EntryComparison, autodiff: Autodiff) -> bool:
    """Whether a gradient is zero to its rounding error at every smaller scale."""
    beside = (autodiff.at(_scale_point(found, scale)) for scale in SCALES if scale < 1)
    return all(there.gradient[found.name] is None or there.is_zero(found.name) for there in beside)


def _scale_of_small(found: EntryComparison) -> float:
    """What weights and inputs that are all small are scaled by, so that the largest is 1 to 2; 1 where they are not."""
    largest = max((float(np.max(np.abs(v), initial=0.0)) for v in found.oracle.values.values()), default=0.0)
    return float(2.0 ** -np.floor(np.log2(largest))) if 0 < largest < SMALL else 1.0


def _compute_visible(found: EntryComparison) -> Array:
    """The smallest error of each entry that would have been seen (see entrywise.summarize)."""
    return SAFETY * found.allowed


def _find_largest_gradient(found: EntryComparison, autodiff: Autodiff) -> float:
    """The largest entry of the variable's gradient, by autodiff or by slopes, whichever is larger."""
    own = np.abs(np.asarray(autodiff.gradient[found.name], float))
    estimate = take_entries(found.slopes.value, found.judgements.among(Kind.MATCH))
    slopes = np.abs(estimate.value)[np.abs(estimate.value) > SAFETY * estimate.error]  # others may be zero
    return float(max(np.max(own, initial=0.0, where=np.isfinite(own)), np.max(slopes, initial=0.0)))


def _share_passed(found: EntryComparison, gradient: float) -> Array:
    """The largest error of each entry that would have passed, as a share of the gradient. Where there is none, 0."""
    return _compute_visible(found) / gradient if gradient > 0 else np.zeros(len(found.entries))


def _find_largest_share(gradient: Gradient, values: Mapping[str, Array]) -> float:
    """The largest gradient of the loss, each entry in units of its weight's size: 0 where nothing has a gradient."""
    shares = [
        float(np.max(np.abs(g) * scale_of(np.ravel(values[name])).reshape(np.shape(g)), initial=0.0))
        for name, g in gradient.items()
        if g is not None and np.isfinite(g).all()
    ]
    return max(shares, default=0.0)


def _scale_point(found: EntryComparison, scale: float) -> dict[str, Array]:
    """All weights and inputs scaled."""
    return {name: scale * value for name, value in found.oracle.values.items()}


def _compare_scaled(
    found: EntryComparison, autodiff: Autodiff, at: Array, scale: float
) -> tuple[EntryComparison, float]:
    """The entries `at` (indices) compared with all weights and inputs scaled, and the largest gradient there."""
    point = _scale_point(found, scale)
    beside = autodiff.at(point)
    if beside.gradient[found.name] is None:
        return found.part(at), 0.0
    # the steps of a variable of zeros are no share of it: they are scaled as the others are
    shift = 0.0 if np.any(point[found.name]) else np.log2(scale)
    there = EntryComparison.of(
        found.oracle.moved(point),
        found.name,
        autodiff=beside,
        entries=found.entries[at],
        tiers=[exponents + shift for exponents in TIERS],
    )
    there = look_beside(measure_rounding(there, beside), beside, seed=0)
    gradient = _find_largest_gradient(there, beside)
    differed = found.judgements.kinds[at] == Kind.MISMATCH
    return _with_longer_steps(there, beside, gradient, accusing=differed), gradient
