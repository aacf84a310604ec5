"""How far rounding moves what a program computes, measured of the program itself.

Its operations are out of reach, so its weights and inputs are off in their place. Three times every entry is off by one
to two and a half units in the last place of the precision that it computes in, up or down at random (OFF of
scratch/noise.py). A layer's own rounding is as large as that of its weights: each of n products is off by half a unit,
and each of its n weights by a whole one or more. What is allowed is CHANGES times the largest change of a tensor over
the three runs, the same multiple that the rounding of an eager backward pass is stated as. CHANGES units of its largest
entry are allowed beside that, for functions that err where their slope is 0 (a saturated tanh). It is an estimate and
no bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keras_ref.comparison.sources.autodiff import CHANGES
from keras_ref.programs.program import Point, Program, Trace, cast
from scratch.arrays import Array
from scratch.noise import OFF

#: runs beside the one at the point
RUNS = 3


@dataclass(frozen=True)
class Measured:
    """A program at a point: its trace, and by how much rounding may have moved each part of it.

    tensors, gradient   the allowed error of every tensor and gradient, one number each
    steps               the same of the weights after each step
    """

    trace: Trace
    tensors: Mapping[str, float]
    loss: float
    gradient: Mapping[str, float]
    steps: tuple[Mapping[str, float], ...]


def measure(program: Program, point: Point, *, seed: int) -> Measured:
    """Run a program at a point and beside it."""
    generator = np.random.default_rng(seed)
    unit = float(np.finfo(point.precision).eps)
    base = program.run(point)
    others = [program.run(shift_point(point, generator, unit)) for _ in range(RUNS)]

    def error(own: Any, changed: list[Any]) -> float:
        """Of one part of the trace."""
        value = np.asarray(own, dtype=float)
        if not value.size:
            return 0.0
        if not np.isfinite(value).any():
            return 0.0
        with np.errstate(invalid="ignore"):
            moved = [np.max(np.abs(np.asarray(o, dtype=float) - value)) for o in changed if np.shape(o) == value.shape]
            largest = float(np.nanmax(np.abs(value), initial=0.0))
        finite = [float(m) for m in moved if np.isfinite(m)]
        return CHANGES * (max(finite, default=0.0) + unit * (largest if np.isfinite(largest) else 0.0))

    gradient = {
        name: error(g, [o.gradient[name] for o in others]) for name, g in base.gradient.items() if g is not None
    }
    return Measured(
        trace=base,
        tensors={name: error(t, [o.tensors.get(name) for o in others]) for name, t in base.tensors.items()},
        loss=error(base.loss, [o.loss for o in others]),
        gradient=gradient,
        steps=tuple(
            {name: error(w, [o.steps[k][name] for o in others]) for name, w in step.items()}
            for k, step in enumerate(base.steps)
        ),
    )


def shift_point(point: Point, generator: np.random.Generator, unit: float) -> Point:
    """The point with every weight and float input off by one to two and a half units in its last place."""
    sizes = np.array([*OFF, *(-size for size in OFF)])

    def off(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: off(part) for key, part in value.items()}
        if isinstance(value, list):
            return [off(part) for part in value]
        if value is None or value.dtype.kind != "f":
            return value
        moved: Array = value * (1 + unit * sizes[generator.integers(0, len(sizes), value.shape)])
        return moved.astype(value.dtype)

    return replace(
        point, weights=off(cast(dict(point.weights), point.precision)), x=off(cast(point.x, point.precision))
    )
