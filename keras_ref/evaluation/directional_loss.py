"""The loss of a probe along directions, the weights moved inside the traced function: no flat copy of millions of
weights for each evaluation, and nothing to put back. It stands in for a probe in oracles.ForwardOracle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ref.evaluation.float64 import DTYPE
from keras_ref.evaluation.loss_function import LossFunction
from scratch.arrays import Array

ZERO = np.float64(0.0)


class DirectionalLoss:
    """Losses of a probe at θ + step · direction, θ the probe's point (or `at`), one evaluation after another.

    Shapes  a direction holds arrays by name; names left out stay.   Everything else is the probe's own.
    """

    def __init__(self, probe: LossFunction) -> None:
        self.probe = probe
        self._tensors: tuple[Any, list[Any]] = (None, [])
        self._sources = [*probe.variables.values(), *probe.inputs.values()]
        self._evaluate = probe.complete(self._trace)
        self._held = probe.loss_arguments()[1]
        self._writes = any(isinstance(v, tf.Variable) for v in (*probe.variables.values(), *probe._state))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.probe, name)

    @property
    def unit(self) -> float:
        """The probe's own unit."""
        return self.probe.unit

    @unit.setter
    def unit(self, value: float) -> None:
        self.probe.unit = value

    @property
    def graph(self) -> Any:
        """The traced loss as a graph."""
        return self._evaluate.graph

    def _trace(self) -> Any:
        anything, number = tf.TensorSpec(None, DTYPE), tf.TensorSpec([], DTYPE)
        point = [tf.TensorSpec(value.shape, DTYPE) for value in self.probe.values.values()]
        held = tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), self.probe.loss_arguments()[1])
        return tf.function(self._moved, autograph=False).get_concrete_function(
            number, [anything] * len(point), point, held
        )

    def _moved(self, step: Any, direction: list[Any], point: list[Any], held: list[Any]) -> Any:
        parts = {
            name: tf.cast(tf.ensure_shape(value + step * move, value.shape), source.dtype)
            for name, source, value, move in zip(self.probe.values, self._sources, point, direction, strict=True)
        }
        return tf.cast(self.probe.loss_of(parts, held), DTYPE)

    def _point(self, values: Mapping[str, Array]) -> list[Any]:
        if self._tensors[0] is not values:
            self._tensors = (values, [tf.constant(values[name], DTYPE) for name in self.probe.values])
        return self._tensors[1]

    def directional(
        self, direction: Mapping[str, Array], steps: Array, *, at: Mapping[str, Array] | None = None
    ) -> Array:
        """Losses (m,) along the point (or `at`) + step · direction."""
        point = self._point(self.probe.values if at is None else at)
        moves = [tf.constant(direction.get(name, ZERO), DTYPE) for name in self.probe.values]
        self.probe.evaluations += len(steps)
        try:
            return np.array(
                [float(self._evaluate(tf.constant(step, DTYPE), moves, point, self._held)) for step in steps]
            )
        finally:
            if self._writes:  # TensorFlow's own variables are assigned to, where Keras's are replaced
                self.probe._put_back()

    def losses(self, name: str, entries: Array, offsets: Array, *, at: Mapping[str, Array] | None = None) -> Array:
        """Losses (m, e) with entry entries[j] of `name` moved by offsets[i, j]."""
        columns = []
        for entry, steps in zip(entries, np.transpose(offsets), strict=True):
            one = np.zeros(self.probe.values[name].shape)
            one.flat[entry] = 1.0
            columns.append(self.directional({name: one}, steps, at=at))
        return np.stack(columns, axis=1) if columns else np.zeros(offsets.shape)
