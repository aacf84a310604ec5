"""Slopes of single entries of a variable, each measured with as many steps as it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import TypeVar

import numpy as np

from keras_ref.comparison.autodiff import SHARP
from keras_ref.comparison.oracles import Oracle
from scratch.arrays import Array
from scratch.differences import ComplexStep, Estimate, Scheme
from scratch.one_sided import TIERS, Slopes, slopes

Record = TypeVar("Record", Slopes, Estimate)


def unknown_slopes(count: int) -> Slopes:
    """Slopes of entries of which nothing is known yet."""
    unknown = Estimate(np.full(count, np.nan), np.full(count, np.inf), np.full(count, np.inf))
    nowhere = np.zeros(count, bool)
    return Slopes(unknown, unknown, unknown, nowhere, nowhere, np.full(count, np.nan))


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


def measure_by_tiers(oracle: Oracle, name: str, *, entries: Array, is_certain: Callable[[Slopes], Array]) -> Slopes:
    """Slopes of the given flat entries: with few steps first, and with more for those that are not certain yet.

    `is_certain` says of slopes of all entries (e,) which of them need no more steps. The last tier goes down to the
    last bits of the weight.
    """
    at = np.ravel(oracle.values[name])[entries]
    known, pending = unknown_slopes(len(entries)), np.arange(len(entries))
    for exponents in TIERS:
        if not len(pending):
            break

        def line(offsets: Array, pending: Array = pending) -> Array:
            return np.asarray(oracle.losses(name, entries[pending], offsets), dtype=float)

        found = slopes(line, at[pending], oracle.noise, base=oracle.base, exponents=exponents)
        known = with_entries(known, pending, found)
        pending = np.flatnonzero(~is_certain(known))
    return known


def measure_beside_autodiff(oracle: Oracle, name: str, *, entries: Array, autodiff: Array, rounding: Array) -> Slopes:
    """Slopes of the given flat entries, with more steps for one that is too blunt or does not allow autodiff's value.

    Shapes  entries, autodiff, rounding: (e,)
    """

    def is_certain(known: Slopes) -> Array:
        estimate = known.value
        sharp = estimate.truncation <= np.maximum(SHARP * np.abs(estimate.value), estimate.rounding)
        agrees = np.abs(estimate.value - autodiff) <= estimate.error + rounding
        return np.asarray(known.smooth & sharp & agrees)

    return measure_by_tiers(oracle, name, entries=entries, is_certain=is_certain)


def measure_with_scheme(oracle: Oracle, name: str, *, entries: Array, scheme: Scheme) -> Slopes:
    """Slopes by one given scheme, taken at its word: it knows no sides, so every entry counts as smooth."""
    at = np.ravel(oracle.values[name])[entries]
    found = scheme(lambda offsets: oracle.losses(name, entries, offsets), at, oracle.noise)
    everywhere = np.ones(len(entries), bool)
    return Slopes(found, found, found, everywhere, ~everywhere, np.full(len(entries), np.nan))


def refine_by_complex_step(oracle: Oracle, name: str, *, entries: Array, known: Slopes) -> Slopes:
    """The slopes with a complex step in place of those that noise leaves blunt, where the oracle takes one.

    Between two kinks a billionth away, say, real steps are too short to be sharp. A complex step stays on the branch of
    the point and cancels nothing; it counts where the real slopes, as blunt as they are, do not contradict it.
    """
    estimate = known.value
    with np.errstate(invalid="ignore"):
        blunt = np.flatnonzero(known.smooth & (estimate.error > SHARP * np.abs(estimate.value)) & (estimate.value != 0))
    if not len(blunt) or not oracle.supports_complex:
        return known
    at = np.ravel(oracle.values[name])[entries[blunt]]
    found = ComplexStep()(lambda offsets: oracle.losses(name, entries[blunt], offsets), at, oracle.noise)
    fits = np.abs(found.value - estimate.value[blunt]) <= estimate.error[blunt] + found.error
    better = fits & (found.error < estimate.error[blunt])
    sharper = Estimate(found.value[better], found.truncation[better], found.rounding[better])
    refined = with_entries(estimate, blunt[better], sharper)
    return Slopes(known.left, known.right, refined, known.smooth, known.jump, known.reach)
