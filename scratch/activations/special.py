"""The error function of arrays, which NumPy does not have."""

from __future__ import annotations

import math

import numpy as np

from scratch.arrays import Array

_erf_of_float = np.frompyfunc(math.erf, 1, 1)


def erf(x: Array) -> Array:
    """2/√π · ∫₀ˣ exp(-t²) dt, of real arrays and of complex arrays close to the real axis.

    The real values are those of the C library (one entry at a time); x + iy is computed from them by the Taylor series
    with three terms: erf′ = g = 2/√π · exp(-x²), erf″ = -2x·g, erf‴ = (4x² - 2)·g.
    Error   real: that of the C library, about one unit in the last place; complex: y⁴/5 for |y| ≤ 0.3, an estimate
    Source  NIST Digital Library of Mathematical Functions, 7.2.1 and 7.10.1
    """
    at = x.real
    # flat, since a function of NumPy gives a number, no array, for an array without axes
    real: Array = _erf_of_float(at.reshape(-1)).astype(at.dtype).reshape(at.shape)
    if not np.iscomplexobj(x):
        return real
    y = x.imag
    slope = 2 / math.sqrt(math.pi) * np.exp(-at * at)
    result: Array = real + slope * (at * y**2 + 1j * (y - (2 * at**2 - 1) / 3 * y**3))
    return result
