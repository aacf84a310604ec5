"""How far rounding may have moved a loss: one model of floating-point arithmetic, and what is derived from it.

The model. An operation on floats errs by up to half a unit in the last place of its result, u/2 relative to it at most
(u = UNIT, of the dtype that it computes in). Library functions (exp, tanh, …) err by more, and a sum, product of
matrices or other accumulation by the rounding of each term as well. Inputs, constants, what only moves or chooses
numbers, and decisions (comparisons, indices) are exact. Rounding is on the scale of the largest terms that cancel, not
of the loss: exp(x) - 1 is off by a unit of 1 however near x is to 0.

Measured. Monte Carlo arithmetic (Parker 1997): the loss is computed again ROLLS times, at the very point where its
noise is asked for. Every operation is off by one of OFF units in the last place, up or down at random. Nothing is
differenced between points, so that neither steepness nor a kink is taken for rounding. Every operation is off by at
least one unit, so that none reads 0 by chance, and terms that only move along with the weights (a saturated gate) are
off too. In half of the rolls the entries of an array are off independently of each other, in the other half all in one
direction. Equal entries (padded rows) round alike, and their errors add up, where independent ones add in squares.

Derived. Let the loss depend on the error δ of an operation as c·δ. One operation: |c·δ| ≤ c·u/2, and each roll moves it
by c·u at least, twice what it has to cover. Many: their sum is as good as normal, with deviation √(Σc²)·u/√12 = 0.29·s
of the truth and √(Σc²)·u·√(mean OFF²) = 1.84·s of a roll. That the largest of n rolls falls short has a probability of
E|z|ⁿ·(0.8·0.29/1.84)ⁿ, z standard normal and 0.8 = √(2/π) the density of |z| at 0. That is 7e-6 for the eight of one
half, where the other half says nothing, and 8e-9 for sixteen. In the mean the largest is 13 times the deviation of the
truth. OFF has four sizes, since of two errors that are equal every second roll of ±1 and ±1 would cancel. Not less than
one unit of the loss itself, its own last rounding, and the smallest normal number, below which arithmetic may put 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise

import numpy as np

from scratch.arrays import Array
from scratch.differences import UNIT
from scratch.random_offset import draw_offsets

Directional = Callable[[Mapping[str, Array], Array], Array]

#: how often a loss is computed again, half of them with entries off in common
ROLLS = 16
#: by how many units in the last place an operation is off, up or down
OFF = (1.0, 1.5, 2.0, 2.5)
TINY = float(np.finfo(np.float64).tiny)


def noise_of(deviations: Iterable[float], base: float) -> float:
    """The absolute error of a loss `base` from how far each roll is from it; nan where most rolls are not
    finite."""
    found = np.abs(np.fromiter(deviations, float))
    finite = found[np.isfinite(found)]
    if 2 * len(finite) < len(found) or not math.isfinite(base):
        return math.nan
    return max(float(np.max(finite, initial=0.0)), UNIT * abs(base), TINY)


def errors_of(deviations: Iterable[Array], exact: Array) -> Array:
    """The same entry by entry, for an array; 0 where that is not finite itself, which is judged by itself, and infinite
    where a roll is and the array is not.
    """
    found = np.zeros(np.shape(exact))
    with np.errstate(invalid="ignore"):
        for deviation in deviations:
            found = np.fmax(found, np.abs(deviation))
        found = np.fmax(found, UNIT * np.abs(exact))
    return np.where(np.isfinite(exact), found, 0.0)


# Where the operations of a loss cannot be reached --------------------------------------------------------------------

#: points of a difference table, and the relative distances between them: from where a float32 value changes (its unit
#: is 2^-24) to the last bits of float64
POINTS, SPACINGS = 9, tuple(2.0**-k for k in range(20, 49, 4))
#: loss noise is stated as this many of its standard deviations
DEVIATIONS = 4.0
#: what is left of noise when the spacing shrinks to a 16th: all of it. Of a kink a 16th is left, of a smooth part less
LASTING = 0.25


def difference_noise(losses: Array) -> float:
    """The standard deviation of the noise in equally spaced losses, from differences of order 4 to 6.

    σ² = (k!)² / (2k)! · mean of the squared k-th differences. Source  Moré & Wild 2011, equation 2.4 and algorithm
    ECnoise
    """
    differences, found = losses - losses[0], []
    for k in range(1, 7):
        differences = np.diff(differences)
        if k >= 4:
            found.append(math.sqrt(math.factorial(k) ** 2 / math.factorial(2 * k) * float(np.mean(differences**2))))
    return min(found)


def measure(directional: Directional, weights: Mapping[str, Array], base: float, *, seed: int = 0) -> float:
    """The absolute noise of a loss of which nothing but values is known (Python code inside a graph), near `weights`.

    `directional(direction, steps)` gives losses along weights + step · direction. Of difference tables at shrinking
    spacings the part counts that does not shrink with them: smooth parts and kinks do, rounding stays. Lines start
    beside the point and run out on one side each, and the quieter side counts, since noise is everywhere and a kink is
    not. An estimate, not a bound: rounding that stands still over the neighbourhood is not seen.
    """
    generator, sizes, largest = np.random.default_rng(seed), [], abs(base)
    for spacing in SPACINGS:
        direction = draw_offsets(weights, generator)
        sides = []
        for side in (1.0, -1.0):
            losses = np.asarray(directional(direction, side * spacing * np.arange(1, POINTS + 1)), dtype=float)
            if np.isfinite(losses).all():
                sides.append(difference_noise(losses))
                largest = max(largest, float(np.max(np.abs(losses))))
        sizes.append(min(sides, default=math.nan))
    if not np.isfinite(sizes).any():
        return math.nan
    lasting = [outer for outer, inner in pairwise(sizes) if np.isfinite(outer) and inner >= LASTING * outer]
    return max(DEVIATIONS * max(lasting, default=float(np.nanmin(sizes))), UNIT * largest, TINY)
