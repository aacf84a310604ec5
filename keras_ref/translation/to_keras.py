"""scratch → Keras: the same specification as a Keras object, field by field, unless mirrors/ says otherwise."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import keras
import numpy as np

from keras_ref.evaluation.float64 import DTYPE, policy_of
from keras_ref.translation import exceptions as mirrors
from keras_ref.translation import weights as weights_module
from keras_ref.translation.exceptions import recurrent
from scratch.calls import filled
from scratch.losses.base import Loss
from scratch.model import Model

_HOMES = {
    "layers": keras.layers,
    "losses": keras.losses,
    "optimizers": keras.optimizers,
    "schedules": keras.optimizers.schedules,
    "regularizers": keras.regularizers,
    "constraints": keras.constraints,
}


def arguments(spec: Any) -> dict[str, Any]:
    """The fields of a specification, those that are specifications themselves mirrored."""
    values = {field.name: getattr(spec, field.name) for field in fields(spec)}
    return {
        name: mirrored(value) if type(value).__module__.startswith("scratch.") else value
        for name, value in values.items()
    }


def mirrored(spec: Any, **options: Any) -> Any:
    """The Keras object for a layer, loss, optimizer, schedule, regularizer or constraint of scratch.

    `options` (name=, dtype=) go to Keras's constructor. Raises: LookupError naming the file to write, where Keras
    has no class of that name and mirrors/ no exception.
    """
    name, family = type(spec).__name__, type(spec).__module__.split(".")
    exception = mirrors.mirror_of(name)
    if exception is not None:
        return exception(spec, **options)
    cls = getattr(_HOMES[family[1]], name, None)
    if cls is None:
        raise LookupError(
            f"A definition in scratch must have a Keras class of its name or a mirror. Received: {name}, which Keras "
            f"{keras.__version__} does not have. Write keras_ref/mirrors/{family[-1]}.py."
        )
    return cls(**arguments(spec), **options)


def mirror(model: Model, weights: Mapping[str, np.ndarray] | None = None, *, dtype: str = "float64") -> keras.Model:
    """The functional Keras model of a scratch model, with the same layer names and (if given) identical weights.

    Raises: LookupError for a layer without mirror; ValueError where weights do not fit.
    """
    tensors: dict[str, Any] = {
        name: keras.Input(shape[1:], batch_size=shape[0], dtype=dtype, name=name)
        for name, shape in model.inputs.items()
    }
    layers = {name: _layer(model, name, dtype) for name in model.layers}
    for call in model.calls:
        layer = layers[call.layer]
        positional, states = _grouped(layer, [tensors[name] for name in call.inputs])
        keywords = {k: filled(v, tensors) for k, v in call.keywords.items()}
        output = layer(*positional, **states, **keywords)
        tensors.update(zip(call.outputs, keras.tree.flatten(output), strict=False))
    built = keras.Model(
        inputs=[tensors[name] for name in model.inputs] if len(model.inputs) > 1 else tensors[next(iter(model.inputs))],
        outputs=[tensors[name] for name in model.outputs] if len(model.outputs) > 1 else tensors[model.outputs[0]],
    )
    if weights is not None:
        weights_module.assign(built, model, weights)
    return built


def _layer(model: Model, name: str, dtype: str) -> keras.layers.Layer:
    layer = mirrored(model.layers[name], name=name, dtype=policy_of(model.layers[name]) if dtype == DTYPE else dtype)
    for part, regularizer in weights_module.parts(model.regularizers, name):
        setattr(layer, f"{part}_regularizer", mirrored(regularizer))
    for part, constraint in weights_module.parts(model.constraints, name):
        setattr(layer, f"{part}_constraint", mirrored(constraint))
    if name in model.activity_regularizers:
        layer.activity_regularizer = mirrored(model.activity_regularizers[name])
    if any(weight.startswith(name + "/") for weight in model.frozen):
        layer.trainable = False
    return layer


def _grouped(layer: keras.layers.Layer, inputs: list[Any]) -> tuple[list[Any], dict[str, Any]]:
    """Several inputs as the layer's call takes them: merging layers one list, cells and recurrent layers their states
    beside the input, others one by one."""
    if len(inputs) == 1:
        return inputs, {}
    if recurrent.takes_states(layer):
        return recurrent.arguments(layer, inputs)
    parameters = inspect.signature(layer.call).parameters
    return ([inputs] if next(iter(parameters), "") == "inputs" else inputs), {}


def mirrored_loss(loss: Loss, *, dtype: str = "float64") -> Any:
    """The Keras loss of a scratch loss, computing in `dtype`."""
    return mirrored(loss, dtype=dtype)
