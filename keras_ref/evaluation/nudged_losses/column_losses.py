"""Losses where one entry of a variable is moved, computed from what that entry moves: nothing else is computed again.

Where a route through the graph is known (nudged_columns.py), an evaluation costs one column of each tensor up to the
next product, and from there on the nudges are stacked: one operation for all of them (tf.vectorized_map). Values
differ from those of whole forward passes by rounding alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ref.evaluation.changed_state.traced_functions import take_note_of_call
from keras_ref.evaluation.graphs.linear_operations import run_again
from keras_ref.evaluation.nudged_losses.nudged_columns import Route, find_route
from scratch.arrays import Array

#: bytes of stacked tensors that one block of nudges may make: what a core's cache holds
CACHE = 2**21
#: nudges of one block
SMALLEST, LARGEST = 8, 512


class ColumnLosses:
    """Losses with single entries of one variable moved, a block of nudges in each call.

    function   the loss, traced: a concrete function of flat arguments
    route      how entries of the variable move the loss
    """

    def __init__(self, function: Any, route: Route) -> None:
        self._function, self._route = function, route
        graph = function.graph
        self._definition = graph.as_graph_def()
        stacked = sum(math.prod(graph.get_tensor_by_name(name).shape) * 8 for name in route.stacked)
        self.block = int(np.clip(CACHE // max(1, stacked), SMALLEST, LARGEST))
        entries, moves = tf.TensorSpec([self.block], tf.int64), tf.TensorSpec([self.block], tf.float64)
        given = [
            tf.TensorSpec(t.shape, t.dtype) for t in graph.inputs[: len(graph.inputs) - len(function.captured_inputs)]
        ]
        self._evaluate = tf.function(self._losses, autograph=False).get_concrete_function(entries, moves, *given)

    @classmethod
    def of(cls, function: Any, variable: Any) -> ColumnLosses | None:
        """The losses for a tensor of the function's graph, which holds the variable.

        None where no route is known, or TensorFlow knows no stacked form of an operation behind it.
        """
        route = find_route(function.graph, variable, function.graph.outputs[0])
        if route is None:
            return None
        try:
            return cls(function, route)
        except ValueError:  # pfor knows no stacked form of an operation
            return None

    def __call__(self, entries: Array, moves: Array, arguments: list[Any]) -> Array:
        """Losses (m,) with entries[k] of the variable, flat, moved by moves[k]; `arguments` are those of the point.

        NaN where an operation refuses one of the nudges.
        """
        count = len(entries)
        blocks = math.ceil(count / self.block)
        padded = np.arange(blocks * self.block).clip(max=count - 1).reshape(blocks, self.block)
        take_note_of_call(self._evaluate)
        try:
            found = tf.raw_ops.MapDefun(  # nothing is optimized for it, and it uses all cores
                arguments=[tf.constant(entries[padded]), tf.constant(moves[padded])],
                captured_inputs=[*arguments, *self._evaluate.captured_inputs],
                output_types=[tf.float64],
                output_shapes=[[self.block]],
                f=self._evaluate.function_def.signature.name,
            )[0]
        except tf.errors.OpError:
            return np.full(count, np.nan)
        return np.array(found).ravel()[:count]

    def _losses(self, entries: Any, moves: Any, *arguments: Any) -> Any:
        """The losses of one block of nudges."""
        route, graph = self._route, self._function.graph
        given = dict(zip((t.name for t in graph.inputs), [*arguments, *self._function.captured_inputs], strict=True))
        base = self._compute_part(_list_standing(route), given)
        block = Block(route, base, entries, moves)

        def rest(stacked: Mapping[str, Any]) -> Any:
            (loss,) = self._compute_part([graph.outputs[0].name], {**given, **base, **stacked}).values()
            return loss

        return tf.vectorized_map(rest, block.stacked(), fallback_to_while_loop=False)

    def _compute_part(self, names: list[str], given: Mapping[str, Any]) -> dict[str, Any]:
        """Tensors of the traced loss, computed from others that are given, by name."""
        nodes = {node.name: node for node in self._definition.node}
        needed, taken, waiting = dict[str, None](), dict[str, None](), [n for n in names if n not in given]
        while waiting:
            name = waiting.pop().split(":")[0]
            if name in needed:
                continue
            needed[name] = None
            for reference in nodes[name].input:
                full = reference if ":" in reference or reference.startswith("^") else f"{reference}:0"
                if full in given:
                    taken[full] = None
                else:
                    waiting.append(full.lstrip("^"))
        part = tf.compat.v1.GraphDef(versions=self._definition.versions, library=self._definition.library)
        part.node.extend(node for node in self._definition.node if node.name in needed)
        missing = [name for name in names if name not in given]
        found = tf.graph_util.import_graph_def(
            part, input_map={name: given[name] for name in taken}, return_elements=missing
        )
        return {**{n: given[n] for n in names if n in given}, **dict(zip(missing, found, strict=True))}


class Block:
    """What a block of nudges moves: columns (nudges, rows) of tensors at the point, and tensors as a whole."""

    def __init__(self, route: Route, base: Mapping[str, Any], entries: Any, moves: Any) -> None:
        self.route, self.base, self.entries, self.moves = route, base, entries, moves
        self.column = route.moved.column_of(entries)

    def at_point(self, name: str, shape: Any = None) -> Any:
        """The columns (nudges, rows) of a tensor at the point, broadcast to a shape."""
        tensor = self.base[name] if shape is None else tf.broadcast_to(self.base[name], shape)
        return tf.gather(tf.transpose(tf.reshape(tensor, (-1, self.route.moved.columns))), self.column)

    def columns(self) -> dict[str, Any]:
        """The columns (nudges, rows) that move, by name."""
        moved = self.route.moved
        factors = tf.gather(moved.factors(self.base.__getitem__), moved.factor_of(self.entries))
        found = {moved.output: self.at_point(moved.output) + self.moves[:, None] * factors}
        for one in self.route.columns:
            if one.operation is None:
                found[one.name] = found[one.source]
            else:
                (output,) = one.operation.outputs
                inputs = [
                    found[t.name] if moves else self.at_point(t.name, output.shape)
                    for t, moves in zip(one.operation.inputs, one.moving, strict=True)
                ]
                found[one.name] = run_again(one.operation, inputs)
        return found

    def stacked(self) -> dict[str, Any]:
        """The tensors (nudges, ...) that move as a whole, by name."""
        columns = self.columns()
        found = {}
        for product in self.route.products:
            matrix, output = self.base[product.matrix], self.base[product.output]
            rows = tf.gather(tf.transpose(matrix) if product.transposed else matrix, self.column)
            change = columns[product.column] - self.at_point(product.column)
            moves = change[:, :, None] * rows[:, None, :]
            found[product.output] = output + tf.reshape(moves, (-1, *output.shape))
        count = self.route.moved.columns
        moving = tf.one_hot(self.column, count, on_value=True, off_value=False)[:, None, :]
        for name in self.route.whole:
            tensor = self.base[name]
            whole = tf.where(moving, columns[name][:, :, None], tf.reshape(tensor, (-1, count)))
            found[name] = tf.reshape(whole, (-1, *tensor.shape))
        if self.route.variable:
            tensor = self.base[self.route.variable]
            ones = tf.one_hot(self.entries, tensor.shape.num_elements(), dtype=tensor.dtype)
            found[self.route.variable] = tensor + tf.reshape(self.moves[:, None] * ones, (-1, *tensor.shape))
        return found


def _list_standing(route: Route) -> list[str]:
    """The tensors at the point that a block of nudges is computed from."""
    names = dict.fromkeys([*route.moved.operands, route.moved.output, *route.stacked])
    for column in route.columns:
        if column.operation is not None:
            pairs = zip(column.operation.inputs, column.moving, strict=True)
            names |= dict.fromkeys(t.name for t, moves in pairs if not moves)
    for product in route.products:
        names |= dict.fromkeys((product.column, product.matrix))
    return list(names)
