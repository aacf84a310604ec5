"""Reading the graph of a functional Keras model: its nodes, the arguments of their calls, operations of keras.ops."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import keras

from keras_ref.translation.specifications import DIFFERENCING, NoTwin
from scratch.calls import Tensor
from scratch.layers.operations import ELEMENTWISE, INPUT, Operation, law_of
from scratch.naming import convert_to_snake_case

#: functions of keras.ops that reduce, join or normalise along an axis, and treat samples alike where that is not axis 0
_ALONG_AN_AXIS = frozenset(
    ("mean", "sum", "max", "min", "prod", "var", "any", "all", "concatenate", "softmax", "log_softmax")
)


def find_functional(model: Any) -> Any:
    """The graph inside a model. Raises: NoTwin where it has none (a subclassed model)."""
    graph = getattr(model, "_functional", None) or model
    own_call = type(model).call not in (keras.Model.call, keras.Sequential.call, keras.src.models.Functional.call)
    if own_call or not hasattr(graph, "_nodes_by_depth"):
        raise NoTwin(
            f"A model must be Sequential or functional to have a twin. Received: {type(model).__name__}, which defines "
            f"its own call. {DIFFERENCING}"
        )
    return graph


def list_tensors(value: Any) -> list[Any]:
    """The symbolic tensors in a nested value, in order."""
    return [leaf for leaf in keras.tree.flatten(value) if isinstance(leaf, keras.KerasTensor)]


def list_inputs(node: Any, graph: Any) -> list[Any]:
    """The symbolic tensors on which a nested model is called, in the order of the inputs of its graph.

    Keras takes a dictionary by the names of the inputs, where the model was not made of a dictionary itself.
    """
    given = [*node.arguments.args, *own_keywords(node).values()]
    if len(given) == 1 and isinstance(given[0], dict) and not isinstance(graph.input, dict):
        return [given[0][tensor.name] for tensor in graph.inputs]
    return [tensor for argument in given for tensor in list_tensors(argument)]


def own_keywords(node: Any) -> dict[str, Any]:
    """The keywords that the user gave in a call.

    Left out is what Keras adds: the masks that it finds on the inputs, which the twin finds by itself, and `training`,
    in whose place a model that is called with training=… passes on its own.
    """
    arguments = node.arguments
    rest = {key: value for key, value in arguments.kwargs.items() if value is not None and key != "training"}
    inputs = [t for key, value in rest.items() if not key.endswith("mask") for t in list_tensors(value)]
    own = {id(getattr(t, "_keras_mask", None)) for t in (*list_tensors(arguments.args), *inputs)}

    def is_added(key: str, value: Any) -> bool:
        leaves = [leaf for leaf in keras.tree.flatten(value) if leaf is not None]
        return key.endswith("mask") and all(isinstance(leaf, keras.KerasTensor) and id(leaf) in own for leaf in leaves)

    return {key: value for key, value in rest.items() if not is_added(key, value)}


def find_needed_nodes(graph: Any) -> list[Any]:
    """The nodes of a graph that its outputs depend on, in the order of the computation.

    Nodes that only make masks are left out: masks travel with the tensors.
    """
    nodes = [
        node for depth in sorted(graph._nodes_by_depth) for node in graph._nodes_by_depth[depth] if not node.is_input
    ]
    wanted, kept = {id(tensor) for tensor in graph.outputs}, []
    for node in nodes:
        if wanted.intersection(map(id, node.outputs)):
            kept.append(node)
            layer = isinstance(node.operation, keras.layers.Layer)
            own = (node.arguments.args, own_keywords(node)) if layer else node.input_tensors
            wanted.update(id(tensor) for tensor in list_tensors(own))
    return kept[::-1]


def read_arguments(
    node: Any, accepts: frozenset[str], names: Mapping[int, str]
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The inputs and keywords of a call in a graph, tensors as references by name (`names` by identity)."""
    inputs, keywords = as_taken(
        node.operation, accepts, args=node.arguments.args, kwargs=own_keywords(node), kind=keras.KerasTensor
    )

    def reference(leaf: Any) -> Any:
        return Tensor(names[id(leaf)]) if isinstance(leaf, keras.KerasTensor) else leaf

    return tuple(names[id(tensor)] for tensor in inputs), keras.tree.map_structure(reference, keywords)


def as_taken(
    layer: Any, accepts: frozenset[str], args: Any, kwargs: Mapping[str, Any], kind: type
) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of a call of a Keras layer as its twin takes them: (inputs, keywords).

    Inputs are of the class `kind`, in the order of Keras's `call`; states are inputs. Keywords are what the twin's
    definition names (`accepts`); query_mask= and the like become the `mask` of their inputs.
    Raises: NoTwin for an argument that the definition does not name.
    """
    signature = inspect.signature(layer.call).parameters
    order = [p.name for p in signature.values() if p.kind is not p.VAR_KEYWORD]
    variadic = any(p.kind is p.VAR_POSITIONAL for p in signature.values())
    given = [(order[0] if variadic else order[i], value) for i, value in enumerate(args)]
    given += sorted(kwargs.items(), key=lambda pair: order.index(pair[0]) if pair[0] in order else len(order))
    inputs, keywords = list[Any](), dict[str, Any]()
    given, masks = _take_masks_apart(given, order, accepts)
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
                "A layer of a twin takes tensors, and the arguments that its definition names. Received: "
                f"{key}={value!r} in a call of {layer.name!r}. {DIFFERENCING}"
            )
    return inputs, keywords


def _take_masks_apart(
    given: list[tuple[str, Any]], order: list[str], accepts: frozenset[str]
) -> tuple[list[tuple[str, Any]], list[Any] | None]:
    """The arguments without those named for the mask of another one, and the masks of all that have one, in order."""
    masked = {f"{key}_mask": key for key in order if f"{key}_mask" in order}
    masks = {masked[key]: value for key, value in given if key in masked and value is not None}
    if not masks or "mask" not in accepts:
        return given, None
    rest = [(key, value) for key, value in given if key not in masked]
    return rest, [masks.get(key) for key in order if key in masked.values()]


def read_operation(node: Any) -> Operation:
    """The twin of an operation of keras.ops at one place of a graph. Raises: NoTwin."""
    operation = node.operation
    genuine = type(operation).__module__.startswith("keras.src.ops.")
    known = [n for cls in type(operation).__mro__ if law_of(n := convert_to_snake_case(cls.__name__)) is not None]
    if not genuine or not known:
        raise NoTwin(
            "An operation of a graph must be one that scratch/layers/operations.py has a law for. Received: "
            f"{type(operation).__module__}.{type(operation).__name__}. {DIFFERENCING}"
        )
    config = getattr(getattr(operation, "_auto_config", None), "config", {}) | node.arguments.kwargs
    if list_tensors(config):
        raise NoTwin(
            f"An operation of a twin takes tensors by position. Received: {sorted(config)} for {operation.name!r}. "
            f"{DIFFERENCING}"
        )
    keywords = {key: _freeze_lists(value) for key, value in config.items() if key != "name"}
    tensors = node.input_tensors
    return Operation(
        known[0],
        _freeze_lists(node.arguments.args),
        keywords or None,
        _treats_samples_alike(known[0], tensors, keywords),
    )


def _freeze_lists(value: Any) -> Any:
    """Lists as tuples, and INPUT in the place of each tensor."""
    if isinstance(value, (tuple, list)):
        return tuple(_freeze_lists(item) for item in value)
    return INPUT if isinstance(value, keras.KerasTensor) else value


def _treats_samples_alike(function: str, tensors: list[Any], keywords: Mapping[str, Any]) -> bool:
    """Whether shapes say that the batch comes first in all tensors, and that nothing is done along it."""
    ranks = {len(tensor.shape) for tensor in tensors}
    if len(ranks) > 1 or 0 in ranks or any(tensor.shape[0] is not None for tensor in tensors):
        return False
    rank = ranks.pop()
    axes = keywords.get("axis")
    along = [axis % rank for axis in (axes if isinstance(axes, tuple) else (axes,)) if axis is not None]
    return function in ELEMENTWISE or bool(function in _ALONG_AN_AXIS and along and 0 not in along)
