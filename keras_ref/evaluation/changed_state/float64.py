"""Let Keras objects compute in float64 inside a block: variables, policies and constants are replaced, then put back.

A variable whose dtype changes has a copy in its place; one that keeps its dtype stays where it is, since traces hold
its handle, and gets its value back. What a check does to weights, moving averages, seeds or optimizer slots is undone
when the block ends, whatever ends it. Every change goes through Restoration, which undoes it.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend.common import global_state
from tensorflow.python.eager import context
from tensorflow.python.ops import stateful_random_ops

from keras_ref.evaluation.changed_state import keras_2
from keras_ref.evaluation.changed_state.python_numbers import DoubleFloat
from keras_ref.evaluation.changed_state.restoration import Restoration, keep_warnings
from keras_ref.evaluation.changed_state.traced_functions import trace_anew
from keras_ref.evaluation.keras_objects.keras_classes import KerasVariable
from keras_ref.evaluation.keras_objects.keras_parts import (
    list_layers,
    list_metrics,
    list_optimizers,
    list_states,
    list_tensorflow_variables,
    losses_of,
    unwrap_variable,
)
from keras_ref.evaluation.keras_objects.real_parts import dtype_in, is_real_or_complex

DTYPE = "float64"
#: the name under which Keras keeps its global seed generator
GENERATOR = "global_seed_generator"
#: the name under which Keras keeps its default dtype policy
POLICY = "dtype_policy"
#: functions that compiled training leaves on a model, traced with its present variables
TRACED = frozenset(("train_function", "test_function", "predict_function"))

#: layers whose TensorFlow kernels do not exist in float64 on a CPU (AvgPool3D, MaxPool3D). They go on computing in
#: float32; the noise of that is measured in the loss, widens the steps and is named in the report
FLOAT32_ONLY = frozenset(f"{kind}Pooling3D" for kind in ("Max", "Average", "AdaptiveMax", "AdaptiveAverage"))


def find_policy(layer: Any) -> str:
    """The dtype that a layer computes in during a check, given as a Keras layer or as a specification."""
    return "float32" if type(layer).__name__ in FLOAT32_ONLY else DTYPE


def _convert_policy(dtype: str, layer: Any) -> Any:
    """The policy of a layer in another dtype: one that quantizes goes on to do so, or it would be another function."""
    policy = layer.dtype_policy
    policy = policy[layer.path] if isinstance(policy, keras.dtype_policies.DTypePolicyMap) else policy
    if getattr(policy, "quantization_mode", None) is None:
        return keras.DTypePolicy(dtype)
    return type(policy).from_config({**policy.get_config(), "source_name": dtype})


def is_float(dtype: Any) -> bool:
    """Whether a dtype, given by name or as TensorFlow's, is a floating one."""
    return bool(tf.as_dtype(dtype).is_floating)


def _choose_dtype(dtype: str | None, own: Any) -> Any:
    """The dtype that a variable or constant of dtype `own` gets: another one only if `own` is floating or complex."""
    return dtype_in(dtype, own) if dtype is not None and is_real_or_complex(own) else own


def _copy(value: Any, dtype: Any) -> tf.Variable:
    values = np.asarray(value.value().numpy(), dtype=tf.as_dtype(dtype).as_numpy_dtype)
    # TensorFlow makes a kernel for every name that a variable is made with, which costs more than the variable
    copy = tf.Variable(values, trainable=value.trainable, dtype=dtype, name="copy")
    copy._handle_name = value.name  # patterns that exclude variables from weight decay read it
    return copy


@dataclass
class _Moved:
    """What a block has moved to another precision.

    dtype      the precision; None where everything keeps its own
    done       identities of the variables that are dealt with
    replaced   names of the variables that have a copy in their place, by the identity of their handles
    """

    restoration: Restoration
    dtype: str | None
    done: set[int] = field(default_factory=set)
    replaced: dict[int, str] = field(default_factory=dict)


def _retype_variable(moved: _Moved, variable: Any) -> None:
    """Replace what a variable of Keras or TensorFlow holds by a copy in another dtype, or keep its value, once."""
    if isinstance(variable, KerasVariable) and variable._value is None:
        return
    variable = keras_2.unwrap_variable(variable)
    held = unwrap_variable(variable)
    target = _choose_dtype(moved.dtype, held.dtype)
    if id(variable) in moved.done:
        return
    moved.done.add(id(variable))
    if tf.as_dtype(target) == held.dtype:
        moved.restoration.keep_value(held)
        return
    moved.replaced[id(held.handle)] = held.name.split(":")[0]
    if isinstance(variable, tf.Variable):
        moved.restoration.replace_variable(variable, _copy(variable, target))
    else:
        moved.restoration.set_attribute(variable, "_value", _copy(held, target))
        moved.restoration.set_attribute(variable, "_dtype", target)


def _retype_attributes(moved: _Moved, owner: Any) -> None:
    """Replace the TensorFlow variables and float constants that an object keeps as attributes.

    Python floats become DoubleFloat (a subclass of float): TensorFlow takes a plain 0.9 for a float32, and
    `keras.ops.cast(0.9, "float64")` is 0.8999999761581421.
    """
    restoration, dtype = moved.restoration, moved.dtype
    for name, value in list(vars(owner).items()):
        for variable in list_tensorflow_variables(value):
            _retype_variable(moved, variable)
        if dtype is None:
            continue
        if type(value) is float:
            restoration.set_attribute(owner, name, DoubleFloat(value))
        elif isinstance(value, (list, tuple)) and value and all(type(item) is float for item in value):
            doubles: Any = [DoubleFloat(item) for item in value]
            if isinstance(value, tuple):  # which may have names for its items, or be joined with another one
                doubles = tuple.__new__(type(value), doubles)
            restoration.set_attribute(owner, name, doubles)
        elif isinstance(value, tf.Tensor) and hasattr(value, "numpy") and is_real_or_complex(value.dtype):
            restoration.set_attribute(owner, name, tf.cast(value, _choose_dtype(dtype, value.dtype)))


def rekey(restoration: Restoration, optimizer: Any, keys: dict[Any, Any]) -> None:
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


def keep_default_dtype(restoration: Restoration) -> None:
    """Put back what new layers compute in: floatx, and the policy that Keras makes of it once and keeps beside it."""
    restoration.undo_by(keras.config.set_floatx, keras.config.floatx())
    restoration.undo_by(global_state.set_global_attribute, POLICY, global_state.get_global_attribute(POLICY))


@contextmanager
def in_precision(dtype: str | None, *keras_objects: Any) -> Iterator[None]:
    """`in_float64` for any dtype; with None everything keeps its own, and gets its values back."""
    with Restoration() as restoration:
        moved = _move(restoration, dtype, keras_objects)
        trace_anew(restoration, moved.replaced, dtype)
        yield


def _move(restoration: Restoration, dtype: str | None, keras_objects: Iterable[Any]) -> _Moved:
    """Let objects, and layers that are made from now on, compute in a dtype until the restoration."""
    moved = _Moved(restoration, dtype)
    keep_default_dtype(restoration)
    if dtype is not None:
        keras.config.set_floatx(dtype)
        # layers that are made inside `call` take this one, which Keras keeps beside floatx
        keras.config.set_dtype_policy(dtype)
        keras_2.set_precision(restoration, dtype)
    for keras_object in keras_objects:
        if keras_2.is_layer(keras_object):
            _retype_keras_2(moved, keras_object)
        elif not keras_2.is_optimizer(keras_object):  # that goes with the model that trains with it
            _retype(moved, keras_object)
    return moved


def find_global_generator() -> Any:
    """Keras's global seed generator, if anything has drawn from it yet."""
    return global_state.get_global_attribute(GENERATOR)


@contextmanager
def restore_process_state() -> Iterator[None]:
    """Put back what a whole process shares: the random states of Python, NumPy, Keras and TensorFlow, what Keras keeps
    (names that are taken, scopes), floatx, and which warnings are shown."""
    generator = find_global_generator()
    with Restoration() as restoration:
        restoration.undo_by(random.setstate, random.getstate())
        restoration.undo_by(np.random.set_state, np.random.get_state())  # noqa: NPY002 (the user's)
        if (torch := sys.modules.get("torch")) is not None:
            restoration.undo_by(torch.random.set_rng_state, torch.random.get_rng_state())
        restoration.keep_attributes(global_state.GLOBAL_STATE_TRACKER)
        _keep_random_state_of_tensorflow(restoration)
        keep_warnings(restoration)
        keep_default_dtype(restoration)
        if generator is not None:
            restoration.keep_value(unwrap_variable(generator.state))
        yield


def _keep_random_state_of_tensorflow(restoration: Restoration) -> None:
    """Keep TensorFlow's eager random state: its seed, what it draws the seeds of operations from, its generator."""
    eager = vars(context.context())
    seeds = eager.get("_rng")  # there is none before a seed is set or drawn from
    if seeds is None:
        restoration.undo_by(eager.pop, "_rng", None)
    else:
        restoration.undo_by(seeds.setstate, seeds.getstate())
        restoration.undo_by(eager.__setitem__, "_rng", seeds)
    restoration.undo_by(eager.__setitem__, "_seed", eager["_seed"])
    if stateful_random_ops.global_generator is not None:
        restoration.keep_value(stateful_random_ops.global_generator.state)


def _retype(moved: _Moved, keras_object: Any) -> None:
    """Let one object compute in the block's dtype."""
    restoration, dtype = moved.restoration, moved.dtype
    if isinstance(keras_object, (KerasVariable, tf.Variable)):
        _retype_variable(moved, keras_object)
        return
    optimizers = list_optimizers(keras_object)
    trained = [v for o in optimizers for v in getattr(o, "_trainable_variables", ()) if v._value is not None]
    old_keys = [v._value._unique_id for v in trained]
    variables = [*getattr(keras_object, "variables", ()), *getattr(keras_object, "metrics_variables", ())]
    for variable in [*variables, *list_states(keras_object)]:
        _retype_variable(moved, variable)
    for optimizer in optimizers:
        restoration.keep_attributes(optimizer)
        for variable in [*optimizer.variables, *trained]:
            _retype_variable(moved, variable)
    new_keys = dict(zip(old_keys, (v._value._unique_id for v in trained), strict=True))
    for optimizer in optimizers:
        rekey(restoration, optimizer, new_keys)
        _retype_attributes(moved, optimizer)
        if isinstance(getattr(optimizer, "_learning_rate", None), keras.optimizers.schedules.LearningRateSchedule):
            _retype_attributes(moved, optimizer._learning_rate)
    for layer in list_layers(keras_object):
        _retype_layer(moved, layer)
    _keep_compiled(restoration, keras_object)
    for loss in losses_of(keras_object):
        restoration.keep_attributes(loss)
        _retype_attributes(moved, loss)
        if dtype is not None:
            restoration.set_attribute(loss, "_dtype", dtype)
            restoration.set_attribute(loss, "_dtype_policy", keras.DTypePolicy(dtype))


def _keep_compiled(restoration: Restoration, model: Any) -> None:
    """Remember the loss and metrics that a model was compiled with: a first call builds them, for its targets."""
    compiled = [getattr(model, name, None) for name in ("_compile_loss", "_compile_metrics")]
    for part in (*compiled, *list_metrics(model)):
        if part is not None:
            restoration.keep_attributes(part)


def _retype_keras_2(moved: _Moved, keras_object: Any) -> None:
    """Let a layer or model of Keras 2 compute in the block's dtype, and the optimizers that it trains with."""
    optimizers = keras_2.list_optimizers(keras_object)
    trained = [keras_2.unwrap_variable(v) for v in keras_object.trainable_variables]
    old_keys = [v._unique_id for v in trained]
    for optimizer in optimizers:
        _retype_optimizer_of_keras_2(moved, optimizer)
    for variable in keras_object.variables:
        _retype_variable(moved, variable)
    new_keys = dict(zip(old_keys, (v._unique_id for v in trained), strict=True))
    for optimizer in optimizers:  # which finds the state of a variable by its key
        rekey(moved.restoration, keras_2.unwrap_optimizer(optimizer), new_keys)
    metrics = keras_object.metrics if keras_2.is_model(keras_object) else []
    for variable in (v for metric in metrics for v in metric.variables):
        _retype_variable(moved, variable)
    for layer in (*keras_2.list_layers(keras_object), *metrics):  # in Keras 2 a metric is a layer
        moved.restoration.keep_attributes(layer)
        for name in TRACED & vars(layer).keys():
            moved.restoration.set_attribute(layer, name, None)
        keras_2.fix_draws(moved.restoration, layer)
        if moved.dtype is not None:
            _retype_attributes(moved, layer)
            keras_2.set_policy(moved.restoration, layer, moved.dtype)


def _retype_optimizer_of_keras_2(moved: _Moved, optimizer: Any) -> None:
    """Let an optimizer of Keras 2 compute in the block's dtype: the one inside, where it scales the loss."""
    inner = keras_2.unwrap_optimizer(optimizer)
    moved.restoration.keep_attributes(optimizer)
    moved.restoration.keep_attributes(inner)
    if inner is not optimizer:
        keras_2.leave_out_scale(moved.restoration, optimizer)
    for variable in inner.variables:
        _retype_variable(moved, variable)
    _retype_attributes(moved, inner)
    if isinstance(rate := inner._learning_rate, tf.Variable):
        return
    _retype_attributes(moved, rate)
    if moved.dtype is not None:  # a schedule may cast: what it gives is kept in the precision that it gives
        current, given = inner._current_learning_rate, tf.convert_to_tensor(rate(inner.iterations)).dtype
        if current.dtype != given:
            moved.restoration.replace_variable(current, _copy(current, given))


def _retype_layer(moved: _Moved, layer: Any) -> None:
    """Let one layer compute in a dtype: variables, constants, policy, regularizers, constraints and input tensors."""
    restoration, dtype = moved.restoration, moved.dtype
    restoration.keep_attributes(layer)  # calls leave losses, counters and the like on it
    for name in TRACED & vars(layer).keys():
        restoration.set_attribute(layer, name, None)
    _retype_attributes(moved, layer)
    if dtype is None:
        return
    own = find_policy(layer) if dtype == DTYPE else dtype
    restoration.set_attribute(layer, "_dtype_policy", _convert_policy(own, layer))
    for part in list(vars(layer).values()):
        if isinstance(part, (keras.regularizers.Regularizer, keras.constraints.Constraint)):
            _retype_attributes(moved, part)
    for tensor in tf.nest.flatten(vars(layer).get("_inputs") or []):
        if isinstance(tensor, keras.KerasTensor) and is_float(tensor.dtype):
            restoration.set_attribute(tensor, "_dtype", dtype)
    if isinstance(layer, keras.layers.InputLayer) and is_float(layer._dtype):
        restoration.set_attribute(layer, "_dtype", dtype)
