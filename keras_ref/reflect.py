"""Keras → scratch: the NumPy twin of a given keras.Model, functional graphs, shared layers and nested models included."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

import keras
import numpy as np

from keras_ref import mirrors
from keras_ref._callable import make_callable
from keras_ref.weights import paired
from scratch import registry
from scratch.model import Call, Model, Tensor


class NoTwin(LookupError):
    """A Keras object has no definition in scratch: it is named, with what to do."""


def reflected(thing: Any, kind: str) -> Any:
    """The scratch specification of a Keras layer, loss, optimizer, schedule, regularizer or constraint.

    Raises: NoTwin where there is none.
    """
    name = type(thing).__name__
    genuine = type(thing).__module__.split(".")[0] == "keras"
    exception = mirrors.reflection_of(name) if genuine else None
    if exception is not None:
        return exception(thing)
    if not genuine or name not in registry.every(kind):
        raise NoTwin(
            f"A Keras {kind} must have a definition in scratch to have a twin. Received: {type(thing).__module__}.{name}. "
            "Its gradients can still be checked by differencing Keras's own forward pass, which check_gradients does."
        )
    cls = registry.get(kind, name)
    config = thing.get_config()
    hints = registry.hints(cls)
    values = {f.name: plain(config[f.name], hints[f.name]) for f in fields(cls) if f.init and f.name in config}
    try:
        return cls(**values)
    except ValueError as error:
        raise NoTwin(f"The twin of {name} does not take this configuration: {error}") from error


def plain(value: Any, hint: Any = None) -> Any:
    """A value of a Keras configuration as scratch writes it: names for registered functions, tuples for lists."""
    if isinstance(value, dict) and "class_name" in value:
        inner = value.get("config")
        if value["class_name"] == "function" or isinstance(inner, str):
            return inner
        thing = keras.saving.deserialize_keras_object(value)
        for kind in ("schedule", "regularizer", "constraint", "optimizer", "layer", "loss"):
            if type(thing).__name__ in registry.every(kind):
                return reflected(thing, kind)
        return value
    if isinstance(value, list):
        return tuple(plain(item) for item in value)
    if isinstance(value, np.generic):
        return value.item()
    return value


def reflect(model: keras.Model) -> tuple[Model, dict[str, np.ndarray]]:
    """The twin of a built Sequential or functional Keras model, and its weights under the twin's names.

    Raises: NoTwin for a subclassed model or a layer without definition; ValueError for an unbuilt model.
    """
    twin, variables = reflect_with_variables(model)
    return twin, {name: np.asarray(variable.numpy()) for name, variable in variables.items()}


def reflect_with_variables(model: keras.Model) -> tuple[Model, dict[str, Any]]:
    """The twin of a model, and {weight name of the twin: variable of the model}. Raises as `reflect`."""
    if not model.built:
        raise ValueError(f"A model must be built. Received: {model.name!r}, unbuilt. Call it once, or give it an Input.")
    graph = functional(model)
    builder = _Builder()
    inputs = {tensor.name: tensor for tensor in graph.inputs}
    names = {id(tensor): name for name, tensor in inputs.items()}
    builder.walk(graph, names, prefix="")
    twin = Model(
        inputs={name: tuple(tensor.shape) for name, tensor in inputs.items()},
        layers=builder.layers,
        calls=tuple(builder.calls),
        outputs=tuple(names[id(tensor)] for tensor in graph.outputs),
        regularizers=builder.table("regularizer"),
        activity_regularizers={
            name: reflected(layer.activity_regularizer, "regularizer")
            for name, layer in builder.keras_layers.items()
            if getattr(layer, "activity_regularizer", None) is not None and type(layer).__name__ != "ActivityRegularization"
        },
        constraints=builder.table("constraint"),
    )
    variables: dict[str, Any] = {}
    for name, layer in builder.keras_layers.items():
        own = {n[len(name) + 1 :]: s for n, s in twin.weight_shapes.items() if n.startswith(name + "/")}
        variables.update({f"{name}/{n}": v for n, v in paired(own, layer).items()})
    frozen = frozenset(n for n, v in variables.items() if not v.trainable and n not in twin.state)
    if frozen:
        twin = Model(**{f.name: getattr(twin, f.name) for f in fields(twin)} | {"frozen": frozen})
    return twin, variables


def functional(model: Any) -> Any:
    """The graph inside a model. Raises: NoTwin where it has none (a subclassed model)."""
    graph = getattr(model, "_functional", None) or model
    if not hasattr(graph, "_nodes_by_depth"):
        raise NoTwin(
            f"A model must be Sequential or functional to have a twin. Received: {type(model).__name__}, which defines "
            "its own call. Its gradients are checked by differencing Keras's own forward pass."
        )
    return graph


class _Builder:
    def __init__(self) -> None:
        self.layers: dict[str, Any] = {}
        self.keras_layers: dict[str, Any] = {}
        self.calls: list[Call] = []

    def walk(self, graph: Any, names: dict[int, str], prefix: str) -> None:
        """Append the calls of a graph; `names` maps known symbolic tensors to names in the twin, and grows."""
        for depth in sorted(graph._nodes_by_depth, reverse=True):
            for node in graph._nodes_by_depth[depth]:
                if not node.is_input:
                    self._node(node, names, prefix)

    def _node(self, node: Any, names: dict[int, str], prefix: str) -> None:
        operation = node.operation
        if isinstance(operation, keras.Model):
            self._inline(node, functional(operation), names, prefix)
            return
        if not isinstance(operation, keras.layers.Layer):
            raise NoTwin(
                f"A functional graph must be made of layers to have a twin. Received: the operation "
                f"{type(operation).__name__}. Its gradients are checked by differencing Keras's own forward pass."
            )
        name = prefix + operation.name
        if name not in self.layers:
            self.layers[name] = reflected(operation, "layer")
            self.keras_layers[name] = operation
        positional, keywords = _arguments(node, names)
        outputs = []
        for tensor in node.output_tensors if hasattr(node, "output_tensors") else keras.tree.flatten(node.outputs):
            unique = f"{name}:{len(self.calls)}:{len(outputs)}"
            names[id(tensor)] = unique
            outputs.append(unique)
        self.calls.append(Call(name, positional, tuple(outputs), keywords))

    def _inline(self, node: Any, graph: Any, names: dict[int, str], prefix: str) -> None:
        outer = [names[id(tensor)] for tensor in node.input_tensors]
        inner = dict(zip(map(id, graph.inputs), outer, strict=True))
        self.walk(graph, inner, f"{prefix}{node.operation.name}/")
        for tensor, source in zip(keras.tree.flatten(node.outputs), graph.outputs, strict=True):
            names[id(tensor)] = inner[id(source)]

    def table(self, role: str) -> dict[str, Any]:
        """{"layer/part": regularizer or constraint} read from the attributes `part_role` of the layers."""
        return {
            f"{name}/{part}": reflected(value, role)
            for name, layer in self.keras_layers.items()
            for part, value in _roles(layer, role)
        }


def _roles(layer: Any, role: str) -> Iterator[tuple[str, Any]]:
    variables = {v.name for v in layer.weights}
    aliases = {"embeddings": "embeddings"}
    for attribute in dir(type(layer)) + list(vars(layer)):
        part = attribute.removesuffix(f"_{role}")
        if part != attribute and aliases.get(part, part) in variables and getattr(layer, attribute, None) is not None:
            yield part, getattr(layer, attribute)


def _arguments(node: Any, names: Mapping[int, str]) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Positional tensors in order, and keyword arguments with tensors as references into the graph."""
    positional: list[str] = []
    for argument in node.arguments.args:
        for leaf in keras.tree.flatten(argument):
            if isinstance(leaf, keras.KerasTensor):
                positional.append(names[id(leaf)])
            elif leaf is not None:
                raise NoTwin(f"A layer of a twin takes tensors by position. Received: {leaf!r} in a call of {node.operation.name!r}.")
    keywords: dict[str, Any] = {}
    for key, value in node.arguments.kwargs.items():
        if value is None or key in ("training", "mask"):
            continue
        keywords[key] = keras.tree.map_structure(
            lambda leaf: Tensor(names[id(leaf)]) if isinstance(leaf, keras.KerasTensor) else leaf, value
        )
    return tuple(positional), keywords


make_callable(__name__, reflect)
