"""How far rounding moves losses; and losses whose decisions are those of the point."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ref.evaluation.graphs.traced_losses import Way
from keras_ref.evaluation.nudged_losses.flat_points import nudge_points, unflatten
from keras_ref.evaluation.nudged_losses.stacked_losses import StackedLosses
from keras_ref.evaluation.rounding_errors.rounded_nodes import BY_THEMSELVES
from keras_ref.evaluation.rounding_errors.rounding import ConversionFailed, Rounded
from scratch.arrays import Array
from scratch.noise import ROLLS


class PerturbedLosses(StackedLosses):
    """Losses of which every operation is off by rounding."""

    def __init__(self, *, variables: Mapping[str, Any], state: Iterable[Any]) -> None:
        super().__init__(variables=variables, state=state)
        #: what of the rounding is estimated from differences, the loss's or the gradient's, as the conversion failed
        self.estimated: dict[str, str] = {}
        self._rounded: Rounded | None = None
        self._rounded_along: dict[str, Rounded] = {}
        self._branch: Rounded | None = None

    def _forget_traces(self) -> None:
        super()._forget_traces()
        self._rounded = self._branch = None
        self._rounded_along.clear()

    def noise(self, *, at: Mapping[str, Array] | None = None) -> float:
        """The absolute rounding error of the loss at the point (or `at`); nan where it cannot be told."""
        evaluate = self._traced()
        if self.way is Way.EAGER:
            return math.nan
        if self._rounded is None:
            self._rounded = Rounded(evaluate, compute=self._as_stack)
        try:
            return self._noise_of(self._rounded, self._make_point(at or self.values))
        finally:
            self._restore_written()

    def _as_stack(self, point: list[Any]) -> list[Any]:
        """What the traced loss computes at a point, by the function that stacks are computed with."""
        count = len(self.values)
        return [self._stacked()(*(tf.expand_dims(part, 0) for part in point[:count]), *point[count:])[0]]

    def _noise_of(self, rounded: Rounded, arguments: list[Any]) -> float:
        try:
            return rounded.noise(arguments, calls=ROLLS)
        except ConversionFailed as failed:
            self.estimated["loss"] = str(failed)
            return math.nan

    def noise_along(self, name: str, *, at: Mapping[str, Array] | None = None) -> float:
        """The absolute rounding error of losses in which one variable or input moves alone, at the point (or `at`).

        What is computed without it is the same in all of them: rounding in float32 before the first layer is none of
        the second layer's. It is nan where it cannot be told: of losses that run only eagerly, or assign to variables.
        """
        self._traced()
        if self.way is Way.EAGER or self.writes_variables:
            return math.nan
        if name not in self._rounded_along:
            place = list(self.values).index(name)
            self._rounded_along[name] = Rounded(self._traced(), moving=[place], compute=self._as_stack)
        return self._noise_of(self._rounded_along[name], self._make_point(at or self.values))

    def branch_losses(
        self, name: str, entries: Array, offsets: Array, *, at: Mapping[str, Array] | None = None
    ) -> Array:
        """`losses` on the branch that the point lies on: comparisons, indices and roundings are decided as there.

        Off by rounding, as `Rounded` computes: what losses at the point itself differ by is their noise.
        """
        values = at or self.values
        where = np.broadcast_to(self._offsets[name] + np.asarray(entries), offsets.shape).ravel().astype(np.int64)
        found = self._run_branch(values, steps=np.zeros(len(where)), entries=where, offsets=offsets.ravel())
        return found.reshape(offsets.shape)

    def branch_directional(
        self, direction: Mapping[str, Array], steps: Array, *, at: Mapping[str, Array] | None = None
    ) -> Array:
        """`directional` on the branch that the point lies on, as `branch_losses` has it."""
        values, steps = at or self.values, np.asarray(steps, dtype=float)
        vector = self._flatten({name: direction.get(name, np.zeros_like(value)) for name, value in values.items()})
        first = np.zeros(len(steps), np.int64)
        return self._run_branch(values, steps=steps, entries=first, offsets=steps * vector[0], direction=vector)

    def _run_branch(
        self,
        values: Mapping[str, Array],
        *,
        steps: Array,
        entries: Array,
        offsets: Array,
        direction: Array | None = None,
    ) -> Array:
        """Losses at values + step · direction with one entry of the flat vector moved, decided as at values."""
        flat, held, shapes = self._flatten(values), self._pack_held(), self._shapes
        targets = flat[entries] + offsets
        self.evaluations += len(steps)
        found = []
        try:
            for i in range(0, len(steps), self.block):
                some = slice(i, i + self.block)
                nudges = {"entries": entries[some], "targets": targets[some], "steps": steps[some]}
                points = nudge_points(flat, **nudges, direction=direction)
                rest = np.broadcast_to(flat, points.shape)
                here, there = ([*map(tf.constant, unflatten(stack, shapes)), *held] for stack in (rest, points))
                if self._branch is None:
                    self._branch = Rounded(self._stacked().in_order(*here), moves_point=True)
                found.append(np.asarray(self._branch.roll(here, how=BY_THEMSELVES, copies=there).rolled[0]))
        except tf.errors.OpError:  # the copies leave the domain, and take no decision of their own
            return np.full(len(steps), np.nan)
        finally:
            self._restore_written()
        return np.concatenate(found) if found else np.zeros(0)
