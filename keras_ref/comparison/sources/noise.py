"""How far rounding moves the losses that are differenced: every measurement of noise in a check is made here.

The model of rounding, what is measured and what is derived, is stated in scratch.noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from keras_ref.comparison.sources.differenced_loss import NudgedLoss
from keras_ref.evaluation.graphs.graph import find_opaque_operations
from keras_ref.own_modules import noise as loss_noise
from scratch.arrays import Array
from scratch.differences import UNIT

#: relative noise of a loss from which on float64 rounding alone no longer explains it
SUSPICIOUS = 2.0**-36


def measure_noise(loss: NudgedLoss, values: Mapping[str, Array], base: float, *, seed: int = 0) -> float:
    """The absolute rounding error of a traced loss at a point, where it is `base`; nan where it cannot be told.

    What Python code inside the graph computes is not seen there, nor what runs only eagerly, nor anything where
    rounding takes the loss out of its domain. There it is estimated from differences too, and the larger of the two
    counts. What such code computes may stand still by chance, as floats of the loss's own unit do within half a unit of
    the loss.
    """
    noise = float(loss.noise(at=values))
    if math.isfinite(noise) and not find_opaque_operations(loss.graph):
        return noise
    differenced = loss_noise.measure(lambda d, steps: loss.directional(d, steps, at=values), values, base, seed=seed)
    found = float(np.fmax(noise, differenced))
    return max(found, loss.unit * abs(base) / 2) if loss.unit != UNIT else found


def measure_noise_along(
    loss: NudgedLoss, name: str, values: Mapping[str, Array], base: float, *, whole: float
) -> float:
    """The noise of losses in which one variable or input moves alone, beside `whole`, that of all.

    They differ where part of the loss is computed in less than float64: in all losses in which that part rests it is
    the same, and no error of a difference.
    """
    if not whole > SUSPICIOUS * abs(base) or loss.graph is None or find_opaque_operations(loss.graph):
        return whole
    return float(np.fmin(loss.noise_along(name, at=values), whole))
