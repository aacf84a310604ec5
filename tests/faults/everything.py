"""All that a check could have touched, in a form that can be compared: `everything(model)` before and after."""

import logging
import os
import random
import signal
import sys
import warnings

import keras
import numpy as np
import tensorflow as tf
import threadpoolctl
from keras.src.backend.common import global_state
from tensorflow.python.eager import context, record
from tensorflow.python.framework import ops
from tensorflow.python.ops import stateful_random_ops

from keras_ref.evaluation.keras_objects.keras_classes import KerasVariable
from keras_ref.evaluation.keras_objects.keras_parts import list_layers, list_optimizers, list_states, losses_of

#: the libraries that have threads of their own, as they are loaded by now: to find them takes longer than all else
LIBRARIES = threadpoolctl.ThreadpoolController()


def everything(*keras_objects, variables=()):
    """{what: its state}; a state compares equal if nothing of it has changed."""
    found = {"process": process()}
    for one in keras_objects:
        found[one.name] = parts_of(one)
    found["given variables"] = [state_of(v) for v in variables]
    return found


def state_of(variable):
    """Identity, dtype and bits of a variable of Keras or TensorFlow, and of what it holds."""
    held = getattr(variable, "_value", None)
    bits = None if isinstance(variable, KerasVariable) and held is None else variable.numpy().tobytes()
    return id(variable), id(held), str(variable.dtype), bits, shallow(variable)


def shallow(owner):
    """The attributes of an object by identity, numbers and texts by value, and what its containers hold."""
    return {name: value_of(value) for name, value in vars(owner).items()}


def value_of(value):
    if isinstance(value, (bool, int, float, str, bytes, type(None))):
        return type(value).__name__, value
    plain = getattr(value, "__wrapped__", value)
    if isinstance(plain, dict):
        return id(value), [(key if isinstance(key, str) else id(key), id(item)) for key, item in plain.items()]
    if isinstance(plain, (list, tuple)):
        return id(value), [id(item) for item in plain]
    return id(value)


def parts_of(keras_object):
    variables = [
        *getattr(keras_object, "variables", ()),
        *getattr(keras_object, "metrics_variables", ()),
        *list_states(keras_object),
        *(v for optimizer in list_optimizers(keras_object) for v in optimizer.variables),
        *(
            part
            for layer in list_layers(keras_object)
            for attribute in vars(layer).values()
            for part in (attribute if isinstance(attribute, list) else [attribute])
            if isinstance(part, tf.Variable)
        ),
    ]
    owners = [*list_layers(keras_object), *losses_of(keras_object), *list_optimizers(keras_object)]
    return {
        "variables": [state_of(v) for v in variables],
        "attributes": [(type(owner).__name__, shallow(owner)) for owner in owners],
        "policies": [layer.dtype_policy.name for layer in list_layers(keras_object)],
    }


def process():
    """What the whole process shares."""
    numpy = np.random.get_state()  # noqa: NPY002 (the state that everybody shares)
    eager = context.context()
    generator = stateful_random_ops.global_generator
    seeds = vars(eager).get("_rng")
    tracked = vars(global_state.GLOBAL_STATE_TRACKER)
    keras_generator = tracked.get("global_seed_generator")
    return {
        "random": random.getstate(),
        "numpy.random": (numpy[1].tobytes(), *numpy[2:]),
        "numpy errors": (np.geterr(), np.geterrcall()),
        "keras": (keras.config.floatx(), keras.config.epsilon(), keras.config.image_data_format()),
        "keras tracked": {
            name: dict(value) if isinstance(value, dict) else value_of(value) for name, value in tracked.items()
        },
        "keras generator": keras_generator and keras_generator.state.numpy().tobytes(),
        "tensorflow seeds": (vars(eager)["_seed"], id(seeds), seeds and seeds.getstate()),
        "tensorflow generator": generator and generator.state.numpy().tobytes(),
        "tensorflow eager": (tf.executing_eagerly(), eager.device_name, eager.scope_name),
        "tensorflow stacks": (len(ops._default_graph_stack.stack), len(eager.context_switches.stack)),
        "tensorflow functions": tf.config.functions_run_eagerly(),
        "tensorflow patches": (id(tf.GradientTape.gradient), id(record.record_operation)),
        "warnings": (id(warnings.filters), list(warnings.filters), id(warnings.showwarning)),
        "logging": [
            (logger.level, list(logger.handlers), list(logger.filters), logger.disabled)
            for logger in (logging.getLogger(), tf.get_logger(), logging.getLogger("absl"))
        ],
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "environment": dict(os.environ),
        "path": list(sys.path),
        "blas": [(lib["filepath"], lib["num_threads"]) for lib in LIBRARIES.info()],
        "exit": id(os._exit),
    }


def changes(before, after, path=""):
    """What differs, as paths into what `everything` gives; [] where nothing does."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            line
            for name in {**before, **after}
            for line in changes(before.get(name, "nothing"), after.get(name, "nothing"), f"{path}/{name}")
        ]
    if isinstance(before, (list, tuple)) and isinstance(after, (list, tuple)) and len(before) == len(after):
        return [
            line
            for i, (one, other) in enumerate(zip(before, after, strict=True))
            for line in changes(one, other, f"{path}/{i}")
        ]
    return [] if before == after else [path]
