"""How fast the Taylor remainder of a loss shrinks: a second opinion on a slope, without a difference quotient.

    R(t) = |f(w + t·v) - f(w) - t·⟨g, v⟩|

falls as t² where g is the gradient, and as t where it is not: t·⟨f'(w) - g, v⟩ is then what is left. No slope is
estimated, so nothing of scratch.differences and scratch.one_sided has a part in it.
Source  Farrell et al. 2013, section 6 (the Taylor remainder convergence test of adjoint models)
"""

from __future__ import annotations

import numpy as np

from keras_ref.comparison.sources.oracles import Oracle
from scratch.differences import UNIT, measure_step, scale_of
from scratch.one_sided import LADDER

#: a remainder counts while it is this many times the noise of one of the two losses it is made of: it is then off by
#: 1/8 of itself at most. The order, a base-2 logarithm of the ratio of two, is then off by 0.36, which tells 1 from 2
CLEAR = 16.0
#: halvings over which the order is read: the smallest that count, where t² has least to say beside t
HALVINGS = 1


def remainder_order(oracle: Oracle, name: str, *, entry: int, autodiff: float) -> float:
    """The observed order of R(t) along one entry (v its unit vector), from the smallest steps whose remainder is clear
    of noise: about 2 for a right entry, about 1 for a wrong one. It is nan where all remainders are noise, or not
    finite."""
    at = np.ravel(oracle.values[name])
    steps = measure_step(at[[entry]], np.exp2(LADDER)[:, None] * scale_of(at)[[entry]])
    losses = np.asarray(oracle.losses(name, np.array([entry]), steps), dtype=float)[:, 0]
    steps = steps[:, 0]
    with np.errstate(all="ignore"):
        remainder = np.abs(losses - oracle.base - steps * autodiff)
        level = oracle.noise + UNIT * (np.abs(losses) + np.abs(steps * autodiff))
        clear = np.isfinite(remainder) & (remainder > CLEAR * level)
        # from the largest step on down, as long as every remainder counts
        last = int(np.argmin(clear)) if not clear.all() else len(clear)
        first = max(0, last - 1 - HALVINGS)
        if last - first <= HALVINGS:
            return float("nan")
        return float(np.log2(remainder[first] / remainder[last - 1]) / np.log2(steps[first] / steps[last - 1]))
