"""Keras → scratch: the NumPy twin of a keras.Model, functional graphs, shared layers and nested models included.

The twin of a single object is the business of specifications.py, reading a graph that of keras_graph.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import keras

from keras_ref.evaluation.arguments import Rule, takes
from keras_ref.translation.keras_graph import (
    as_taken,
    find_functional,
    find_needed_nodes,
    list_inputs,
    read_arguments,
    read_operation,
)
from keras_ref.translation.specifications import DIFFERENCING, NoTwin, reflect_object
from keras_ref.translation.weights import pair_layers, read_values
from scratch.arrays import Array
from scratch.calls import Call
from scratch.model import Model

__all__ = ["NoTwin", "as_taken", "find_functional", "reflect", "reflect_object", "reflect_with_variables"]


@takes(
    model=Rule(
        "be a keras.Model", lambda value: isinstance(value, keras.Model), "Pass a model; mirror makes one of scratch's."
    )
)
def reflect(model: keras.Model) -> tuple[Model, dict[str, Array]]:
    """The twin of a built Sequential or functional Keras model, and its weights under the twin's names.

    Shapes  {"dense/kernel": array, …}, each of the shape that the twin gives it (`Model.weight_shapes`)
    Raises: NoTwin (a LookupError) for a subclassed model or a layer without definition; BadInput (a ValueError) for
    anything but a model; ValueError for an unbuilt one.
    """
    twin, variables = reflect_with_variables(model)
    return twin, read_values(variables)


def reflect_with_variables(model: keras.Model) -> tuple[Model, dict[str, Any]]:
    """The twin of a model, and {weight name of the twin: variable of the model}. Raises as `reflect`."""
    if not model.built:
        raise ValueError(
            f"A model must be built. Received: {model.name!r}, unbuilt. Call it once, or give it an Input."
        )
    graph = find_functional(model)
    builder = _TwinBuilder()
    inputs = {tensor.name: tensor for tensor in graph.inputs}
    names = {id(tensor): name for name, tensor in inputs.items()}
    builder.walk(graph, names, prefix="")
    twin = Model(
        inputs={name: tuple(tensor.shape) for name, tensor in inputs.items()},
        layers=builder.layers,
        calls=tuple(builder.calls),
        outputs=tuple(names[id(tensor)] for tensor in graph.outputs),
        activity_regularizers=_reflect_activity(builder.keras_layers),
    )
    variables = pair_layers(twin, builder.keras_layers)
    trained = {name: variable for name, variable in variables.items() if variable.trainable}
    more: dict[str, Any] = {
        "regularizers": _reflect_roles(trained, "regularizer"),
        "constraints": _reflect_roles(trained, "constraint"),
        "frozen": frozenset(variables) - frozenset(trained) - twin.state,
    }
    return (replace(twin, **more) if any(more.values()) else twin), variables


def _reflect_activity(layers: Mapping[str, Any]) -> dict[str, Any]:
    """{layer name: regularizer of its output}. Raises: NoTwin for one of a layer that another layer holds."""
    found = {}
    for name, layer in layers.items():
        inside = [one for one in layer._flatten_layers(include_self=False) if _has_activity_regularizer(one)]
        if inside:
            raise NoTwin(
                "A layer inside another one must have no activity regularizer to have a twin. Received: "
                f"{inside[0].name!r} in {layer.name!r}. {DIFFERENCING}"
            )
        if _has_activity_regularizer(layer) and type(layer).__name__ != "ActivityRegularization":
            found[name] = reflect_object(layer.activity_regularizer, "regularizer")
    return found


def _has_activity_regularizer(layer: Any) -> bool:
    return getattr(layer, "activity_regularizer", None) is not None


def _reflect_roles(variables: Mapping[str, Any], role: str) -> dict[str, Any]:
    """{weight name: regularizer or constraint} of the variables that have one.

    Keras takes them from the variables, in whichever layer inside another one these are, and whichever argument they
    were given as.
    """
    found = ((name, getattr(variable, role, None)) for name, variable in variables.items())
    return {name: reflect_object(value, role) for name, value in found if value is not None}


class _TwinBuilder:
    """The layers and calls of a twin, collected node by node; `keras_layers` has the Keras layers by the same names."""

    def __init__(self) -> None:
        self.layers: dict[str, Any] = {}
        self.keras_layers: dict[str, Any] = {}
        self.calls: list[Call] = []
        self._names: dict[int, str] = {}

    def walk(self, graph: Any, names: dict[int, str], prefix: str) -> None:
        """Append the calls of a graph; `names` maps known symbolic tensors to names in the twin, and grows."""
        for node in find_needed_nodes(graph):
            if isinstance(node.operation, keras.Model):
                self._inline_model(node, find_functional(node.operation), names, prefix)
            else:
                self._call(node, names, prefix)

    def _call(self, node: Any, names: dict[int, str], prefix: str) -> None:
        operation = node.operation
        # a layer that is shared, be it with a nested model, is one layer: it keeps the name it was first met under
        name = self._names.setdefault(id(operation), prefix + operation.name)
        if isinstance(operation, keras.layers.Layer):
            if name not in self.layers:
                self.layers[name] = reflect_object(operation, "layer")
                self.keras_layers[name] = operation
            positional, keywords = read_arguments(node, self.layers[name].accepts, names)
        else:
            # Keras may use one operation object at several places, with other constants at each
            name = f"{name}:{len(self.calls)}" if name in self.layers else name
            self.layers[name] = read_operation(node)
            positional, keywords = tuple(names[id(tensor)] for tensor in node.input_tensors), {}
        outputs = tuple(f"{name}:{len(self.calls)}:{i}" for i in range(len(node.outputs)))
        names.update(zip(map(id, node.outputs), outputs, strict=True))
        self.calls.append(Call(name, positional, outputs, keywords))

    def _inline_model(self, node: Any, graph: Any, names: dict[int, str], prefix: str) -> None:
        given = list_inputs(node, graph)
        if len(given) != len(graph.inputs):
            raise NoTwin(
                "A nested model must be called on its inputs alone to have a twin. Received: "
                f"{node.operation.name!r}, called on {len(given)} tensors for {len(graph.inputs)} inputs. "
                f"{DIFFERENCING}"
            )
        inner = dict(zip(map(id, graph.inputs), (names[id(tensor)] for tensor in given), strict=True))
        self.walk(graph, inner, f"{prefix}{node.operation.name}/")
        for tensor, source in zip(node.outputs, graph.outputs, strict=True):
            names[id(tensor)] = inner[id(source)]
