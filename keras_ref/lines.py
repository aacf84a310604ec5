"""The loss of a probe along directions, the weights moved inside the traced function: no flat copy of millions of
weights for each evaluation, and nothing to put back. It stands in for a probe in oracles.ForwardOracle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ref.probe import Probe
from keras_ref.retype import DTYPE

Array = np.ndarray
ZERO = np.float64(0.0)


class Lines:
    """Losses of a probe at θ + step · direction, θ the probe's point (or `at`), one evaluation after another.

    Shapes  a direction holds arrays by name; names left out stay.   The first evaluation traces.
    """

    def __init__(self, probe: Probe) -> None:
        self.probe, self.values = probe, probe.values
        self._held = probe._held()
        self._tensors: tuple[Any, list[Any]] = (None, [])
        anything, number = tf.TensorSpec(None, DTYPE), tf.TensorSpec([], DTYPE)
        point = [tf.TensorSpec(value.shape, DTYPE) for value in self.values.values()]
        held = tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), self._held)
        self._evaluate = tf.function(self._moved, autograph=False, input_signature=[number, [anything] * len(point), point, held])

    def _moved(self, step: Any, direction: list[Any], point: list[Any], held: list[Any]) -> Any:
        parts = {
            name: tf.ensure_shape(value + step * move, value.shape)
            for name, value, move in zip(self.values, point, direction, strict=True)
        }
        return tf.cast(self.probe.loss_of(parts, held), DTYPE)

    def _point(self, values: Mapping[str, Array]) -> list[Any]:
        if self._tensors[0] is not values:
            self._tensors = (values, [tf.constant(values[name], DTYPE) for name in self.values])
        return self._tensors[1]

    def directional(self, direction: Mapping[str, Array], steps: Array, *, at: Mapping[str, Array] | None = None) -> Array:
        """Losses (m,) along the point (or `at`) + step · direction."""
        point = self._point(self.values if at is None else at)
        moves = [tf.constant(direction.get(name, ZERO), DTYPE) for name in self.values]
        self.probe.evaluations += len(steps)
        return np.array([float(self._evaluate(tf.constant(step, DTYPE), moves, point, self._held)) for step in steps])

    def losses(self, name: str, entries: Array, offsets: Array, *, at: Mapping[str, Array] | None = None) -> Array:
        """Losses (m, e) with entry entries[j] of `name` moved by offsets[i, j]."""
        shape = self.values[name].shape
        columns = []
        for entry, steps in zip(entries, np.transpose(offsets), strict=True):
            one = np.zeros(shape)
            one.flat[entry] = 1.0
            columns.append(self.directional({name: one}, steps, at=at))
        return np.stack(columns, axis=1) if columns else np.zeros(offsets.shape)
