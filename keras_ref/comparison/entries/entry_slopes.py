"""Slopes of single entries of a variable, each measured with as many steps as it needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from itertools import count
from typing import Any, TypeVar

import numpy as np

from keras_ref.comparison.sources.autodiff import SHARP, Autodiff
from keras_ref.comparison.sources.oracles import Oracle
from scratch.arrays import Array
from scratch.differences import SAFETY, ComplexStep, Estimate, Scheme, scale_of
from scratch.one_sided import TIERS, WIDER, Slopes, slopes

Record = TypeVar("Record", Slopes, Estimate)
#: weights below this are small beside every step of `widen_steps`: what a step loses by rounding is a unit in its last
#: place
TINY_WEIGHT = 2.0**-20
#: exponents of steps beyond the first ones of every comparison: of a loss that is a polynomial of a weight (that of a
#: last linear layer) they divide the noise by a thousand times as much
LONGER = np.arange(12.0, -8.0, -1.0)


def unknown_slopes(number: int) -> Slopes:
    """Slopes of entries of which nothing is known yet."""
    unknown = Estimate(np.full(number, np.nan), np.full(number, np.inf), np.full(number, np.inf))
    nowhere = np.zeros(number, bool)
    return Slopes(unknown, unknown, value=unknown, smooth=nowhere, jump=nowhere, reach=np.full(number, np.nan))


def with_entries(known: Record, at: Array, found: Record) -> Record:
    """What is known with what was found of the entries `at` (indices) in its place."""
    new = {}
    for field in fields(known):
        old, other = getattr(known, field.name), getattr(found, field.name)
        if isinstance(old, Estimate):
            new[field.name] = with_entries(old, at, other)
        else:
            new[field.name] = old.copy()
            new[field.name][at] = other
    return type(known)(**new)


def take_entries(known: Record, at: Array) -> Record:
    """What is known of the entries `at` (indices) alone."""
    taken: dict[str, Any] = {}
    for field in fields(known):
        value = getattr(known, field.name)
        taken[field.name] = take_entries(value, at) if isinstance(value, Estimate) else value[at]
    return type(known)(**taken)


def measure_by_tiers(
    oracle: Oracle,
    name: str,
    *,
    entries: Array,
    is_certain: Callable[[Slopes], Array],
    tiers: Sequence[Array] = TIERS,
) -> Slopes:
    """Slopes of the given flat entries: with few steps first, and with more for those that are not certain yet.

    `is_certain` says of slopes of all entries (e,) which of them need no more steps. The last tier goes down to the
    last bits of the weight.

    tiers   exponents of the steps of each, rising in number
    """
    at = np.ravel(oracle.values[name])[entries]
    known, pending = unknown_slopes(len(entries)), np.arange(len(entries))
    for exponents in tiers:
        if not len(pending):
            break

        def line(offsets: Array, pending: Array = pending) -> Array:
            return np.asarray(oracle.losses(name, entries[pending], offsets), dtype=float)

        found = slopes(line, at[pending], oracle.noise_along(name), base=oracle.base, exponents=exponents)
        known = found if len(pending) == len(entries) else with_entries(known, pending, found)
        pending = np.flatnonzero(~is_certain(known))
    return known


def measure_beside_autodiff(
    oracle: Oracle,
    name: str,
    *,
    entries: Array,
    values: Array,
    autodiff: Autodiff,
    tiers: Sequence[Array] = TIERS,
) -> Slopes:
    """Slopes of the given flat entries, with more steps while one is too blunt or autodiff's value (e,) is not allowed.

    A few more steps cost less than to measure the rounding of a gradient, which costs less than all steps: it is
    measured where a value still differs after the second tier.
    """
    tier = count(1)

    def is_certain(known: Slopes) -> Array:
        estimate = known.value
        sharp = estimate.truncation <= np.maximum(SHARP * np.abs(estimate.value), estimate.rounding)
        with np.errstate(invalid="ignore"):
            difference = np.abs(estimate.value - values)
        agrees = difference <= estimate.error + autodiff.rounding_of(name, entries)
        differs = (known.smooth & ~agrees & np.isfinite(values)).any()
        if next(tier) > 1 and differs and autodiff.gradient[name] is not None:
            agrees = difference <= estimate.error + np.ravel(autodiff.rounding[name])[entries]
        return np.asarray(known.smooth & sharp & agrees)

    return measure_by_tiers(oracle, name, entries=entries, is_certain=is_certain, tiers=tiers)


def widen_steps(oracle: Oracle, name: str, *, entries: Array, known: Slopes, autodiff: Array) -> Slopes:
    """The slopes with steps of the order of 1 in place of those whose error exceeds both values.

    A step is measured in the size of its weight. Of a weight of 1e-16 that is far too short where the loss does not
    change on that scale: exp(x) does not move at all.
    """
    estimate = known.value
    at = np.ravel(oracle.values[name])[entries]
    with np.errstate(invalid="ignore"):
        blunt = known.smooth & (SAFETY * estimate.error >= np.maximum(np.abs(estimate.value), np.abs(autodiff)))
        blunt &= (scale_of(at) < TINY_WEIGHT) & ((estimate.value != 0) | (autodiff != 0))
    chosen = np.flatnonzero(blunt)
    if not len(chosen):
        return known

    def line(offsets: Array) -> Array:
        return np.asarray(oracle.losses(name, entries[chosen], offsets), dtype=float)

    found = slopes(line, np.zeros(len(chosen)), oracle.noise_along(name), base=oracle.base, exponents=WIDER)
    found = _with_sides_apart(found)
    better = found.smooth & (found.value.error < estimate.error[chosen])
    return with_entries(known, chosen[better], take_entries(found, np.flatnonzero(better)))


def lengthen_steps(oracle: Oracle, name: str, *, entries: Array, known: Slopes) -> Slopes:
    """The slopes with steps of many times the weight in place of those that noise leaves blunter.

    Where the loss bends on the way, or its slope with them is not what it was, they stay what they are.
    """
    at, estimate = np.ravel(oracle.values[name])[entries], known.value

    def line(offsets: Array) -> Array:
        return np.asarray(oracle.losses(name, entries, offsets), dtype=float)

    found = slopes(line, at, oracle.noise_along(name), base=oracle.base, exponents=LONGER)
    found = _with_sides_apart(found)
    with np.errstate(invalid="ignore"):
        fits = np.abs(found.value.value - estimate.value) <= found.value.error + estimate.error
    better = np.flatnonzero(known.smooth & found.smooth & fits & (found.value.error < estimate.error))
    return with_entries(known, better, take_entries(found, better))


def _with_sides_apart(found: Slopes) -> Slopes:
    """Slopes whose error is no less than what their sides differ by.

    Steps so much longer than the weight pass over a bend beside it (that of elu at 0): one side alone may be right.
    """
    with np.errstate(invalid="ignore"):
        apart = np.abs(found.left.value - found.right.value) + np.maximum(found.left.error, found.right.error)
    return replace(found, value=replace(found.value, truncation=np.fmax(found.value.truncation, apart)))


def measure_with_scheme(oracle: Oracle, name: str, *, entries: Array, scheme: Scheme) -> Slopes:
    """Slopes by one given scheme, with the errors that it states. It has no sides: every entry counts as smooth."""
    at = np.ravel(oracle.values[name])[entries]

    def line(offsets: Array) -> Array:
        asked = np.flatnonzero(offsets.any(axis=0))
        if not len(asked):
            return np.asarray(oracle.losses(name, entries, offsets))
        losses = np.full(offsets.shape, oracle.base, offsets.dtype)
        losses[:, asked] = oracle.losses(name, entries[asked], offsets[:, asked])
        return losses

    found = scheme(line, at, oracle.noise_along(name))
    everywhere = np.ones(len(entries), bool)
    return Slopes(found, found, value=found, smooth=everywhere, jump=~everywhere, reach=np.full(len(entries), np.nan))


def refine_by_complex_step(oracle: Oracle, name: str, *, entries: Array, known: Slopes, autodiff: Array) -> Slopes:
    """The slopes with a complex step in place of those that noise leaves blunt, where the oracle takes one.

    Between two kinks a billionth away, say, real steps are too short to be sharp. A complex step stays on the branch of
    the point and cancels nothing; it counts where the real slopes, as blunt as they are, do not contradict it.

    Nor do real slopes show a term of the loss that is smaller than the noise and dies within less than a step: exp(25w)
    beside 1e12. Where autodiff's values (e,) differ from them by no more than such a term may add, a complex step sees
    it, and counts where it agrees with autodiff to its own rounding.
    """
    if not oracle.supports_complex:
        return known
    estimate = known.value
    with np.errstate(invalid="ignore"):
        blunt = (estimate.error > SHARP * np.abs(estimate.value)) & (estimate.value != 0)
        apart = np.abs(estimate.value - autodiff)
    disputed = (apart > estimate.error) & (apart <= estimate.error + slope_within_noise(oracle, name, entries))
    asked = np.flatnonzero(known.smooth & (blunt | disputed))
    if not len(asked):
        return known
    at = np.ravel(oracle.values[name])[entries[asked]]
    found = ComplexStep()(lambda offsets: oracle.losses(name, entries[asked], offsets), at, oracle.noise_along(name))
    agrees = disputed[asked] & (np.abs(found.value - autodiff[asked]) <= found.error)
    # terms that cancel inside the pass take digits of the imaginary part, and no noise of the loss tells how many: of
    # 1 + erf(-4.6) eight of sixteen are left. More than SHARP is not needed
    cautious = replace(found, rounding=np.maximum(found.rounding, SHARP * np.abs(found.value)))
    fits = np.abs(found.value - estimate.value[asked]) <= estimate.error[asked] + cautious.error
    sharper = blunt[asked] & fits & (cautious.error < estimate.error[asked])
    chosen = take_entries(found.where(agrees, cautious), np.flatnonzero(agrees | sharper))
    refined = with_entries(estimate, asked[agrees | sharper], chosen)
    return replace(known, value=refined)


def slope_within_noise(oracle: Oracle, name: str, entries: Array) -> Array:
    """The largest slope (e,) of a term that stays within the noise of the loss and dies within the shortest WIDER step.

    A term of size A that dies within a length L has the slope A / L.
    """
    shortest = np.exp2(WIDER[-1]) * scale_of(np.ravel(oracle.values[name]))[entries]
    return np.asarray(oracle.noise_along(name) / shortest)
