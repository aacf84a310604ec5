"""What was computed at the last points that a comparison visited: every variable is judged beside the same ones."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import TypeVar

import numpy as np

from scratch.arrays import Array

T = TypeVar("T")
#: how many points are kept: one, and two pairs of opposite ones beside it
POINTS = 5
#: what is computed at larger points is not kept: what a point holds is a multiple of its size
LARGEST_BYTES = 2**21


def remember_points(function: Callable[[Mapping[str, Array]], T]) -> Callable[[Mapping[str, Array]], T]:
    """The same function of a point (arrays by name), which computes nothing twice at the last POINTS points.

    Points are the same where their arrays are, bit by bit. Points of more than LARGEST_BYTES are always computed.
    """
    kept: OrderedDict[bytes, T] = OrderedDict()

    def remembered(point: Mapping[str, Array]) -> T:
        arrays = {name: np.asarray(value) for name, value in point.items()}
        if sum(array.nbytes for array in arrays.values()) > LARGEST_BYTES:
            return function(point)
        parts = (part for name, a in arrays.items() for part in (f"{name} {a.shape} {a.dtype} ".encode(), a.tobytes()))
        key = sha256(b"".join(parts)).digest()
        if key not in kept:
            kept[key] = function(point)
        kept.move_to_end(key)
        while len(kept) > POINTS:
            kept.popitem(last=False)
        return kept[key]

    return remembered
