"""Keras → scratch: the NumPy twin of a given keras.Model, functional graphs, shared layers and nested models included."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import Any, Literal, NamedTuple, get_args, get_origin

import keras
import numpy as np

from keras_ref.translation import exceptions as mirrors
from keras_ref.translation.weights import paired, variables_of
from scratch import registry
from scratch.calls import Call, Tensor
from scratch.layers.operations import ELEMENTWISE, INPUT, Operation, law_of
from scratch.model import Model
from scratch.naming import snake_case

#: where Keras exports what the registry calls a layer, a loss, …
HOMES = {
    "layer": keras.layers,
    "loss": keras.losses,
    "optimizer": keras.optimizers,
    "schedule": keras.optimizers.schedules,
    "regularizer": keras.regularizers,
    "constraint": keras.constraints,
}
_DIFFERENCING = (
    "Its gradients can still be checked by differencing Keras's own forward pass, which check_gradients does."
)


class NoTwin(LookupError):
    """A Keras object has no definition in scratch: it is named, with what to do."""


def reflected(thing: Any, kind: str) -> Any:
    """The scratch specification of a Keras layer, loss, optimizer, schedule, regularizer or constraint.

    Raises: NoTwin where there is none.
    """
    name, module = type(thing).__name__, type(thing).__module__
    _require_plain(thing)
    exported = getattr(HOMES[kind], name, None) is type(thing)
    # an exception may speak for what Keras does not export under the name of its class
    exception = mirrors.reflection_of(name) if module.split(".")[0] in ("keras", "keras_ref") else None
    if exception is not None:
        return exception(thing)
    if not exported or name not in registry.every(kind):
        raise NoTwin(
            f"A Keras {kind} must have a definition in scratch to have a twin. Received: {module}.{name}. {_DIFFERENCING}"
        )
    cls = registry.get(kind, name)
    config = thing.get_config()
    hints = registry.hints(cls)
    values = {
        f.name: _field(thing, f.name, config[f.name], hints[f.name]) for f in fields(cls) if f.init and f.name in config
    }
    try:
        return cls(**values)
    except ValueError as error:
        raise NoTwin(f"The twin of {name} does not take this configuration: {error}") from error


def _require_plain(thing: Any) -> None:
    """Raises: NoTwin for what computes something else than its class says: adapted (LoRA) or quantised layers."""
    for layer in thing._flatten_layers() if isinstance(thing, keras.layers.Layer) else ():
        changed = [n for n in ("lora_enabled", "lora_rank", "quantization_mode") if getattr(layer, n, None)]
        if changed:
            raise NoTwin(
                f"A layer must be neither LoRA-adapted nor quantised to have a twin. Received: {layer.name!r} with "
                f"{changed[0]}={getattr(layer, changed[0])!r}. {_DIFFERENCING}"
            )


def _field(thing: Any, name: str, value: Any, hint: Any) -> Any:
    """One field read from a configuration, or from the living object where the configuration would have to be revived."""
    live = getattr(thing, name, None)
    if inspect.isfunction(live) and (isinstance(value, str) or _names_function(value)):
        known = value if isinstance(value, str) else value["config"]
        if getattr(keras.activations, str(known), None) is not live:
            raise NoTwin(
                f"A function must be one of keras.activations to have a twin. Received: {name}={known!r} of "
                f"{getattr(thing, 'name', type(thing).__name__)!r}, from {live.__module__}. {_DIFFERENCING}"
            )
        return known
    if isinstance(value, dict) and isinstance(
        live, (keras.layers.Layer, keras.optimizers.schedules.LearningRateSchedule)
    ):
        return reflected(live, "layer" if isinstance(live, keras.layers.Layer) else "schedule")
    if (
        isinstance(value, list)
        and isinstance(live, (list, tuple))
        and any(isinstance(item, keras.layers.Layer) for item in live)
    ):
        return tuple(reflected(item, "layer") for item in live)
    return plain(value, hint)


def _names_function(value: Any) -> bool:
    return isinstance(value, dict) and value.get("class_name") == "function"


def plain(value: Any, hint: Any = None) -> Any:
    """A value of a Keras configuration as scratch writes it: names for registered functions, tuples for lists."""
    if isinstance(value, dict) and "class_name" in value:
        inner = value.get("config")
        if value["class_name"] == "function" or isinstance(inner, str):
            return inner
        try:
            thing = keras.saving.deserialize_keras_object(value)
        except (TypeError, ValueError) as error:
            raise NoTwin(
                f"What a layer holds must be Keras's own to have a twin. Received: {value['class_name']}. {_DIFFERENCING}"
            ) from error
        for kind, home in HOMES.items():
            if getattr(home, type(thing).__name__, None) is type(thing) and type(thing).__name__ in registry.every(
                kind
            ):
                return reflected(thing, kind)
        return value
    if isinstance(value, list):
        return tuple(plain(item) for item in value)
    if (
        isinstance(value, str)
        and get_origin(hint) is Literal
        and value not in get_args(hint)
        and value.lower() in get_args(hint)
    ):
        return value.lower()  # "SAME": Keras minds no case
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
        raise ValueError(
            f"A model must be built. Received: {model.name!r}, unbuilt. Call it once, or give it an Input."
        )
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
            if getattr(layer, "activity_regularizer", None) is not None
            and type(layer).__name__ != "ActivityRegularization"
        },
        constraints=builder.table("constraint"),
    )
    variables: dict[str, Any] = {}
    for name, layer in builder.keras_layers.items():
        own = {n[len(name) + 1 :]: s for n, s in twin.weight_shapes.items() if n.startswith(name + "/")}
        variables.update({f"{name}/{n}": v for n, v in _paired(own, layer).items()})
    frozen = frozenset(n for n, v in variables.items() if not v.trainable and n not in twin.state)
    return (replace(twin, frozen=frozen) if frozen else twin), variables


class _Named(NamedTuple):
    """A variable by a name of its own, or a layer with such variables: as much of either as `paired` looks at."""

    name: str
    path: str
    shape: Any
    variable: Any
    weights: Any = ()


def _paired(own: Mapping[str, tuple[int, ...]], layer: Any) -> dict[str, Any]:
    """`weights.paired`; a variable that was given no name goes by the attribute that holds it."""
    held = {id(value): name for name, value in vars(layer).items() if isinstance(value, keras.Variable)}
    named = []
    for v in variables_of(layer):
        unnamed = v.name.rsplit("_", 1)[0] == "variable" or v.name == "variable"
        named.append(_Named(held.get(id(v), v.name) if unnamed else v.name, v.path, v.shape, v))
    found = paired(own, _Named(layer.name, "", (), None, named))  # type: ignore[arg-type]
    return {name: one.variable for name, one in found.items()}


def functional(model: Any) -> Any:
    """The graph inside a model. Raises: NoTwin where it has none (a subclassed model)."""
    graph = getattr(model, "_functional", None) or model
    own_call = type(model).call not in (keras.Model.call, keras.Sequential.call, keras.src.models.Functional.call)
    if own_call or not hasattr(graph, "_nodes_by_depth"):
        raise NoTwin(
            f"A model must be Sequential or functional to have a twin. Received: {type(model).__name__}, which defines "
            f"its own call. {_DIFFERENCING}"
        )
    return graph


class _Builder:
    def __init__(self) -> None:
        self.layers: dict[str, Any] = {}
        self.keras_layers: dict[str, Any] = {}
        self.calls: list[Call] = []
        self._names: dict[int, str] = {}

    def walk(self, graph: Any, names: dict[int, str], prefix: str) -> None:
        """Append the calls of a graph; `names` maps known symbolic tensors to names in the twin, and grows."""
        for node in _needed(graph):
            if isinstance(node.operation, keras.Model):
                self._inline(node, functional(node.operation), names, prefix)
            else:
                self._call(node, names, prefix)

    def _call(self, node: Any, names: dict[int, str], prefix: str) -> None:
        operation = node.operation
        # a layer that is shared, be it with a nested model, is one layer: it keeps the name it was first met under
        name = self._names.setdefault(id(operation), prefix + operation.name)
        if isinstance(operation, keras.layers.Layer):
            if name not in self.layers:
                self.layers[name] = reflected(operation, "layer")
                self.keras_layers[name] = operation
            positional, keywords = _arguments(node, self.layers[name].accepts, names)
        else:
            # Keras may use one operation object at several places, with other constants at each
            spec = _operation(node)
            if self.layers.setdefault(name, spec) != spec:
                name = f"{name}:{len(self.calls)}"
                self.layers[name] = spec
            positional, keywords = tuple(names[id(tensor)] for tensor in node.input_tensors), {}
        outputs = tuple(f"{name}:{len(self.calls)}:{i}" for i in range(len(node.outputs)))
        names.update(zip(map(id, node.outputs), outputs, strict=True))
        self.calls.append(Call(name, positional, outputs, keywords))

    def _inline(self, node: Any, graph: Any, names: dict[int, str], prefix: str) -> None:
        given = [t for argument in (*node.arguments.args, *_tensor_keywords(node).values()) for t in _tensors(argument)]
        if len(given) != len(graph.inputs):
            raise NoTwin(
                f"A nested model must be called on its inputs alone to have a twin. Received: {node.operation.name!r}, called "
                f"on {len(given)} tensors for {len(graph.inputs)} inputs. {_DIFFERENCING}"
            )
        inner = dict(zip(map(id, graph.inputs), (names[id(tensor)] for tensor in given), strict=True))
        self.walk(graph, inner, f"{prefix}{node.operation.name}/")
        for tensor, source in zip(node.outputs, graph.outputs, strict=True):
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
    for attribute in dir(type(layer)) + list(vars(layer)):
        part = attribute.removesuffix(f"_{role}")
        if part != attribute and part in variables and getattr(layer, attribute, None) is not None:
            yield part, getattr(layer, attribute)


def _tensors(value: Any) -> list[Any]:
    return [leaf for leaf in keras.tree.flatten(value) if isinstance(leaf, keras.KerasTensor)]


def _tensor_keywords(node: Any) -> dict[str, Any]:
    """The keywords of a call that are its own.

    Keras writes into them the masks that it finds on the inputs, which the twin finds by itself, and `training`, which
    a model that is called with training=… hands on to every layer in place of what is written here.
    """
    arguments = node.arguments
    rest = {key: value for key, value in arguments.kwargs.items() if value is not None and key != "training"}
    inputs = [t for key, value in rest.items() if not key.endswith("mask") for t in _tensors(value)]
    own = {id(getattr(t, "_keras_mask", None)) for t in (*_tensors(arguments.args), *inputs)}

    def written(key: str, value: Any) -> bool:
        leaves = [leaf for leaf in keras.tree.flatten(value) if leaf is not None]
        return key.endswith("mask") and all(isinstance(leaf, keras.KerasTensor) and id(leaf) in own for leaf in leaves)

    return {key: value for key, value in rest.items() if not written(key, value)}


def _needed(graph: Any) -> list[Any]:
    """The nodes of a graph, first ones first, that its outputs are made from; not those that only make masks which travel
    by themselves."""
    nodes = [
        node for depth in sorted(graph._nodes_by_depth) for node in graph._nodes_by_depth[depth] if not node.is_input
    ]
    wanted, kept = {id(tensor) for tensor in graph.outputs}, []
    for node in nodes:
        if wanted.intersection(map(id, node.outputs)):
            kept.append(node)
            layer = isinstance(node.operation, keras.layers.Layer)
            own = (node.arguments.args, _tensor_keywords(node)) if layer else node.input_tensors
            wanted.update(id(tensor) for tensor in _tensors(own))
    return kept[::-1]


def _arguments(node: Any, accepts: frozenset[str], names: Mapping[int, str]) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The inputs and keywords of a call in a graph, tensors being references."""
    inputs, keywords = as_taken(node.operation, accepts, node.arguments.args, _tensor_keywords(node), keras.KerasTensor)

    def reference(leaf: Any) -> Any:
        return Tensor(names[id(leaf)]) if isinstance(leaf, keras.KerasTensor) else leaf

    return tuple(names[id(tensor)] for tensor in inputs), keras.tree.map_structure(reference, keywords)


def as_taken(
    layer: Any, accepts: frozenset[str], args: Any, kwargs: Mapping[str, Any], kind: type
) -> tuple[list[Any], dict[str, Any]]:
    """Arguments of a Keras layer as its twin takes them: inputs (of the class `kind`) in the order of Keras's `call`, and by
    keyword what the twin's definition names; states are inputs, query_mask= and its like are the `mask` of their inputs.
    Raises: NoTwin for an argument that it does not name.
    """
    signature = inspect.signature(layer.call).parameters
    order = [p.name for p in signature.values() if p.kind is not p.VAR_KEYWORD]
    variadic = any(p.kind is p.VAR_POSITIONAL for p in signature.values())
    given = [(order[0] if variadic else order[i], value) for i, value in enumerate(args)]
    given += sorted(kwargs.items(), key=lambda pair: order.index(pair[0]) if pair[0] in order else len(order))
    inputs, keywords = list[Any](), dict[str, Any]()
    given, masks = _masks_apart(given, order, accepts)
    if masks is not None:
        keywords["mask"] = masks
    for key, value in given:
        leaves = [leaf for leaf in keras.tree.flatten(value) if leaf is not None]
        if key in accepts and key not in ("initial_state", "states", *order[:1]):
            keywords[key] = value
        elif leaves and all(isinstance(leaf, kind) for leaf in leaves):
            inputs += leaves
        elif leaves and not (key in signature and signature[key].default is value) and key != "training":
            raise NoTwin(
                f"A layer of a twin takes tensors, and the arguments that its definition names. Received: {key}={value!r} "
                f"in a call of {layer.name!r}. {_DIFFERENCING}"
            )
    return inputs, keywords


def _masks_apart(
    given: list[tuple[str, Any]], order: list[str], accepts: frozenset[str]
) -> tuple[list[tuple[str, Any]], list[Any] | None]:
    """The arguments without those named for the mask of another one, and the masks of all that have one, in order."""
    of = {
        key: key.removesuffix("_mask") for key in order if key.removesuffix("_mask") in order and key.endswith("_mask")
    }
    masks = {of[key]: value for key, value in given if key in of and value is not None}
    if not masks or "mask" not in accepts:
        return given, None
    return [(key, value) for key, value in given if key not in of], [
        masks.get(key) for key in order if key in of.values()
    ]


# Operations that are no layers ---------------------------------------------------------------------------------------


def _operation(node: Any) -> Operation:
    """The twin of an operation of keras.ops at one place of a graph. Raises: NoTwin."""
    operation = node.operation
    genuine = type(operation).__module__.startswith("keras.src.ops.")
    known = [n for cls in type(operation).__mro__ if law_of(n := snake_case(cls.__name__)) is not None]
    if not genuine or not known:
        raise NoTwin(
            "An operation of a graph must be one that scratch/layers/operations.py has a law for. Received: "
            f"{type(operation).__module__}.{type(operation).__name__}. {_DIFFERENCING}"
        )
    config = getattr(getattr(operation, "_auto_config", None), "config", {}) | node.arguments.kwargs
    if _tensors(config):
        raise NoTwin(
            f"An operation of a twin takes tensors by position. Received: {sorted(config)} for {operation.name!r}. {_DIFFERENCING}"
        )
    keywords = {key: _tupled(value) for key, value in config.items() if key != "name"}
    tensors = node.input_tensors
    return Operation(known[0], _tupled(node.arguments.args), keywords or None, _per_sample(known[0], tensors, keywords))


def _tupled(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return tuple(_tupled(item) for item in value)
    return INPUT if isinstance(value, keras.KerasTensor) else value


def _per_sample(function: str, tensors: list[Any], keywords: Mapping[str, Any]) -> bool:
    """Whether shapes say that the batch comes first in all tensors, and that nothing is done along it."""
    ranks = {len(tensor.shape) for tensor in tensors}
    if len(ranks) > 1 or 0 in ranks or any(tensor.shape[0] is not None for tensor in tensors):
        return False
    rank = ranks.pop()
    axes = keywords.get("axis")
    along = [axis % rank for axis in (axes if isinstance(axes, tuple) else (axes,)) if axis is not None]
    reduces = function in (
        "mean",
        "sum",
        "max",
        "min",
        "prod",
        "var",
        "any",
        "all",
        "concatenate",
        "softmax",
        "log_softmax",
    )
    return function in ELEMENTWISE or bool(reduces and along and 0 not in along)
