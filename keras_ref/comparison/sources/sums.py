"""Sums of many products that do not lose their last digits."""

from __future__ import annotations

import math

import numpy as np

from scratch.arrays import Array

#: terms that are added in floating point before the sums are added exactly
PIECE = 4096


def dot(a: Array, b: Array) -> float:
    """Σ a·b, pieces summed exactly: the rounding of one piece is all that is left."""
    a, b = np.ravel(a), np.ravel(b)
    whole = len(a) - len(a) % PIECE
    pieces = np.einsum("ij,ij->i", a[:whole].reshape(-1, PIECE), b[:whole].reshape(-1, PIECE))
    return math.fsum([*pieces, float(a[whole:] @ b[whole:])])


def absolute_dot(a: Array, b: Array) -> float:
    """Σ |a·b|, in pieces that a cache holds."""
    a, b = np.ravel(a), np.ravel(b)
    pieces = (slice(start, start + 8 * PIECE) for start in range(0, len(a), 8 * PIECE))
    return math.fsum(float(np.sum(np.abs(a[piece] * b[piece]))) for piece in pieces)


def root_mean_square(value: Array) -> float:
    """The root of the mean square of an array's entries; 0 of an empty one."""
    return math.sqrt(dot(value, value) / value.size) if value.size else 0.0
