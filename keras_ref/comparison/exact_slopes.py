"""Slopes of a traced function in many digits: difference quotients in an arithmetic that loses nothing by them.

A quotient (f(x + h) - f(x - h)) / 2h in d digits with h = 10^(-d/4) |x| is off by about h² f'''/6 f' and by
10^-d f / (h f') relatively. Both are seen: the quotient is taken in more and more digits until two of them agree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import mpmath
import numpy as np
from mpmath.libmp import NoConvergence

from keras_ref.evaluation.many_digits.exact_graph import Graph
from keras_ref.evaluation.many_digits.exact_numbers import each, exact
from scratch.arrays import Array

#: the digits in which quotients are taken, one after another, until two agree; the last tell 1e-310 from 1
LADDER = (60, 90, 400, 600, 1600, 2400)
#: two quotients agree where they differ by less than this share: h of 60 digits, with some digits to spare
AGREEMENT = mpmath.mpf(10) ** -12
#: the digits of a change that are read without a second look: twice those of AGREEMENT
SPARE = 24


class Standing(Enum):
    """What the function does at the point: it has a slope; it bends (the slopes of both sides differ); it is nowhere
    near a number, or no two quotients agree.
    """

    SMOOTH = "smooth"
    KINK = "kink"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class ExactSlope:
    """A slope to some twelve digits and more, 0 where it is smaller than any quotient tells from 0.

    left, right   the quotients of both sides
    """

    value: Any
    standing: Standing
    left: Any = mpmath.nan
    right: Any = mpmath.nan


@dataclass(frozen=True)
class ExactLoss:
    """A graph whose only output is a number, at a point.

    arguments   all of them; those that are not floats stay what they are
    off         a seed: the point and all constants are off by half a unit in the last place (see Graph)
    unit        that half unit, of 1
    """

    graph: Graph
    arguments: Sequence[Any]
    off: int | None = None
    unit: float = 2.0**-53
    #: values at the point itself, by digits and seed
    known: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    def value(self, moves: Mapping[int, Any], digits: int) -> Any:
        """The number where arguments, by their places, are moved by arrays of mpmath numbers."""
        given = [exact(a) if i not in moves else exact(a) + moves[i] for i, a in enumerate(self.arguments)]
        return np.ravel(self.graph(*given, digits=digits, off=self.off, unit=self.unit)[0])[0]

    def slope(self, place: int, entry: int, *, quickly: bool = False) -> ExactSlope:
        """The slope along a flat entry of one argument. Raises: Missing, as Graph does.

        quickly   take the first quotients whose digits suffice by far, unless something cancels on the way to the loss
        """
        unit = _unit(self.arguments[place], entry)

        def value(offset: Any, digits: int) -> Any:
            if offset:
                return self.value({place: unit * offset}, digits)
            if (digits, self.off) not in self.known:
                self.known[digits, self.off] = self.value({}, digits)
            return self.known[digits, self.off]

        return slope_of(value, scale=_size(self.arguments[place], entry), quickly=quickly)

    def second_slope(self, place: int, entry: int, direction: Mapping[int, Array]) -> ExactSlope:
        """The slope, along a flat entry of one argument, of the slope along a direction: an entry of Hessian · v."""
        unit = _unit(self.arguments[place], entry)
        along = {i: each(mpmath.mpf)(d) for i, d in direction.items()}

        def value(offset: Any, digits: int) -> Any:
            # both steps are taken in twice the digits: the inner quotient has as many as the outer one needs
            step = mpmath.mpf(10) ** (-digits // 2)
            ends = []
            for sign in (1, -1):
                moves = {i: d * (sign * step) for i, d in along.items()}
                moves[place] = moves.get(place, 0) + unit * offset
                ends.append(self.value(moves, 2 * digits))
            with mpmath.workdps(2 * digits):
                return (ends[0] - ends[1]) / (2 * step)

        return slope_of(value, scale=_size(self.arguments[place], entry))


def _unit(argument: Any, entry: int) -> Any:
    found = np.zeros(np.shape(argument))
    found.flat[entry] = 1.0
    return each(mpmath.mpf)(found)


def _size(argument: Any, entry: int) -> Any:
    return mpmath.mpf(abs(float(np.ravel(argument)[entry])) or 1.0)


def slope_of(  # noqa: PLR0911 (one answer a case)
    value: Callable[[Any, int], Any], *, scale: Any, quickly: bool = False
) -> ExactSlope:
    """The slope at 0 of a function of an offset and of the digits to compute it in.

    scale     the size of what is moved
    quickly   take quotients whose changes have SPARE digits more than they need, without a second look in more digits
    """
    last: Any = None
    left = right = last_left = last_right = middle = mpmath.nan
    for digits in LADDER:
        if last == left == right == 0 and digits not in LADDER[-2:]:
            continue  # the first digits do not tell it from 0: the last ones do, or it is 0
        with mpmath.workdps(digits):
            try:
                step = mpmath.mpf(10) ** (-digits // 4) * scale
                base, above, below = (value(offset, digits) for offset in (mpmath.mpf(0), step, -step))
            except (ArithmeticError, TypeError, ValueError, NoConvergence):  # complex numbers have no order: TypeError
                return ExactSlope(mpmath.nan, Standing.UNDECIDED)
            if not all(mpmath.isfinite(v) for v in (base, above, below)):
                return ExactSlope(mpmath.nan, Standing.UNDECIDED)
            left, right = (base - below) / step, (above - base) / step
            middle = (left + right) / 2
            # a quotient of 0 may be one that these digits do not tell from 0
            smooth = middle != 0 and abs(right - left) <= AGREEMENT * abs(middle)
            change = abs(above - base)
            if smooth and quickly and change > mpmath.mpf(10) ** (SPARE - digits) * max(abs(base), change):
                return ExactSlope(middle, Standing.SMOOTH, left, right)
            if smooth and last is not None and abs(middle - last) <= AGREEMENT * abs(middle):
                return ExactSlope(middle, Standing.SMOOTH, left, right)
            if digits == LADDER[1] and left != right and _is_kink(left, right, last_left, last_right):
                return ExactSlope(middle, Standing.KINK, left, right)
            last, last_left, last_right = middle, left, right
    with mpmath.workdps(LADDER[-1]):
        # h is 10^-600 of the scale there: what is left of a slope of 0 is at most the curvature times that
        tiny = mpmath.mpf(10) ** (-LADDER[-1] // 5)
        if abs(left) <= tiny and abs(right) <= tiny:
            return ExactSlope(mpmath.mpf(0), Standing.SMOOTH, left, right)
        kink = _is_kink(left, right, last_left, last_right)
        return ExactSlope(middle, Standing.KINK if kink else Standing.UNDECIDED, left, right)


def _is_kink(left: Any, right: Any, last_left: Any, last_right: Any) -> bool:
    """Whether both sides have come to slopes of their own, which differ."""
    size = max(abs(left), abs(right))
    still = abs(left - last_left) <= size * AGREEMENT and abs(right - last_right) <= size * AGREEMENT
    return bool(still and abs(right - left) > size * mpmath.sqrt(AGREEMENT))


#: the smallest normal float64: TensorFlow's kernels take what lies below for 0
NORMAL = float(np.finfo(float).tiny)
#: the digits of a float64
FLOAT_DIGITS = float(-np.log10(2.0**-53))


def digits_of(found: float, truth: Any) -> float:
    """The digits of a float that are right: -log10 of its relative error, at most those of float64."""
    if not np.isfinite(found):
        return 0.0
    with mpmath.workdps(60):
        error = abs(mpmath.mpf(found) - truth)
        if not error:
            return FLOAT_DIGITS
        return float(min(FLOAT_DIGITS, max(0.0, -mpmath.log10(error / abs(truth)))))


def allowed_digits(truth: Any, slope: Callable[[int], ExactSlope], *, seeds: tuple[int, ...] = (1, 2, 3)) -> float:
    """The digits that the conditioning of the function allows: what is left of a slope where its point and all its
    constants are off by half a unit in the last place. None of a subnormal number: TensorFlow's kernels take it for 0.
    """
    if abs(truth) < NORMAL:
        return 0.0
    with mpmath.workdps(60):
        share = mpmath.mpf(0)
        for seed in seeds:
            other = slope(seed)
            if other.standing is not Standing.SMOOTH:
                return 0.0
            share = max(share, abs(other.value - truth) / abs(truth))
        return FLOAT_DIGITS if not share else float(min(FLOAT_DIGITS, max(0.0, -mpmath.log10(share))))
