"""Points of a loss as flat vectors of all its values, and the arrays that such vectors hold."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from scratch.arrays import Array


def split_parts(vectors: Array, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
    """The arrays (…, *shape) that flat vectors (…, n) hold one behind the other."""
    ends = np.cumsum([math.prod(shape) for shape in shapes])[:-1]
    parts = np.split(vectors, ends, axis=-1)
    return [part.reshape(*vectors.shape[:-1], *shape) for part, shape in zip(parts, shapes, strict=True)]


def nudge_points(
    flat: Array, *, entries: Array, targets: Array, steps: Array | None = None, direction: Array | None = None
) -> Array:
    """Vectors (m, n): flat (n,) + steps (m,) · direction (n,), or flat alone, with entries (m,) set to targets (m,)."""
    if steps is None or direction is None:
        points = np.repeat(flat[None], len(entries), axis=0)
    else:
        points = flat + steps[:, None] * direction
    points[np.arange(len(entries)), entries] = targets
    return points
