"""A match must have decided something: an error as large as the gradient itself must not have passed.

Such a comparison is called blunt. It is repeated with all weights and inputs scaled: the backward pass of a network
that has learned its data is the same code with smaller weights, where the loss can carry its numbers. What stays blunt
is undecided, except where it is sharp beside the largest gradient of the whole loss, or where the gradient is zero to
its own rounding: of a gradient that is zero everywhere (a bias before a normalization) no error is as small.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from keras_ref.comparison.autodiff import Autodiff, Gradient
from keras_ref.comparison.entry_comparison import EntryComparison, Judgements, measure_rounding
from keras_ref.comparison.entry_slopes import take_entries
from keras_ref.reports.verdict import Kind, Reason
from scratch.arrays import Array
from scratch.differences import SAFETY, scale_of

#: by what weights and inputs are scaled, one after another while a comparison stays blunt: down, where what had
#: saturated moves again, and up, away from a kink that lies closer than rounding lets a slope be taken
SCALES = (0.5, 0.125, 2.0**-5, 2.0**-8, 2.0**10, 2.0**20, 2.0**40)


def require_sharp(found: EntryComparison, autodiff: Autodiff) -> EntryComparison:
    """The comparison with its blunt matches decided elsewhere, or undecided."""
    matches = found.judgements.among(Kind.MATCH)
    blunt = matches[_is_blunt(found, _largest_gradient(found, autodiff))[matches]]
    if len(blunt) and _is_zero(autodiff, found.name):
        return found
    for scale in SCALES:
        if not len(blunt):
            return found
        there, gradient = _compare_scaled(found, autodiff, blunt, scale)
        kinds = there.judgements.kinds
        right = (kinds == Kind.MATCH) & ~_is_blunt(there, gradient)
        # a loss that overflows there says nothing; nor does a difference at larger weights, whose steps may be longer
        # than the loss is smooth
        wrong = (kinds == Kind.MISMATCH) & (scale < 1)
        for which, reason in ((right, Reason.DECIDED_BESIDE), (wrong, Reason.WRONG_BESIDE)):
            at = np.flatnonzero(which)
            found = found.with_entries(blunt[at], there.part(at), reason=reason)
        blunt = blunt[~(right | wrong)]
    size = scale_of(np.ravel(found.oracle.values[found.name]))[found.entries]
    blunt = blunt[(_visible(found) * size)[blunt] >= _largest_share(autodiff.gradient, found.oracle.values)]
    kinds = found.judgements.kinds.copy()
    kinds[blunt] = Kind.UNDECIDED
    reasons = {**found.judgements.reasons, **dict.fromkeys(map(int, blunt), Reason.BLUNT)}
    return replace(found, judgements=Judgements(kinds, reasons))


def _is_zero(autodiff: Autodiff, name: str) -> bool:
    """Whether a gradient is zero to its rounding error, and has one."""
    gradient = np.abs(np.asarray(autodiff.gradient[name], float))
    return bool((gradient <= autodiff.rounding[name]).all() and gradient.any())


def _visible(found: EntryComparison) -> Array:
    """The smallest error of each entry that would have been seen (see entrywise.summarize)."""
    return SAFETY * found.allowed


def _largest_gradient(found: EntryComparison, autodiff: Autodiff) -> float:
    """The largest entry of the variable's gradient, by autodiff or by slopes, whichever is larger."""
    own = np.abs(np.asarray(autodiff.gradient[found.name], float))
    estimate = take_entries(found.slopes.value, found.judgements.among(Kind.MATCH))
    slopes = np.abs(estimate.value)[np.abs(estimate.value) > SAFETY * estimate.error]  # others may be zero
    return float(max(np.max(own, initial=0.0, where=np.isfinite(own)), np.max(slopes, initial=0.0)))


def _is_blunt(found: EntryComparison, gradient: float) -> Array:
    """Which entries would have let an error as large as the gradient through. Where there is none, none is."""
    moves = found.allowed > 0
    return np.asarray((_visible(found) >= gradient) & moves & (gradient > 0))


def _largest_share(gradient: Gradient, values: Mapping[str, Array]) -> float:
    """The largest gradient of the loss, each entry in units of its weight's size: 0 where nothing has a gradient."""
    shares = [
        float(np.max(np.abs(g) * scale_of(np.ravel(values[name])).reshape(np.shape(g)), initial=0.0))
        for name, g in gradient.items()
        if g is not None and np.isfinite(g).all()
    ]
    return max(shares, default=0.0)


def _compare_scaled(
    found: EntryComparison, autodiff: Autodiff, at: Array, scale: float
) -> tuple[EntryComparison, float]:
    """The entries `at` (indices) compared with all weights and inputs scaled, and the largest gradient there."""
    point = {name: scale * value for name, value in found.oracle.values.items()}
    beside = autodiff.at(point)
    if beside.gradient[found.name] is None:
        return found.part(at), 0.0
    there = EntryComparison.of(found.oracle.moved(point), found.name, autodiff=beside, entries=found.entries[at])
    return measure_rounding(there, beside), _largest_gradient(there, beside)
