"""f(z + d) from f(z), by the addition theorem of f, for a d so small that a few terms give it to the last bit.

    tanh(z + d)    = (a + t) / (1 + a·t)              a = tanh z,     t = tanh d = d·(1 - d²/3) + O(d⁵)
    sigmoid(z + d) = (a + a·u) / (1 + a·u)            a = sigmoid z,  u = exp d - 1 = d·(1 + d/2·(1 + d/3·(1 + d/4))) + O(d⁵)

They are values of the same function, to the rounding of the function itself (a test compares them), in a fourth of the
time: a nudge is small, and the value beside it is known. Source  DLMF 4.35.3, 4.33.1, 4.2.19
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from scratch.activations import smooth
from scratch.arrays import Array

#: how large d may be for what is left out to lie below half a unit in the last place of t or u
REACH = 2.0**-13

Shift = Callable[[Array, Array, Array], None]


def _tanh(known: Array, d: Array, spare: Array) -> None:
    np.multiply(d, d, out=spare)
    spare *= -1 / 3
    spare += 1
    d *= spare
    np.multiply(d, known, out=spare)
    spare += 1
    d += known
    d /= spare


def _sigmoid(known: Array, d: Array, spare: Array) -> None:
    np.multiply(d, 1 / 4, out=spare)
    for divisor in (3, 2, 1):
        spare += 1
        spare *= d
        spare *= 1 / divisor
    np.multiply(spare, known, out=d)
    np.add(d, 1, out=spare)
    d += known
    d /= spare


SHIFTS: dict[Callable[..., Array], Shift] = {smooth.tanh: _tanh, smooth.sigmoid: _sigmoid}


def shift_of(activation: Callable[..., Array], largest: float) -> Shift | None:
    """The shift of an activation for steps up to `largest`: (f(z), d, spare) → d becomes f(z + d). None: no such thing."""
    return SHIFTS.get(activation) if largest <= REACH else None
