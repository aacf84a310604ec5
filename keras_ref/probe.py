"""Any Keras model as a pure float64 function of its weights and inputs: the forward oracle.

    with in_float64(model):
        probe = Probe(model, Data(x, y, sample_weight), training=False)
        probe.losses("dense/kernel", entries, offsets)     # the loss at nudged entries, no gradient involved
        probe.gradient("eager")                            # what autodiff says

Losses are evaluated under a StatelessScope: what a forward pass writes (moving averages, seeds) is discarded, so that
every evaluation starts from the same state. Gradients are taken on the real variables, as training does, and the
state is put back afterwards.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ref.autodiff import MODES, is_indexed
from keras_ref.retype import DTYPE, is_float

Array = np.ndarray
BLOCK = 512


@dataclass(frozen=True)
class Data:
    """What a loss is computed on: inputs, targets, sample weights; nested as the model takes them, batch first."""

    x: Any
    y: Any = None
    sample_weight: Any = None

    def tensors(self) -> Data:
        """The same as tensors, floats in float64, everything else as it is."""
        return Data(*(tf.nest.map_structure(_tensor, part) for part in (self.x, self.y, self.sample_weight)))


def _tensor(value: Any) -> Any:
    if value is None:
        return None
    tensor = tf.convert_to_tensor(value)
    return tf.cast(tensor, DTYPE) if is_float(tensor.dtype) else tensor


class Probe:
    """The loss of a model (or of any `loss(data)` over Keras variables) as a function of every float it depends on.

    Names are those of the variables (`variable.path`) and "input…" for float inputs. The model must already compute
    in float64 (see retype.in_float64). Tracing costs more than many evaluations, so a probe can be moved to other data
    of the same shapes, and to the variables' present values, with `refresh`.
    Raises: ValueError where the loss is not a scalar.
    """

    def __init__(
        self, loss: Callable[[Data], Any], variables: list[Any], state: list[Any], data: Data, *, watch_inputs: bool = True
    ) -> None:
        self._loss, self._state = loss, state
        self.variables = dict(zip(_unique([v.path for v in variables]), variables, strict=True))
        self._watch = watch_inputs
        self._gradients: dict[str, Any] = {}
        self.evaluations = 0
        self.sparse: frozenset[str] = frozenset()
        self.refresh(data)
        size = sum(v.size for v in self.values.values())
        vector, numbers, indices = (tf.TensorSpec(s, t) for s, t in (([size], DTYPE), ([None], DTYPE), ([None], tf.int64)))
        held = tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), self._held())
        self._evaluate = tf.function(self._stack, autograph=False, input_signature=[vector, vector, numbers, indices, numbers, held])

    def refresh(self, data: Data | None = None) -> Probe:
        """Take the variables' present values, and other data of the same shapes, as the point. Returns itself."""
        if data is not None:
            self.data = data.tensors()
        self.inputs = float_inputs(self.data.x) if self._watch else {}
        self.values: dict[str, Array] = {name: v.numpy() for name, v in self.variables.items()}
        self.values |= {name: tensor.numpy() for name, tensor in self.inputs.items()}
        self._offsets = dict(zip(self.values, np.cumsum([0, *(v.size for v in self.values.values())]), strict=False))
        self._state_values = [v.numpy() for v in self._state]
        return self

    def _held(self) -> list[Any]:
        """Everything that is fixed during a check: state and data, as one list of tensors."""
        leaves = tf.nest.flatten([self.data.x, self.data.y, self.data.sample_weight])
        return [*map(tf.constant, self._state_values), *(leaf for leaf in leaves if leaf is not None)]

    def _unpacked(self, held: list[Any]) -> tuple[list[Any], Data]:
        count = len(self._state_values)
        structure = [self.data.x, self.data.y, self.data.sample_weight]
        present = iter(held[count:])
        leaves = [None if leaf is None else next(present) for leaf in tf.nest.flatten(structure)]
        return held[:count], Data(*tf.nest.pack_sequence_as(structure, leaves))

    # Losses, no gradient -------------------------------------------------------------------------------------------

    def _flat(self, values: Mapping[str, Array]) -> Array:
        return np.concatenate([np.ravel(values[name]) for name in self.values]) if self.values else np.zeros(0)

    def _at(self, flat: Any, held: list[Any]) -> Any:
        """The loss where all values are those of one flat vector."""
        parts = {
            name: tf.reshape(flat[start : start + self.values[name].size], self.values[name].shape)
            for name, start in self._offsets.items()
        }
        return self.loss_of(parts, held)

    def loss_of(self, parts: Mapping[str, Any], held: list[Any]) -> Any:
        """The loss where the values are the given tensors, by name: no gradient, and nothing is written."""
        state, data = self._unpacked(held)
        mapping = [(v, parts[name]) for name, v in self.variables.items()]
        mapping += list(zip(self._state, state, strict=True))
        with keras.StatelessScope(state_mapping=mapping):
            return require_scalar(self._loss(Data(_with_inputs(data.x, parts), data.y, data.sample_weight)))

    def _stack(self, flat: Any, direction: Any, steps: Any, entries: Any, targets: Any, held: list[Any]) -> Any:
        """Losses at flat + step · direction with one entry set to a target value, one evaluation after another."""

        def one(nudge: tuple[Any, Any, Any]) -> Any:
            step, entry, target = nudge
            moved = tf.tensor_scatter_nd_update(flat + step * direction, [[entry]], [target])
            return tf.cast(self._at(moved, held), DTYPE)

        return tf.map_fn(one, (steps, entries, targets), fn_output_signature=DTYPE, parallel_iterations=1)

    def _run(self, values: Mapping[str, Array], direction: Any, steps: Array, entries: Array, targets: Array) -> Array:
        flat, held = self._flat(values), self._held()
        direction = np.zeros_like(flat) if direction is None else direction
        self.evaluations += len(steps)
        blocks = []
        for i in range(0, len(steps), BLOCK):
            block = (steps[i : i + BLOCK], entries[i : i + BLOCK], targets[i : i + BLOCK])
            blocks.append(self._evaluate(*map(tf.constant, (flat, direction, *block)), held).numpy())
        return np.concatenate(blocks) if blocks else np.zeros(0)

    def losses(self, name: str, entries: Array, offsets: Array, *, at: Mapping[str, Array] | None = None) -> Array:
        """Losses (m, e) with entry entries[j] of `name` moved by offsets[i, j]; all else as at the point (or `at`)."""
        values = at or self.values
        flat_entries = np.broadcast_to(self._offsets[name] + np.asarray(entries), offsets.shape).ravel().astype(np.int64)
        targets = (np.ravel(values[name])[entries] + offsets).ravel()
        return self._run(values, None, np.zeros(len(targets)), flat_entries, targets).reshape(offsets.shape)

    def directional(self, direction: Mapping[str, Array], steps: Array, *, at: Mapping[str, Array] | None = None) -> Array:
        """Losses (m,) along the point (or `at`) + step · direction; names left out of `direction` stay."""
        values, steps = at or self.values, np.asarray(steps, dtype=float)
        vector = self._flat({name: direction.get(name, np.zeros_like(value)) for name, value in values.items()})
        flat = self._flat(values)
        entries = np.zeros(len(steps), dtype=np.int64)
        return self._run(values, vector, steps, entries, flat[0] + steps * vector[0])

    # Gradients ------------------------------------------------------------------------------------------------------

    def gradient(self, mode: str = "eager", *, at: Mapping[str, Array] | None = None) -> dict[str, Array | None]:
        """Autodiff's gradient by name at the point (or `at`), None where autodiff says None. State is put back."""
        values = at or self.values
        if mode not in self._gradients:
            self._gradients[mode] = MODES[mode](self._tape)
        inputs = [tf.constant(values[name]) for name in self.inputs]
        try:
            for name, variable in self.variables.items():
                variable._value.assign(values[name])
            found = self._gradients[mode](inputs, self._held())
        finally:
            for name, variable in self.variables.items():
                variable._value.assign(self.values[name])
            for variable, value in zip(self._state, self._state_values, strict=True):
                variable._value.assign(value)
        return {name: None if gradient is None else np.asarray(gradient) for name, gradient in zip(self.values, found, strict=True)}

    def _tape(self, inputs: list[Any], held: list[Any]) -> list[Any]:
        _, data = self._unpacked(held)
        watched = [v._value for v in self.variables.values()] + inputs
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            for source in watched:
                tape.watch(source)
            parts = dict(zip(self.inputs, inputs, strict=True))
            loss = require_scalar(self._loss(Data(_with_inputs(data.x, parts), data.y, data.sample_weight)))
        found = tape.gradient(loss, watched)
        self.sparse = frozenset(name for name, g in zip(self.values, found, strict=True) if is_indexed(g))
        return [tf.convert_to_tensor(g) if is_indexed(g) else g for g in found]


def require_scalar(loss: Any) -> Any:
    """The loss, if it is one number. Raises: ValueError."""
    loss = tf.convert_to_tensor(loss)
    if loss.shape.rank not in (0, None):
        raise ValueError(
            f"A loss must be a scalar. Received: shape {tuple(loss.shape)}. Reduce it, with a mean or a sum over the batch."
        )
    return loss


def _unique(names: list[str]) -> list[str]:
    counts: dict[str, int] = {}
    unique = []
    for name in names:
        counts[name] = counts.get(name, -1) + 1
        unique.append(f"{name}:{counts[name]}" if counts[name] else name)
    return unique


def named_leaves(x: Any) -> dict[str, Any]:
    """The leaves of nested inputs by name: "input" for one, "input:0", "input:key" for several, in tf.nest's order."""
    paths = _paths(x)
    single = len(paths) == 1
    return {"input" if single else "input:" + "/".join(map(str, path)): leaf for path, leaf in paths}


def _paths(x: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[tuple[Any, ...], Any]]:
    if isinstance(x, Mapping):
        return [pair for key in sorted(x) for pair in _paths(x[key], (*prefix, key))]
    if isinstance(x, (list, tuple)):
        return [pair for i, item in enumerate(x) for pair in _paths(item, (*prefix, i))]
    return [(prefix, x)]


def float_inputs(x: Any) -> dict[str, Any]:
    """The float tensors of nested inputs, by name."""
    return {name: t for name, t in named_leaves(x).items() if t is not None and is_float(t.dtype)}


def _with_inputs(x: Any, parts: Mapping[str, Any]) -> Any:
    """Nested inputs with the float ones replaced by name."""
    return tf.nest.pack_sequence_as(x, [parts.get(name, leaf) for name, leaf in named_leaves(x).items()])


class _NoRetracingTalk(logging.Filter):
    """Every check traces a function of its own; TensorFlow's advice against that is not for the user."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not any(name in record.getMessage() for name in ("Probe.", "Lines."))


tf.get_logger().addFilter(_NoRetracingTalk())
