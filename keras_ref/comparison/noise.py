"""How noisy the losses of an oracle are: every measurement of noise in a check is made here.

The formulas are those of scratch.noise. A loss in float64 is measured where a float32 value inside it still changes;
other losses need other spacings, which the functions here choose.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from keras_ref.comparison.sums import root_mean_square
from keras_ref.evaluation.graph import casts_down, opaque
from scratch import noise as loss_noise
from scratch.arrays import Array
from scratch.differences import UNIT
from scratch.random_offset import random_offset, random_offsets

#: losses at point + step · direction: (direction by name, steps (m,)) → (m,)
Directional = Callable[[Mapping[str, Array], Array], Array]

#: spacings at which the noise of a loss in float64 throughout is measured: kinks and curvature are out of reach
CLOSE = (2.0**-30, -(2.0**-33))
#: directions along which the noise of a coarse precision is measured; the median of their sides counts
DIRECTIONS = 3


def measure_noise(
    directional: Directional, values: Mapping[str, Array], base: float, *, seed: int = 0, graph: Any = None
) -> float:
    """The absolute noise of a loss near `values`, where it is `base`; nan where the loss is not finite there.

    scratch.noise differences the loss where a float32 value still changes; there a network of many ReLUs has kinks that
    look like noise. Where a traced `graph` is given and computes in float64 throughout, the spacing is a thousand times
    closer.
    """
    if graph is None or casts_down(graph) or opaque(graph):
        return loss_noise.measure(directional, values, base, seed=seed)
    points, generator = np.arange(1, loss_noise.POINTS + 1), np.random.default_rng(seed)
    direction = {
        name: random_offset(value.shape, generator, scale=root_mean_square(value) or 1.0)
        for name, value in values.items()
    }
    lines = [np.asarray(directional(direction, spacing * points), dtype=float) for spacing in CLOSE]
    noises = [loss_noise.difference_noise(line) for line in lines if np.isfinite(line).all()]
    if not noises:
        return math.nan
    return max(loss_noise.DEVIATIONS * min(noises), UNIT * float(np.max(np.abs(lines))))


def measure_coarse_noise(
    directional: Directional, values: Mapping[str, Array], base: float, *, unit: float, seed: int = 0
) -> float:
    """The absolute noise of a loss that computes with the relative spacing `unit`, coarser than float64's.

    It is measured over steps that the loss's numbers can see at all, and is never less than half a unit of the loss,
    which may stand still by chance (a softmax of equal logits).
    """
    found = unit * abs(base) / 2
    if unit <= loss_noise.SPACINGS[0]:
        return found
    steps = 4 * unit * np.arange(1, loss_noise.POINTS + 1)
    lines = [
        directional(random_offsets(values, np.random.default_rng(seed + k)), side * steps)
        for k in range(DIRECTIONS)
        for side in (1, -1)
    ]
    return max(found, loss_noise.DEVIATIONS * float(np.median([loss_noise.difference_noise(line) for line in lines])))


def measure_hidden_noise(directional: Directional, values: Mapping[str, Array]) -> float:
    """Rounding that no difference of neighbouring losses shows (see scratch.noise.against_more_bits)."""
    return loss_noise.against_more_bits(directional, values)


def even_part_noise(even: Array, losses: Array) -> float:
    """An upper bound of the noise from L(θ + tv) + L(θ - tv) - 2·L(θ) at halved steps t, and of the losses themselves.

    The even part holds noise, curvature and kinks, and nothing of the slope. Curvature goes with the square of the step
    and cancels in the difference of two; of losses with deviation σ, σ·√(2 + 32 + 36) is left of it.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        rough = even[:-1] - 4 * even[1:]
        deviation = math.sqrt(float(np.mean(rough**2)) / 70)
        return max(loss_noise.DEVIATIONS * deviation, UNIT * float(np.max(np.abs(losses))))
