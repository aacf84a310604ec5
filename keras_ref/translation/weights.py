"""The same weights in scratch and in Keras: paired by name and order, shapes checked.

A layer of scratch names its weights in Keras's own order (`layer.weights`) and ends each name as Keras does. So
"dense/kernel" is the variable `kernel` of the layer `dense`, and "wrapper/forward/kernel" the one of a wrapped layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_ref.evaluation.keras_objects.keras_classes import KerasVariable
from scratch.arrays import Array
from scratch.model import Model
from scratch.naming import add_prefix, weights_of


def list_variables(layer: keras.layers.Layer) -> list[Any]:
    """The variables of a Keras layer that hold numbers: seed generators' states are not weights."""
    return [v for v in layer.weights if not v.path.endswith("seed_generator_state")]


def pair_weights(own: Mapping[str, tuple[int, ...]], layer: keras.layers.Layer) -> dict[str, Any]:
    """{weight name of scratch: Keras variable} for one layer; `own` are the names and shapes of the twin's weights.

    A variable that was given no name goes by the attribute that holds it. Raises: ValueError where number, names or
    shapes do not agree.
    """
    variables = list_variables(layer)
    if len(own) != len(variables):
        raise ValueError(
            f"Twin and Keras layer must have the same weights. Received for {layer.name!r}: {sorted(own)} against "
            f"{[v.path for v in variables]}. Correct weight_shapes or write an exception."
        )
    attributes = {id(value): name for name, value in vars(layer).items() if isinstance(value, KerasVariable)}
    for (name, shape), variable in zip(own.items(), variables, strict=True):
        unnamed = variable.name.rsplit("_", 1)[0] == "variable" or variable.name == "variable"
        known = attributes.get(id(variable), variable.name) if unnamed else variable.name
        if name.rsplit("/", 1)[-1] != known.rsplit("/", 1)[-1] or tuple(shape) != tuple(variable.shape):
            raise ValueError(
                f"Twin and Keras layer must agree in the name and shape of each weight. Received for {layer.name!r}: "
                f"{name} {tuple(shape)} against {variable.path} {tuple(variable.shape)}. Correct weight_shapes."
            )
    return dict(zip(own, variables, strict=True))


def pair_layers(model: Model, layers: Mapping[str, keras.layers.Layer]) -> dict[str, Any]:
    """{weight name of a scratch model: Keras variable}, of its layers that are given as Keras layers by name.

    Raises: ValueError as `pair_weights` does.
    """
    pairs: dict[str, Any] = {}
    for layer_name, layer in layers.items():
        pairs |= add_prefix(layer_name, pair_weights(weights_of(model.weight_shapes, layer_name), layer))
    return pairs


def map_variables(built: keras.Model, model: Model) -> dict[str, Any]:
    """{weight name of a scratch model: variable of its mirrored Keras model}."""
    return pair_layers(model, {name: built.get_layer(write_keras_name(name)) for name in model.layers})


def write_keras_name(name: str) -> str:
    """The name of a layer in a mirrored model: Keras allows no slash, which the layers of a nested model have."""
    return name.replace("/", ".")


def read_values(variables: Mapping[str, Any]) -> dict[str, Array]:
    """The values of Keras variables, by the same names."""
    return {name: np.asarray(variable.numpy()) for name, variable in variables.items()}


def check_weights(model: Model, weights: Mapping[str, Any]) -> dict[str, Array]:
    """The weights of a scratch model as arrays, in its order.

    Raises: ValueError for a wrong number, name or shape, a dtype that is not float32 or float64, NaN or infinity.
    """
    if set(weights) != set(model.weight_shapes):
        missing, extra = set(model.weight_shapes) - set(weights), set(weights) - set(model.weight_shapes)
        raise ValueError(
            f"The weights must be those of the model ({len(model.weight_shapes)}). Received: {len(weights)}, "
            f"missing {sorted(missing) or 'none'}, unknown {sorted(extra) or 'none'}. Pass one array for each name."
        )
    arrays = {name: np.asarray(weights[name]) for name in model.weight_shapes}
    for name, array in arrays.items():
        if array.shape != tuple(model.weight_shapes[name]):
            raise ValueError(
                f"Weight {name!r} must have shape {tuple(model.weight_shapes[name])}. Received: {array.shape}. "
                "Reshape it or change the layer."
            )
        if array.dtype not in (np.float32, np.float64):
            raise ValueError(
                f"Weight {name!r} must be float32 or float64. Received: {array.dtype}. "
                "Convert it with .astype('float64')."
            )
        if not np.isfinite(array).all():
            raise ValueError(
                f"Weight {name!r} must be finite. Received: {array[~np.isfinite(array)][0]} at index "
                f"{tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])}. Correct the value."
            )
    return arrays


def assign(built: keras.Model, model: Model, weights: Mapping[str, Any]) -> None:
    """Give a mirrored Keras model the weights of its scratch model. Raises as `check_weights` and `pair_weights` do."""
    arrays = check_weights(model, weights)
    for name, variable in map_variables(built, model).items():
        variable.assign(arrays[name])
    finalize(built)


def finalize(built: keras.Model) -> None:
    """Let layers that compute with what they derived from their variables (Normalization) derive it again."""
    for layer in find_adapted(built):
        layer.finalize_state()


def find_adapted(built: keras.Model) -> list[Any]:
    """The layers (Normalization) that compute with values that finalize_state() derives from their weights."""
    return [layer for layer in built._flatten_layers() if hasattr(layer, "finalize_state")]
