"""f(z + d) - f(z) from f(z), by the addition theorem of f, for a small d.

    tanh(z + d) - tanh z       = q·t / (1 + a·t)    a = tanh z,     q = 1 - a²,       t = tanh d = d - d³/3 + …
    sigmoid(z + d) - sigmoid z = q·u / (1 + a·u)    a = sigmoid z,  q = a·(1 - a),    u = exp d - 1 = d + d²/2 + …

With 1 / (1 + x) = 1 - x + x² - … both are q·d·(1 + c·d + e·d² + …). The terms that are kept are those that the last bit
of f(z + d) depends on. The values are those of the function, to its own rounding (a test compares them), at less than
half the cost: a nudge is small, and the value at the point is known. Source  DLMF 4.35.3, 4.33.1, 4.2.19
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from scratch.activations import piecewise, smooth
from scratch.arrays import Array

#: the largest |d| for which what three terms leave out is below half a unit in the last place of f(z + d): d⁴ = 2^-52,
#: and no coefficient of a fourth term exceeds a quarter
REACH = 2.0**-13
#: half a unit in the last place of 1
HALF_UNIT = 2.0**-53


def _expand_tanh(a: Array) -> tuple[Array, ...]:
    q = 1 - a * a
    return q, -q * a, q * (a * a - 1 / 3)


def _expand_sigmoid(a: Array) -> tuple[Array, ...]:
    q = a * (1 - a)
    return q, q * (1 / 2 - a), q * (1 / 6 - a * (1 - a))


#: the coefficients of d, d² and d³, from f(z); none where f(z + d) - f(z) is d itself
TERMS: dict[Callable[..., Array], Callable[[Array], tuple[Array, ...]]] = {
    piecewise.linear: lambda _: (),
    smooth.tanh: _expand_tanh,
    smooth.sigmoid: _expand_sigmoid,
}


def expand_activation(activation: Callable[..., Array], known: Array) -> tuple[Array, ...] | None:
    """The coefficients of d, d² and d³ in f(z + d) - f(z), from `known` = f(z); None for activations not in TERMS."""
    return TERMS[activation](known) if activation in TERMS else None


def reach_of_two(known: Array, terms: Sequence[Array]) -> Array:
    """The largest |d| of each channel (last axis) for which two terms are enough.

    There the third is below half a unit in the last place of the largest value of the channel.
    """
    axes = tuple(range(known.ndim - 1))
    largest, third = (np.max(np.abs(array), axis=axes, initial=0.0) for array in (known, terms[2]))
    reach = np.cbrt(HALF_UNIT * largest / np.maximum(third, np.finfo(float).tiny))
    return np.minimum(np.where(third > 0, reach, REACH), REACH)


def shift(terms: Sequence[Array], d: Array, spare: Array) -> None:
    """Write f(z + d) - f(z) into d; `spare` is an array of the same shape that is overwritten."""
    first, *middle, last = terms
    np.multiply(d, last, out=spare)
    for term in reversed(middle):
        spare += term
        spare *= d
    spare += first
    d *= spare
