"""Whether a function has a derivative at a point: no autodiff can be accused where there is none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mpmath
import numpy as np
import tensorflow as tf

from keras_ref.campaign.cotangents import drawn_cotangent
from keras_ref.comparison.exact_slopes import ExactLoss
from keras_ref.evaluation.exact_graph import DIGITS
from keras_ref.evaluation.exact_numbers import exact
from keras_ref.evaluation.real_parts import real_parts
from scratch.arrays import Array

#: steps relative to the arguments' size: half and a quarter of the digits of float64
STEPS = (2.0**-26, 2.0**-13)
#: directions that are tried
DIRECTIONS = 4


def is_differentiable(function: Callable[..., Any], floats: Sequence[Any], *, seed: int = 0) -> bool:
    """Whether slopes along random directions are the same on both sides, and add up, to a half, for one of two steps.

    They are not where a function jumps or bends: a QR decomposition without full rank, say, or the median of
    equal numbers. An accusation stays where they are so by chance.
    """
    generator = np.random.default_rng(seed)
    leaves = [np.asarray(leaf) for leaf in tf.nest.flatten(list(floats))]
    size = max([0.0, *(float(np.max(np.abs(x), initial=0.0)) for x in leaves)]) or 1.0

    def loss(direction: Sequence[Array], offset: float) -> float:
        moved = [tf.constant(x + offset * d) for x, d in zip(leaves, direction, strict=True)]
        found = tf.nest.flatten(function(*tf.nest.pack_sequence_as(list(floats), moved)))
        parts = [np.asarray(real_parts(o), float) for o in found if o.dtype.is_floating or o.dtype.is_complex]
        return float(sum(np.sum(p * drawn_cotangent(p.shape, seed=k)) for k, p in enumerate(parts)))

    for _ in range(DIRECTIONS):
        one, two = ([_direction(x, generator) for x in leaves] for _ in range(2))
        both = [a + b for a, b in zip(one, two, strict=True)]
        if not any(_are_linear(loss, (one, two, both), step * size) for step in STEPS):
            return False
    return True


def kinks_meet(loss: ExactLoss, place: int, entry: int) -> bool:
    """Whether the slope along one flat entry and that along another do not add up where both are moved, for any other
    one: clip(x, a, b) at a = b = x has a slope of 0 along x, and bends where a or b move too. A bend of the other one
    alone adds up. Raises: Missing, as Graph does.
    """
    others = [(i, k) for i, a in enumerate(loss.arguments) for k in range(np.size(a)) if (i, k) != (place, entry)]
    with mpmath.workdps(DIGITS):
        size = max([mpmath.mpf(1), *(abs(mpmath.mpf(v)) for a in loss.arguments for v in np.ravel(a))])
        step, share = size * mpmath.mpf(10) ** (-DIGITS // 3), mpmath.mpf(10) ** -6
        base = loss.value({}, DIGITS)

        def change(*moved: tuple[int, int, int]) -> Any:
            moves: dict[int, Any] = {}
            for i, k, sign in moved:
                unit = np.zeros(np.shape(loss.arguments[i]))
                unit.flat[k] = sign
                moves[i] = moves.get(i, 0) + exact(unit) * step
            return loss.value(moves, DIGITS) - base

        for sign in (1, -1):
            alone = change((place, entry, sign))
            for i, k in others:
                both, apart = change((place, entry, sign), (i, k, 1)), alone + change((i, k, 1))
                if abs(both - apart) > share * max(abs(both), abs(apart), share * step):
                    return True
    return False


def _are_linear(
    loss: Callable[[Sequence[Array], float], float], directions: Sequence[Sequence[Array]], step: float
) -> bool:
    """Whether the changes along three directions, of which the last is the sum of the others, are those of a slope."""
    base = loss(directions[0], 0.0)
    try:
        changes = [(base - loss(d, -step), loss(d, step) - base) for d in directions]
    except (tf.errors.OpError, ValueError):  # outside the domain on one side
        return False
    noise = 8 * float(np.spacing(abs(base)))
    room = max(abs(c) for pair in changes for c in pair) / 2 + noise
    one, two, both = (left + right for left, right in changes)
    return all(abs(left - right) <= room for left, right in changes) and abs(one + two - both) <= room


def _direction(x: Array, generator: np.random.Generator) -> Array:
    real = generator.normal(size=x.shape)
    return np.asarray(real + 1j * generator.normal(size=x.shape) if np.iscomplexobj(x) else real)
