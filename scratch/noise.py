"""How noisy is a loss? Measured, not assumed: a float32 operation can hide inside a float64 model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from scratch.arrays import Array
from scratch.differences import UNIT, scale_of

Directional = Callable[[Mapping[str, Array], Array], Array]

#: points of a difference table, and the relative distance between them: wide enough that a float32 value changes
#: (its unit is 2^-24), narrow enough that fourth and higher differences of the smooth part vanish below float64
POINTS, SPACINGS = 9, (2.0**-20, 2.0**-22)
#: loss noise is stated as this many of its standard deviations
DEVIATIONS = 4.0


def difference_noise(losses: Array) -> float:
    """The standard deviation of the noise in equally spaced losses, from differences of order 4 to 6.

    σ² = (k!)² / (2k)! · mean of the squared k-th differences. Source  Moré & Wild 2011, equation 2.4 and algorithm ECnoise
    """
    differences, found = losses - losses[0], []
    for k in range(1, 7):
        differences = np.diff(differences)
        if k >= 4:
            found.append(math.sqrt(math.factorial(k) ** 2 / math.factorial(2 * k) * float(np.mean(differences**2))))
    return min(found)


def measure(directional: Directional, weights: Mapping[str, Array], base: float, *, seed: int = 0) -> float:
    """The absolute noise of a loss near `weights`: `DEVIATIONS` standard deviations, at least a unit in its last place.

    `directional(direction, steps)` gives losses along weights + step · direction. Lines start beside the point and run
    out on one side each, so that a kink at the point is not taken for noise, and the quietest of several lines counts,
    since noise is everywhere and a kink is not.
    """
    generator = np.random.default_rng(seed)
    quietest, largest = math.inf, abs(base)
    for spacing in SPACINGS:
        direction = {
            name: generator.uniform(0.5, 1.0, w.shape)
            * generator.choice([-1.0, 1.0], w.shape)
            * scale_of(w.ravel()).reshape(w.shape)
            for name, w in weights.items()
        }
        for side in (1.0, -1.0):
            losses = np.asarray(directional(direction, side * spacing * np.arange(1, POINTS + 1)), dtype=float)
            if np.isfinite(losses).all():
                quietest = min(quietest, difference_noise(losses))
                largest = max(largest, float(np.max(np.abs(losses))))
    if not math.isfinite(quietest):
        return math.nan
    return max(DEVIATIONS * quietest, UNIT * largest)


#: points at which the loss is compared with itself in more bits, and how far off they lie, in units of each weight's
#: size: far enough that a saturated gate stands at another place of its last bit, which is what hides there
PLACES, SPREAD = 12, 2.0**-5


def against_more_bits(directional: Directional, weights: Mapping[str, Array], *, seed: int = 0) -> float:
    """The absolute rounding error of a loss near `weights`: how far it lies from the same loss in extended precision.

    Differences between neighbouring losses show noise that changes from place to place. They cannot show a rounding
    that stays the same over a whole neighbourhood: in (1 - sigmoid(33)) · h the gate is 62 units in the last place of 1
    and does not move for any small nudge, while h does. More bits show it. `DEVIATIONS` times the largest error of `PLACES`
    places, of which there are few; 0 where the platform has no wider floats, or the forward pass computes in float64 whatever it is given.
    """
    if np.finfo(np.longdouble).eps >= UNIT:
        return 0.0
    generator, largest = np.random.default_rng(seed), 0.0
    for _ in range(PLACES):
        steps = {
            name: SPREAD * generator.uniform(-1.0, 1.0, w.shape) * scale_of(w.ravel()).reshape(w.shape)
            for name, w in weights.items()
        }
        # both go to the very place that float64 reaches, w + step rounded
        wide = {name: (w + steps[name]).astype(np.longdouble) - w.astype(np.longdouble) for name, w in weights.items()}
        error = directional(wide, np.ones(1))[0] - directional(steps, np.ones(1))[0]
        largest = max(largest, float(np.abs(error))) if np.isfinite(error) else largest
    return DEVIATIONS * largest
