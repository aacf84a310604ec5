"""The factors that the entries of an operation's outputs are summed with."""

from __future__ import annotations

from typing import Any

import numpy as np

from scratch.arrays import Array

#: the largest factor
LARGEST = 1.5


def draw_cotangent(shape: Any, *, seed: int) -> Array:
    """Factors between 1/2 and 3/2, of both signs; short binary fractions, so that products with them are exact."""
    generator = np.random.default_rng(seed)
    sizes = generator.integers(32, 96, size=tuple(shape)) / 64
    return np.asarray(sizes * generator.choice((-1.0, 1.0), size=tuple(shape)))
