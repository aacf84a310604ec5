"""The traced loss as data: what a process without the model needs to evaluate it at nudged points.

A graph of TensorFlow and the arrays that it reads travel; the model and the code that made it do not. Whatever a worker
could load, draw or seed otherwise, it evaluates the same operations on the same numbers.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np

from keras_ref.evaluation.nudged_losses.flat_points import nudge_points, unflatten
from scratch.arrays import Array

#: types of tensors that name something in the memory of one process
HANDLES = ("resource", "variant")
#: graphs that a worker keeps
KEPT = 8
#: whether TensorFlow takes oneDNN's kernels, whose last bits are others; it is read when TensorFlow is imported
ONEDNN = "TF_ENABLE_ONEDNN_OPTS"


@dataclass(frozen=True, kw_only=True)
class GraphLosses:
    """Losses at a point with one entry of the flat vector of all values set to a target.

    graph             a GraphDef, serialized
    inputs, output    names of tensors in it: the values, then what is fixed
    flat, shapes      the vector, (n,), and the shapes of the values in it;   fixed  the arrays behind them, in order
    onednn            the caller's ONEDNN, "" where it is not set
    variable, start   of losses by columns: which of the values the variable is, and where it begins in flat
    """

    graph: bytes = field(repr=False)
    inputs: tuple[str, ...]
    output: str
    flat: Array
    shapes: tuple[tuple[int, ...], ...]
    fixed: tuple[Array, ...]
    onednn: str
    variable: int | None = None
    start: int = 0

    @classmethod
    def of(
        cls, function: Any, flat: Array, held: list[Any], *, shapes: Sequence[tuple[int, ...]]
    ) -> GraphLosses | None:
        """The losses of a traced `StackedLosses._compute_loss` at a flat vector of values, with `held` behind them.

        None where it reads what is in the memory of this process alone: variables, tables.
        """
        captured = function.captured_inputs
        if any(tensor.dtype.name in HANDLES for tensor in (*held, *captured)):
            return None
        return cls(
            graph=function.graph.as_graph_def().SerializeToString(),
            inputs=tuple(tensor.name for tensor in function.inputs),
            output=function.outputs[0].name,
            flat=flat,
            shapes=tuple(shapes),
            fixed=tuple(map(np.asarray, (*held, *captured))),
            onednn=os.environ.get(ONEDNN, ""),
        )

    def at(self, flat: Array, held: list[Any]) -> GraphLosses:
        """The same at another point, with other values of what is held."""
        return replace(self, flat=flat, fixed=(*map(np.asarray, held), *self.fixed[len(held) :]))

    def compute_by_columns(self, variable: int, start: int) -> GraphLosses:
        """The same for entries of one of the values, from what they move (column_losses.py)."""
        return replace(self, variable=variable, start=start)

    def __call__(self, entries: Array, targets: Array) -> Array:
        """Losses (stack,) with entry entries[i] of the vector set to targets[i]; NaN where an operation raises.

        Raises: UserCodeFailed where one does at the point itself.
        """
        if self.onednn and "tensorflow" not in sys.modules:
            os.environ[ONEDNN] = self.onednn
        import tensorflow as tf

        from keras_ref.evaluation.graphs.stacked_calls import StackedCall
        from keras_ref.evaluation.nudged_losses.domain import losses_in_domain

        fixed = [*map(tf.constant, self.fixed)]
        if self.variable is not None:
            columns = _build_columns(self.graph, self.inputs, self.output, self.variable)
            point = [*map(tf.constant, unflatten(self.flat, self.shapes)), *fixed]
            return np.asarray(columns(entries - self.start, targets - self.flat[entries], point))
        stack = StackedCall(_import_function(self.graph, self.inputs, self.output), varying=len(self.shapes))

        def losses_of(some: Array) -> Array:
            points = nudge_points(self.flat, entries=entries[some], targets=targets[some])
            return np.asarray(stack(*map(tf.constant, unflatten(points, self.shapes)), *fixed))

        given, every = targets == self.flat[entries], np.arange(len(entries))
        blocks = (every[i : i + stack.most] for i in range(0, len(every), stack.most))
        return np.concatenate([losses_in_domain(losses_of, some, given=given) for some in blocks])


@lru_cache(KEPT)
def _import_function(graph: bytes, inputs: tuple[str, ...], output: str) -> Any:
    """The function of a graph that another process has traced."""
    import tensorflow as tf

    definition = tf.compat.v1.GraphDef.FromString(graph)
    whole = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(definition, name=""), [])
    named = whole.graph.as_graph_element
    return whole.prune([named(name) for name in inputs], named(output))


@lru_cache(KEPT)
def _build_columns(graph: bytes, inputs: tuple[str, ...], output: str, variable: int) -> Any:
    """Its losses by columns. Raises: RuntimeError where this process finds no way, of which the caller knows one."""
    from keras_ref.evaluation.nudged_losses.column_losses import ColumnLosses

    function = _import_function(graph, inputs, output)
    columns = ColumnLosses.of(function, function.graph.inputs[variable])
    if columns is None:
        raise RuntimeError(f"No columns are known for value {variable} of a graph that has them elsewhere.")
    return columns
