"""The slopes of a loss that the gradients of a training step are compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from keras_ref.comparison.entries.entry_comparison import EntryComparison, measure_rounding
from keras_ref.comparison.entries.entry_slopes import lengthen_steps, measure_by_tiers, take_entries, with_entries
from keras_ref.comparison.entries.entrywise import compare_entries
from keras_ref.comparison.entries.neighbourhood import look_beside
from keras_ref.comparison.entries.proven_departures import DepartingTwin
from keras_ref.comparison.entries.sharpness import DULL, is_coarse, require_sharp
from keras_ref.comparison.sources.autodiff import Autodiff
from keras_ref.comparison.sources.oracles import ForwardOracle, Oracle, Oracles, TwinOracle
from keras_ref.comparison.steps.optimizer_step import NumericGradient
from keras_ref.errors import join_names
from keras_ref.reports.verdict import Kind
from keras_ref.translation.departures import get_departure
from scratch.arrays import Array
from scratch.one_sided import Slopes

#: an entry of the numeric gradient gets more steps while truncation exceeds this share of it
SHARP = 1e-9


#: entries whose slopes are measured at a time: some 2 kB are known of each meanwhile
AT_ONCE = 2**12


def numeric_gradient(oracle: Oracle, name: str) -> NumericGradient:
    """The slopes of a variable's entries, each with as many steps as it needs; some thousands at a time, so that
    memory does not grow with all that is known of an entry.

    At a kink any value between the sides is a convention: the middle, give or take half their distance.
    """

    def is_certain(known: Slopes) -> Array:
        estimate = known.value
        sharp = estimate.truncation <= np.maximum(SHARP * np.abs(estimate.value), estimate.rounding)
        return np.asarray(known.smooth & sharp)

    value = oracle.values[name]
    slope, error = np.zeros(value.size), np.zeros(value.size)
    for first in range(0, value.size, AT_ONCE):
        entries = np.arange(first, min(first + AT_ONCE, value.size))
        found = measure_by_tiers(oracle, name, entries=entries, is_certain=is_certain)
        found = _lengthen_dull(found, oracle, name, entries)
        left, right = found.left, found.right
        low, high = np.minimum(left.value, right.value), np.maximum(left.value, right.value)
        slope[entries] = np.where(found.smooth, found.value.value, (low + high) / 2)
        error[entries] = np.where(found.smooth, found.value.error, (high - low) / 2 + left.error + right.error)
    return NumericGradient(slope.reshape(value.shape), error.reshape(value.shape))


def _lengthen_dull(found: Slopes, oracle: Oracle, name: str, entries: Array) -> Slopes:
    """The slopes with longer steps where noise leaves an entry off by DULL of the largest, and those are sharper.

    Steps are shares of a weight: of a bias of 0.001 they are too short for a loss in float32; in float64 they are not.
    A loss that does not move at all (an unused row of an embedding) does not with longer ones.
    """
    if not is_coarse(oracle):
        return found
    largest = np.max(np.abs(found.value.value), initial=0.0, where=found.smooth)
    dull = np.flatnonzero(found.smooth & (found.value.rounding > DULL * largest) & (found.value.value != 0))
    if not len(dull):
        return found
    longer = lengthen_steps(oracle, name, entries=entries[dull], known=take_entries(found, dull))
    return with_entries(found, dull, longer)


def allow_kinks(found: NumericGradient, oracle: Oracle, name: str, *, autodiff: Autodiff, seed: int) -> NumericGradient:
    """The slopes, off by as much as autodiff is from them where several kinks meet and autodiff is right beside.

    There even a value outside of the sides is a convention: of the zero biases of a new network, say. So they are where
    a loss in low precision does not decide: its steps are long, and may pass over a bend that its noise hides.
    """
    outside = _find_outside(found, autodiff, name)
    if not len(outside):
        return found
    compared = measure_rounding(EntryComparison.of(oracle, name, autodiff=autodiff, entries=outside), autodiff)
    judged = look_beside(compared, autodiff, seed=seed)
    allowed, unseen = judged.judgements.among(Kind.KINK), 0
    if is_coarse(oracle):
        judged = require_sharp(judged, autodiff)
        undecided = judged.judgements.among(Kind.UNDECIDED)
        allowed, unseen = np.flatnonzero(judged.judgements.kinds != Kind.MISMATCH), len(undecided)
    error, allowed = found.error.ravel().copy(), outside[allowed]
    error[allowed] += np.abs(np.ravel(np.asarray(autodiff.gradient[name], float)) - found.slope.ravel())[allowed]
    return replace(found, error=error.reshape(found.error.shape), unseen=unseen)


def note_unseen(slopes: Mapping[str, NumericGradient]) -> tuple[str, ...]:
    """A note on what the noise of a loss in low precision left undecided."""
    found = [f"{one.unseen} of {one.slope.size} entries of {name}" for name, one in slopes.items() if one.unseen]
    note = (
        f"The noise of the loss hides whether the gradient is right at {join_names(found)}: their updates were "
        "compared with the optimizer's law on autodiff's gradient."
    )
    return (note,) if found else ()


def measure_slopes(
    gathered: Oracles, names: Sequence[str], *, autodiff: Autodiff, seed: int
) -> tuple[dict[str, NumericGradient], tuple[str, ...]]:
    """The slopes by these names of the last oracle, and notes.

    Where Keras is known to depart from the definition that this one follows, and that is shown to be the difference,
    they are the slopes of Keras's own forward pass: a step minimises the loss that Keras computes.
    """
    forward, oracle = gathered.oracles[0], gathered.oracles[-1]

    def measured(by: Oracle, name: str) -> NumericGradient:
        return allow_kinks(numeric_gradient(by, name), by, name, autodiff=autodiff, seed=seed)

    slopes = {name: measured(oracle, name) for name in names}
    if not isinstance(oracle, TwinOracle) or not isinstance(forward, ForwardOracle):
        return slopes, note_unseen(slopes)
    departing = DepartingTwin(twin=oracle, autodiff=autodiff, forward=lambda: forward, seed=seed)
    departed: dict[str, list[str]] = {}
    for name in names:
        if not len(_find_outside(slopes[name], autodiff, name)) or not departing.entries:
            continue
        verdict = compare_entries(oracle, name, autodiff=autodiff, seed=seed)
        proof = departing.prove(verdict) if verdict.accused else None
        if proof is not None:
            slopes[name] = measured(forward, name)
            for known in proof.ids:
                departed.setdefault(known, []).append(name)
    return slopes, note_unseen(slopes) + tuple(
        f"Keras departs from the definition here ({known}): {get_departure(known).reason} The steps of "
        f"{join_names(where)} are compared with slopes of Keras's own forward pass."
        for known, where in departed.items()
    )


def _find_outside(found: NumericGradient, autodiff: Autodiff, name: str) -> Array:
    """The flat entries at which autodiff's value is none that the slopes allow."""
    gradient = np.ravel(np.asarray(autodiff.gradient[name], float))
    allowed = found.error.ravel() + np.ravel(autodiff.rounding[name])
    return np.flatnonzero(~(np.abs(gradient - found.slope.ravel()) <= allowed))
