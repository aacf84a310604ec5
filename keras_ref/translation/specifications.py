"""Keras → scratch for one object: the specification of a layer, loss, optimizer, schedule or regularizer."""

from __future__ import annotations

import inspect
import warnings
from dataclasses import fields
from typing import Any, Literal, get_args, get_origin

import keras
import numpy as np

from keras_ref.own_modules import registry
from keras_ref.translation.exceptions import find_reflection
from keras_ref.translation.keras_homes import HOMES

#: what a refusal says at its end: no twin is not the end of a check
DIFFERENCING = (
    "Its gradients can still be checked by differencing Keras's own forward pass, which check_gradients does."
)
#: attributes by which a layer computes something else than its class says
_ADAPTATIONS = ("lora_enabled", "lora_rank", "quantization_mode")


class NoTwin(LookupError):
    """A Keras object has no definition in scratch; the message names it and says what to do."""


def reflect_object(keras_object: Any, kind: str) -> Any:
    """The scratch specification of a Keras object; `kind` as in scratch.registry.KINDS.

    Raises: NoTwin where there is none.
    """
    name, module = type(keras_object).__name__, type(keras_object).__module__
    _require_unadapted(keras_object)
    exported = getattr(HOMES[kind], name, None) is type(keras_object)
    # an exception may speak for what Keras does not export under the name of its class
    exception = find_reflection(name) if module.split(".")[0] in ("keras", "keras_ref") else None
    if exception is not None:
        return exception(keras_object)
    if not exported or name not in registry.every(kind):
        raise NoTwin(
            f"A Keras {kind} must have a definition in scratch to have a twin. Received: {module}.{name}. "
            f"{DIFFERENCING}"
        )
    cls = registry.get(kind, name)
    config = _read_config(keras_object, kind)
    hints = registry.read_hints(cls)
    values = {
        f.name: _read_field(keras_object, f.name, config[f.name], hints[f.name])
        for f in fields(cls)
        if f.init and f.name in config
    }
    try:
        return cls(**values)
    except ValueError as error:
        raise NoTwin(f"The twin of {name} does not take this configuration: {error}") from error


def _read_config(keras_object: Any, kind: str) -> dict[str, Any]:
    """The configuration of an object of Keras's. Raises: NoTwin where a part of it that is the user's has none."""
    try:
        with warnings.catch_warnings():
            # a lambda in it can be saved in no safe way, and Keras warns of that; it is not saved, and has no twin
            warnings.simplefilter("ignore", UserWarning)
            found: dict[str, Any] = keras_object.get_config()
            return found
    except Exception as error:  # whatever a part raises that is no class of Keras's
        raise NoTwin(
            f"A Keras {kind} must have a configuration to have a twin. Received: {type(keras_object).__name__}, a part "
            f"of which has none. {DIFFERENCING}"
        ) from error


def _require_unadapted(keras_object: Any) -> None:
    """Raises: NoTwin for what computes something else than its class says: adapted (LoRA) or quantised layers."""
    for layer in keras_object._flatten_layers() if isinstance(keras_object, keras.layers.Layer) else ():
        changed = [name for name in _ADAPTATIONS if getattr(layer, name, None)]
        if changed:
            raise NoTwin(
                f"A layer must be neither LoRA-adapted nor quantised to have a twin. Received: {layer.name!r} with "
                f"{changed[0]}={getattr(layer, changed[0])!r}. {DIFFERENCING}"
            )


def _read_field(keras_object: Any, name: str, value: Any, hint: Any) -> Any:
    """One field, from its `value` in the configuration, or from the object itself where that is a function or layer."""
    live = getattr(keras_object, name, None)
    if inspect.isfunction(live) and (isinstance(value, str) or _names_function(value)):
        known = value if isinstance(value, str) else value["config"]
        if getattr(keras.activations, str(known), None) is not live:
            raise NoTwin(
                f"A function must be one of keras.activations to have a twin. Received: {name}={known!r} of "
                f"{getattr(keras_object, 'name', type(keras_object).__name__)!r}, from {live.__module__}. "
                f"{DIFFERENCING}"
            )
        return known
    if isinstance(value, dict) and isinstance(live, keras.layers.Layer):
        return reflect_object(live, "layer")
    if isinstance(value, dict) and isinstance(live, keras.optimizers.schedules.LearningRateSchedule):
        return reflect_object(live, "schedule")
    items = live if isinstance(value, list) and isinstance(live, (list, tuple)) else ()
    if any(isinstance(item, keras.layers.Layer) for item in items):
        return tuple(reflect_object(item, "layer") for item in items)
    return simplify(value, hint)


def _names_function(value: Any) -> bool:
    return isinstance(value, dict) and value.get("class_name") == "function"


def simplify(value: Any, hint: Any = None) -> Any:
    """A value of a Keras configuration as scratch writes it: names for registered functions, tuples for lists.

    `hint` is the annotation of the field that takes it. Raises: NoTwin for an object that Keras cannot make again.
    """
    if isinstance(value, dict) and "class_name" in value:
        return _read_serialized(value)
    if isinstance(value, list):
        return tuple(simplify(item) for item in value)
    if isinstance(value, str) and get_origin(hint) is Literal:
        choices = get_args(hint)
        return value.lower() if value not in choices and value.lower() in choices else value  # Keras minds no case
    return value.item() if isinstance(value, np.generic) else value


def _read_serialized(value: dict[str, Any]) -> Any:
    """The name or the specification of what Keras wrote as a dictionary; the dictionary where there is neither."""
    inner = value.get("config")
    if value["class_name"] == "function" or isinstance(inner, str):
        return inner
    try:
        made = keras.saving.deserialize_keras_object(value)
    except (TypeError, ValueError) as error:
        raise NoTwin(
            f"What a layer holds must be Keras's own to have a twin. Received: {value['class_name']}. {DIFFERENCING}"
        ) from error
    name = type(made).__name__
    for kind, home in HOMES.items():
        if getattr(home, name, None) is type(made) and name in registry.every(kind):
            return reflect_object(made, kind)
    return value
