"""scratch → Keras: the Keras object or model of a specification, field by field unless exceptions/ says otherwise."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import keras

from keras_ref.evaluation.arguments import Rule, takes
from keras_ref.evaluation.changed_state.float64 import DTYPE, find_policy
from keras_ref.own_modules import registry
from keras_ref.translation import recurrent_states
from keras_ref.translation import weights as weights_module
from keras_ref.translation.exceptions import find_mirror
from keras_ref.translation.keras_homes import HOMES
from scratch.arrays import Array
from scratch.calls import fill_value
from scratch.losses.base import Loss
from scratch.model import Model


def _convert_arguments(spec: Any) -> dict[str, Any]:
    """The fields of a specification as arguments of Keras; fields that hold specifications are mirrored too."""
    values = {field.name: getattr(spec, field.name) for field in fields(spec)}
    return {
        name: mirror_object(value) if type(value).__module__.startswith("scratch.") else value
        for name, value in values.items()
    }


def mirror_object(spec: Any, **options: Any) -> Any:
    """The Keras object for a layer, loss, optimizer, schedule, regularizer or constraint of scratch.

    `options` (name=, dtype=) go to Keras's constructor. Raises: LookupError naming the file to write, where Keras
    has no class of that name and exceptions/ no function for it.
    """
    name = type(spec).__name__
    exception = find_mirror(name)
    if exception is not None:
        return exception(spec, **options)
    homes = [home for kind, home in HOMES.items() if name in registry.every(kind) and hasattr(home, name)]
    if not homes:
        raise LookupError(
            "A definition in scratch must have a Keras class of its name or an exception. Received: "
            f"{name}, which Keras {keras.__version__} does not have. Write "
            f"keras_ref/translation/exceptions/{type(spec).__module__.split('.')[-1]}.py."
        )
    return getattr(homes[0], name)(**_convert_arguments(spec), **options)


@takes(
    model=Rule(
        "be a scratch.Model",
        lambda value: isinstance(value, Model),
        "Pass a model of scratch; reflect makes one of a Keras model.",
    ),
    dtype=Rule(
        "be the name of a floating-point type",
        lambda value: isinstance(value, str) and value in ("float64", "float32", "float16", "bfloat16"),
        "Pass 'float64', say.",
    ),
)
def mirror(model: Model, weights: Mapping[str, Array] | None = None, *, dtype: str = "float64") -> keras.Model:
    """The functional Keras model of a scratch model, with the same layer names and (if given) identical weights.

    A layer of a nested model, "block/dense", has a dot in the place of the slash, which Keras does not allow.

    Shapes  as in `model.inputs`, the batch first; `weights` by name, of the shapes `model.weight_shapes`.
    `dtype` is the dtype of inputs and layers: "float64", "float32", "float16" or "bfloat16".
    Raises: BadInput for arguments of the wrong type; LookupError for a layer that Keras does not have; ValueError where
    weights do not fit.
    """
    tensors: dict[str, Any] = {
        name: keras.Input(shape[1:], batch_size=shape[0], dtype=dtype, name=name)
        for name, shape in model.inputs.items()
    }
    layers = {name: _mirror_layer(model, name, dtype) for name in model.layers}
    for call in model.calls:
        layer = layers[call.layer]
        positional, states = _group_inputs(layer, [tensors[name] for name in call.inputs])
        keywords = {k: fill_value(v, tensors) for k, v in call.keywords.items()}
        output = layer(*positional, **states, **keywords)
        tensors.update(zip(call.outputs, keras.tree.flatten(output), strict=False))
    built = keras.Model(
        inputs=[tensors[name] for name in model.inputs] if len(model.inputs) > 1 else tensors[next(iter(model.inputs))],
        outputs=[tensors[name] for name in model.outputs] if len(model.outputs) > 1 else tensors[model.outputs[0]],
    )
    _give_roles(built, model)
    if weights is not None:
        weights_module.assign(built, model, weights)
    return built


def _mirror_layer(model: Model, name: str, dtype: str) -> keras.layers.Layer:
    layer = mirror_object(
        model.layers[name],
        name=weights_module.write_keras_name(name),
        dtype=find_policy(model.layers[name]) if dtype == DTYPE else dtype,
    )
    if name in model.activity_regularizers:
        layer.activity_regularizer = mirror_object(model.activity_regularizers[name])
    if any(weight.startswith(name + "/") for weight in model.frozen):
        layer.trainable = False
    return layer


def _give_roles(built: keras.Model, model: Model) -> None:
    """Give the variables their regularizers and constraints: Keras takes these from the variables alone.

    The argument of a layer that has the name of the weight gets them too: it is what is saved.
    """
    roles = [("regularizer", model.regularizers), ("constraint", model.constraints)]
    variables = weights_module.map_variables(built, model) if any(table for _, table in roles) else {}
    for role, table in roles:
        for name, spec in table.items():
            made = mirror_object(spec)
            setattr(variables[name], role, made)
            owner, _, part = name.rpartition("/")
            layer = built.get_layer(weights_module.write_keras_name(owner)) if owner in model.layers else None
            if hasattr(layer, f"{part}_{role}"):
                setattr(layer, f"{part}_{role}", made)


def _group_inputs(layer: keras.layers.Layer, inputs: list[Any]) -> tuple[list[Any], dict[str, Any]]:
    """Several inputs as the layer's call takes them, (positional, keywords).

    Merging layers take one list, cells and recurrent layers their states beside the input, others one by one.
    """
    if len(inputs) == 1:
        return inputs, {}
    if recurrent_states.takes_states(layer):
        return recurrent_states.split_arguments(layer, inputs)
    parameters = inspect.signature(layer.call).parameters
    return ([inputs] if next(iter(parameters), "") == "inputs" else inputs), {}


def mirror_loss(loss: Loss, *, dtype: str = "float64") -> Any:
    """The Keras loss of a scratch loss, computing in `dtype`."""
    return mirror_object(loss, dtype=dtype)
