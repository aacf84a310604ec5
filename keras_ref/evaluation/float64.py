"""Let Keras objects compute in float64 inside a block: variables, policies and constants are replaced, then put back.

The user's own variables are never written: every variable is a copy inside the block, and the originals return when the
block ends, whatever ends it. What a check does to weights, moving averages, seeds or optimizer slots happens to the
copies. Every change goes through Restoration, which undoes it.
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

from keras_ref.evaluation.keras_parts import layers_of, losses_of, optimizers_of, states_of, tensorflow_variables_in
from keras_ref.evaluation.restoration import Restoration

DTYPE = "float64"
#: the name under which Keras keeps its global seed generator
GENERATOR = "global_seed_generator"
#: functions that compiled training leaves on a model, traced with its present variables
TRACED = frozenset(("train_function", "test_function", "predict_function"))

#: layers whose TensorFlow kernels do not exist in float64 on a CPU (AvgPool3D, MaxPool3D): they go on computing in
#: float32; the noise of that is measured in the loss, widens the steps and is named in the report
FLOAT32_ONLY = frozenset(f"{kind}Pooling3D" for kind in ("Max", "Average", "AdaptiveMax", "AdaptiveAverage"))


def policy_of(layer: Any) -> str:
    """The dtype that a layer computes in during a check, given as a Keras layer or as a specification."""
    return "float32" if type(layer).__name__ in FLOAT32_ONLY else DTYPE


def is_float(dtype: Any) -> bool:
    """Whether a dtype, given by name or as TensorFlow's, is a floating one."""
    return bool(tf.as_dtype(dtype).is_floating)


def _target(dtype: str | None, own: Any) -> Any:
    """The dtype that a variable or constant of dtype `own` gets: `dtype` if that is given and `own` is a float."""
    return dtype if dtype is not None and is_float(own) else own


def _copy(value: Any, dtype: Any) -> tf.Variable:
    values = np.asarray(value.numpy(), dtype=tf.as_dtype(dtype).as_numpy_dtype)
    # the name stays: patterns that exclude variables from weight decay read it
    return tf.Variable(values, trainable=value.trainable, dtype=dtype, name=value.name.split(":")[0])


def _retype_variable(restoration: Restoration, variable: Any, done: set[int], dtype: str | None) -> None:
    """Replace what a variable of Keras or TensorFlow holds by a copy in a dtype, once."""
    if id(variable) in done:
        return
    if isinstance(variable, tf.Variable):
        done.add(id(variable))
        restoration.replace_variable(variable, _copy(variable, _target(dtype, variable.dtype)))
    elif variable._value is not None:
        done.add(id(variable))
        own = _target(dtype, variable._dtype)
        restoration.set_attribute(variable, "_value", _copy(variable._value, own))
        restoration.set_attribute(variable, "_dtype", own)


def _retype_attributes(restoration: Restoration, owner: Any, done: set[int], dtype: str | None) -> None:
    """Replace the TensorFlow variables and float constants that an object keeps as attributes.

    Python floats become np.float64 (a subclass of float): TensorFlow takes a plain 0.9 for a float32, and
    `keras.ops.cast(0.9, "float64")` is 0.8999999761581421.
    """
    for name, value in list(vars(owner).items()):
        for variable in tensorflow_variables_in(value):
            _retype_variable(restoration, variable, done, dtype)
        if dtype is None:
            continue
        if type(value) is float:
            restoration.set_attribute(owner, name, np.float64(value))
        elif isinstance(value, (list, tuple)) and value and all(type(item) is float for item in value):
            restoration.set_attribute(owner, name, [np.float64(item) for item in value])
        elif isinstance(value, tf.Tensor) and hasattr(value, "numpy") and is_float(value.dtype):
            restoration.set_attribute(owner, name, tf.cast(value, dtype))


def _rekey(restoration: Restoration, optimizer: Any, keys: dict[Any, Any]) -> None:
    """Give an optimizer, which finds variables by the identity of what they hold, the new identities ({old: new})."""
    for name, value in list(vars(optimizer).items()):
        if isinstance(value, dict) and any(key in keys for key in value):
            restoration.set_attribute(optimizer, name, {keys.get(key, key): item for key, item in value.items()})
        elif isinstance(value, (set, frozenset)) and any(item in keys for item in value):
            restoration.set_attribute(optimizer, name, type(value)(keys.get(item, item) for item in value))


@contextmanager
def in_float64(*keras_objects: Any) -> Iterator[None]:
    """Let Keras layers, models, losses, optimizers and variables compute in float64 inside the `with` block.

    At its end, also after an exception or Ctrl-C, every one of them is what it was, bit for bit.
    """
    with in_precision(DTYPE, *keras_objects):
        yield


@contextmanager
def in_precision(dtype: str | None, *keras_objects: Any) -> Iterator[None]:
    """`in_float64` for any dtype; with None every variable is a copy inside the block, and keeps its own dtype."""
    done = set[int]()
    with Restoration() as restoration:
        restoration.callback(keras.config.set_floatx, keras.config.floatx())
        if dtype is not None:
            keras.config.set_floatx(dtype)
        for keras_object in keras_objects:
            _retype(restoration, keras_object, done, dtype)
        yield


def global_generator() -> Any:
    """Keras's global seed generator, if anything has drawn from it yet."""
    return global_state.get_global_attribute(GENERATOR)


@contextmanager
def restore_seeds() -> Iterator[None]:
    """Put the seeds of Python, NumPy and Keras's global generator back at the end of the block."""
    python, numpy, generator = random.getstate(), np.random.get_state(), global_generator()  # noqa: NPY002 (the user's)
    with in_precision(None, *([] if generator is None else [generator.state])):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002 (the user's)
            if global_generator() is not generator:
                global_state.set_global_attribute(GENERATOR, generator)


def _retype(restoration: Restoration, keras_object: Any, done: set[int], dtype: str | None) -> None:
    """Let one object compute in a dtype. `done` has the identities of the variables that are replaced already."""
    if isinstance(keras_object, (keras.Variable, tf.Variable)):
        _retype_variable(restoration, keras_object, done, dtype)
        return
    optimizers = optimizers_of(keras_object)
    trained = [v for o in optimizers for v in getattr(o, "_trainable_variables", ()) if v._value is not None]
    old_keys = [v._value._unique_id for v in trained]
    variables = [*getattr(keras_object, "variables", ()), *getattr(keras_object, "metrics_variables", ())]
    for variable in [*variables, *states_of(keras_object)]:
        _retype_variable(restoration, variable, done, dtype)
    for optimizer in optimizers:
        restoration.keep_attributes(optimizer)
        for variable in [*optimizer.variables, *trained]:
            _retype_variable(restoration, variable, done, dtype)
    new_keys = dict(zip(old_keys, (v._value._unique_id for v in trained), strict=True))
    for optimizer in optimizers:
        _rekey(restoration, optimizer, new_keys)
        _retype_attributes(restoration, optimizer, done, dtype)
        if isinstance(getattr(optimizer, "_learning_rate", None), keras.optimizers.schedules.LearningRateSchedule):
            _retype_attributes(restoration, optimizer._learning_rate, done, dtype)
    for layer in layers_of(keras_object):
        _retype_layer(restoration, layer, done, dtype)
    for loss in losses_of(keras_object):
        _retype_attributes(restoration, loss, done, dtype)
        if dtype is not None:
            restoration.set_attribute(loss, "_dtype", dtype)
            restoration.set_attribute(loss, "_dtype_policy", keras.DTypePolicy(dtype))


def _retype_layer(restoration: Restoration, layer: Any, done: set[int], dtype: str | None) -> None:
    """Let one layer compute in a dtype: variables, constants, policy, regularizers, constraints and input tensors."""
    restoration.keep_attributes(layer)  # calls leave losses, counters and the like on it
    for name in TRACED & vars(layer).keys():
        restoration.set_attribute(layer, name, None)
    _retype_attributes(restoration, layer, done, dtype)
    if dtype is None:
        return
    own = policy_of(layer) if dtype == DTYPE else dtype
    restoration.set_attribute(layer, "_dtype_policy", keras.DTypePolicy(own))
    for part in list(vars(layer).values()):
        if isinstance(part, (keras.regularizers.Regularizer, keras.constraints.Constraint)):
            _retype_attributes(restoration, part, done, dtype)
    for tensor in tf.nest.flatten(vars(layer).get("_inputs") or []):
        if isinstance(tensor, keras.KerasTensor) and is_float(tensor.dtype):
            restoration.set_attribute(tensor, "_dtype", dtype)
    if isinstance(layer, keras.layers.InputLayer) and is_float(layer._dtype):
        restoration.set_attribute(layer, "_dtype", dtype)
