"""Why autodiff says None, or what it says is meant: found in the traced graph of a loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import ops

from keras_ref.checks.surrogates import recorded
from keras_ref.evaluation.graph import called, function_of, is_cast_down, operations
from keras_ref.evaluation.loss_function import LossFunction, raw
from keras_ref.reports.verdict import Verdict

#: operations that pass a value on and no gradient, on purpose
STOPS = ("StopGradient", "PreventGradient")
#: operations for which TensorFlow registers a gradient that is None
STEPS = ("Round", "Rint", "Floor", "Ceil", "FloorDiv", "FloorMod")
#: operations that only look at the shape of what they are given
SHAPES = ("Shape", "ShapeN", "Rank", "Size")


@dataclass
class Causes:
    """The graph of a probe's loss, and what lies on the way from each variable or input to it.

    `otherwise` makes a probe of the same loss with the other value of `training`, where there is one.
    """

    probe: LossFunction
    otherwise: Callable[[], LossFunction] | None = None
    training: bool = False
    surrogates: tuple[Any, ...] = ()

    @cached_property
    def _traced(self) -> tuple[Any, dict[str, Any], list[Any]]:
        """The graph, the tensor of every source in it by name, and the outputs of layers declared surrogates."""
        probe = self.probe
        with recorded(list(self.surrogates)) as found:
            traced = tf.function(probe.loss_at, autograph=False).get_concrete_function(*probe.loss_arguments())
        graph = traced.graph
        placeholders = {id(external): internal for external, internal in graph.captures}
        sources = {name: placeholders.get(id(raw(v).handle)) for name, v in probe.variables.items()}
        return graph, sources | dict(zip(probe.inputs, graph.inputs, strict=False)), [*found]

    @cached_property
    def _other(self) -> dict[str, Any]:
        return {} if self.otherwise is None else self.otherwise().gradient()

    def _reached(self, name: str, *, past: Callable[[Any], bool] = lambda operation: True) -> set[Any]:
        """The operations that a variable or input reaches, going on only `past` some."""
        _, sources, _ = self._traced
        seen: set[Any] = set()
        queue = [] if sources[name] is None else list(sources[name].consumers())
        while queue:
            operation = queue.pop()
            if operation not in seen and operation.type not in SHAPES:
                seen.add(operation)
                if past(operation):
                    queue += [consumer for output in operation.outputs for consumer in output.consumers()]
        return seen

    def _feeding(self) -> set[Any]:
        graph, _, _ = self._traced
        seen, queue = set[Any](), [graph.outputs[0].op]
        while queue:
            operation = queue.pop()
            if operation not in seen:
                seen.add(operation)
                queue += [tensor.op for tensor in operation.inputs]
        return seen

    def is_declared(self, name: str) -> bool:
        """Whether a variable or input feeds a layer under `surrogate`."""
        if not self.surrogates:
            return False
        graph, _, outputs = self._traced
        if any(tensor.graph is not graph for tensor in outputs):
            return True  # called inside a loop or a branch, which this graph shows as one operation
        reached = self._reached(name)
        return any(tensor.op in reached for tensor in outputs)

    def of_none(self, name: str) -> str:
        """Why autodiff gives None for a variable or input, in words."""
        way = self._reached(name) & self._feeding()
        if self._traced[0].outputs[0].op not in way:
            if self._other.get(name) is not None:
                return f"connected to the loss only in {'inference' if self.training else 'training'}"
            return "not connected to the loss"
        way &= self._reached(name, past=_differentiable)
        blocking = [o for o in way if not _differentiable(o)]
        blocking = blocking or [inner for o in way for inner in _inside(o) if not _differentiable(inner)]
        if not blocking:
            return "no gradient, although it is connected to the loss"
        stopped = [o for o in blocking if o.type in STOPS]
        return f"stopped on purpose by {_named(stopped)}" if stopped else f"not differentiable: {_named(blocking)}"

    def casts_down(self) -> list[Any]:
        """The casts to a lower precision on the way from a variable or input to the loss."""
        ways = [self._reached(name) & self._feeding() for name in self.probe.values]
        way = {operation for each in ways for operation in each}
        every = [inner for operation in way for inner in (operation, *_inside(operation))]
        return sorted((o for o in every if is_cast_down(o)), key=lambda o: o._id)

    def of_nan(self, name: str) -> str:
        """A hint why a gradient is not finite where the loss is: a branch that was not taken."""
        way = self._reached(name) & self._feeding()
        chosen = [o for o in way if o.type in ("Select", "SelectV2")]
        return f"the loss is finite; {_named(chosen)} hides a branch whose own derivative is not" if chosen else ""


def _inside(operation: Any) -> Iterable[Any]:
    """The operations of the functions that an operation calls."""
    return [
        inner
        for name in called(operation)
        if (graph := function_of(operation.graph, name)) is not None
        for inner in operations(graph)
    ]


def _differentiable(operation: Any) -> bool:
    if not operation.outputs:
        return True
    if operation.type in (*STOPS, *STEPS) or not any(
        t.dtype.is_floating or t.dtype.is_complex or t.dtype in (tf.resource, tf.variant) for t in operation.outputs
    ):
        return False
    try:
        return ops.get_gradient_function(operation) is not None or operation.type in ("ReadVariableOp", "Placeholder")
    except LookupError:
        return bool(_inside(operation))


def _named(found: list[Any]) -> str:
    """The operations that come first, by type and place."""
    names = dict.fromkeys(f"{o.type} ({o.name})" for o in sorted(found, key=lambda o: o._id))
    return ", ".join(list(names)[:3])


def explained(verdict: Verdict, causes: Causes) -> Verdict:
    """The verdict with the cause as its reason, where autodiff gave None or something that is not finite."""
    if verdict.oracle not in ("forward", "twin"):
        return verdict
    if verdict.verdict == "disconnected":
        return replace(verdict, reason=causes.of_none(verdict.name))
    if verdict.verdict == "mismatch" and verdict.reason.startswith("autodiff gives None"):
        return replace(verdict, reason=f"{verdict.reason}: {causes.of_none(verdict.name)}")
    if verdict.verdict == "nan" and not verdict.reason:
        return replace(verdict, reason=causes.of_nan(verdict.name))
    return verdict
