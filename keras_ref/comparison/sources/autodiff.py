"""Autodiff's gradient at a point, and its rounding error there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations

import numpy as np

from keras_ref.comparison.sources.differenced_loss import DifferencedLoss
from keras_ref.comparison.sources.points import remember_results
from keras_ref.errors import UserCodeFailed
from keras_ref.evaluation.backward_errors import Refused
from scratch.arrays import Array
from scratch.differences import UNIT
from scratch.random_offset import draw_offsets

#: autodiff's gradient by the names of variables and inputs; None where autodiff says None
Gradient = Mapping[str, Array | None]

#: a measured value is looked into while its error exceeds this share of it: planted errors of 1e-6 must stand out
SHARP = 1e-7
#: uniform relative shifts of a whole variable, in units in the last place of what it computes in: they compute a
#: gradient again with other rounding, without breaking the ties and zeros that kinks are made of
SHIFTS = (16, -16, 24)
#: the rounding of a backward pass that only runs eagerly is stated as so many times the median change between SHIFTS.
#: It is an estimate and no bound: its operations are out of reach
CHANGES = 4.0


@dataclass(frozen=True, kw_only=True)
class Autodiff:
    """Autodiff's gradient at a point and its rounding error, measured when it is asked for: that takes longer than the
    gradient itself.

    gradient           by name, None where autodiff says None
    at                 the same at another point
    measure_rounding   the absolute rounding error of every entry
    how                the mode of autodiff, in words
    refused            why a gradient cannot be compared, by name: it is NaN there
    """

    gradient: Gradient
    at: Callable[[Mapping[str, Array]], Autodiff]
    measure_rounding: Callable[[], Mapping[str, Array]]
    how: str = "eager"
    refused: Mapping[str, Refused] = field(default_factory=dict)

    @cached_property
    def rounding(self) -> Mapping[str, Array]:
        """The absolute rounding error of every entry."""
        return self.measure_rounding()

    def is_zero(self, name: str) -> bool:
        """Whether a gradient is zero to its rounding error; not so of one that is None."""
        gradient = self.gradient[name]
        return gradient is not None and bool((np.abs(gradient) <= self.rounding[name]).all())

    def rounding_of(self, name: str, entries: Array) -> Array:
        """The rounding error of flat entries of one gradient; until it is measured, a unit in their last place."""
        gradient = self.gradient[name]
        if gradient is None:
            return np.zeros(len(entries))
        if "rounding" in vars(self):
            return np.ravel(self.rounding[name])[entries]
        own = np.abs(np.ravel(gradient)[entries])
        return np.where(np.isfinite(own), UNIT * own, 0.0)


def run_autodiff(loss: DifferencedLoss, values: Mapping[str, Array], *, mode: str = "eager") -> Autodiff:
    """Autodiff's gradient at a point, in one of the modes of evaluation.gradient_modes.

    Its rounding error is measured when it is asked for, which must be before the loss is moved to other data.
    """
    try:
        gradient = loss.gradient(mode, at=values)
    except UserCodeFailed:
        if values is loss.values:
            raise
        # another point, outside the domain
        gradient = {name: np.full(np.shape(value), np.nan) for name, value in values.items()}
    refused = loss.refused

    def measure() -> Mapping[str, Array]:
        try:
            return _with_opaque_rounding(loss.gradient_rounding(at=values), gradient, loss.opaque_unit)
        except UserCodeFailed:  # a backward pass that only runs eagerly
            return _measure_rounding_by_shifts(loss, values, gradient, mode)

    return Autodiff(
        gradient=gradient,
        at=remember_results(lambda point: run_autodiff(loss, point, mode=mode)),
        measure_rounding=measure,
        how=mode,
        refused=refused,
    )


def _with_opaque_rounding(rounding: Mapping[str, Array], gradient: Gradient, unit: float) -> Mapping[str, Array]:
    """Rounding errors with a unit of the largest entry of each gradient, which Python inside a graph rounded to it."""
    if not unit:
        return rounding
    sizes = {name: 0.0 if own is None else float(np.nanmax(np.abs(own), initial=0.0)) for name, own in gradient.items()}
    return {name: error + unit * sizes[name] for name, error in rounding.items()}


def shift_points(
    values: Mapping[str, Array], unit: float, *, shifts: tuple[int, ...] = SHIFTS
) -> list[dict[str, Array]]:
    """The point with every variable scaled by 1 + a few units, by another number of units for its neighbours."""
    return [
        {name: value * (1 + shift * unit * (1 + ((i + k) % 3) / 2)) for i, (name, value) in enumerate(values.items())}
        for k, shift in enumerate(shifts)
    ]


def shift_point(values: Mapping[str, Array], generator: np.random.Generator, *, distance: float) -> dict[str, Array]:
    """A generic point close by, `distance` in units of each entry's size: no tie and no zero is left."""
    return {name: values[name] + offset for name, offset in draw_offsets(values, generator, distance=distance).items()}


def relative_differences(gradient: Gradient, exact: Gradient) -> dict[str, float]:
    """|gradient - exact| / |exact| by name, as 2-norms; infinite where only the exact one is finite.

    Names are left out where one of the two is missing, or the exact one is not finite.
    """
    found: dict[str, float] = {}
    for name, right in exact.items():
        other = gradient.get(name)
        if right is None or other is None or not np.isfinite(right).all():
            continue
        with np.errstate(over="ignore", invalid="ignore"):
            difference, size = float(np.linalg.norm(other - right)), float(np.linalg.norm(right))
        infinite = size == 0 or not np.isfinite(difference)
        found[name] = 0.0 if difference == 0 else float("inf") if infinite else difference / size
    return found


def _measure_rounding_by_shifts(
    loss: DifferencedLoss, values: Mapping[str, Array], gradient: Gradient, mode: str
) -> dict[str, Array]:
    """CHANGES times the median change of every entry from one of SHIFTS to another, and a unit in its last place.

    The point itself is left out: what is another value there alone is no rounding, but a wrong slope at one point. None
    where the gradient is not finite, which is judged by itself, or None at one of the points.
    """
    shifted = [loss.gradient(mode, at=point) for point in shift_points(values, loss.unit)]
    found = {}
    for name, value in values.items():
        own, others = gradient[name], [one for other in shifted if (one := other[name]) is not None]
        found[name] = np.zeros_like(value)
        if own is not None and len(others) == len(shifted):
            with np.errstate(invalid="ignore"):
                changes = np.median([np.abs(one - other) for one, other in combinations(others, 2)], axis=0)
                allowed = CHANGES * changes + loss.unit * np.abs(own)
            found[name] = np.where(np.isfinite(allowed), allowed, 0.0)
    return found
