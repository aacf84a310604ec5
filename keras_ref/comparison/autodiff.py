"""Autodiff's gradient at a point, with its rounding error measured by computing it again with other rounding."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

from keras_ref.evaluation.loss_function import LossFunction
from scratch.arrays import Array
from scratch.random_offset import random_offsets

#: autodiff's gradient by the names of variables and inputs; None where autodiff says None
Gradient = Mapping[str, Array | None]

#: a measured value is looked into while its error exceeds this share of it: planted errors of 1e-6 must stand out
SHARP = 1e-7
#: uniform relative shifts of a whole variable, in units in the last place of what it computes in: they compute a
#: gradient again with other rounding, without breaking the ties and zeros that kinks are made of
SHIFTS = (16, -16, 24)
#: how far beside the point a gradient is computed again where SHIFTS did break a tie (two variables that are equal, a
#: sum that is zero by its rounding): far more than the shifts, so that none of them crosses a kink, and still the same
#: neighbourhood
ASIDE = 2.0**-26
#: how far the upstream gradient is moved: thousands of units in the last place, and far less than would hide an error
#: of 1e-6 in a backward pass that is not linear in it
UPSTREAM = 2.0**-40
#: in such steps: no whole ones, which would leave it on the grid that it came from
UNEVEN = (0.9, -1.7, 2.3)


@dataclass(frozen=True, kw_only=True)
class Autodiff:
    """Autodiff's gradient at a point and its rounding error, measured when it is asked for.

    gradient           by name, None where autodiff says None
    at                 the same at another point
    measure_rounding   the absolute rounding error of every entry
    measure_again      the same in another way, which costs more: asked for before a value is called wrong
    how                the mode of autodiff, in words
    """

    gradient: Gradient
    at: Callable[[Mapping[str, Array]], Autodiff]
    measure_rounding: Callable[[], Mapping[str, Array]]
    measure_again: Callable[[], Mapping[str, Array]] | None = None
    how: str = "eager"

    @cached_property
    def rounding(self) -> Mapping[str, Array]:
        """The absolute rounding error of every entry."""
        return self.measure_rounding()

    @cached_property
    def largest_rounding(self) -> Mapping[str, Array]:
        """The larger of both measurements of the rounding error."""
        if self.measure_again is None:
            return self.rounding
        second = self.measure_again()
        return {name: np.fmax(own, second[name]) for name, own in self.rounding.items()}


def autodiff_at(
    loss: LossFunction, values: Mapping[str, Array], *, mode: str = "eager", measured: bool = True
) -> Autodiff:
    """Autodiff's gradient at a point, in one of the modes of evaluation.gradient_modes.

    With `measured` False its rounding error is measured when it is asked for, which must be before the loss
    function is moved.
    """
    gradient = loss.gradient(mode, at=values)
    rounding = _Rounding(loss=loss, values=values, gradient=gradient, mode=mode)
    found = Autodiff(
        gradient=gradient,
        at=lambda point: autodiff_at(loss, point, mode=mode),
        measure_rounding=cache(rounding.of_shifts),
        measure_again=cache(rounding.of_entries_and_upstream),
        how=mode,
    )
    if measured:
        found.measure_rounding()
    return found


def shifted_points(
    values: Mapping[str, Array], unit: float, *, shifts: tuple[int, ...] = SHIFTS
) -> list[dict[str, Array]]:
    """The point with every variable scaled by 1 + a few units, by another number of units for its neighbours."""
    return [
        {name: value * (1 + shift * unit * (1 + ((i + k) % 3) / 2)) for i, (name, value) in enumerate(values.items())}
        for k, shift in enumerate(shifts)
    ]


def point_beside(values: Mapping[str, Array], generator: np.random.Generator, *, distance: float) -> dict[str, Array]:
    """A generic point close by, `distance` in units of each entry's size: no tie and no zero is left."""
    return {
        name: values[name] + offset for name, offset in random_offsets(values, generator, distance=distance).items()
    }


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


@dataclass(frozen=True, kw_only=True)
class _Rounding:
    """The rounding error of a gradient at a point, measured by computing the gradient again with other rounding."""

    loss: LossFunction
    values: Mapping[str, Array]
    gradient: Gradient
    mode: str

    def of_shifts(self) -> dict[str, Array]:
        """rounding = 4 · median |change under SHIFTS| + 8 units in the last place of the value itself.

        A change that is no rounding but a jump from one side of a kink to the other would excuse any error: where an
        entry changes by more than SHARP of itself, all is measured again at a generic point beside, where no tie is
        left, and the smaller change counts.
        """
        spread = self._spread(self.values, self.gradient)
        if any((4 * spread[name] > SHARP * np.abs(g)).any() for name, g in self.gradient.items() if g is not None):
            beside = point_beside(self.values, np.random.default_rng(len(spread)), distance=ASIDE)
            again = self._spread(beside, self._gradient_at(beside))
            spread = {name: np.fmin(own, again[name]) for name, own in spread.items()}
        return self._allowed(spread)

    def of_entries_and_upstream(self) -> dict[str, Array]:
        """The rounding error measured in two other ways, the larger of which counts.

        Every entry is moved by itself, at a generic point beside where there are no ties to keep; and the gradient that
        comes in from above is scaled, where nothing of the point moves. Under SHIFTS all entries of a variable move
        alike, and a difference of two of them (a softmax) stands still with the rounding that it has; in
        exp(log g - y + x) with x near 400 it is that of log g - y, which no move of x changes.
        """
        generator = np.random.default_rng(len(self.values))
        beside = point_beside(self.values, generator, distance=ASIDE)
        apart = [
            {
                name: value * (1 + shift * self.loss.unit * generator.choice([-1.0, 1.0], np.shape(value)))
                for name, value in beside.items()
            }
            for shift in SHIFTS
        ]
        by_entry = _median_changes(self._gradient_at(beside), [self._gradient_at(point) for point in apart])
        scaled = [self.loss.gradient(self.mode, at=self.values, upstream=1 + factor * UPSTREAM) for factor in UNEVEN]
        by_upstream = _median_changes(self.gradient, scaled)
        return self._allowed({name: np.fmax(by_entry[name], by_upstream[name]) for name in self.values})

    def _gradient_at(self, point: Mapping[str, Array]) -> Gradient:
        return self.loss.gradient(self.mode, at=point)

    def _spread(self, point: Mapping[str, Array], gradient: Gradient) -> dict[str, Array]:
        """The median change of each entry under SHIFTS."""
        return _median_changes(gradient, [self._gradient_at(p) for p in shifted_points(point, self.loss.unit)])

    def _allowed(self, spread: Mapping[str, Array]) -> dict[str, Array]:
        """The rounding error of every entry: none where the gradient is not finite, which is judged by itself."""
        found = {}
        for name, value in self.values.items():
            own = self.gradient[name]
            if own is None:
                found[name] = np.zeros_like(value)
                continue
            with np.errstate(invalid="ignore"):
                allowed = 4 * spread[name] + 8 * self.loss.unit * np.abs(own)
            found[name] = np.where(np.isfinite(own) & np.isfinite(allowed), allowed, 0.0)
        return found


def _median_changes(origin: Gradient, others: Sequence[Gradient]) -> dict[str, Array]:
    """The median change of every entry of a gradient by name; nan where autodiff says None in one of them."""
    found = {}
    for name, here in origin.items():
        there = [gradient for other in others if (gradient := other[name]) is not None]
        if here is None or len(there) < len(others):
            found[name] = np.array(np.nan)
            continue
        with np.errstate(invalid="ignore"):
            found[name] = np.asarray(np.median([np.abs(gradient - here) for gradient in there], axis=0))
    return found
