"""A Keras object computing in float64 for a while: its variables, policies and constants are replaced, then put back.

The user's own variables are never written: every variable gets a copy for the time of the check, and the originals
return when the scope closes, whatever closes it. What a check does to weights, moving averages, seeds or optimizer
slots happens to the copies.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend.common import global_state

DTYPE = "float64"
#: under which Keras keeps its global seed generator, and what compiled training leaves on a model
GENERATOR, TRACED = "global_seed_generator", ("train_function", "test_function", "predict_function")

#: layers whose TensorFlow kernels do not exist in float64 on a CPU (AvgPool3D, MaxPool3D): they go on computing in
#: float32, whose noise is then measured in the loss, widens the steps and is said in the report
FLOAT32_ONLY = frozenset(f"{kind}Pooling3D" for kind in ("Max", "Average", "AdaptiveMax", "AdaptiveAverage"))


def policy_of(layer: Any) -> str:
    """The dtype that a layer computes in during a check, given as a Keras layer or as a specification."""
    return "float32" if type(layer).__name__ in FLOAT32_ONLY else DTYPE


def is_float(dtype: Any) -> bool:
    """Whether a dtype, given by name or as TensorFlow's, is a floating one."""
    return tf.as_dtype(dtype).is_floating


def layers_of(thing: Any) -> list[keras.layers.Layer]:
    """A layer and everything inside it, a Sequential model's inner functional model included."""
    if not isinstance(thing, keras.layers.Layer):
        return []
    found = list(thing._flatten_layers())
    for layer in list(found):
        inner = getattr(layer, "_functional", None)
        if inner is not None and all(inner is not other for other in found):
            found.append(inner)
    return found


def states_of(thing: Any) -> list[Any]:
    """The variables in which stateful recurrent layers keep their state: in no list of weights, but written by calls."""
    found = [v for layer in layers_of(thing) for v in keras.tree.flatten(getattr(layer, "states", None) or [])]
    return [v for v in found if isinstance(v, keras.Variable)]


def _losses_of(model: Any) -> list[Any]:
    compiled = getattr(model, "_compile_loss", None)
    if compiled is None:
        return []
    given = [getattr(compiled, "_user_loss", None), getattr(compiled, "_flat_losses", None)]
    flat = [loss for loss in tf.nest.flatten(given) if isinstance(loss, keras.losses.Loss)]
    return [compiled, *flat]


def _optimizers_of(thing: Any) -> list[Any]:
    """A model's optimizer, or an optimizer given itself, and those that it wraps."""
    queue = [thing if isinstance(thing, keras.optimizers.Optimizer) else getattr(thing, "optimizer", None)]
    found: list[Any] = []
    while queue:
        optimizer = queue.pop()
        if optimizer is not None and all(optimizer is not other for other in found):
            found.append(optimizer)
            inner = [vars(optimizer).get(name) or () for name in ("_optimizers", "_inner_optimizers")]
            queue += [vars(optimizer).get("inner_optimizer"), *inner[0], *inner[1]]
    return found


class _Swap:
    """Attributes replaced in order, and put back in reverse."""

    def __init__(self) -> None:
        self.undo: list[tuple[dict[str, Any], str, Any, bool]] = []
        self.kept: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self.contents: list[tuple[Any, Any]] = []

    def set(self, owner: Any, name: str, value: Any) -> None:
        """Put `value` into the owner's own dictionary, past any tracking, and remember what was there."""
        table = vars(owner)
        self.undo.append((table, name, table.get(name), name in table))
        table[name] = value

    def keep(self, owner: Any) -> None:
        """Remember all of the owner's attributes and what its containers hold: whatever changes later goes back."""
        self.kept.append((vars(owner), dict(vars(owner))))
        for value in vars(owner).values():
            plain = getattr(value, "__wrapped__", value)  # TensorFlow wraps dictionaries that it tracks
            if isinstance(plain, (list, dict, set)):
                self.contents.append((plain, plain.copy()))

    def become(self, variable: tf.Variable, other: tf.Variable) -> None:
        """Let a TensorFlow variable be another one, wherever it is held: its attributes are all that it is."""
        self.kept.append((vars(variable), dict(vars(variable))))
        vars(variable).clear()
        vars(variable).update(vars(other))

    def back(self) -> None:
        """Put everything back."""
        for table, name, value, present in reversed(self.undo):
            if present:
                table[name] = value
            else:
                table.pop(name, None)
        for table, copy in reversed(self.kept):
            table.clear()
            table.update(copy)
        for container, items in self.contents:
            # past the container's own methods: Keras's lists track, and may be locked
            if isinstance(container, list):
                list.__setitem__(container, slice(None), list(items))
            else:
                plain = dict if isinstance(container, dict) else set
                plain.clear(container)
                plain.update(container, items)  # type: ignore[arg-type]
        self.undo.clear()
        self.kept.clear()
        self.contents.clear()


def _target(dtype: str | None, own: Any) -> Any:
    """What a variable or constant of dtype `own` becomes: `dtype` if it is a float, else (and for None) what it is."""
    return dtype if dtype is not None and is_float(own) else own


def _copy(value: Any, dtype: Any) -> tf.Variable:
    values = np.asarray(value.numpy(), dtype=tf.as_dtype(dtype).as_numpy_dtype)
    # the name stays: patterns that exclude variables from weight decay read it
    return tf.Variable(values, trainable=value.trainable, dtype=dtype, name=value.name.split(":")[0])


def _retype_variable(swap: _Swap, variable: Any, done: set[int], dtype: str | None) -> None:
    if id(variable) in done:
        return
    if isinstance(variable, tf.Variable):
        done.add(id(variable))
        swap.become(variable, _copy(variable, _target(dtype, variable.dtype)))
    elif variable._value is not None:
        done.add(id(variable))
        own = _target(dtype, variable._dtype)
        swap.set(variable, "_value", _copy(variable._value, own))
        swap.set(variable, "_dtype", own)


def _held(value: Any) -> list[tf.Variable]:
    """The TensorFlow variables in an attribute, lists and dictionaries included."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [variable for item in value for variable in _held(item)]
    return [value] if isinstance(value, tf.Variable) else []


def _retype_attributes(swap: _Swap, owner: Any, done: set[int], dtype: str | None) -> None:
    """Raw TensorFlow variables and float constants that a layer, loss, optimizer or schedule keeps as attributes.

    Python floats become np.float64 (a subclass of float): TensorFlow takes a plain 0.9 for a float32, and
    `keras.ops.cast(0.9, "float64")` is 0.8999999761581421.
    """
    for name, value in list(vars(owner).items()):
        for variable in _held(value):
            _retype_variable(swap, variable, done, dtype)
        if dtype is None:
            continue
        if type(value) is float:
            swap.set(owner, name, np.float64(value))
        elif isinstance(value, (list, tuple)) and value and all(type(item) is float for item in value):
            swap.set(owner, name, [np.float64(item) for item in value])
        elif isinstance(value, tf.Tensor) and hasattr(value, "numpy") and is_float(value.dtype):
            swap.set(owner, name, tf.cast(value, dtype))


def _rekey(swap: _Swap, optimizer: Any, keys: dict[Any, Any]) -> None:
    """An optimizer looks variables up by the identity of what they hold: tell it the new identities."""
    for name, value in list(vars(optimizer).items()):
        if isinstance(value, dict) and any(key in keys for key in value):
            swap.set(optimizer, name, {keys.get(key, key): item for key, item in value.items()})
        elif isinstance(value, (set, frozenset)) and any(item in keys for item in value):
            swap.set(optimizer, name, type(value)(keys.get(item, item) for item in value))


@contextmanager
def restore_attributes(layer: Any) -> Iterator[None]:
    """Put everything that a layer, and the layers inside it, have as attributes back on the way out."""
    swap = _Swap()
    for one in layers_of(layer):
        swap.keep(one)
    try:
        yield
    finally:
        swap.back()


@contextmanager
def in_float64(*things: Any) -> Iterator[None]:
    """Let Keras layers, models, losses and optimizers, and variables, compute in float64 inside the `with` block.

    On the way out, also after an exception or Ctrl-C, every one of them is what it was, bit for bit.
    """
    with in_precision(DTYPE, *things):
        yield


@contextmanager
def in_precision(dtype: str | None, *things: Any) -> Iterator[None]:
    """`in_float64` for any dtype; None: every variable is a copy for the time of the block, and keeps its own dtype."""
    swap, floatx, done = _Swap(), keras.config.floatx(), set[int]()
    try:
        if dtype is not None:
            keras.config.set_floatx(dtype)
        for thing in things:
            _retype(swap, thing, done, dtype)
        yield
    finally:
        swap.back()
        keras.config.set_floatx(floatx)


def global_generator() -> Any:
    """Keras's global seed generator, if anything has drawn from it yet."""
    return global_state.get_global_attribute(GENERATOR)


@contextmanager
def restore_seeds() -> Iterator[None]:
    """Put the seeds of Python, NumPy and Keras's global generator back on the way out."""
    python, numpy, generator = random.getstate(), np.random.get_state(), global_generator()
    with in_precision(None, *([] if generator is None else [generator.state])):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
            if global_generator() is not generator:
                global_state.set_global_attribute(GENERATOR, generator)


def _retype(swap: _Swap, thing: Any, done: set[int], dtype: str | None) -> None:
    if isinstance(thing, (keras.Variable, tf.Variable)):
        return _retype_variable(swap, thing, done, dtype)
    optimizers = _optimizers_of(thing)
    trained = [v for o in optimizers for v in getattr(o, "_trainable_variables", ()) if v._value is not None]
    old_keys = [v._value._unique_id for v in trained]
    for variable in [*getattr(thing, "variables", ()), *getattr(thing, "metrics_variables", ()), *states_of(thing)]:
        _retype_variable(swap, variable, done, dtype)
    for optimizer in optimizers:
        swap.keep(optimizer)
        for variable in [*optimizer.variables, *trained]:
            _retype_variable(swap, variable, done, dtype)
    new_keys = dict(zip(old_keys, (v._value._unique_id for v in trained), strict=True))
    for optimizer in optimizers:
        _rekey(swap, optimizer, new_keys)
        _retype_attributes(swap, optimizer, done, dtype)
        if isinstance(getattr(optimizer, "_learning_rate", None), keras.optimizers.schedules.LearningRateSchedule):
            _retype_attributes(swap, optimizer._learning_rate, done, dtype)
    for layer in layers_of(thing):
        _retype_layer(swap, layer, done, dtype)
    if isinstance(thing, keras.Model):
        for name in TRACED:
            if name in vars(thing):
                vars(thing)[name] = None
    for loss in [*_losses_of(thing), *([thing] if isinstance(thing, keras.losses.Loss) else [])]:
        _retype_attributes(swap, loss, done, dtype)
        if dtype is not None:
            swap.set(loss, "_dtype", dtype)
            swap.set(loss, "_dtype_policy", keras.DTypePolicy(dtype))


def _retype_layer(swap: _Swap, layer: Any, done: set[int], dtype: str | None) -> None:
    swap.keep(layer)  # calls leave losses, counters and the like on it
    _retype_attributes(swap, layer, done, dtype)
    if dtype is None:
        return
    swap.set(layer, "_dtype_policy", keras.DTypePolicy(policy_of(layer)))
    for part in list(vars(layer).values()):
        if isinstance(part, (keras.regularizers.Regularizer, keras.constraints.Constraint)):
            _retype_attributes(swap, part, done, dtype)
    for tensor in tf.nest.flatten(vars(layer).get("_inputs") or []):
        if isinstance(tensor, keras.KerasTensor) and is_float(tensor.dtype):
            swap.set(tensor, "_dtype", dtype)
    if isinstance(layer, keras.layers.InputLayer) and is_float(layer._dtype):
        swap.set(layer, "_dtype", dtype)
