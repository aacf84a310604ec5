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

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ref.errors import BackwardPassFailed, UserCodeFailed, running_user_code, shorten_error
from keras_ref.evaluation.backward_errors import (
    Refused,
    as_floats,
    find_place,
    list_wrong_gradients,
    require_scalar,
    running_backward_pass,
)
from keras_ref.evaluation.changed_state.float64 import DTYPE
from keras_ref.evaluation.changed_state.restoration import has_same_bits
from keras_ref.evaluation.graphs.gradient_modes import MODES, convert_control_flow, is_indexed
from keras_ref.evaluation.graphs.graph import opaque_unit
from keras_ref.evaluation.graphs.traced_losses import Way
from keras_ref.evaluation.keras_objects.keras_classes import KerasVariable
from keras_ref.evaluation.keras_objects.keras_parts import unwrap_variable, value_of
from keras_ref.evaluation.keras_objects.naming import find_float_inputs, find_path, make_unique, replace_inputs
from keras_ref.evaluation.keras_objects.real_parts import (
    dtype_in,
    from_real_parts,
    is_real_or_complex,
    real_values,
    split_real_parts,
)
from keras_ref.evaluation.perturbed_losses import PerturbedLosses
from keras_ref.evaluation.rounding_errors.rounding import ConversionFailed, Rounded
from keras_ref.reports.kinds import Kind
from keras_ref.reports.reasons import Reason
from scratch.arrays import Array
from scratch.differences import UNIT
from scratch.noise import ROLLS


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


class LossFunction(PerturbedLosses):
    """The loss of a model (or of any `loss(data)` over variables) as a function of every float it depends on.

    Names are those of the variables (`variable.path`) and "input…" for float inputs. Values and gradients of complex
    ones have a last axis of two, the real and the imaginary part (evaluation/keras_objects/real_parts.py).

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
        named = dict(zip(make_unique([find_path(v) for v in variables]), variables, strict=True))
        super().__init__(variables=named, state=state)
        self._loss, self.dtype, self._contraction, self._watch = loss, dtype, contraction, watch_inputs
        self._gradients: dict[tuple[str, str], Any] = {}
        self._rounded_gradient: tuple[Rounded, list[bool]] | None = None
        #: the unit of what Python inside the backward pass returns, of which no graph shows the rounding
        self.opaque_unit = 0.0
        #: the loss at the point, as each mode of autodiff computed it
        self.seen: dict[str, float] = {}
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
            self.data = data.tensors(self.dtype)
        self.inputs = find_float_inputs(self.data.x) if self._watch else {}
        self.sources = {**self.variables, **self.inputs}
        held = {n: value_of(v) for n, v in self.variables.items()} | {n: t.numpy() for n, t in self.inputs.items()}
        self.values: dict[str, Array] = {name: real_values(value) for name, value in held.items()}
        self._offsets = dict(zip(self.values, np.cumsum([0, *(v.size for v in self.values.values())]), strict=False))
        self._state_values = [value_of(v) for v in self._state]
        self.remembered.forget()
        return self

    @property
    def writes_variables(self) -> bool:
        """Whether losses assign to variables: to TensorFlow's own, where a StatelessScope stands in for Keras's."""
        return self.assigns or any(isinstance(v, tf.Variable) for v in (*self.variables.values(), *self._state))

    def _forget_traces(self) -> None:
        super()._forget_traces()
        self._gradients.clear()
        self._rounded_gradient = None

    def _pack_held(self) -> list[Any]:
        leaves = tf.nest.flatten([self.data.x, self.data.y, self.data.sample_weight], expand_composites=True)
        return [*map(tf.constant, self._state_values), *(leaf for leaf in leaves if leaf is not None)]

    def _unpack(self, held: list[Any]) -> tuple[list[Any], Data]:
        """The state and the data of what `_pack_held` packed."""
        count = len(self._state_values)
        structure = [self.data.x, self.data.y, self.data.sample_weight]
        present = iter(held[count:])
        flat = tf.nest.flatten(structure, expand_composites=True)
        leaves = [None if leaf is None else next(present) for leaf in flat]
        return held[:count], Data(*tf.nest.pack_sequence_as(structure, leaves, expand_composites=True))

    def _evaluate_at(self, flat: Any, held: list[Any]) -> Any:
        """The loss where all values are those of one flat vector."""
        values = self.values.values()
        parts = tf.split(flat, [value.size for value in values])
        return self._evaluate_at_parts([tf.reshape(p, v.shape) for p, v in zip(parts, values, strict=True)], held)

    def _evaluate_at_parts(self, parts: list[Any], held: list[Any]) -> Any:
        """The loss where the values are these, in the order of the names."""
        named = zip(self.values, parts, strict=True)
        return self.loss_of({name: from_real_parts(part, self.sources[name].dtype) for name, part in named}, held)

    def loss_of(self, parts: Mapping[str, Any], held: list[Any]) -> Any:
        """The loss where the values are the given tensors, by name: no gradient, and nothing is written."""
        state, data = self._unpack(held)
        mapping = [(v, parts[name]) for name, v in self.variables.items()]
        mapping += list(zip(self._state, state, strict=True))
        for variable, value in mapping:
            if self.assigns or isinstance(variable, tf.Variable):  # no scope stands between it and its reader
                unwrap_variable(variable).assign(value)
        if self.assigns:
            sources = self.list_watched([parts[n] for n in self.inputs])
            return self._contract(replace(data, x=replace_inputs(data.x, parts)), sources)
        mapping = [pair for pair in mapping if isinstance(pair[0], KerasVariable)]
        with keras.StatelessScope(state_mapping=mapping, collect_losses=True):  # what add_loss adds is part of the loss
            sources = [parts[n] if isinstance(v, KerasVariable) else v for n, v in self.variables.items()]
            sources += [parts[n] for n in self.inputs]
            return self._contract(replace(data, x=replace_inputs(data.x, parts)), sources)

    def _contract(self, data: Data, sources: list[Any]) -> Any:
        """The loss, or its slope along the contraction: Σ gradient · contraction over `sources`, in order of names."""
        if self._contraction is None:
            with running_user_code():
                return require_scalar(self._call_converted(data))
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            for source in sources:
                tape.watch(source)
            with running_user_code():
                loss = require_scalar(self._call_converted(data))
        with running_backward_pass():
            found = tape.gradient(loss, sources)
        parts = [
            tf.reduce_sum(g * tf.cast(self._contraction[n], g.dtype))
            for n, g in zip(self.values, (None if g is None else split_real_parts(g) for g in found), strict=True)
            if g is not None
        ]
        return tf.add_n([tf.cast(part, DTYPE) for part in parts]) if parts else tf.zeros((), DTYPE)

    def _call_converted(self, data: Data) -> Any:
        """The loss, its Python control flow converted where it could not be traced without."""
        converts = self.way is Way.AUTOGRAPH and not tf.executing_eagerly()
        return convert_control_flow(self._loss)(data) if converts else self._loss(data)

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
        eagerly = partial(self.run_in, "eager", self.tape, values)
        wrong = [] if failed.place or failed.lacks_gradient else list_wrong_gradients(eagerly)
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
                self.refused[name] = Refused(Kind.NAN, Reason.AUTODIFF_RAISES, (shorten_error(alone.error),))
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

    def run_in(
        self, mode: str, taped: Callable[..., Any], values: Mapping[str, Array], *, key: str = "gradient"
    ) -> tuple[dict[str, Array | None], float]:
        """(gradients by name, loss) of `taped(inputs, held)`, run in a mode of gradient_modes.MODES at a point.

        `taped` is traced once for each mode and `key`.
        """
        gradient = self._make(mode, taped, key)
        inputs = [from_real_parts(values[name], tensor.dtype) for name, tensor in self.inputs.items()]
        try:
            self._assign(values)
            found, loss = gradient(inputs, self._pack_held())
        except tf.errors.OpError as error:
            if mode != "function":
                raise
            raise BackwardPassFailed(error, place=find_place(error)) from error
        finally:
            self.restore_values()
        return {n: as_floats(g) for n, g in zip(self.values, found, strict=True)}, float(loss)

    def _make(self, mode: str, taped: Callable[..., Any], key: str) -> Any:
        """What runs `taped` in a mode, made once for each mode and `key`."""
        if (mode, key) not in self._gradients:
            self._gradients[mode, key] = MODES[mode](taped)
        return self._gradients[mode, key]

    def gradient_rounding(self, *, at: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """The absolute rounding error of autodiff's gradient, {name: array} at the point (or `at`); 0 where it is None.

        Raises: UserCodeFailed where the backward pass only runs eagerly, or raises.
        """
        values = at or self.values
        inputs = [from_real_parts(values[name], tensor.dtype) for name, tensor in self.inputs.items()]
        held = self._pack_held()
        if self._rounded_gradient is None:
            specs = tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), (inputs, held))
            with running_user_code():
                # the trace that gradients as a graph are taken by too
                traced = self._make("function", self.tape, "gradient").get_concrete_function(*specs)
            self.opaque_unit = opaque_unit(traced.graph)
            self._rounded_gradient = Rounded(traced), [g is not None for g in traced.structured_outputs[0]]
        rounded, is_known = self._rounded_gradient
        try:
            self._assign(values)
            found = iter(rounded.errors([*inputs, *held], calls=ROLLS))
        except ConversionFailed as failed:
            self.estimated["gradient"] = str(failed)
            raise UserCodeFailed(str(failed)) from failed
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
        self._assign(self.values)
        for variable, value in zip(self._state, self._state_values, strict=True):
            if not has_same_bits(value_of(variable), value):
                unwrap_variable(variable).assign(value)

    def _assign(self, values: Mapping[str, Array]) -> None:
        """Give the variables these values. To look whether they have them costs less than to assign them."""
        for name, variable in self.variables.items():
            held = unwrap_variable(variable)
            value = value_of(held)
            if not has_same_bits(value if value.dtype == values[name].dtype else real_values(value), values[name]):
                held.assign(from_real_parts(values[name], variable.dtype))

    def list_watched(self, inputs: list[Any]) -> list[Any]:
        """The tensors that a gradient is taken with respect to, in the order of the names."""
        return [*map(unwrap_variable, self.variables.values()), *inputs]

    def loss_at(self, inputs: list[Any], held: list[Any]) -> Any:
        """The loss on the real variables, as training computes it."""
        _, data = self._unpack(held)
        parts = dict(zip(self.inputs, inputs, strict=True))
        return self._contract(replace(data, x=replace_inputs(data.x, parts)), self.list_watched(inputs))

    def eager_loss(self) -> float:
        """The loss at the point, computed eagerly on the real variables. State is put back."""
        try:
            return float(self.loss_at(*self.prepare_arguments()))
        finally:
            self.restore_values()

    def prepare_arguments(self) -> tuple[list[Any], list[Any]]:
        """The arguments of `loss_at` and `tape` at the point: inputs, and all that is held fixed."""
        return list(self.inputs.values()), self._pack_held()

    def tape(self, inputs: list[Any], held: list[Any], only: str | None = None) -> tuple[list[Any], Any]:
        """(gradients in the order of the names, loss), dense; None where autodiff gives None, or for all but `only`."""
        found, loss = self.indexed(inputs, held, only)
        self.sparse = frozenset(name for name, g in zip(self.values, found, strict=True) if is_indexed(g))
        return [None if g is None else split_real_parts(g) for g in found], loss

    def indexed(self, inputs: list[Any], held: list[Any], only: str | None = None) -> tuple[list[Any], Any]:
        """`tape` with sparse gradients left as they are (tf.IndexedSlices)."""
        watched = [t for n, t in zip(self.values, self.list_watched(inputs), strict=True) if only in (None, n)]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            for source in watched:
                tape.watch(source)
            loss = self._record(tape, inputs, held)
        unconnected = "none" if self._contraction is None else "zero"
        with running_backward_pass():
            found = tape.gradient(loss, watched, unconnected_gradients=unconnected)
        return found if only is None else [found[0] if n == only else None for n in self.values], loss

    def _record(self, tape: tf.GradientTape, inputs: list[Any], held: list[Any]) -> Any:
        """`loss_at` while a tape records it.

        Raises: BackwardPassFailed where only that raises: a tf.function is traced with its backward pass then.
        """
        try:
            return self.loss_at(inputs, held)
        except BackwardPassFailed:
            raise
        except UserCodeFailed as failed:
            with tape.stop_recording():
                try:
                    self.loss_at(inputs, held)
                except UserCodeFailed:
                    raise failed from failed.error
            raise BackwardPassFailed(failed.error, place=find_place(failed.error)) from failed.error
