"""Points of a loss as flat vectors of all its values, and the arrays that such vectors hold."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from scratch.arrays import Array


def unflatten(vectors: Array, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
    """The arrays (…, *shape) that flat vectors (…, n) hold one behind the other."""
    edges = itertools.accumulate((math.prod(shape) for shape in shapes), initial=0)
    return [
        vectors[..., start:end].reshape((*vectors.shape[:-1], *shape))
        for (start, end), shape in zip(itertools.pairwise(edges), shapes, strict=True)
    ]


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
