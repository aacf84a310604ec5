"""A traced computation in many digits: every operation of its graph, inner functions included, done with mpmath.

Floats become object arrays of mpmath numbers; everything else (shapes, indices, decisions) stays what TensorFlow makes
of it. Operations that only move numbers are run by TensorFlow on the numbers of their places.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import tensorflow as tf

from keras_ref.evaluation.graphs.graph import find_function_graph
from keras_ref.evaluation.many_digits.exact_numbers import Missing, as_array, each, eagerly, exact, moved, zeros
from keras_ref.evaluation.many_digits.exact_operations import OTHERS
from keras_ref.evaluation.many_digits.exact_special import MOVING, SPECIAL

#: digits unless others are asked for
DIGITS = 50
PASSED = ("Identity", "IdentityN", "StopGradient", "PreventGradient", "Snapshot", "EnsureShape", "CheckNumerics")

#: lists of tensors, as loops keep them: (operation, *inputs) → outputs
LISTS: dict[str, Callable[..., list[Any]]] = {
    "TensorListReserve": lambda o, shape, count: [[None] * int(count)],
    "EmptyTensorList": lambda o, shape, count: [[]],
    "TensorListSetItem": lambda o, here, i, item: [[item if k == int(i) else old for k, old in enumerate(here)]],
    "TensorListGetItem": lambda o, here, i, shape: [zeros(shape) if here[int(i)] is None else here[int(i)]],
    "TensorListPushBack": lambda o, here, item: [[*here, item]],
    "TensorListPopBack": lambda o, here, shape: [here[:-1], here[-1]],
    "TensorListFromTensor": lambda o, x, shape: [list(x)],
    "TensorListStack": lambda o, here, shape: [_stacked(here)],
    "TensorListLength": lambda o, here: [np.asarray(len(here), np.int32)],
    "TensorListElementShape": lambda o, here: [np.asarray(here[0].shape, np.int32)],
}
#: operations that call functions
CALLING = ("PartitionedCall", "StatefulPartitionedCall", "StatelessIf", "If", "StatelessWhile", "While")


def _stacked(items: list[Any]) -> Any:
    arrays = [np.asarray(item) for item in items]
    return np.stack([exact(a) for a in arrays] if any(a.dtype == object for a in arrays) else arrays)


def is_exact(value: Any) -> bool:
    """Whether a value holds numbers of many digits."""
    if isinstance(value, list):
        return any(map(is_exact, value))
    return isinstance(value, np.ndarray) and value.dtype == object


class Graph:
    """A concrete function in many digits: called with flat arguments as NumPy arrays, or as arrays of mpmath numbers.

    What depends on no argument and no variable is computed once, as TensorFlow computes it: constants are what they
    are.
    """

    def __init__(self, function: Any) -> None:
        self.graph, self.outputs = function.graph, list(function.outputs)
        self.captured = [c if c.dtype == tf.resource else np.asarray(c.numpy()) for c in function.captured_inputs]
        self._orders: dict[int, list[Any]] = {}
        self._constants: dict[int, Any] | None = None
        self._off: Callable[[Any], Any] | None = None

    def __call__(
        self, *arguments: Any, digits: int = DIGITS, off: int | None = None, unit: float = 2.0**-53
    ) -> list[Any]:
        """The outputs.

        off   a seed: all arguments and constants are then off by `unit` of themselves, up or down
        Raises: Missing for an operation that is not carried out in many digits here.
        """
        self._off = None if off is None else _shifts(np.random.default_rng(off), unit)
        with mpmath.workdps(digits):
            return self._run(self.graph, [*map(self._exact, arguments), *self.captured], self.outputs)

    def _exact(self, value: Any) -> Any:
        """Floats in many digits; off where that is asked for."""
        found = exact(value)
        return self._off(found) if self._off is not None and is_exact(found) else found

    def _run(self, graph: Any, arguments: list[Any], outputs: list[Any]) -> list[Any]:
        known = {id(t): a for t, a in zip(graph.inputs, arguments, strict=True)}
        if graph is self.graph:
            known |= self._fixed()
        for operation in self._order(graph, outputs):
            if operation.type != "Placeholder" and not all(id(t) in known for t in operation.outputs):
                found = self._operation(graph, operation, [known[id(t)] for t in operation.inputs])
                known.update({id(t): as_array(v) for t, v in zip(operation.outputs, found, strict=True)})
        return [known[id(t)] for t in outputs]

    def _order(self, graph: Any, outputs: list[Any]) -> list[Any]:
        if id(graph) not in self._orders:
            self._orders[id(graph)] = needed(outputs)
        return self._orders[id(graph)]

    def _fixed(self) -> dict[int, Any]:
        """What operations of the outer graph give that depend on nothing: no argument, no variable."""
        if self._constants is None:
            self._constants = {}
            for o in self._order(self.graph, self.outputs):
                fixed = all(id(t) in self._constants for t in o.inputs) and not o.op_def.is_stateful
                if fixed and o.type != "Placeholder" and o.type not in (*CALLING, *LISTS):
                    found = self._operation(self.graph, o, [self._constants[id(t)] for t in o.inputs])
                    self._constants |= {id(t): as_array(v) for t, v in zip(o.outputs, found, strict=True)}
        return self._constants

    def _operation(self, graph: Any, o: Any, inputs: list[Any]) -> list[Any]:  # noqa: C901, PLR0911 (one answer a kind)
        called = self._called(graph, o, inputs)
        if called is not None:
            return called
        if o.type == "Const":
            return [np.asarray(tf.make_ndarray(o.get_attr("value")))]
        if o.type == "ReadVariableOp":
            return [self._exact(eagerly(o, inputs)[0])]
        if o.type in LISTS:
            return LISTS[o.type](o, *inputs)
        if o.type in PASSED:
            return inputs
        if not any(map(is_exact, inputs)):
            return eagerly(o, inputs)
        if o.type in ("Shape", "ShapeN"):
            return [np.asarray(i.shape, o.outputs[0].dtype.as_numpy_dtype) for i in inputs]
        if o.type in ("Size", "Rank"):
            count = inputs[0].size if o.type == "Size" else inputs[0].ndim
            return [np.asarray(count, o.outputs[0].dtype.as_numpy_dtype)]
        inputs = [self._exact(i) if isinstance(i, np.ndarray) and i.dtype != object else i for i in inputs]
        if o.type in OTHERS:
            return OTHERS[o.type](o, *inputs)
        if o.type in SPECIAL:
            return SPECIAL[o.type](o, *inputs)
        if o.type in MOVING:
            return moved(o, inputs)
        raise Missing(o.type)

    def _called(self, graph: Any, o: Any, inputs: list[Any]) -> list[Any] | None:
        """The outputs of an operation that calls functions; None for any other."""
        if o.type in ("PartitionedCall", "StatefulPartitionedCall"):
            inner = _inner(graph, o.get_attr("f").name)
            return self._run(inner, inputs, inner.outputs)
        if o.type in ("StatelessIf", "If"):
            inner = _inner(graph, o.get_attr("then_branch" if bool(inputs[0]) else "else_branch").name)
            return self._run(inner, inputs[1:], inner.outputs)
        if o.type in ("StatelessWhile", "While"):
            cond, body = (_inner(graph, o.get_attr(name).name) for name in ("cond", "body"))
            while bool(self._run(cond, inputs, cond.outputs)[0]):
                inputs = self._run(body, inputs, body.outputs)
            return inputs
        return None


def _shifts(generator: np.random.Generator, unit: float) -> Callable[[Any], Any]:
    """What moves every number of an array by a share of itself, up or down."""

    def move(array: Any) -> Any:
        signs = generator.choice((-1, 1), size=array.shape)
        return np.asarray(array * (1 + each(mpmath.mpf)(signs) * mpmath.mpf(unit)), object)

    return move


def _inner(graph: Any, name: str) -> Any:
    """The graph of a function that is called. Raises: Missing where TensorFlow has kept none."""
    found = find_function_graph(graph, name)
    if found is None:
        raise Missing("a function without a graph")
    return found


def needed(outputs: list[Any]) -> list[Any]:
    """The operations that outputs depend on, each after those that it depends on: loops are rewritten by gradients."""
    found: dict[Any, None] = {}
    stack = [t.op for t in outputs]
    while stack:
        missing = [t.op for t in stack[-1].inputs if t.op not in found]
        if missing:
            stack += missing
        else:
            found[stack.pop()] = None
    return list(found)
