"""Losses that were computed before: where each takes a whole eager pass, none is computed twice.

A comparison asks for the same nudges again: the first steps of an entry are among the further ones that a doubt asks
for, and the Taylor remainder of a wrong entry is made of those.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from scratch.arrays import Array

#: losses that are remembered, some 200 bytes each; those from long ago go first
KEPT = 2**16


@dataclass(frozen=True)
class RememberedLosses:
    """Losses at points with one entry set to a target, by the point, the entry and the bits of the target."""

    known: dict[tuple[bytes, int, int], float] = field(default_factory=dict)

    def compute(
        self, point: Iterable[Array], *, entries: Array, targets: Array, compute: Callable[[Array], Array]
    ) -> Array:
        """Losses (m,) at a point with entries (m,) set to targets (m,): those known already, and all others by
        `compute`, which takes indices of them.

        point, entries   arrays that make one flat vector, and flat entries of that
        """
        place = hashlib.blake2b(digest_size=16)
        for part in point:
            place.update(np.ascontiguousarray(part).tobytes())
        bits = np.asarray(targets, float).view(np.int64)
        keys = [(place.digest(), entry, target) for entry, target in zip(entries.tolist(), bits.tolist(), strict=True)]
        missing = [i for i, key in enumerate(keys) if key not in self.known]
        losses = np.array([self.known.get(key, np.nan) for key in keys], float)
        if missing:
            losses[missing] = compute(np.array(missing))
            self.known.update((keys[i], float(losses[i])) for i in missing)
            for oldest in list(islice(self.known, max(0, len(self.known) - KEPT))):
                del self.known[oldest]
        return losses

    def forget(self) -> None:
        """Forget all: what the losses depend on beside the point has changed."""
        self.known.clear()
