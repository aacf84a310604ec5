"""The loss of any Keras model as a pure float64 function of its weights and inputs.

    with in_float64(model):
        function = LossFunction(loss, variables=…, state=…, data=Data(x, y, sample_weight))
        function.losses("dense/kernel", entries, offsets)     # the loss at nudged entries, no gradient involved
        function.gradient("eager")                            # the gradient by autodiff

Losses are evaluated under a StatelessScope: what a forward pass writes (moving averages, seeds) is discarded, so that
every evaluation starts from the same state. Gradients are taken on the real variables, as training does, and the
state is put back afterwards.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ref.errors import BackwardPassFailed, BadInput, UserCodeFailed, running_user_code, short
from keras_ref.evaluation.backward_errors import (
    Refused,
    place_of,
    recording_wrong_gradients,
    running_backward_pass,
)
from keras_ref.evaluation.domain import losses_in_domain
from keras_ref.evaluation.float64 import DTYPE
from keras_ref.evaluation.gradient_modes import MODES, convert_control_flow, is_indexed
from keras_ref.evaluation.graph import casts_down, opaque_unit
from keras_ref.evaluation.keras_parts import tensorflow_variable
from keras_ref.evaluation.naming import float_inputs, path_of, replace_inputs, unique
from keras_ref.evaluation.operation_rounding import EXACT_SCOPE
from keras_ref.evaluation.real_parts import (
    dtype_in,
    from_real_parts,
    is_real_or_complex,
    real_parts,
    real_values,
)
from keras_ref.evaluation.rounding import Rounded
from keras_ref.evaluation.traced_functions import recording_scope_leaks, variables_met
from keras_ref.reports.kinds import Kind
from keras_ref.reports.reasons import Reason
from scratch.arrays import Array
from scratch.differences import UNIT
from scratch.noise import ROLLS

#: nudged losses that one call of the traced function evaluates; fewer where memory does not suffice
BLOCK = 512


@dataclass(frozen=True)
class Data:
    """What a loss is computed on: inputs, targets, sample weights; nested as the model takes them, batch first."""

    x: Any
    y: Any = None
    sample_weight: Any = None

    def tensors(self, dtype: str | None = DTYPE) -> Data:
        """The same as tensors, floats in `dtype` (None: as they are), everything else as it is."""

        def tensor(value: Any) -> Any:
            if value is None:
                return None
            is_composite = isinstance(value, (tf.SparseTensor, tf.RaggedTensor))
            found = value if is_composite else tf.convert_to_tensor(value)
            if dtype is None or not is_real_or_complex(found.dtype):
                return found
            return tf.cast(found, dtype_in(dtype, found.dtype))

        return Data(*(tf.nest.map_structure(tensor, part) for part in (self.x, self.y, self.sample_weight)))


class Way(Enum):
    """How a loss can be evaluated: in a traced graph, in one that AutoGraph makes, or eagerly, one after another."""

    UNKNOWN = "unknown"
    TRACED = "traced"
    AUTOGRAPH = "autograph"
    EAGER = "eager"


class LossFunction:
    """The loss of a model (or of any `loss(data)` over variables) as a function of every float it depends on.

    Names are those of the variables (`variable.path`) and "input…" for float inputs. Values and gradients of complex
    ones have a last axis of two, the real and the imaginary part (evaluation/real_parts.py).

    loss         a scalar of Data, over Keras's or TensorFlow's variables
    variables    those that the loss is differenced and differentiated by
    state        variables that a call may write; others that a trace finds are added
    data         the inputs, targets and sample weights of the point
    dtype        what the floats of the data are cast to, in which the variables must already compute (see in_float64);
                 None leaves everything in the precision it has
    contraction  an array for each name: what is differenced and differentiated is then not the loss but its slope
                 along that direction, Σ gradient · contraction, by autodiff

    Tracing costs more than many evaluations: `refresh` moves a traced function to other data of the same shapes and to
    the variables' present values.
    Raises: BadInput where the loss is not a scalar, or memory does not suffice for one evaluation; UserCodeFailed where
    the loss itself raises.
    """

    def __init__(
        self,
        loss: Callable[[Data], Any],
        *,
        variables: list[Any],
        state: list[Any],
        data: Data,
        watch_inputs: bool = True,
        dtype: str | None = DTYPE,
        contraction: Mapping[str, Array] | None = None,
    ) -> None:
        self._loss, self._state, self._dtype, self._contraction = loss, list(state), dtype, contraction
        self.variables = dict(zip(unique([path_of(v) for v in variables]), variables, strict=True))
        self._watch = watch_inputs
        self._gradients: dict[tuple[str, str], Any] = {}
        self._evaluate: Any = None
        #: how the loss runs, and why it is not traced
        self.way, self.refusal = Way.UNKNOWN, ""
        #: whether values are assigned to Keras variables, which traced functions read past any StatelessScope
        self.assigns = False
        self._rounded: Rounded | None = None
        self._branch: Rounded | None = None
        self._rounded_gradient: tuple[Rounded, list[bool]] | None = None
        #: the unit of what Python inside the backward pass returns, of which no graph shows the rounding
        self.opaque_unit = 0.0
        #: the loss at the point, as each mode of autodiff computed it
        self.seen: dict[str, float] = {}
        #: forward passes so far
        self.evaluations = 0
        self.block = BLOCK
        #: unit roundoff of the computation: that of float64, or a larger one where part of it is known to be in float32
        self.unit = UNIT
        #: what cannot be compared of the last gradient, by name: it is NaN there
        self.refused: dict[str, Refused] = {}
        #: names of the variables whose last gradient was sparse
        self.sparse: frozenset[str] = frozenset()
        self.refresh(data)

    def refresh(self, data: Data | None = None) -> LossFunction:
        """Take the variables' present values, and (if given) other data of the same shapes, as the point."""
        if data is not None:
            self.data = data.tensors(self._dtype)
        self.inputs = float_inputs(self.data.x) if self._watch else {}
        self.sources = {**self.variables, **self.inputs}
        self.values: dict[str, Array] = {n: real_values(v.numpy()) for n, v in self.sources.items()}
        self._offsets = dict(zip(self.values, np.cumsum([0, *(v.size for v in self.values.values())]), strict=False))
        self._state_values = [v.numpy() for v in self._state]
        return self

    @property
    def writes_variables(self) -> bool:
        """Whether losses assign to variables: to TensorFlow's own, where a StatelessScope stands in for Keras's."""
        return self.assigns or any(isinstance(v, tf.Variable) for v in (*self.variables.values(), *self._state))

    def _held(self) -> list[Any]:
        """Everything that is fixed during a check: state and data, as one list of tensors."""
        leaves = tf.nest.flatten([self.data.x, self.data.y, self.data.sample_weight], expand_composites=True)
        return [*map(tf.constant, self._state_values), *(leaf for leaf in leaves if leaf is not None)]

    def _unpacked(self, held: list[Any]) -> tuple[list[Any], Data]:
        """The state and the data of what `_held` packed."""
        count = len(self._state_values)
        structure = [self.data.x, self.data.y, self.data.sample_weight]
        present = iter(held[count:])
        flat = tf.nest.flatten(structure, expand_composites=True)
        leaves = [None if leaf is None else next(present) for leaf in flat]
        return held[:count], Data(*tf.nest.pack_sequence_as(structure, leaves, expand_composites=True))

    # Losses, no gradient -------------------------------------------------------------------------------------------

    def _flat(self, values: Mapping[str, Array]) -> Array:
        """All values as one vector, in the order of the names."""
        return np.concatenate([np.ravel(values[name]) for name in self.values]) if self.values else np.zeros(0)

    def _at(self, flat: Any, held: list[Any]) -> Any:
        """The loss where all values are those of one flat vector."""
        parts = {
            name: from_real_parts(tf.reshape(flat[start : start + value.size], value.shape), source.dtype)
            for (name, start), value, source in zip(
                self._offsets.items(), self.values.values(), self.sources.values(), strict=True
            )
        }
        return self.loss_of(parts, held)

    def loss_of(self, parts: Mapping[str, Any], held: list[Any]) -> Any:
        """The loss where the values are the given tensors, by name: no gradient, and nothing is written."""
        state, data = self._unpacked(held)
        mapping = [(v, parts[name]) for name, v in self.variables.items()]
        mapping += list(zip(self._state, state, strict=True))
        for variable, value in mapping:
            if self.assigns or isinstance(variable, tf.Variable):  # no scope stands between it and its reader
                tensorflow_variable(variable).assign(value)
        if self.assigns:
            sources = self.watched([parts[n] for n in self.inputs])
            return self._contracted(replace(data, x=replace_inputs(data.x, parts)), sources)
        mapping = [pair for pair in mapping if isinstance(pair[0], keras.Variable)]
        with keras.StatelessScope(state_mapping=mapping, collect_losses=True):  # what add_loss adds is part of the loss
            sources = [parts[n] if isinstance(v, keras.Variable) else v for n, v in self.variables.items()]
            sources += [parts[n] for n in self.inputs]
            return self._contracted(replace(data, x=replace_inputs(data.x, parts)), sources)

    def _contracted(self, data: Data, sources: list[Any]) -> Any:
        """The loss, or its slope along the contraction: Σ gradient · contraction over `sources`, in order of names."""
        if self._contraction is None:
            with running_user_code():
                return require_scalar(self._called(data))
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            for source in sources:
                tape.watch(source)
            with running_user_code():
                loss = require_scalar(self._called(data))
        with running_backward_pass():
            found = tape.gradient(loss, sources)
        parts = [
            tf.reduce_sum(g * tf.cast(self._contraction[n], g.dtype))
            for n, g in zip(self.values, (None if g is None else real_parts(g) for g in found), strict=True)
            if g is not None
        ]
        return tf.add_n([tf.cast(part, DTYPE) for part in parts]) if parts else tf.zeros((), DTYPE)

    def _called(self, data: Data) -> Any:
        """The loss, its Python control flow converted where it could not be traced without."""
        converts = self.way is Way.AUTOGRAPH and not tf.executing_eagerly()
        return convert_control_flow(self._loss)(data) if converts else self._loss(data)

    def _stack(self, flat: Any, direction: Any, steps: Any, entries: Any, targets: Any, held: list[Any]) -> Any:
        """Losses at flat + step · direction with one entry set to a target value, one evaluation after another."""

        def one(nudge: tuple[Any, Any, Any]) -> Any:
            step, entry, target = nudge
            with tf.name_scope(EXACT_SCOPE):
                moved = tf.tensor_scatter_nd_update(flat + step * direction, [[entry]], [target])
            return tf.cast(self._at(moved, held), DTYPE)

        return tf.map_fn(one, (steps, entries, targets), fn_output_signature=DTYPE, parallel_iterations=1)

    def _stack_eagerly(self, flat: Any, direction: Any, steps: Any, entries: Any, targets: Any, held: list[Any]) -> Any:
        """The same without a graph."""
        losses = []
        for step, entry, target in zip(steps.numpy(), entries.numpy(), targets.numpy(), strict=True):
            moved = flat.numpy() + step * direction.numpy()
            moved[entry] = target
            losses.append(tf.cast(self._at(tf.constant(moved), held), DTYPE))
        return tf.stack(losses) if losses else tf.zeros(0, DTYPE)

    def _traced(self) -> Any:
        """The traced losses."""
        if self._evaluate is None:
            self._evaluate = self.complete(self._trace, self._stack_eagerly)
        return self._evaluate

    def complete(self, trace: Callable[[], Any], eagerly: Callable[..., Any]) -> Any:
        """A traced function of losses; `eagerly`, the same as it is, where they run only so.

        Variables that only the trace shows to be used are state from then on. Raises: UserCodeFailed.
        """
        if self.way is Way.UNKNOWN:
            self._find_way(trace)
        if self.way is Way.EAGER:
            return eagerly
        traced = trace()
        if self._take_as_state([(v, v.numpy()) for v in traced.graph.variables]):
            traced = trace()
        return traced

    def _take_as_state(self, found: Iterable[tuple[Any, Array]]) -> bool:
        """Let variables be state, with their values, and say whether any of them was not known."""
        known = {id(tensorflow_variable(v)) for v in (*self.variables.values(), *self._state)}
        new = [(variable, value) for variable, value in found if id(variable) not in known]
        self._state += [variable for variable, _ in new]
        self._state_values += [value for _, value in new]
        if new:
            self._gradients.clear()
        return bool(new)

    @property
    def untracked(self) -> list[Any]:
        """TensorFlow's own trainable variables that the loss reads, of which Keras knows nothing."""
        self._traced()
        own = [v for v in self._state if isinstance(v, tf.Variable)]
        return [v for v in own if v.trainable]

    @property
    def graph(self) -> Any:
        """The traced losses as a graph; None where they run only eagerly."""
        return getattr(self._traced(), "graph", None)

    def _find_way(self, trace: Callable[[], Any]) -> None:
        """Try how the loss runs. Raises: UserCodeFailed, as the trace does, where it runs in no way."""
        first: UserCodeFailed | None = None
        for self.way in (Way.TRACED, Way.AUTOGRAPH):
            try:
                graph = self._reaching(trace).graph
            except UserCodeFailed as failed:
                first = first or failed
            else:
                # AutoGraph turns float(tensor) into a cast to float32, which is not what the code computes
                if self.way is Way.TRACED or not casts_down(graph):
                    return
        self.way = Way.EAGER
        try:
            self._reaching(lambda: self.directional({}, np.zeros(1)))
            self._take_as_state(variables_met())
        except UserCodeFailed as failed:
            self.way, self._evaluate = Way.TRACED, None
            raise first or failed from (first or failed).error
        self.refusal = type(first.error).__name__ if first is not None else ""

    def _reaching(self, evaluate: Callable[[], Any]) -> Any:
        """The result of an evaluation of losses that reaches every variable: once more, with the variables assigned,
        where a traced function in it reads them past the scope.
        """
        with recording_scope_leaks() as leaks:
            try:
                with running_user_code():  # a trace as a whole may be refused: it makes variables
                    found = evaluate()
            except UserCodeFailed:
                if not leaks or self.assigns:
                    raise
            else:
                if not leaks:
                    return found
        self.assigns = True
        return evaluate()

    def _trace(self) -> Any:
        size = sum(v.size for v in self.values.values())
        vector, numbers, indices = (
            tf.TensorSpec(s, t) for s, t in (([size], DTYPE), ([None], DTYPE), ([None], tf.int64))
        )
        held = tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), self._held())
        return tf.function(self._stack, autograph=False).get_concrete_function(
            vector, vector, numbers, indices, numbers, held
        )

    def _run(
        self,
        values: Mapping[str, Array],
        *,
        steps: Array,
        entries: Array,
        targets: Array,
        direction: Array | None = None,
    ) -> Array:
        """Losses at values + step · direction with one entry of the flat vector set to a target, for each step."""
        evaluate = self._traced()
        flat, held = self._flat(values), self._held()
        direction = np.zeros_like(flat) if direction is None else direction
        self.evaluations += len(steps)
        # at the point itself nothing may raise
        given = (steps == 0) & (targets == flat[entries]) if values is self.values else np.zeros(len(steps), bool)

        def losses_of(some: Array) -> Array:
            block = (steps[some], entries[some], targets[some])
            return np.asarray(evaluate(*map(tf.constant, (flat, direction, *block)), held))

        blocks, i = [], 0
        try:
            while i < len(steps):
                some = np.arange(i, min(i + self.block, len(steps)))
                try:
                    blocks.append(losses_in_domain(losses_of, some, given=given))
                except tf.errors.ResourceExhaustedError as error:
                    self._smaller_block(error)
                else:
                    i += len(some)
        finally:
            self.restore_values()
        return np.concatenate(blocks) if blocks else np.zeros(0)

    def _smaller_block(self, error: Exception) -> None:
        if self.block == 1:
            raise BadInput(
                "A forward pass must fit into memory. Received: TensorFlow ran out of it at one evaluation, the "
                "smallest block. Pass a smaller batch, or a machine with more memory."
            ) from error
        self.block = max(1, self.block // 8)

    def noise(self, *, at: Mapping[str, Array] | None = None) -> float:
        """The absolute rounding error of the loss at the point (or `at`); nan where it cannot be told."""
        evaluate, flat = self._traced(), self._flat(at or self.values)
        if self.way is Way.EAGER:
            return math.nan
        if self._rounded is None:
            self._rounded = Rounded(evaluate)
        count = min(ROLLS // 2, self.block)
        resting, first = np.zeros(count), np.zeros(count, np.int64)
        arguments = [flat, np.zeros_like(flat), resting, first, resting + flat[0]]
        try:
            return self._rounded.noise([*map(tf.constant, arguments), *self._held()], calls=-(-ROLLS // count))
        finally:
            self.restore_values()

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
        vector = self._flat({name: direction.get(name, np.zeros_like(value)) for name, value in values.items()})
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
        evaluate = self._traced()
        if self._branch is None:
            self._branch = Rounded(evaluate, moves_point=True)
        flat, held = self._flat(values), self._held()
        fixed = [tf.constant(flat), tf.constant(np.zeros_like(flat) if direction is None else direction)]
        targets, rests = flat[entries], np.zeros(len(steps))
        self.evaluations += len(steps)
        found = []
        try:
            for i in range(0, len(steps), self.block):
                some = slice(i, i + self.block)
                here, there = (
                    [*fixed, *map(tf.constant, (moved[some], entries[some], reached[some])), *held]
                    for moved, reached in ((rests, targets), (steps, targets + offsets))
                )
                found.append(np.asarray(self._branch.roll(here, common=False, copies=there).rolled[0]))
        except tf.errors.OpError:  # the copies leave the domain, and take no decision of their own
            return np.full(len(steps), np.nan)
        finally:
            self.restore_values()
        return np.concatenate(found) if found else np.zeros(0)

    def losses(self, name: str, entries: Array, offsets: Array, *, at: Mapping[str, Array] | None = None) -> Array:
        """Losses (m, e) with entry entries[j] of `name` moved by offsets[i, j]; all else as at the point (or `at`)."""
        values = at or self.values
        flat_entries = (
            np.broadcast_to(self._offsets[name] + np.asarray(entries), offsets.shape).ravel().astype(np.int64)
        )
        targets = (np.ravel(values[name])[entries] + offsets).ravel()
        losses = self._run(values, steps=np.zeros(len(targets)), entries=flat_entries, targets=targets)
        return losses.reshape(offsets.shape)

    def directional(
        self, direction: Mapping[str, Array], steps: Array, *, at: Mapping[str, Array] | None = None
    ) -> Array:
        """Losses (m,) along the point (or `at`) + step · direction; names left out of `direction` stay."""
        values, steps = at or self.values, np.asarray(steps, dtype=float)
        vector = self._flat({name: direction.get(name, np.zeros_like(value)) for name, value in values.items()})
        flat = self._flat(values)
        entries = np.zeros(len(steps), dtype=np.int64)
        return self._run(values, direction=vector, steps=steps, entries=entries, targets=flat[0] + steps * vector[0])

    # Gradients ------------------------------------------------------------------------------------------------------

    def gradient(self, mode: str = "eager", *, at: Mapping[str, Array] | None = None) -> dict[str, Array | None]:
        """The gradient by autodiff, {name: array} at the point (or `at`); None where autodiff gives None.

        State is put back.
        """
        values = at or self.values
        self.refused = {}
        try:
            found, loss = self.run_in(mode, self.tape, values)
        except BackwardPassFailed as failed:
            found, loss = self._gradient_by_name(mode, values, failed)
        if values is self.values:
            self.seen[mode] = loss
        return {name: self._of_right_shape(name, gradient) for name, gradient in found.items()}

    def _gradient_by_name(
        self, mode: str, values: Mapping[str, Array], failed: BackwardPassFailed
    ) -> tuple[dict[str, Array | None], float]:
        """The gradients one by one, where all together raise; NaN where one raises by itself.

        Raises: BackwardPassFailed where it is the user's code that is at fault, or an operation has no gradient.
        """
        wrong = [] if failed.place or failed.lacks_gradient else self._wrong_gradients(values)
        if wrong:
            raise BackwardPassFailed(wrong[0], place="") from failed.error
        if failed.place or not isinstance(failed.error, tf.errors.OpError):
            raise failed from failed.error
        found: dict[str, Array | None] = {}
        loss = math.nan
        for name, value in values.items():
            try:
                one, loss = self.run_in(mode, partial(self.tape, only=name), values, key=f"gradient of {name}")
                found[name] = one[name]
            except BackwardPassFailed as alone:
                found[name] = np.full(np.shape(value), np.nan)
                self.refused[name] = Refused(Kind.NAN, Reason.AUTODIFF_RAISES, (short(alone.error),))
        if math.isnan(loss):
            loss = float(self.directional({}, np.zeros(1), at=values)[0])
        return found, loss

    def _of_right_shape(self, name: str, gradient: Array | None) -> Array | None:
        """The gradient, or NaN in the shape of the values where it has another one."""
        shape = self.values[name].shape
        if gradient is None or gradient.shape == shape:
            return gradient
        self.refused[name] = Refused(Kind.MISMATCH, Reason.WRONG_SHAPE, (gradient.shape, shape))
        return np.full(shape, np.nan)

    def _wrong_gradients(self, values: Mapping[str, Array]) -> list[str]:
        """What hand-made backward functions return that fits nothing, as far as an eager backward pass comes."""
        with recording_wrong_gradients() as wrong, suppress(BackwardPassFailed):
            self.run_in("eager", self.tape, values)
        return wrong

    def run_in(
        self, mode: str, taped: Callable[..., Any], values: Mapping[str, Array], *, key: str = "gradient"
    ) -> tuple[dict[str, Array | None], float]:
        """(gradients by name, loss) of `taped(inputs, held)`, run in a mode of gradient_modes.MODES at a point.

        `taped` is traced once for each mode and `key`.
        """
        if (mode, key) not in self._gradients:
            self._gradients[mode, key] = MODES[mode](taped)
        inputs = [from_real_parts(values[name], tensor.dtype) for name, tensor in self.inputs.items()]
        try:
            for name, variable in self.variables.items():
                tensorflow_variable(variable).assign(from_real_parts(values[name], variable.dtype))
            found, loss = self._gradients[mode, key](inputs, self._held())
        except tf.errors.OpError as error:
            if mode != "function":
                raise
            raise BackwardPassFailed(error, place=place_of(error)) from error
        finally:
            self.restore_values()
        return {n: _as_floats(g) for n, g in zip(self.values, found, strict=True)}, float(loss)

    def gradient_rounding(self, *, at: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """The absolute rounding error of autodiff's gradient, {name: array} at the point (or `at`); 0 where it is None.

        Raises: UserCodeFailed where the backward pass only runs eagerly, or raises.
        """
        values = at or self.values
        inputs = [from_real_parts(values[name], tensor.dtype) for name, tensor in self.inputs.items()]
        held = self._held()
        if self._rounded_gradient is None:
            specs = tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), (inputs, held))
            with running_user_code():
                traced = tf.function(self.tape, autograph=False).get_concrete_function(*specs)
            self.opaque_unit = opaque_unit(traced.graph)
            self._rounded_gradient = Rounded(traced), [g is not None for g in traced.structured_outputs[0]]
        rounded, is_known = self._rounded_gradient
        try:
            for name, variable in self.variables.items():
                tensorflow_variable(variable).assign(from_real_parts(values[name], variable.dtype))
            found = iter(rounded.errors([*inputs, *held], calls=ROLLS))
        except tf.errors.OpError as error:
            raise UserCodeFailed(str(error)) from error
        finally:
            self.restore_values()
        return {
            name: next(found) if known else np.zeros_like(value)
            for (name, value), known in zip(self.values.items(), is_known, strict=True)
        }

    def restore_values(self) -> None:
        """Assign the values of the point to the variables and the state."""
        for name, variable in self.variables.items():
            tensorflow_variable(variable).assign(from_real_parts(self.values[name], variable.dtype))
        for variable, value in zip(self._state, self._state_values, strict=True):
            tensorflow_variable(variable).assign(value)

    def watched(self, inputs: list[Any]) -> list[Any]:
        """The tensors that a gradient is taken with respect to, in the order of the names."""
        return [*map(tensorflow_variable, self.variables.values()), *inputs]

    def loss_at(self, inputs: list[Any], held: list[Any]) -> Any:
        """The loss on the real variables, as training computes it."""
        _, data = self._unpacked(held)
        parts = dict(zip(self.inputs, inputs, strict=True))
        return self._contracted(replace(data, x=replace_inputs(data.x, parts)), self.watched(inputs))

    def eager_loss(self) -> float:
        """The loss at the point, computed eagerly on the real variables. State is put back."""
        try:
            return float(self.loss_at(*self.loss_arguments()))
        finally:
            self.restore_values()

    def loss_arguments(self) -> tuple[list[Any], list[Any]]:
        """The arguments of `loss_at` and `tape` at the point: inputs, and all that is held fixed."""
        return list(self.inputs.values()), self._held()

    def tape(self, inputs: list[Any], held: list[Any], only: str | None = None) -> tuple[list[Any], Any]:
        """(gradients in the order of the names, loss), dense; None where autodiff gives None, or for all but `only`."""
        found, loss = self.indexed(inputs, held, only)
        self.sparse = frozenset(name for name, g in zip(self.values, found, strict=True) if is_indexed(g))
        return [None if g is None else real_parts(g) for g in found], loss

    def indexed(self, inputs: list[Any], held: list[Any], only: str | None = None) -> tuple[list[Any], Any]:
        """`tape` with sparse gradients left as they are (tf.IndexedSlices)."""
        watched = [t for n, t in zip(self.values, self.watched(inputs), strict=True) if only in (None, n)]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            for source in watched:
                tape.watch(source)
            loss = self.loss_at(inputs, held)
        unconnected = "none" if self._contraction is None else "zero"
        with running_backward_pass():
            found = tape.gradient(loss, watched, unconnected_gradients=unconnected)
        return found if only is None else [found[0] if n == only else None for n in self.values], loss


def _as_floats(gradient: Any) -> Array | None:
    """A gradient as an array of floats. Raises: BackwardPassFailed where it holds none."""
    try:
        return None if gradient is None else np.asarray(gradient, dtype=DTYPE)
    except (TypeError, ValueError) as error:
        raise BackwardPassFailed(f"A gradient that holds no floats ({short(error)})", place="") from error


def require_scalar(loss: Any) -> Any:
    """The loss, if it is one number. Raises: BadInput."""
    loss = tf.convert_to_tensor(loss)
    if loss.shape.rank not in (0, None):
        raise BadInput(
            f"A loss must be a scalar. Received: shape {tuple(loss.shape)}. "
            "Reduce it, with a mean or a sum over the batch."
        )
    return loss


class _NoRetracingAdvice(logging.Filter):
    """Drops TensorFlow's advice against retracing: every check traces functions of its own, on purpose."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not any(name in record.getMessage() for name in ("LossFunction.", "DirectionalLoss."))


tf.get_logger().addFilter(_NoRetracingAdvice())
