"""The losses that are nudged: Keras's own forward pass, and the NumPy twin's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keras_ref.comparison.entrywise import Autodiff
from keras_ref.evaluation.graph import opaque
from keras_ref.evaluation.loss_function import Probe
from scratch import noise as loss_noise
from scratch.arrays import Array
from scratch.gradient import Nudges


@dataclass(frozen=True)
class ForwardOracle:
    """Keras's own forward pass in float64."""

    probe: Probe
    values: Mapping[str, Array]
    base: float
    noise: float
    name: str = "forward"
    kinks: bool = True

    @classmethod
    def at(cls, probe: Probe, values: Mapping[str, Array], *, seed: int = 0) -> ForwardOracle:
        """The oracle at a point, its noise measured there."""

        def directional(direction: Mapping[str, Array], steps: Array) -> Array:
            return probe.directional(direction, steps, at=values)

        base = float(directional({}, np.zeros(1))[0])
        return cls(probe, values, base, noise_at(probe, values, base, seed=seed))

    def losses(self, name: str, entries: Array, offsets: Array) -> Array:
        return self.probe.losses(name, entries, offsets, at=self.values)

    def directional(self, direction: Mapping[str, Array], steps: Array) -> Array:
        return self.probe.directional(direction, steps, at=self.values)

    def moved(self, values: Mapping[str, Array]) -> ForwardOracle:
        base = float(self.probe.directional({}, np.zeros(1), at=values)[0])
        return replace(self, values=values, base=base, noise=noise_at(self.probe, values, base))


def noise_at(probe: Probe, values: Mapping[str, Array], base: float, *, seed: int = 0) -> float:
    """The absolute rounding error of the loss at a point.

    What Python code inside the graph computes is not seen there; nor is anything where rounding takes the loss out of its
    domain. Then it is estimated from differences, and the larger of the two counts.
    """
    noise = probe.noise(at=values)
    if np.isfinite(noise) and not opaque(probe.graph):
        return noise
    differenced = loss_noise.measure(lambda d, steps: probe.directional(d, steps, at=values), values, base, seed=seed)
    return float(np.fmax(noise, differenced))


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
        return cls(nudges, make, names, values, nudges.base, nudges.noise)

    def losses(self, name: str, entries: Array, offsets: Array) -> Array:
        return self.nudges.losses(self.names[name], entries, offsets)

    def directional(self, direction: Mapping[str, Array], steps: Array) -> Array:
        return np.asarray(self.nudges.directional({self.names[n]: v for n, v in direction.items()}, steps))

    def moved(self, values: Mapping[str, Array]) -> TwinOracle:
        nudges = self.make(values)
        return replace(self, nudges=nudges, values=values, base=nudges.base, noise=nudges.noise)


def autodiff_at(probe: Probe, values: Mapping[str, Array], *, mode: str = "eager") -> Autodiff:
    """Autodiff's gradient at a point; its rounding error there is measured when it is asked for."""
    return Autodiff(
        probe.gradient(mode, at=values),
        lambda: probe.gradient_rounding(at=values),
        lambda point: autodiff_at(probe, point, mode=mode),
        mode,
    )
