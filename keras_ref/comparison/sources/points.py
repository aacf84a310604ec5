"""Functions of a point that remember their results: the points beside one variable are those beside the others."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

from scratch.arrays import Array

#: results that are remembered: as many as there are points beside one that are looked at, and scales of it
KEPT = 12
#: entries of a point up to which results are remembered: what belongs to larger ones would fill the memory
LARGEST = 2**20

Result = TypeVar("Result")


@dataclass(frozen=True)
class RememberedResults(Generic[Result]):
    """Results at points (arrays by name), the newest KEPT of them, the newest last."""

    known: OrderedDict[bytes, Result] = field(default_factory=OrderedDict)

    def compute(self, point: Mapping[str, Array], compute: Callable[[Mapping[str, Array]], Result]) -> Result:
        """The result at a point, computed where it is not known."""
        if sum(np.size(value) for value in point.values()) > LARGEST:
            return compute(point)
        key = _hash_point(point)
        if key not in self.known:
            self.known[key] = compute(point)
            while len(self.known) > KEPT:
                self.known.popitem(last=False)
        return self.known[key]


def remember_results(function: Callable[[Mapping[str, Array]], Result]) -> Callable[[Mapping[str, Array]], Result]:
    """The function of a point, which computes its result at the same point once."""
    results: RememberedResults[Result] = RememberedResults()
    return lambda point: results.compute(point, function)


def _hash_point(point: Mapping[str, Array]) -> bytes:
    found = hashlib.blake2b(digest_size=16)
    for name, value in point.items():
        array = np.ascontiguousarray(value)
        found.update(f"{name} {array.shape} {array.dtype}".encode())
        found.update(array.tobytes())
    return found.digest()
