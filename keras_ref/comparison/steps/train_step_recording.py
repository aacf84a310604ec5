"""What one train_step of a model's own does: the gradients that it takes, those that it hands to optimizers, and what
these make of the weights.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import partial
from types import FrameType
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ref.comparison.steps.optimizer_step import OptimizerTwin
from keras_ref.comparison.steps.train_step_losses import (
    find_applying_method,
    is_variable,
    running_functions_eagerly,
    sum_target,
)
from keras_ref.comparison.steps.training_steps import Precision, pack_batch
from keras_ref.errors import running_user_code
from keras_ref.evaluation.backward_errors import running_backward_pass
from keras_ref.evaluation.changed_state.keras_2 import is_optimizer
from keras_ref.evaluation.changed_state.restoration import Restoration
from keras_ref.evaluation.keras_objects.keras_parts import unwrap_variable
from keras_ref.evaluation.keras_objects.naming import find_path
from keras_ref.evaluation.loss_function import Data
from keras_ref.evaluation.sparse_gradient import SparseGradient
from keras_ref.translation.from_keras import NoTwin
from scratch.arrays import Array
from scratch.differences import UNIT

#: methods by which a variable of TensorFlow is written
WRITES = ("assign", "assign_add", "assign_sub")


@dataclass(frozen=True, kw_only=True)
class TakenGradient:
    """One gradient by variables that a train step takes from a tape.

    number    its place among the gradients of the step, from 0
    site      the line of code that takes it
    value     the loss
    sources   the names of the variables
    weights   the trained weights at which its loss was computed, by name
    is_there  whether they are known to be: they stayed what they were while the tape recorded. Otherwise `weights` are
              those at which the gradient was taken
    results   the tensors that the tape gave and the names of their variables
    """

    number: int
    site: tuple[str, int]
    value: float
    sources: tuple[str, ...]
    weights: Mapping[str, Array]
    is_there: bool
    results: tuple[tuple[Any, str], ...]


@dataclass(frozen=True, kw_only=True)
class Handover:
    """One call of an optimizer: its twin before it, gradients and weights by name, weights after it.

    twin      the refusal where there is none
    taken     how many gradients the step had taken by then
    foreign   variables that were handed what a tape gave as the gradient by another one, whose name is given
    unit      the distance of 1 from the next number in the precision of the step
    """

    twin: OptimizerTwin | NoTwin
    optimizer: Any
    gradients: Mapping[str, Any]
    before: Mapping[str, Array]
    after: Mapping[str, Array]
    taken: int
    foreign: Mapping[str, str]
    unit: float = UNIT


@dataclass(kw_only=True)
class Recording:
    """What one train step did: its gradients, its calls of optimizers, what it wrote by itself, and its logs.

    before, after   all trained weights, by name
    unit            the distance of 1 from the next number in the precision of the step
    """

    unit: float = UNIT
    before: Mapping[str, Array] = field(default_factory=dict)
    after: Mapping[str, Array] = field(default_factory=dict)
    taken: list[TakenGradient] = field(default_factory=list)
    calls: list[Handover] = field(default_factory=list)
    written: set[str] = field(default_factory=set)
    logs: Any = None


def record_step(
    model: Any,
    data: Data,
    *,
    optimizers: Sequence[Any],
    names: dict[int, str],
    trained: Mapping[str, Any],
    started: AbstractSet[int] = frozenset(),
    precision: Precision,
) -> Recording:
    """Take one training step and record what it does.

    names     those of variables, by the identity of Keras's and of TensorFlow's variable
    trained   the trained variables by name
    started   identities of optimizers of Keras 2 that had taken a step before all that are recorded
    """
    recording = Recording(unit=precision.unit)
    recorder = _Recorder(names, trained, started, recording)
    with Restoration() as restoration, running_functions_eagerly():
        recorder.watch(restoration, optimizers)
        model.reset_metrics()
        recording.before = recorder.weights()
        with running_user_code():
            recording.logs = model.train_step(pack_batch(data, precision.dtype))
        recording.after = recorder.weights()
    return recording


@dataclass
class _Recorder:
    """Records a step: what stands in the place of a tape's, an optimizer's and a variable's methods meanwhile.

    acting   the optimizers that are at work, the innermost last
    taped    by the identity of each tape that was opened: the tape, the trained weights then, and whether they were the
             same when it last ended to record; None while it records
    """

    names: dict[int, str]
    trained: Mapping[str, Any]
    started: AbstractSet[int]
    recording: Recording
    acting: list[Any] = field(default_factory=list)
    taped: dict[int, tuple[Any, dict[str, Array], bool | None]] = field(default_factory=dict)

    def weights(self) -> dict[str, Array]:
        """The present trained weights."""
        return {name: v.numpy() for name, v in self.trained.items()}

    def watch(self, restoration: Restoration, optimizers: Sequence[Any]) -> None:
        """Stand in the place of the methods until the restoration."""
        for optimizer in optimizers:
            method = find_applying_method(optimizer)
            applied = self._record_applied_pairs if is_optimizer(optimizer) else self._record_applied
            restoration.set_attribute(optimizer, method, partial(applied, optimizer, getattr(optimizer, method)))
        for name, variable in self.trained.items():
            held = unwrap_variable(variable)
            for method in WRITES:
                restoration.set_attribute(held, method, partial(self._read_written, name, getattr(held, method)))
        for name, stand_in in (("gradient", self._take), ("__enter__", self._open), ("__exit__", self._close)):
            original = getattr(tf.GradientTape, name)
            restoration.undo_by(setattr, tf.GradientTape, name, original)
            setattr(tf.GradientTape, name, _make_method(stand_in, original))

    def _open(self, original: Callable[..., Any], tape: Any) -> Any:
        former = self.taped.get(id(tape))  # a tape may record once more, and then has the weights of both times
        weights = self.weights()
        if former is None or (former[2] and _is_same(former[1], weights)):
            self.taped[id(tape)] = (tape, weights, None)
        else:
            self.taped[id(tape)] = (tape, weights, False)
        return original(tape)

    def _close(self, original: Callable[..., Any], tape: Any, *ended: Any) -> Any:
        _, weights, stayed = self.taped.get(id(tape), (tape, {}, False))
        self.taped[id(tape)] = (tape, weights, stayed is None and _is_same(weights, self.weights()))
        return original(tape, *ended)

    def _find_weights(self, tape: Any) -> tuple[dict[str, Array], bool]:
        """(the weights at which what a tape has recorded was computed, whether they are known to be)."""
        now = self.weights()
        _, weights, stayed = self.taped.get(id(tape), (tape, {}, False))
        if stayed is None:  # it still records
            stayed = _is_same(weights, now)
        return (weights, True) if stayed else (now, False)

    def _take(
        self, original: Callable[..., Any], tape: Any, target: Any, sources: Any, *arguments: Any, **options: Any
    ) -> Any:
        with running_backward_pass():
            found = original(tape, target, sources, *arguments, **options)
        flat = tf.nest.flatten(sources)
        if any(map(is_variable, flat)):
            value = float(sum_target(target, *arguments, **options))
            caller = sys._getframe(2)  # noqa: SLF001 (who takes it)
            self._note(tape, flat, found=tf.nest.flatten(found), value=value, caller=caller)
        return found

    def _note(
        self, tape: Any, sources: Sequence[Any], *, found: Sequence[Any], value: float, caller: FrameType
    ) -> None:
        known = [
            (g, self.names[id(s)])
            for s, g in zip(sources, found, strict=True)
            if is_variable(s) and id(s) in self.names
        ]
        weights, is_there = self._find_weights(tape)
        self.recording.taken.append(
            TakenGradient(
                number=len(self.recording.taken),
                site=(caller.f_code.co_filename, caller.f_lineno),
                value=value,
                sources=tuple(name for _, name in known),
                weights=weights,
                is_there=is_there,
                results=tuple(known),
            )
        )

    def _record_applied(self, optimizer: Any, original: Callable[..., Any], grads: Any, variables: Any = None) -> None:
        grads, names = list(grads), self.names
        known = list(optimizer._trainable_variables if variables is None else variables)  # noqa: SLF001 (as Keras)
        for variable in known:
            names.setdefault(id(variable), find_path(variable))
        before = {names[id(v)]: v.numpy() for v in known}
        gradients = {
            names[id(v)]: _convert_to_array(g, tuple(v.shape))
            for v, g in zip(known, grads, strict=True)
            if g is not None
        }
        twin = self._find_twin(optimizer, known, before)
        self.acting.append(optimizer)
        try:
            original(grads, known)
        finally:
            self.acting.pop()
        self.recording.calls.append(
            Handover(
                twin=twin,
                optimizer=optimizer,
                gradients=gradients,
                before=before,
                after={names[id(v)]: v.numpy() for v in known},
                taken=len(self.recording.taken),
                foreign=self._find_foreign({names[id(v)]: g for v, g in zip(known, grads, strict=True)}),
                unit=self.recording.unit,
            )
        )

    def _record_applied_pairs(
        self, optimizer: Any, original: Callable[..., Any], pairs: Any, *arguments: Any, **options: Any
    ) -> None:
        """The same of an optimizer of Keras 2, which is given (gradient, variable)."""
        grads, known = zip(*pairs, strict=True)

        def apply(grads: Sequence[Any], variables: Sequence[Any]) -> Any:
            return original(zip(grads, variables, strict=True), *arguments, **options)

        self._record_applied(optimizer, apply, grads, known)

    def _find_twin(
        self, optimizer: Any, variables: Sequence[Any], values: Mapping[str, Array]
    ) -> OptimizerTwin | NoTwin:
        try:
            if not is_optimizer(optimizer):
                return OptimizerTwin.of(optimizer, variables, self.names, values, unit=self.recording.unit)
            if id(optimizer) in self.started:
                return NoTwin(
                    "An optimizer of Keras 2 must not have taken a step to have a twin. Received: one that has."
                )
            return OptimizerTwin.of_keras_2(optimizer, variables, values, unit=self.recording.unit)
        except NoTwin as error:
            return error

    def _find_foreign(self, handed: Mapping[str, Any]) -> dict[str, str]:
        """The variables that are handed what a tape gave as the gradient by another one, whose name is given."""
        given = {id(g): name for one in self.recording.taken for g, name in one.results if g is not None}
        return {name: given[id(g)] for name, g in handed.items() if given.get(id(g), name) != name}

    def _read_written(self, name: str, original: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        if not self.acting:
            self.recording.written.add(name)
        return original(*arguments, **options)


def _make_method(stand_in: Callable[..., Any], original: Callable[..., Any]) -> Callable[..., Any]:
    """A function, not a partial: it has to become a method."""
    return lambda *arguments, **options: stand_in(original, *arguments, **options)


def _is_same(one: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
    """Whether weights are bit for bit the same, NaN included."""
    return one.keys() == other.keys() and all(value.tobytes() == other[name].tobytes() for name, value in one.items())


def _convert_to_array(gradient: Any, shape: tuple[int, ...]) -> Any:
    """A gradient as an array; a sparse one keeps its slices."""
    if isinstance(gradient, tf.IndexedSlices):
        return SparseGradient.of(gradient.values.numpy(), gradient.indices.numpy().astype(int), shape)
    return np.asarray(gradient, dtype=float)
