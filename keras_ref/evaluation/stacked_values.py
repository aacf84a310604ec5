"""What a tensor is at a stack of nudged points: the same at all, other in one place, or other altogether.

A nudged weight of a layer changes one unit of its output, an elementwise operation keeps that one unit, the next matrix
product adds a product of rank one: what stays as it is at the point is not computed again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from scratch.arrays import Array


class CannotStack(Exception):
    """An operation has no rule for stacks: the losses are computed one after another."""


@dataclass(frozen=True)
class Nudged:
    """A tensor `base` of which one flat entry is another number at each point. Shapes  entries (k,), values (k,)"""

    base: Any
    entries: Array
    values: Any


@dataclass(frozen=True)
class Unit:
    """A tensor `base` (…, n) of which one unit, a place on the last axis, is other at each point.

    Shapes  units (k,), values (k, …)
    """

    base: Any
    units: Array
    values: Any


@dataclass(frozen=True)
class Stack:
    """A tensor that is another at each point. Shapes  values (k, …)"""

    values: Any


#: what an operation takes and gives; a tensor is the same at all points
Value = Any
CHANGED = (Nudged, Unit, Stack)


def size_of(value: Value) -> int:
    """The bytes that hold what changes."""
    tensor = value.values
    return int(tensor.shape.num_elements()) * int(tensor.dtype.size)


def shape_of(value: Value) -> tuple[int, ...]:
    """The shape of a value at each point."""
    if isinstance(value, Stack):
        return tuple(value.values.shape[1:])
    return tuple(value.base.shape if isinstance(value, (Nudged, Unit)) else value.shape)


def number_of_points(values: list[Value]) -> int:
    """How many points values are stacked over."""
    return next(int(v.values.shape[0]) for v in values if isinstance(v, CHANGED))


def as_unit(value: Value) -> Value:
    """A nudged vector as one with another unit; anything else as it is."""
    if isinstance(value, Nudged) and len(value.base.shape) == 1:
        return Unit(value.base, value.entries, value.values)
    return value


def stacked(value: Value) -> Any:
    """The tensor (k, …) of all points."""
    if isinstance(value, Stack):
        return value.values
    count, base = int(value.values.shape[0]), value.base
    rows = tf.range(count, dtype=tf.int64)
    tiled = tf.tile(tf.expand_dims(base, 0), [count, *([1] * len(base.shape))])
    if isinstance(value, Nudged):
        flat = tf.reshape(tiled, [count, -1])
        changed = tf.tensor_scatter_nd_update(flat, tf.stack([rows, value.entries], axis=1), value.values)
        return tf.reshape(changed, tiled.shape)
    hot = tf.one_hot(value.units, base.shape[-1], on_value=True, off_value=False, dtype=tf.bool)
    hot = tf.reshape(hot, [count, *([1] * (len(base.shape) - 1)), base.shape[-1]])
    return tf.where(hot, tf.expand_dims(value.values, -1), tiled)


def units_first(tensor: Any, units: Array) -> Any:
    """The units of a tensor (…, n) as (k, …)."""
    rank = len(tensor.shape)
    return tf.transpose(tf.gather(tensor, units, axis=-1), [rank - 1, *range(rank - 1)])


def require_finite(*tensors: Any) -> None:
    """Require that a difference to what is at the point makes sense. Raises: CannotStack."""
    if not all(np.isfinite(tensor.numpy()).all() for tensor in tensors):
        raise CannotStack("not finite")
