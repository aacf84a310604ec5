"""The losses of a traced function at a stack of nudged points, operation by operation.

What a nudged variable does not reach is computed once, at the point. Of the rest every operation is computed for all
points of a block at once, by its rule (see stacked_rules.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context, execute

from keras_ref.evaluation.operation_rounding import EXACT_SCOPE
from keras_ref.evaluation.stacked_rules import RULES, Call
from keras_ref.evaluation.stacked_values import CHANGED, CannotStack, Nudged, size_of, stacked
from scratch.arrays import Array

#: bytes that the largest tensor of a block takes: more than the caches hold is written and read in vain
BYTES = 2**22
#: points of the first block, whose tensors tell how large the others may be, and of any
FIRST, LARGEST = 16, 2**14


class StackedGraph:
    """A traced loss of one flat vector, which it splits into values, at nudged points.

    function   the concrete function, which gives the loss of (…, all values as one vector, …)
    arguments  its flat arguments at the point
    """

    def __init__(self, function: Any, arguments: Iterable[Any]) -> None:
        self._function, self._arguments = function, list(arguments)
        self._output = function.graph.outputs[0]
        self._operations = _needed(function.graph, self._output)
        self._attributes: dict[Any, tuple[Any, ...]] = {}
        self._base: dict[int, Any] = {}
        splits = [o for o in self._operations if o.type == "SplitV" and EXACT_SCOPE in o.inputs[0].op.name]
        self._sources = list(splits[0].outputs) if len(splits) == 1 else []
        self._ways: dict[int, list[Any]] = {}

    def can_stack(self, place: int) -> bool:
        """Whether all that the value at this place reaches has a rule."""
        return place < len(self._sources) and all(o.type in RULES for o in self._way(place))

    def losses(self, place: int, entries: Array, targets: Array) -> Array:
        """Losses (m,) where one flat entry of the value at a place is a target.

        Raises: CannotStack where an operation takes what its rule does not; tf.errors.OpError as operations do.
        """
        self._compute_base()
        found, start, size = [], 0, FIRST
        while start < len(entries):
            some = slice(start, start + size)
            losses, largest = self._block(place, entries[some], targets[some])
            found.append(losses)
            start += size
            size = int(np.clip(BYTES // max(1, largest), 1, LARGEST))
        return np.concatenate(found)

    def _way(self, place: int) -> list[Any]:
        """The operations that a value reaches on the way to the loss, in order."""
        if place not in self._ways:
            reached, way = {id(self._sources[place])}, []
            for o in self._operations:
                if any(id(t) in reached for t in o.inputs):
                    way.append(o)
                    reached.update(id(t) for t in o.outputs)
            self._ways[place] = way
        return self._ways[place]

    def _compute_base(self) -> None:
        """Compute every operation at the point, once. Raises: CannotStack."""
        if self._base:
            return
        given = [*self._arguments, *self._function.captured_inputs]
        base = {id(t): value for t, value in zip(self._function.graph.inputs, given, strict=True)}
        for o in self._operations:
            if o.type != "Placeholder":
                constant = o.type == "Const"  # whose value is no attribute that an eager call takes
                found = (
                    [tf.constant(tf.make_ndarray(o.get_attr("value")))]
                    if constant
                    else self._run(o, [base[id(t)] for t in o.inputs])
                )
                base.update({id(t): value for t, value in zip(o.outputs, found, strict=True)})
        self._base = base

    def _block(self, place: int, entries: Array, targets: Array) -> tuple[Array, int]:
        """The losses of one block, and the bytes of its largest tensor at one point."""
        source, base = self._sources[place], self._base
        known: dict[int, Any] = {id(source): Nudged(base[id(source)], entries, tf.constant(targets, source.dtype))}
        largest = 0
        for o in self._way(place):
            inputs = [known.get(id(t), base[id(t)]) for t in o.inputs]
            if not any(isinstance(value, CHANGED) for value in inputs):
                continue
            outputs = [base[id(t)] for t in o.outputs]
            found = RULES[o.type](Call(operation=o, inputs=inputs, run=partial(self._run, o), base=outputs))
            for tensor, value in zip(o.outputs, found, strict=True):
                if isinstance(value, CHANGED):
                    known[id(tensor)] = value
                    largest = max(largest, size_of(value) // len(entries))
        loss = known.get(id(self._output))
        if loss is None:
            return np.full(len(entries), float(base[id(self._output)])), largest
        return np.asarray(stacked(loss), float), largest

    def _run(self, o: Any, tensors: list[Any], *, kind: str | None = None) -> list[Any]:
        """The operation (or one of another kind with its attributes) on other tensors."""
        if o not in self._attributes:
            self._attributes[o] = tuple(_attributes(o))
        return list(
            execute.execute((kind or o.type).encode(), len(o.outputs), tensors, self._attributes[o], context.context())
        )


def _attributes(o: Any) -> Iterable[Any]:
    """Names and values of an operation's attributes, as TensorFlow takes them."""
    for attribute in o.op_def.attr:
        value = o.get_attr(attribute.name)
        if attribute.type in ("func", "list(func)", "list(shape)", "tensor") and attribute.name != "value":
            raise CannotStack(f"{o.type} with {attribute.name}")
        if isinstance(value, tf.DType):
            value = value.as_datatype_enum
        elif isinstance(value, tf.TensorShape):
            value = value.as_proto()
        elif isinstance(value, list) and value and isinstance(value[0], tf.DType):
            value = [one.as_datatype_enum for one in value]
        yield attribute.name
        yield value


def _needed(graph: Any, output: Any) -> list[Any]:
    """The operations that an output depends on, each after those that it depends on."""
    found, stack = set[Any](), [output.op]
    while stack:
        o = stack.pop()
        if o not in found:
            found.add(o)
            stack += [t.op for t in o.inputs]
    return [o for o in graph.get_operations() if o in found]
