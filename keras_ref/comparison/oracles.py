"""The losses that are nudged: Keras's own forward pass, and the NumPy twin's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import numpy as np

from keras_ref.comparison.entrywise import SHARP, Autodiff, generic
from keras_ref.evaluation.loss_function import LossFunction
from scratch import noise as loss_noise
from scratch.arrays import Array
from scratch.gradient import Nudges


@dataclass(frozen=True)
class ForwardOracle:
    """Keras's own forward pass in float64."""

    probe: LossFunction
    values: Mapping[str, Array]
    base: float
    noise: float
    name: str = "forward"
    kinks: bool = True
    second: TwinOracle | None = None

    @classmethod
    def at(cls, probe: LossFunction, values: Mapping[str, Array], *, seed: int = 0) -> ForwardOracle:
        """The oracle at a point, its noise measured there."""

        def directional(direction: Mapping[str, Array], steps: Array) -> Array:
            return probe.directional(direction, steps, at=values)

        base = float(directional({}, np.zeros(1))[0])
        return cls(probe, values, base, loss_noise.measure(directional, values, base, seed=seed))

    def losses(self, name: str, entries: Array, offsets: Array) -> Array:
        return self.probe.losses(name, entries, offsets, at=self.values)

    def directional(self, direction: Mapping[str, Array], steps: Array) -> Array:
        return self.probe.directional(direction, steps, at=self.values)

    def moved(self, values: Mapping[str, Array]) -> ForwardOracle:
        base = float(self.probe.directional({}, np.zeros(1), at=values)[0])
        return replace(self, values=values, base=base)

    def doubted(self) -> ForwardOracle:
        """The same with the noise that more bits show in the twin of the same definition, where there is one."""
        return self if self.second is None else replace(self, noise=max(self.noise, self.second.hidden_noise))


@dataclass(frozen=True)
class TwinOracle:
    """The NumPy twin. `names` maps the names of the probe's variables and inputs to those of the twin."""

    nudges: Nudges
    make: Callable[[Mapping[str, Array]], Nudges]
    names: Mapping[str, str]
    values: Mapping[str, Array]
    base: float
    noise: float
    name: str = "twin"
    takes_complex: bool = True
    kinks: bool = True
    specifications: tuple[Any, ...] = ()

    @classmethod
    def at(
        cls,
        make: Callable[[Mapping[str, Array]], Nudges],
        names: Mapping[str, str],
        values: Mapping[str, Array],
        *,
        seed: int = 0,
    ) -> TwinOracle:
        """The oracle at a point; `make` builds the nudges from values under the probe's names."""
        nudges = make(values)

        def directional(direction: Mapping[str, Array], steps: Array) -> Array:
            return nudges.directional({names[n]: v for n, v in direction.items()}, steps)

        known = {n: v for n, v in values.items() if n in names}
        return cls(
            nudges, make, names, values, nudges.base, loss_noise.measure(directional, known, nudges.base, seed=seed)
        )

    def losses(self, name: str, entries: Array, offsets: Array) -> Array:
        return self.nudges.losses(self.names[name], entries, offsets)

    def directional(self, direction: Mapping[str, Array], steps: Array) -> Array:
        return np.asarray(self.nudges.directional({self.names[n]: v for n, v in direction.items()}, steps))

    def moved(self, values: Mapping[str, Array]) -> TwinOracle:
        nudges = self.make(values)
        return replace(self, nudges=nudges, values=values, base=nudges.base)

    def doubted(self) -> TwinOracle:
        """The same with the noise that more bits show: asked for before a gradient is accused."""
        return replace(self, noise=max(self.noise, self.hidden_noise))

    @cached_property
    def hidden_noise(self) -> float:
        """Rounding that no difference of neighbouring losses shows (see scratch.noise.against_more_bits)."""

        def directional(direction: Mapping[str, Array], steps: Array) -> Array:
            return self.nudges.directional({self.names[n]: v for n, v in direction.items()}, steps)

        return loss_noise.against_more_bits(directional, {n: v for n, v in self.values.items() if n in self.names})


#: uniform relative shifts of a whole variable, about sixteen units in the last place of what it computes in: they re-roll
#: the rounding of a gradient without breaking the ties and zeros that kinks are made of
SHIFTS = (16, -16, 24)
#: how far beside the point a gradient is rolled again where SHIFTS did break a tie (two variables that are equal, a sum
#: that is zero by its rounding): far more than the shifts, so that none of them crosses a kink, and still the same place
ASIDE = 2.0**-26
#: how far the upstream gradient is moved to roll what becomes of it: thousands of units in the last place, and far less
#: than would hide an error of 1e-6 in a backward pass that is not linear in it
UPSTREAM = 2.0**-40
#: in such steps: no whole ones, which would leave it on the grid that it came from
UNEVEN = (0.9, -1.7, 2.3)


def autodiff_at(probe: LossFunction, values: Mapping[str, Array], *, mode: str = "eager") -> Autodiff:
    """Autodiff's gradient at a point, with its rounding error measured by re-rolling it.

    rounding = 4 · median |change under SHIFTS| + 8 units in the last place of the value itself. A change that is no
    rounding but a jump from one side of a kink to the other would excuse any error: an entry that changes by more than
    SHARP of itself is rolled again at a generic point beside, where no tie is left, and the smaller change counts.
    """
    gradient = probe.gradient(mode, at=values)
    spread = _spread(probe, values, gradient, mode)
    if any((4 * spread[name] > SHARP * np.abs(g)).any() for name, g in gradient.items() if g is not None):
        generator = np.random.default_rng(len(spread))
        beside = {name: value + generic(value, generator, ASIDE) for name, value in values.items()}
        again = _spread(probe, beside, probe.gradient(mode, at=beside), mode)
        spread = {name: np.fmin(s, again[name]) for name, s in spread.items()}
    rounding = {
        name: np.zeros_like(value) if (g := gradient[name]) is None else _rounding(g, spread[name], probe.unit)
        for name, value in values.items()
    }
    return Autodiff(
        gradient,
        rounding,
        lambda point: autodiff_at(probe, point, mode=mode),
        mode,
        cache(lambda: _rolled_apart(probe, values, gradient, mode)),
    )


def _rolled_apart(
    probe: LossFunction, values: Mapping[str, Array], gradient: Mapping[str, Array | None], mode: str
) -> dict[str, Array]:
    """The rounding error rolled in two other ways, the larger of which counts: every entry by itself, at a generic point
    beside where there are no ties to keep; and the gradient that comes in from above, where nothing of the point moves.

    Under SHIFTS all entries of a variable move alike, and a difference of two of them (a softmax) stands still with the
    rounding that it has; in exp(log g - y + x) with x near 400 it is that of log g - y, which no x rolls.
    """
    generator = np.random.default_rng(len(values))
    beside = {name: value + generic(value, generator, ASIDE) for name, value in values.items()}
    apart = [
        {n: v * (1 + shift * probe.unit * generator.choice([-1.0, 1.0], np.shape(v))) for n, v in beside.items()}
        for shift in SHIFTS
    ]
    rolls = (
        (probe.gradient(mode, at=beside), [probe.gradient(mode, at=moved) for moved in apart]),
        (gradient, [probe.gradient(mode, at=values, upstream=1 + factor * UPSTREAM) for factor in UNEVEN]),
    )
    return {
        name: np.zeros_like(value)
        if (g := gradient[name]) is None
        else _rounding(g, np.fmax(*(_median(name, *roll) for roll in rolls)), probe.unit)
        for name, value in values.items()
    }


def _median(name: str, here: Mapping[str, Array | None], others: list[dict[str, Array | None]]) -> Array:
    """The median change of one gradient; nan where autodiff says None somewhere."""
    origin, moved = here[name], [other[name] for other in others]
    if origin is None or any(m is None for m in moved):
        return np.array(np.nan)
    with np.errstate(invalid="ignore"):
        return np.median([np.abs(m - origin) for m in moved], axis=0)  # type: ignore[operator]


def _spread(
    probe: LossFunction, values: Mapping[str, Array], gradient: Mapping[str, Array | None], mode: str
) -> dict[str, Array]:
    """The median change of each entry of a gradient under SHIFTS; nan where none can be told."""
    changes: dict[str, list[Array]] = {name: [] for name in values}
    for k, shift in enumerate(SHIFTS):
        shifted = {
            name: value * (1 + shift * probe.unit * (1 + ((i + k) % 3) / 2))
            for i, (name, value) in enumerate(values.items())
        }
        for name, again in probe.gradient(mode, at=shifted).items():
            here = gradient[name]
            if again is not None and here is not None:
                with np.errstate(invalid="ignore"):
                    changes[name].append(np.abs(again - here))
    return {
        name: np.median(changes[name], axis=0) if changes[name] else np.full(np.shape(value), np.nan)
        for name, value in values.items()
    }


def _rounding(gradient: Array, spread: Array, unit: float) -> Array:
    """No allowance where the gradient is not finite: that is judged by itself."""
    with np.errstate(invalid="ignore"):
        allowed = 4 * spread + 8 * unit * np.abs(gradient)
    return np.where(np.isfinite(gradient) & np.isfinite(allowed), allowed, 0.0)
