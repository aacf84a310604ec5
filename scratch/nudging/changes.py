"""What nudges change in a tensor, in the smallest form that describes it, and the memory that it is computed in."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

from scratch.arrays import Array


@dataclass(frozen=True)
class Channel:
    """A tensor in which one channel changed: nudge s has `values[s]` (rows, middle…) in channel `channel[s]`."""

    values: Array
    channel: Array

    def select(self, which: slice) -> Channel:
        """The same for a part of the nudges."""
        return Channel(self.values[which], self.channel[which])

    def whole(self, base: Array) -> Array:
        """The whole tensor of every nudge: (stack, rows, …)."""
        whole = np.empty((len(self.values), *base.shape), np.result_type(self.values, base))
        whole[...] = base
        np.moveaxis(whole, -1, 1)[np.arange(len(whole)), self.channel] = self.values
        return whole


@dataclass(frozen=True)
class Change:
    """A tensor in which any entry may have moved: nudge s has the tensor of the point + `values[s]` (rows, …)."""

    values: Array

    def select(self, which: slice) -> Change:
        """The same for a part of the nudges."""
        return Change(self.values[which])

    def whole(self, base: Array) -> Array:
        """The whole tensor of every nudge: (stack, rows, …)."""
        whole: Array = base + self.values
        return whole


@dataclass(frozen=True)
class State:
    """What `count` nudges have changed so far: tensors and masks, by name.

    Nudge s adds offsets[s] to the flat entry entries[s]. `samples` are the samples that the nudges change, one each,
    where the samples are independent.
    """

    entries: Array
    offsets: Array
    changed: Mapping[str, Form]
    masks: Mapping[str, Array]
    samples: Array | None = None

    @property
    def count(self) -> int:
        """The number of nudges."""
        return len(self.entries)

    def select(self, which: slice) -> State:
        """The same for a part of the nudges."""
        changed = {k: v[which] if isinstance(v, np.ndarray) else v.select(which) for k, v in self.changed.items()}
        masks = {k: v[which] for k, v in self.masks.items()}
        samples = None if self.samples is None else self.samples[which]
        return State(self.entries[which], self.offsets[which], changed=changed, masks=masks, samples=samples)

    def split(self, count: int) -> Iterator[State]:
        """The same in pieces of about `count` nudges."""
        pieces = -(-self.count // count)
        edges = [self.count * i // pieces for i in range(pieces + 1)]
        return (self.select(slice(low, high)) for low, high in pairwise(edges))

    def with_changes(self, tensors: Mapping[str, Form], masks: Mapping[str, Array] | None = None) -> State:
        """The same with more changed tensors and masks."""
        changed, after = {**self.changed, **tensors}, {**self.masks, **(masks or {})}
        return State(self.entries, self.offsets, changed=changed, masks=after, samples=self.samples)


@dataclass(frozen=True)
class Copies:
    """Repeats an array of the point for many nudges: `count` times its batch, or its rows `samples`, one a nudge."""

    count: int = 1
    samples: Array | None = None

    @property
    def is_identity(self) -> bool:
        """Whether the array stays as it is."""
        return self.count == 1 and self.samples is None

    def __call__(self, base: Any, axis: int = 0) -> Any:
        if base is None or self.is_identity:
            return base
        if self.samples is not None:
            return np.take(base, self.samples, axis=axis)
        return np.concatenate([base] * self.count, axis=axis)


#: a changed tensor
Form: TypeAlias = Channel | Change | Array


def merge_batch(x: Array) -> Array:
    """(stack, rows, …) → (stack · rows, …)"""
    return x.reshape(-1, *x.shape[2:]) if x.size else x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])


_OWN = threading.local()


def reuse_buffer(key: Any, shape: tuple[int, ...], dtype: Any) -> Array:
    """An uninitialised array in memory that this thread uses again at the next call with the same key."""
    known = _OWN.__dict__.setdefault("buffers", {})
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if key not in known or known[key].nbytes < size:
        while len(known) > 8:
            known.pop(next(iter(known)))
        known[key] = np.empty(size, np.uint8)
    array: Array = known[key][:size].view(dtype).reshape(shape)
    return array
