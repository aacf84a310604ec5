"""TensorFlow's definitions of functions: what their nodes take and give, and in what order they run."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import tensorflow as tf
from tensorflow.core.framework import attr_value_pb2, function_pb2, node_def_pb2
from tensorflow.python.framework import op_def_registry

Node: TypeAlias = node_def_pb2.NodeDef
Definition: TypeAlias = function_pb2.FunctionDef
#: the attribute in which a graph that is asked for them puts the shapes of a node's outputs
SHAPES = "_output_shapes"


def make_type_attribute(dtype: Any) -> attr_value_pb2.AttrValue:
    """An attribute that is a dtype."""
    return attr_value_pb2.AttrValue(type=tf.as_dtype(dtype).as_datatype_enum)


def make_types_attribute(values: Iterable[int]) -> attr_value_pb2.AttrValue:
    """An attribute that lists dtypes."""
    return attr_value_pb2.AttrValue(list=attr_value_pb2.AttrValue.ListValue(type=list(values)))


def _dtypes(node: Node, arguments: Iterable[Any]) -> list[tuple[str, Any]]:
    """(name of the argument, dtype) of each tensor that a node takes or gives."""
    found: list[tuple[str, Any]] = []
    for argument in arguments:
        if argument.type_list_attr:
            dtypes = list(node.attr[argument.type_list_attr].list.type)
        else:
            dtype = node.attr[argument.type_attr].type if argument.type_attr else argument.type
            dtypes = [dtype] * (int(node.attr[argument.number_attr].i) if argument.number_attr else 1)
        found += [(argument.name, tf.as_dtype(dtype)) for dtype in dtypes]
    return found


def input_dtypes(node: Node) -> list[Any]:
    """The dtypes of a node's data inputs."""
    return [dtype for _, dtype in _dtypes(node, op_def_registry.get(node.op).input_arg)]


def list_outputs(node: Node) -> list[tuple[str, Any]]:
    """References and dtypes of a node's outputs inside a function."""
    found = []
    for name, group in itertools.groupby(_dtypes(node, op_def_registry.get(node.op).output_arg), lambda pair: pair[0]):
        found += [(f"{node.name}:{name}:{i}", dtype) for i, (_, dtype) in enumerate(group)]
    return found


def known_shapes(node: Node) -> dict[str, tuple[int, ...]]:
    """References of a node's outputs → their shapes, where tracing has found them out."""
    shapes = node.attr[SHAPES].list.shape if SHAPES in node.attr else ()
    known = {}
    for (reference, _), shape in zip(list_outputs(node), shapes, strict=False):
        sizes = tuple(dimension.size for dimension in shape.dim)
        if not shape.unknown_rank and all(size >= 0 for size in sizes):
            known[reference] = sizes
    return known


def list_data_inputs(node: Node) -> list[str]:
    """References of the tensors that a node takes."""
    return [reference for reference in node.input if not reference.startswith("^")]


def list_control_inputs(node: Node) -> list[str]:
    """References of the nodes that a node waits for."""
    return [reference for reference in node.input if reference.startswith("^")]


def order_nodes(nodes: Iterable[Node]) -> Iterator[Node]:
    """Nodes, each after those that it takes inputs from."""
    by_name = {node.name: node for node in nodes}
    done: set[str] = set()
    for first in list(by_name):
        stack = [first]
        while stack:
            name = stack[-1]
            if name in done:
                stack.pop()
                continue
            sources = (reference.lstrip("^").split(":")[0] for reference in by_name[name].input)
            missing = [source for source in sources if source in by_name and source not in done]
            if missing:
                stack += missing
            else:
                done.add(name)
                stack.pop()
                yield by_name[name]


def with_plain_calls(definition: Definition, known: Mapping[str, Definition]) -> Definition:
    """A function in which operations that are named like the function they call are PartitionedCalls instead."""
    if not any(node.op in known for node in definition.node_def):
        return definition
    found, renamed = Definition(), dict[str, str]()
    found.CopyFrom(definition)
    for node in found.node_def:
        if node.op in known:
            signature = known[node.op].signature
            node.attr["f"].func.name = node.op
            node.attr["Tin"].CopyFrom(make_types_attribute(a.type for a in signature.input_arg))
            node.attr["Tout"].CopyFrom(make_types_attribute(a.type for a in signature.output_arg))
            node.op = "StatefulPartitionedCall"
            outputs = enumerate(signature.output_arg)
            renamed |= {f"{node.name}:{out.name}:0": f"{node.name}:output:{i}" for i, out in outputs}
    for node in found.node_def:
        inputs = [renamed.get(reference, reference) for reference in node.input]
        del node.input[:]
        node.input.extend(inputs)
    for key, value in list(found.ret.items()):  # a map that is written while it is read leaves entries out
        found.ret[key] = renamed.get(value, value)
    return found


def collect_definitions(function: Any) -> list[Definition]:
    """The definition of a concrete function, first, and of all that it calls, with the shapes of their outputs."""
    graph, main = function.graph.as_graph_def(add_shapes=True), Definition()
    main.CopyFrom(function.function_def)
    shapes = {node.name: node.attr[SHAPES] for node in graph.node if SHAPES in node.attr}
    for node in main.node_def:
        if node.name in shapes:
            node.attr[SHAPES].CopyFrom(shapes[node.name])
    return [main, *graph.library.function]
