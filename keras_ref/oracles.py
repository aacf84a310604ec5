"""The losses that are nudged: Keras's own forward pass, and the NumPy twin's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_ref.comparison import Autodiff
from keras_ref.probe import Probe
from scratch import noise as loss_noise
from scratch.differences import UNIT
from scratch.gradient import Nudges

Array = np.ndarray


@dataclass(frozen=True)
class ForwardOracle:
    """Keras's own forward pass in float64."""

    probe: Probe
    values: Mapping[str, Array]
    base: float
    noise: float
    name: str = "forward"

    @classmethod
    def at(cls, probe: Probe, values: Mapping[str, Array], *, seed: int = 0) -> ForwardOracle:
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
        return ForwardOracle(self.probe, values, base, self.noise)


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
    specifications: tuple[Any, ...] = ()

    @classmethod
    def at(cls, make: Callable[[Mapping[str, Array]], Nudges], names: Mapping[str, str], values: Mapping[str, Array], *, seed: int = 0) -> TwinOracle:
        """The oracle at a point; `make` builds the nudges from values under the probe's names."""
        nudges = make(values)

        def directional(direction: Mapping[str, Array], steps: Array) -> Array:
            return nudges.directional({names[n]: v for n, v in direction.items()}, steps)

        known = {n: v for n, v in values.items() if n in names}
        return cls(nudges, make, names, values, nudges.base, loss_noise.measure(directional, known, nudges.base, seed=seed))

    def losses(self, name: str, entries: Array, offsets: Array) -> Array:
        return self.nudges.losses(self.names[name], entries, offsets)

    def directional(self, direction: Mapping[str, Array], steps: Array) -> Array:
        return np.asarray(self.nudges.directional({self.names[n]: v for n, v in direction.items()}, steps))

    def moved(self, values: Mapping[str, Array]) -> TwinOracle:
        nudges = self.make(values)
        return TwinOracle(nudges, self.make, self.names, values, nudges.base, self.noise, self.name, self.takes_complex, self.specifications)


#: uniform relative shifts of a whole variable, about sixteen units in the last place: they re-roll the rounding of a
#: gradient without breaking the ties and zeros that kinks are made of
SHIFTS = (2.0**-48, -(2.0**-48), 3 * 2.0**-49)


def autodiff_at(probe: Probe, values: Mapping[str, Array], *, mode: str = "eager") -> Autodiff:
    """Autodiff's gradient at a point, with its rounding error measured by re-rolling it.

    rounding = 4 · median |change under SHIFTS| + 8 units in the last place of the value itself.
    """
    gradient = probe.gradient(mode, at=values)
    changes: dict[str, list[Array]] = {name: [] for name in values}
    for k, shift in enumerate(SHIFTS):
        shifted = {name: value * (1 + shift * (1 + ((i + k) % 3) / 2)) for i, (name, value) in enumerate(values.items())}
        for name, again in probe.gradient(mode, at=shifted).items():
            here = gradient[name]
            if again is not None and here is not None:
                changes[name].append(np.abs(again - here))
    rounding = {
        name: np.zeros_like(value)
        if gradient[name] is None
        else _rounding(_some(gradient[name]), changes[name])
        for name, value in values.items()
    }
    return Autodiff(gradient, rounding, lambda point: autodiff_at(probe, point, mode=mode), how=mode)


def _rounding(gradient: Array, changes: list[Array]) -> Array:
    """No allowance where the gradient is not finite: that is judged by itself."""
    with np.errstate(invalid="ignore"):
        spread = 4 * np.median(changes, axis=0) + 8 * UNIT * np.abs(gradient)
    return np.where(np.isfinite(gradient) & np.isfinite(spread), spread, 0.0)


def _some(value: Any) -> Array:
    return np.asarray(value)
