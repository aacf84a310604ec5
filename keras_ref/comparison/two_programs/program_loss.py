"""The loss of a program as a comparison asks for it: Keras on another backend, checked as Keras on TensorFlow is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from keras_ref.errors import UserCodeFailed
from keras_ref.evaluation.backward_errors import Refused
from keras_ref.evaluation.keras_objects.leaves import name_leaves
from keras_ref.evaluation.loss_function import Data
from keras_ref.programs.program import Point, Program
from scratch.arrays import Array
from scratch.differences import UNIT


class ProgramLoss:
    """The loss of a program at a point, by the paths of its trained weights and the names of its float inputs.

    Its operations are out of reach: rounding is estimated from differences, as for a loss that runs only eagerly.

    point       where the gradient is compared, all weights included
    paths       {name in a report: name in the program} of the weights that are moved
    variables   the TensorFlow variables of the same names, for the twin
    """

    graph: Any = None
    passes_singly = False
    untracked: list[Any] = []  # noqa: RUF012 (none, ever)
    opaque_unit = 0.0

    def __init__(
        self,
        program: Program,
        point: Point,
        *,
        paths: Mapping[str, str],
        variables: Mapping[str, Any],
        watch_inputs: bool = True,
    ) -> None:
        self._program, self._paths = program, dict(paths)
        self._point = replace(point, inputs=watch_inputs)
        self.variables: Mapping[str, Any] = variables
        leaves = {name: leaf for name, leaf in name_leaves(point.x).items() if _is_movable(leaf)}
        self.inputs: Mapping[str, Any] = leaves if watch_inputs else {}
        own = {path: point.weights[name] for path, name in self._paths.items()}
        self.values: dict[str, Array] = {n: np.asarray(v, dtype=float) for n, v in (own | dict(self.inputs)).items()}
        self.data = Data(point.x, point.cotangent if point.cotangent is not None else point.y, point.sample_weight)
        self.unit = UNIT
        self.refused: dict[str, Refused] = {}
        self.estimated: dict[str, str] = {}
        self.seen: dict[str, float] = {}
        self.evaluations = 0

    def _make_point(self, values: Mapping[str, Array] | None) -> Point:
        return self._point if values is None else self._point.at(self._own(values))

    def _own(self, values: Mapping[str, Array]) -> dict[str, Array]:
        """Values by the program's own names."""
        return {self._paths.get(name, name): value for name, value in values.items()}

    def losses(self, name: str, entries: Array, offsets: Array, *, at: Mapping[str, Array] | None = None) -> Array:
        """Losses (m, e) with entry entries[j] of `name` moved by offsets[i, j]; all else as at the point (or `at`)."""
        self.evaluations += int(np.size(offsets))
        return self._program.losses(self._make_point(at), self._paths.get(name, name), np.asarray(entries), offsets)

    def directional(
        self, direction: Mapping[str, Array], steps: Array, *, at: Mapping[str, Array] | None = None
    ) -> Array:
        """Losses (m,) along the point (or `at`) + step · direction; names left out of `direction` stay."""
        self.evaluations += len(steps)
        return self._program.losses_along(self._make_point(at), self._own(direction), np.asarray(steps, dtype=float))

    def branch_losses(
        self, name: str, entries: Array, offsets: Array, *, at: Mapping[str, Array] | None = None
    ) -> Array:
        """Not to be had without a graph: as `losses`."""
        return self.losses(name, entries, offsets, at=at)

    def branch_directional(
        self, direction: Mapping[str, Array], steps: Array, *, at: Mapping[str, Array] | None = None
    ) -> Array:
        """Not to be had without a graph: as `directional`."""
        return self.directional(direction, steps, at=at)

    def noise(self, *, at: Mapping[str, Array] | None = None) -> float:
        """Nan: the operations are out of reach."""
        del at
        return math.nan

    def noise_along(self, name: str, *, at: Mapping[str, Array] | None = None) -> float:
        """Nan: the operations are out of reach."""
        del name
        return self.noise(at=at)

    def gradient(self, mode: str = "eager", *, at: Mapping[str, Array] | None = None) -> dict[str, Array | None]:
        """The program's own gradient, {name: array} at the point (or `at`); None where it gives None."""
        trace = self._program.differentiate(self._make_point(at))
        if at is None or at is self.values:
            self.seen[mode] = trace.loss
        return {name: trace.gradient.get(self._paths.get(name, name)) for name in self.values}

    def gradient_rounding(self, *, at: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Raises: UserCodeFailed, since the operations are out of reach."""
        raise UserCodeFailed("The operations of a program are out of reach.")

    def gradient_in(self, precision: str) -> dict[str, Array | None]:
        """The gradient by the weights where the program computes in another precision."""
        trace = self._program.differentiate(replace(self._point, precision=precision, inputs=False))
        return {path: trace.gradient.get(name) for path, name in self._paths.items()}


def _is_movable(leaf: Any) -> bool:
    """Whether a leaf of inputs holds floats, none of them infinite."""
    return leaf is not None and np.asarray(leaf).dtype.kind == "f" and bool(np.isfinite(leaf).all())
