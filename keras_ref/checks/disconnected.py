"""Why autodiff gives None, or a gradient that is no derivative on purpose: found in the traced graph of a loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import ops

from keras_ref.checks.checked_loss import CheckedLoss
from keras_ref.checks.surrogates import Output, find_declared_layers, find_quantizing_layers, recorded
from keras_ref.comparison.sources.evidence import Evidence, Outcome
from keras_ref.evaluation.backward_errors import find_line
from keras_ref.evaluation.graphs.graph import find_function_graph, is_cast_down, list_called_functions, walk_operations
from keras_ref.evaluation.keras_objects.keras_parts import unwrap_variable
from keras_ref.evaluation.loss_function import LossFunction
from keras_ref.reports.verdict import Kind, Reason, Verdict

#: operations that pass a value on and no gradient, on purpose
STOPS = ("StopGradient", "PreventGradient")
#: operations for which TensorFlow registers a gradient that is None
STEPS = ("Round", "Rint", "Floor", "Ceil", "FloorDiv", "FloorMod")
#: operations that only look at the shape of what they are given
SHAPES = ("Shape", "ShapeN", "Rank", "Size")


@dataclass(frozen=True)
class Explanation:
    """A reason, and the operations or the mode that it is about."""

    reason: Reason
    detail: str = ""

    @property
    def text(self) -> str:
        """The reason in words."""
        return self.reason.text(self.detail)


@dataclass(frozen=True)
class TracedLoss:
    """A traced loss: its graph, the tensor of every variable and input in it, outputs of surrogate layers."""

    graph: Any
    sources: Mapping[str, Any]
    surrogate_outputs: tuple[Output, ...]
    quantized_outputs: tuple[Output, ...]


@dataclass
class GradientPaths:
    """The graph of a loss, and what lies on the way from each variable or input to it.

    `otherwise` makes the same loss with the other value of `training`, where there is one; `surrogates` and
    `quantizing` are layers whose outputs are recorded; `subject` is what is checked.
    """

    loss: LossFunction
    otherwise: Callable[[], LossFunction] | None = None
    training: bool = False
    surrogates: tuple[Any, ...] = ()
    quantizing: tuple[Any, ...] = ()
    subject: CheckedLoss | None = None

    @classmethod
    def of(cls, subject: CheckedLoss, loss: LossFunction, keras_objects: Iterable[Any]) -> GradientPaths:
        """The paths of what is checked; its graph is traced when they are first asked for."""
        make = subject.otherwise
        other = None if make is None else lambda: replace(subject, loss=make()).function(watch_inputs=bool(loss.inputs))
        objects = list(keras_objects)
        return cls(
            loss=loss,
            otherwise=other,
            training=subject.training,
            surrogates=tuple(find_declared_layers(objects)),
            quantizing=tuple(find_quantizing_layers(objects)),
            subject=subject,
        )

    @cached_property
    def _traced(self) -> TracedLoss:
        loss = self.loss
        with recorded(list(self.surrogates)) as found, recorded(list(self.quantizing)) as quantized:
            traced = tf.function(loss.loss_at, autograph=False).get_concrete_function(*loss.prepare_arguments())
        graph = traced.graph
        placeholders = {id(external): internal for external, internal in graph.captures}
        sources = {name: placeholders.get(id(unwrap_variable(v).handle)) for name, v in loss.variables.items()}
        # the state and the data come behind the inputs
        sources |= dict(zip(loss.inputs, graph.inputs, strict=False))
        return TracedLoss(graph, sources, tuple(found), tuple(quantized))

    @cached_property
    def _other(self) -> dict[str, Any]:
        return {} if self.otherwise is None else self.otherwise().gradient()

    def _find_reached(self, name: str, *, past: Callable[[Any], bool] | None = None) -> set[Any]:
        """The operations that a variable or input reaches, going on only `past` some."""
        seen: set[Any] = set()
        source = self._traced.sources[name]
        queue = [] if source is None else list(source.consumers())
        while queue:
            operation = queue.pop()
            if operation not in seen and operation.type not in SHAPES:
                seen.add(operation)
                if past is None or past(operation):
                    queue += [consumer for output in operation.outputs for consumer in output.consumers()]
        return seen

    def _find_feeding(self) -> set[Any]:
        """The operations that the loss depends on."""
        seen, queue = set[Any](), [self._traced.graph.outputs[0].op]
        while queue:
            operation = queue.pop()
            if operation not in seen:
                seen.add(operation)
                queue += [tensor.op for tensor in operation.inputs]
        return seen

    def stops(self, name: str) -> str:
        """The operations that stop a gradient on the way to the loss, with their lines; "" for none."""
        if self.loss.graph is None:
            return ""
        way = self._find_reached(name) & self._find_feeding()
        every = [inner for operation in way for inner in (operation, *_walk_inside(operation))]
        found = sorted((o for o in every if o.type in STOPS), key=_order)
        return ", ".join(list(dict.fromkeys(f"stop_gradient ({o.name}){find_line(o)}" for o in found))[:3])

    def is_declared(self, name: str) -> bool:
        """Whether a variable or input feeds a layer under `surrogate`."""
        if not self.surrogates:
            return False
        if self.loss.graph is None:
            return self._is_declared_eagerly(name)
        outputs = self._traced.surrogate_outputs
        if any(output.tensor.graph is not self._traced.graph for output in outputs):
            return True  # called inside a loop or a branch, which this graph shows as one operation
        reached = self._find_reached(name)
        return any(output.tensor.op in reached for output in outputs)

    def is_overwritten(self, name: str) -> bool:
        """Whether Keras assigns to a variable what it calls its gradient."""
        return bool(getattr(self.loss.variables.get(name), "overwrite_with_gradient", False))

    def is_quantized(self, name: str) -> bool:
        """Whether a variable or input is rounded in a layer that quantizes; or is itself a scale that Keras overwrites
        with what it calls the gradient.
        """
        if self.is_overwritten(name):
            return True
        if not self.quantizing or self.loss.graph is None:
            return False
        reached = self._find_reached(name)
        return any(output.tensor.op in reached for output in self._traced.quantized_outputs) and any(
            _rounds(inner) for operation in reached for inner in (operation, *_walk_inside(operation))
        )

    def find_surrogates(self, names: Iterable[str]) -> frozenset[str]:
        """The variables and inputs whose gradient is a surrogate by a layer, declared or quantizing."""
        return frozenset(name for name in names if self.is_declared(name) or self.is_quantized(name))

    def reaches(self, name: str, layers: Iterable[Any]) -> bool:
        """Whether a variable or input feeds one of these layers, which are under `surrogate` or quantize."""
        if self.loss.graph is None:
            return True  # no graph tells
        reached, chosen = self._find_reached(name), {id(layer) for layer in layers}
        outputs = (*self._traced.surrogate_outputs, *self._traced.quantized_outputs)
        return any(id(output.layer) in chosen and output.tensor.op in reached for output in outputs)

    def _is_declared_eagerly(self, name: str) -> bool:
        inputs, held = self.loss.prepare_arguments()
        source = self.loss.list_watched(inputs)[list(self.loss.values).index(name)]
        with recorded(list(self.surrogates)) as outputs, tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(source)
            self.loss.loss_at(inputs, held)
        self.loss.restore_values()
        floats = [output.tensor for output in outputs if output.tensor.dtype.is_floating]
        return tape.gradient(floats, source) is not None

    def of_none(self, name: str, *, moves: bool = False) -> Explanation:
        """Why autodiff gives None for a variable or input; `moves`: although the loss moves with it."""
        if self.loss.graph is None:
            return Explanation(Reason.ONLY_EAGER)
        way = self._find_reached(name) & self._find_feeding()
        if self._traced.graph.outputs[0].op not in way:
            if moves:
                return Explanation(Reason.NO_OPERATION_LEADS)
            if self._other.get(name) is not None:
                return Explanation(Reason.CONNECTED_ONLY_IN, "inference" if self.training else "training")
            return Explanation(Reason.NOT_CONNECTED)
        return _of_blocked(way & self._find_reached(name, past=_is_differentiable))

    def find_casts_down(self) -> list[Any]:
        """The casts to a lower precision on the way from a variable or input to the loss."""
        ways = [self._find_reached(name) & self._find_feeding() for name in self.loss.values]
        way = {operation for each in ways for operation in each}
        every = [inner for operation in way for inner in (operation, *_walk_inside(operation))]
        return sorted((o for o in every if is_cast_down(o)), key=_order)

    def of_nan(self, name: str) -> Explanation | None:
        """Why a gradient may not be finite where the loss is: a branch that was not taken; None where there is none."""
        if self.loss.graph is None:
            return None
        way = self._find_reached(name) & self._find_feeding()
        chosen = [o for o in way if o.type in ("Select", "SelectV2")]
        return Explanation(Reason.UNTAKEN_BRANCH, _name_operations(chosen)) if chosen else None


def _of_blocked(way: Iterable[Any]) -> Explanation:
    """Why autodiff gives None although operations lead to the loss: what blocks the way."""
    blocking = [o for o in way if not _is_differentiable(o)]
    blocking = blocking or [inner for o in way for inner in _walk_inside(o) if not _is_differentiable(inner)]
    if not blocking:
        return Explanation(Reason.NO_GRADIENT)
    stopped = [o for o in blocking if o.type in STOPS]
    if stopped:
        return Explanation(Reason.STOPPED, _name_operations(stopped))
    return Explanation(Reason.NOT_DIFFERENTIABLE, _name_operations(blocking))


def _walk_inside(operation: Any) -> Iterable[Any]:
    """The operations of the functions that an operation calls."""
    return [
        inner
        for name in list_called_functions(operation)
        if (graph := find_function_graph(operation.graph, name)) is not None
        for inner in walk_operations(graph)
    ]


def _is_differentiable(operation: Any) -> bool:
    if not operation.outputs:
        return True
    if operation.type in (*STOPS, *STEPS) or not any(
        t.dtype.is_floating or t.dtype.is_complex or t.dtype in (tf.resource, tf.variant) for t in operation.outputs
    ):
        return False
    try:
        return ops.get_gradient_function(operation) is not None or operation.type in ("ReadVariableOp", "Placeholder")
    except LookupError:
        return bool(_walk_inside(operation))


def _rounds(operation: Any) -> bool:
    """Whether an operation rounds to integers, or to numbers of 8 bits."""
    if operation.type != "Cast":
        return operation.type in STEPS
    given, result = operation.inputs[0].dtype, operation.outputs[0].dtype
    return bool(given.is_floating and given.size > result.size == 1)


def _order(operation: Any) -> int:
    """The place of an operation in the order in which a graph was traced."""
    return int(operation._id)  # noqa: SLF001 (TensorFlow says it nowhere else)


def _name_operations(found: list[Any]) -> str:
    """The operations that come first, by type and place."""
    names = dict.fromkeys(f"{o.type} ({o.name})" for o in sorted(found, key=_order))
    return ", ".join(list(names)[:3])


def explain_none_and_nan(outcome: Outcome, *, evidence: Evidence, paths: GradientPaths) -> Outcome:
    """Verdicts on gradients that are None or not finite get the cause as their reason."""
    oracles = {oracle.name for oracle in evidence.oracles}

    def explained(verdict: Verdict) -> Verdict:
        if verdict.oracle not in oracles:
            return verdict
        if verdict.verdict is Kind.DISCONNECTED:
            cause = paths.of_none(verdict.name)
            return verdict.because(cause.reason, cause.detail)
        if verdict.reason_code is Reason.NONE_WHERE_LOSS_MOVES:
            return verdict.because(Reason.NONE_EXPLAINED, paths.of_none(verdict.name, moves=True).text)
        if verdict.verdict is Kind.NAN and (refused := evidence.autodiff.refused.get(verdict.name)) is not None:
            counts = {refused.kind.value: verdict.compared}
            return replace(verdict, verdict=refused.kind, counts=counts).because(refused.reason, *refused.details)
        if verdict.verdict is Kind.NAN and verdict.reason_code is None:
            branch = paths.of_nan(verdict.name)
            return verdict if branch is None else verdict.because(branch.reason, branch.detail)
        return verdict

    return outcome.each(explained)
