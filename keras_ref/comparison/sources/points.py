"""Functions of a point that remember their results: the points beside one variable are those beside the others."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np

from scratch.arrays import Array

#: results that are remembered: as many as there are points beside one that are looked at, and scales of it
KEPT = 12
#: entries of a point up to which results are remembered: what belongs to larger ones would fill the memory
LARGEST = 2**20

Result = TypeVar("Result")


def remember_results(function: Callable[[Mapping[str, Array]], Result]) -> Callable[[Mapping[str, Array]], Result]:
    """The function of a point (arrays by name), which computes its result at the same point once."""
    known: OrderedDict[bytes, Result] = OrderedDict()

    def remembered(point: Mapping[str, Array]) -> Result:
        if sum(np.size(value) for value in point.values()) > LARGEST:
            return function(point)
        key = _hash_point(point)
        if key not in known:
            known[key] = function(point)
            while len(known) > KEPT:
                known.popitem(last=False)
        return known[key]

    return remembered


def _hash_point(point: Mapping[str, Array]) -> bytes:
    found = hashlib.blake2b(digest_size=16)
    for name, value in point.items():
        array = np.ascontiguousarray(value)
        found.update(f"{name} {array.shape} {array.dtype}".encode())
        found.update(array.tobytes())
    return found.digest()
