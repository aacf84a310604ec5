"""The error function of arrays: in the standard library for one number, in SciPy for arrays, but not in NumPy."""

from __future__ import annotations

import math

import numpy as np

from scratch.arrays import Array

_real_erf = np.vectorize(math.erf, otypes=[np.float64])


def erf(x: Array) -> Array:
    """2/√π · ∫₀ˣ exp(-t²) dt, of real arrays and of complex ones close to the real axis.

    The real part is the C library's (one entry at a time). A complex x + iy is reached by the Taylor series from x,
    of which three terms are kept: erf′ = g = 2/√π · exp(-x²), erf″ = -2x·g, erf‴ = (4x² - 2)·g.
    Error   real: that of the C library, about one unit in the last place; complex: y⁴/5 for |y| ≤ 0.3, an estimate
    Source  NIST Digital Library of Mathematical Functions, 7.2.1 and 7.10.1
    """
    real = _real_erf(x.real).astype(x.real.dtype)
    if not np.iscomplexobj(x):
        return real
    at, y = x.real, x.imag
    slope = 2 / math.sqrt(math.pi) * np.exp(-at * at)
    return real + slope * (at * y**2 + 1j * (y - (2 * at**2 - 1) / 3 * y**3))
