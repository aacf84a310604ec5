"""The loss along directions that move all weights at once.

The weights are moved inside the traced function: no evaluation copies millions of weights into one vector, and there is
nothing to put back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ref.evaluation.changed_state.float64 import DTYPE
from keras_ref.evaluation.changed_state.traced_functions import take_note_of_call
from keras_ref.evaluation.graphs.operation_rounding import EXACT_SCOPE
from keras_ref.evaluation.keras_objects.real_parts import from_real_parts
from keras_ref.evaluation.loss_function import LossFunction
from keras_ref.evaluation.nudged_losses.domain import losses_in_domain
from keras_ref.evaluation.rounding_errors.rounded_nodes import BY_THEMSELVES
from keras_ref.evaluation.rounding_errors.rounding import ConversionFailed, Rounded
from scratch.arrays import Array
from scratch.noise import ROLLS

ZERO = np.float64(0.0)


class DirectionalLoss:
    """Losses of a loss function at θ + step · direction, θ its point (or `at`), one evaluation after another.

    A direction holds arrays by name, of the shapes of the values; names that are left out stay where they are.
    It has what an oracle asks of a loss (NudgedLoss in comparison/sources/differenced_loss.py), and no gradient: that
    is the loss function's.
    """

    def __init__(self, function: LossFunction) -> None:
        self.function = function
        self._tensors: tuple[Any, list[Any]] = (None, [])
        self._moves: tuple[Any, list[Any]] = (None, [])
        self._evaluate = function.complete(self._trace, self._move)
        function.traced_along = None if self.graph is None else self._evaluate
        self._rounded: Rounded | None = None
        self._branch: Rounded | None = None
        self._held = function.prepare_arguments()[1]

    @property
    def unit(self) -> float:
        """The unit roundoff of the loss function."""
        return self.function.unit

    @property
    def graph(self) -> Any:
        """The traced loss as a graph; None where it runs only eagerly."""
        return getattr(self._evaluate, "graph", None)

    @property
    def passes_singly(self) -> bool:
        """Whether each loss takes a pass of its own, without a graph."""
        return self.graph is None

    def _trace(self) -> Any:
        anything, number = tf.TensorSpec(None, DTYPE), tf.TensorSpec([], DTYPE)
        point = [tf.TensorSpec(value.shape, DTYPE) for value in self.function.values.values()]
        held = tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), self.function.prepare_arguments()[1])
        return tf.function(self._move, autograph=False).get_concrete_function(
            number, [anything] * len(point), point, held
        )

    def _move(self, step: Any, direction: list[Any], point: list[Any], held: list[Any]) -> Any:
        with tf.name_scope(EXACT_SCOPE):
            moved = [
                tf.ensure_shape(value + step * move, value.shape) for value, move in zip(point, direction, strict=True)
            ]
        parts = {
            name: from_real_parts(value, source.dtype)
            for name, source, value in zip(self.function.values, self.function.sources.values(), moved, strict=True)
        }
        return tf.cast(self.function.loss_of(parts, held), DTYPE)

    def _read_point(self, values: Mapping[str, Array]) -> list[Any]:
        if self._tensors[0] is not values:
            self._tensors = (values, [tf.constant(values[name], DTYPE) for name in self.function.values])
        return self._tensors[1]

    def _direction(self, direction: Mapping[str, Array]) -> list[Any]:
        if self._moves[0] is not direction:
            self._moves = (None, [])  # gone before the next ones are made: each may be as large as the model
            self._moves = (direction, [tf.constant(direction.get(n, ZERO), DTYPE) for n in self.function.values])
        return self._moves[1]

    def _loss_at(self, step: float, moves: list[Any], point: list[Any]) -> float:
        """The loss of one pass. Of a trace it is called by its name: to look at a thousand arguments one by one, as a
        call of the concrete function does, takes longer than some passes.
        """
        number = tf.constant(step, DTYPE)
        if self.graph is None:
            return float(self._evaluate(number, moves, point, self._held))
        take_note_of_call(self._evaluate)
        found = tf.raw_ops.StatefulPartitionedCall(
            args=[number, *moves, *point, *self._held, *self._evaluate.captured_inputs],
            Tout=[tf.as_dtype(DTYPE)],
            f=self._evaluate.function_def.signature.name,
        )
        return float(found[0])

    def directional(
        self, direction: Mapping[str, Array], steps: Array, *, at: Mapping[str, Array] | None = None
    ) -> Array:
        """Losses (m,) along the point (or `at`) + step · direction."""
        point, moves = self._read_point(self.function.values if at is None else at), self._direction(direction)
        self.function.evaluations += len(steps)
        given = np.asarray(steps) == 0 if at is None or at is self.function.values else np.zeros(len(steps), bool)

        def loss_of(some: Array) -> Array:
            return np.array([self._loss_at(steps[i], moves, point) for i in some])

        try:
            found = [losses_in_domain(loss_of, np.array([i]), given=given) for i in range(len(steps))]
            return np.concatenate(found) if found else np.zeros(0)
        finally:
            if self.function.writes_variables:
                self.function.restore_values()

    def noise(self, *, at: Mapping[str, Array] | None = None) -> float:
        """The absolute rounding error of the loss at the point (or `at`); nan where it cannot be told."""
        if self.graph is None:
            return math.nan
        if self._rounded is None:
            self._rounded = Rounded(self._evaluate)
        point = self._read_point(self.function.values if at is None else at)
        moves = [tf.constant(ZERO, DTYPE)] * len(point)
        try:
            return self._rounded.noise([tf.constant(ZERO, DTYPE), *moves, *point, *self._held], calls=ROLLS)
        except ConversionFailed as failed:
            self.function.estimated["loss"] = str(failed)
            return math.nan
        finally:
            if self.function.writes_variables:
                self.function.restore_values()

    def noise_along(self, name: str, *, at: Mapping[str, Array] | None = None) -> float:
        """The absolute rounding error of losses in which one name moves alone; nan where it cannot be told."""
        return self.function.noise_along(name, at=at)

    def branch_directional(
        self, direction: Mapping[str, Array], steps: Array, *, at: Mapping[str, Array] | None = None
    ) -> Array:
        """`directional` with every comparison, index and rounding decided as at the point, off by rounding."""
        if self._branch is None:
            self._branch = Rounded(self._evaluate, moves_point=True)
        point = self._read_point(self.function.values if at is None else at)
        moves = [tf.constant(direction.get(n, np.zeros_like(v)), DTYPE) for n, v in self.function.values.items()]
        rest = [*moves, *point, *self._held]
        here = [tf.constant(ZERO, DTYPE), *rest]
        self.function.evaluations += len(steps)
        try:
            there = [[tf.constant(step, DTYPE), *rest] for step in steps]
            return np.array([float(self._branch.roll(here, how=BY_THEMSELVES, copies=one).rolled[0]) for one in there])
        finally:
            if self.function.writes_variables:
                self.function.restore_values()

    def branch_losses(
        self, name: str, entries: Array, offsets: Array, *, at: Mapping[str, Array] | None = None
    ) -> Array:
        """`losses` with every comparison, index and rounding decided as at the point, off by rounding."""
        return self._evaluate_one_by_one(self.branch_directional, name, entries=entries, offsets=offsets, at=at)

    def losses(self, name: str, entries: Array, offsets: Array, *, at: Mapping[str, Array] | None = None) -> Array:
        """Losses (m, e) with entry entries[j] of `name` moved by offsets[i, j]."""
        if not self.passes_singly:
            return self._evaluate_one_by_one(self.directional, name, entries=entries, offsets=offsets, at=at)
        values = self.function.values if at is None else at
        flat_entries, targets = self.function.find_targets(name, entries, offsets, values=values)

        def compute(some: Array) -> Array:
            steps, which = np.ravel(offsets), np.arange(offsets.size) % len(entries)
            found = np.zeros(len(some))
            for j in np.unique(which[some]):
                mine = which[some] == j
                found[mine] = self._evaluate_one_by_one(
                    self.directional, name, entries=entries[[j]], offsets=steps[some[mine]][:, None], at=at
                )[:, 0]
            return found

        known = self.function.remembered.compute(
            values.values(), entries=flat_entries, targets=targets, compute=compute
        )
        return known.reshape(offsets.shape)

    def _evaluate_one_by_one(
        self,
        along: Callable[..., Array],
        name: str,
        entries: Array,
        offsets: Array,
        at: Mapping[str, Array] | None,
    ) -> Array:
        columns = []
        for entry, steps in zip(entries, np.transpose(offsets), strict=True):
            one = np.zeros(self.function.values[name].shape)
            one.flat[entry] = 1.0
            columns.append(along({name: one}, steps, at=at))
        return np.stack(columns, axis=1) if columns else np.zeros(offsets.shape)
