"""f(z + d) from f(z), by the addition theorem of f, for a small d.

    tanh(z + d)    = (a + t) / (1 + a·t)      a = tanh z,     t = tanh d = d·(1 - d²/3) + O(d⁵)
    sigmoid(z + d) = (a + a·u) / (1 + a·u)    a = sigmoid z,  u = exp d - 1 = d·(1 + d/2·(1 + d/3·(1 + d/4))) + O(d⁵)

The values are those of the function, to its own rounding (a test compares them), at a quarter of the cost: a nudge is
small, and the value at the point is known. Source  DLMF 4.35.3, 4.33.1, 4.2.19
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from scratch.activations import smooth
from scratch.arrays import Array

#: the largest |d| for which the terms left out lie below half a unit in the last place of t or u
REACH = 2.0**-13

Shift = Callable[[Array, Array, Array], None]


def _shift_tanh(known: Array, d: Array, spare: Array) -> None:
    np.multiply(d, d, out=spare)
    spare *= -1 / 3
    spare += 1
    d *= spare
    np.multiply(d, known, out=spare)
    spare += 1
    d += known
    d /= spare


def _shift_sigmoid(known: Array, d: Array, spare: Array) -> None:
    np.multiply(d, 1 / 4, out=spare)
    for divisor in (3, 2, 1):
        spare += 1
        spare *= d
        spare *= 1 / divisor
    np.multiply(spare, known, out=d)
    np.add(d, 1, out=spare)
    d += known
    d /= spare


SHIFTS: dict[Callable[..., Array], Shift] = {smooth.tanh: _shift_tanh, smooth.sigmoid: _shift_sigmoid}


def shift_of(activation: Callable[..., Array], largest: float) -> Shift | None:
    """The shift of an activation for |d| up to `largest`, or None where there is none.

    shift(f(z), d, spare) writes f(z + d) into d; `spare` is an array of the same shape that it overwrites.
    """
    return SHIFTS.get(activation) if largest <= REACH else None
