"""Whether a function has a derivative at a point: no autodiff can be accused where there is none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np
import tensorflow as tf

from keras_ref.campaign.cotangents import draw_cotangent
from keras_ref.comparison.exact_slopes import ExactLoss
from keras_ref.evaluation.keras_objects.real_parts import split_real_parts
from keras_ref.evaluation.many_digits.exact_graph import DIGITS
from keras_ref.evaluation.many_digits.exact_numbers import exact
from scratch.arrays import Array

#: steps relative to the arguments' size: half and a quarter of the digits of float64
STEPS = (2.0**-26, 2.0**-13)
#: directions that are tried
DIRECTIONS = 4


def is_differentiable(function: Callable[..., Any], floats: Sequence[Any], *, seed: int = 0) -> bool:
    """Whether slopes along random directions are the same on both sides, and add up, to a half, for one of two steps,
    or do so the better the smaller the step. The determinant of zeros changes with the cube of a step, its slope is 0.

    They are not where a function jumps or bends: a QR decomposition without full rank, say, or the median of
    equal numbers. An accusation stays where they are so by chance.
    """
    generator = np.random.default_rng(seed)
    leaves = [np.asarray(leaf) for leaf in tf.nest.flatten(list(floats))]
    size = max([0.0, *(float(np.max(np.abs(x), initial=0.0)) for x in leaves)]) or 1.0

    def loss(direction: Sequence[Array], offset: float) -> float:
        moved = [tf.constant(x + offset * d) for x, d in zip(leaves, direction, strict=True)]
        found = tf.nest.flatten(function(*tf.nest.pack_sequence_as(list(floats), moved)))
        parts = [np.asarray(split_real_parts(o), float) for o in found if o.dtype.is_floating or o.dtype.is_complex]
        return float(sum(np.sum(p * draw_cotangent(p.shape, seed=k)) for k, p in enumerate(parts)))

    for _ in range(DIRECTIONS):
        one, two = ([_draw_direction(x, generator) for x in leaves] for _ in range(2))
        both = [a + b for a, b in zip(one, two, strict=True)]
        changes = [_measure_changes(loss, (one, two, both), step * size) for step in STEPS]
        known = [c for c in changes if c is not None]
        if not any(c.are_linear for c in known) and not (len(known) == len(STEPS) and _fades(*known)):
            return False
    return True


def has_meeting_kinks(loss: ExactLoss, place: int, entry: int) -> bool:
    """Whether the slope along one flat entry and that along another do not add up where both are moved, for any other
    one. clip(x, a, b) at a = b = x has a slope of 0 along x, and bends where a or b move too. A bend of the other one
    alone adds up. Raises: Missing, as Graph does.
    """
    others = [(i, k) for i, a in enumerate(loss.arguments) for k in range(np.size(a)) if (i, k) != (place, entry)]
    sizes = [abs(float(v)) for a in loss.arguments for v in np.ravel(a) if v] or [1.0]
    # a step is small beside the smallest number, and has all its digits beside the largest one
    digits = DIGITS + int(np.ceil(np.log10(max(1.0, *sizes)) - np.log10(min(sizes))))
    with mpmath.workdps(digits):
        step, share = min(sizes) * mpmath.mpf(10) ** (-DIGITS // 3), mpmath.mpf(10) ** -6
        base = loss.value({}, digits)

        def change(*moved: tuple[int, int, int]) -> Any:
            moves: dict[int, Any] = {}
            for i, k, sign in moved:
                unit = np.zeros(np.shape(loss.arguments[i]))
                unit.flat[k] = sign
                moves[i] = moves.get(i, 0) + exact(unit) * step
            return loss.value(moves, digits) - base

        for sign in (1, -1):
            alone = change((place, entry, sign))
            for i, k in others:
                both, apart = change((place, entry, sign), (i, k, 1)), alone + change((i, k, 1))
                if abs(both - apart) > share * max(abs(both), abs(apart), share * step):
                    return True
    return False


@dataclass(frozen=True, kw_only=True)
class _Changes:
    """By how much a loss changes along three directions, of which the last is the sum of the others.

    changes   (3, 2): backward and forward along each
    """

    changes: Array
    step: float
    noise: float

    @property
    def departure(self) -> float:
        """How far they are from those of a slope, which are the same on both sides, and add up."""
        with np.errstate(over="ignore"):
            one, two, both = self.changes.sum(axis=1)
            apart = self.changes[:, 0] - self.changes[:, 1]
            return float(np.max(np.abs([*apart, one + two - both])))

    @property
    def are_linear(self) -> bool:
        """Whether they are those of a slope, to a half."""
        return self.departure <= float(np.max(np.abs(self.changes))) / 2 + self.noise


def _fades(small: _Changes, large: _Changes) -> bool:
    """Whether the departure from a slope falls faster than the step: it does not where a function bends or jumps."""
    before, now = large.departure / large.step, small.departure / small.step
    return bool(np.isfinite(before) and now <= before / 2)


def _measure_changes(
    loss: Callable[[Sequence[Array], float], float], directions: Sequence[Sequence[Array]], step: float
) -> _Changes | None:
    """The changes along three directions; None where one of them leaves the domain, or is not finite."""
    base = loss(directions[0], 0.0)
    try:
        changes = np.array([(base - loss(d, -step), loss(d, step) - base) for d in directions])
    except (tf.errors.OpError, ValueError):
        return None
    if not np.all(np.isfinite(changes)):
        return None
    return _Changes(changes=changes, step=step, noise=8 * float(np.spacing(abs(base))))


def _draw_direction(x: Array, generator: np.random.Generator) -> Array:
    real = generator.normal(size=x.shape)
    return np.asarray(real + 1j * generator.normal(size=x.shape) if np.iscomplexobj(x) else real)
