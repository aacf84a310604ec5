"""Does a loss in float64 carry the digits that an error in a gradient changes? By 50 digits of the same loss."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np

from keras_ref.comparison.sources.oracles import Oracle
from keras_ref.evaluation.many_digits.exact_graph import DIGITS, Graph
from scratch.arrays import Array
from scratch.differences import scale_of
from scratch.one_sided import LADDER

#: steps that differ by so little that nothing but rounding does: that of one may be 0 by chance
TRIES = 1 + 2.0**-9 * np.arange(4)
#: entries that are looked at, those of the largest errors
ENTRIES = 4


def carries(oracle: Oracle, probe: Any, name: str, error: Array) -> bool:
    """Whether a difference of two losses of `oracle` shows an error of that size (of the variable's shape) anywhere.

    The quotient of the losses at both sides of a weight is compared with that of the losses in 50 digits at the same
    floats, so that steepness and curvature are in both. `probe` is Keras's loss where the oracle is. A step shows the
    error where rounding moves the quotients of TRIES by less than it.
    """
    exact, point = Graph(probe._traced()), [np.array(one) for one in probe._make_point(probe.values)]
    values, sizes = np.ravel(oracle.values[name]), scale_of(np.ravel(oracle.values[name]))
    place = list(probe.values).index(name)

    def truth(entry: int, target: float) -> Any:
        moved = point[place].copy()
        moved.flat[entry] = target
        return np.ravel(exact(*point[:place], moved, *point[place + 1 :])[0])[0]

    def rounded(entry: int, step: float) -> float:
        ahead, behind = values[entry] + step, values[entry] - step
        if ahead == behind:
            return np.inf
        offsets = np.array([[ahead - values[entry]], [behind - values[entry]]])
        losses = oracle.losses(name, np.array([entry]), offsets)[:, 0]
        with mpmath.workdps(DIGITS):
            difference = mpmath.mpf(float(losses[0])) - mpmath.mpf(float(losses[1]))
            apart = difference - (truth(entry, ahead) - truth(entry, behind))
            return float(abs(apart / (mpmath.mpf(float(ahead)) - mpmath.mpf(float(behind)))))

    wrong = np.abs(np.ravel(error))
    for entry in np.argsort(-wrong)[:ENTRIES]:
        for step in np.exp2(LADDER) * sizes[entry]:
            if wrong[entry] > 0 and max(rounded(int(entry), step * share) for share in TRIES) < wrong[entry]:
                return True
    return False
