"""Conversion of a traced function into one that computes everything twice, as it is and off by rounding.

The conversion works on the function's definition, with those that it calls (loops, branches, nested functions):
    f(x, …) → (y, …)   becomes   f'(x, …, x*, …, common) → (y, …, y*, …)
where x* are the copies of what holds floats. Of every operation that floats go into there is a copy beside it, off by
units in the last place of the dtype that it computes in; decisions (whatever is no float) exist once.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable
from functools import cache
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import attr_value_pb2
from tensorflow.python.framework import op_def_registry

from keras_ref.evaluation.graphs.function_definitions import (
    SHAPES,
    Definition,
    Node,
    input_dtypes,
    known_shapes,
    list_control_inputs,
    list_data_inputs,
    list_outputs,
    make_type_attribute,
    make_types_attribute,
    order_nodes,
    with_plain_calls,
)
from keras_ref.evaluation.graphs.operation_rounding import (
    COMPOSED,
    DECIDED,
    DECIDING,
    DECIDING_ZERO,
    EXACT,
    EXACT_SCOPE,
    FLOATS,
    SUMMED,
    SUMS,
    UNITS,
    coarseness,
    unit_of,
)
from keras_ref.evaluation.rounding_errors.rounded_nodes import COMMON, RoundedNodes

#: what ends the name of a copy, and of a converted function
COPY = "__rounded"
#: TensorFlow keeps one library of functions for all
NUMBERS = itertools.count()
#: floats, and the lists of tensors that loops keep
COPIED = (*FLOATS, tf.variant)
#: operations that call functions → their form that may hold random numbers, and the number of inputs before the
#: arguments
CALLS = {
    "PartitionedCall": ("StatefulPartitionedCall", 0),
    "StatefulPartitionedCall": ("StatefulPartitionedCall", 0),
    "While": ("While", 0),
    "StatelessWhile": ("While", 0),
    "If": ("If", 1),
    "StatelessIf": ("If", 1),
    "Case": ("Case", 1),
    "StatelessCase": ("Case", 1),
}
#: operations whose result is a constant to autodiff: at another point it is held as it is
HELD = ("StopGradient", "PreventGradient")
#: operations that read variables, which are part of the point
READING = ("ReadVariableOp", "ResourceGather", "ResourceGatherNd")
#: attributes that hold for the original only: shapes of its outputs, and that it is compiled (what XLA fuses is not
#: told apart)
LEFT_OUT = ("output_shapes", SHAPES, "_XlaMustCompile", "_XlaScope", "_XlaSeparateCompiledGradients")


def convert(
    functions: Iterable[Definition], name: str, *, moves_point: bool = False, moving: Collection[int] | None = None
) -> tuple[str, dict[str, Definition]]:
    """The name of the conversion of the function `name`, and all definitions that it needs, by name.

    Nodes in EXACT_SCOPE have no copy: they make the point, and are no part of what is computed there. With
    `moves_point` they have one that is exact: the copies are computed at a point of their own. `moving` are the places
    of the arguments that make the point; None for all, and what is read from variables.
    """
    conversion = _Conversion(functions, moves_point=moves_point)
    if moving is not None:
        conversion.moving[name] = moving
    return conversion.convert(name), conversion.library


@cache
def _trace_composition(op: str, dtypes: tuple[Any, ...]) -> Any:
    """An operation as a graph of operations that round by themselves."""
    specs = [tf.TensorSpec(None, dtype) for dtype in dtypes]
    return tf.function(COMPOSED[op], autograph=False).get_concrete_function(*specs)


class _Conversion:
    """The conversion of functions into `library`."""

    def __init__(self, functions: Iterable[Definition], *, moves_point: bool) -> None:
        self.moves_point = moves_point
        given = {f.signature.name: f for f in functions}
        self.originals = {name: with_plain_calls(f, given) for name, f in given.items()}
        self.library: dict[str, Definition] = {}
        #: names of functions → the places of the arguments that the point is made of, where those are not all
        self.moving: dict[str, Collection[int]] = {}
        #: names of functions → the operation that they are a composition of
        self.compositions: dict[str, str] = {}
        self.seeds, self.number = itertools.count(1), next(NUMBERS)

    def convert(self, name: str) -> str:
        """The name of the converted function."""
        new = f"{name}{COPY}_{self.number}"
        if new not in self.library:
            self.library[new] = Definition()  # a function may call itself
            _Body(self, self.originals[name], self.library[new]).fill(new)
        return new

    def convert_composition(self, node: Node) -> str:
        """The name of the converted composition of an operation."""
        composition = _trace_composition(node.op, tuple(input_dtypes(node)))
        name = composition.function_def.signature.name
        if name not in self.originals:
            inner = composition.graph.as_graph_def().library.function
            self.originals |= {f.signature.name: f for f in (*inner, composition.function_def)}
        self.compositions[name] = node.op
        return self.convert(name)


class _Body(RoundedNodes):
    """The conversion of one function definition."""

    def __init__(self, conversion: _Conversion, old: Definition, new: Definition) -> None:
        super().__init__(new, conversion.seeds)
        self.conversion, self.old = conversion, old
        self.some = conversion.moving.get(old.signature.name)
        #: references of tensors → those of their copies
        self.copies: dict[str, str] = {}
        #: references of what depends on the point. Of constants and random draws alone the same is computed in every
        #: evaluation, which is no error of a difference
        self.moving: set[str] = set()

    def fill(self, name: str) -> None:
        """Write the converted function."""
        old, new = self.old, self.new
        new.signature.name, new.signature.is_stateful = name, True
        self._take_arguments()
        for node in order_nodes(old.node_def):
            self.shapes |= known_shapes(node)
            if node.op in CALLS:
                self._convert_call(node)
            else:
                self._convert_operation(node)
        for out in old.signature.output_arg:
            self._return(out.name, out.type, old.ret[out.name])
        for out in old.signature.output_arg:
            if tf.as_dtype(out.type) in COPIED:
                source = old.ret[out.name]
                self._return(out.name + COPY, out.type, self.copies.get(source, source))
        for key, value in old.control_ret.items():
            new.signature.control_output.append(key)
            new.control_ret[key] = value

    def _take_arguments(self) -> None:
        """Declare the function's own arguments, a copy of each that may be off, and COMMON."""
        old, new = self.old, self.new
        for argument in old.signature.input_arg:
            new.signature.input_arg.add(name=argument.name, type=argument.type)
        for i, argument in enumerate(old.signature.input_arg):
            if tf.as_dtype(argument.type) in COPIED:
                new.signature.input_arg.add(name=argument.name + COPY, type=argument.type)
                self.copies[argument.name] = argument.name + COPY
                if self.some is None or i in self.some:
                    self.moving.add(argument.name)
        new.signature.input_arg.add(name=COMMON, type=tf.int32.as_datatype_enum)
        for index, attributes in old.arg_attr.items():
            new.arg_attr[index].CopyFrom(attributes)

    def _return(self, name: str, dtype: int, reference: str) -> None:
        self.new.signature.output_arg.add(name=name, type=dtype)
        self.new.ret[name] = reference

    def _perturb_terms(self, node: Node, terms: str, dtype: Any) -> str:
        """The terms of a sum, each off by up to a unit of the largest partial sum: Σ|term|, in a running sum up to
        there.

        Evenly spread over two units, so that the steps of equal terms round at random, to nothing in the mean.
        """
        whole, kind, place = make_type_attribute(tf.int32), make_type_attribute(dtype), SUMS[node.op]
        index = whole if place is None else attr_value_pb2.AttrValue(type=node.attr["Tidx"].type)
        if place is None:
            last = self._add(
                "Sub", [self._add("Rank", [terms], T=kind), self._add_constant(1, tf.int32)], output="z", T=whole
            )
            axes = self._add(
                "Range", [self._add_constant(0, tf.int32), last, self._add_constant(1, tf.int32)], Tidx=whole
            )
        else:
            axes = node.input[place]
        sizes = self._add("Abs", [terms], output="y", T=kind)
        if node.op == "Cumsum":
            direction = node.attr["reverse"]
            largest = self._add("Cumsum", [sizes, axes], output="out", T=kind, Tidx=index, reverse=direction)
        else:
            keep = attr_value_pb2.AttrValue(b=True)
            largest = self._add("Sum", [sizes, axes], T=kind, Tidx=index, keep_dims=keep)
        # where a term is infinite nothing else is: the sum stays what it is, and is not turned into inf - inf
        largest = self._add("Minimum", [largest, self._add_constant(float(dtype.max), dtype)], output="z", T=kind)
        drawn = self._add("RandomUniform", [self._add_shape(terms, dtype)], T=whole, dtype=kind, **self._make_seeds())
        centred = self._add("Sub", [drawn, self._add_constant(0.5, dtype)], output="z", T=kind)
        share = self._add("Mul", [centred, self._add_two_units(dtype)], output="z", T=kind)
        moves = self._add("Mul", [largest, share], output="z", T=kind)
        return self._add("AddV2", [terms, moves], output="z", T=kind)

    def _convert_operation(self, node: Node) -> None:
        original = self.new.node_def.add()
        original.CopyFrom(node)
        original.attr.pop(SHAPES, None)
        outputs, data = list_outputs(node), list_data_inputs(node)
        holds_floats = any(dtype in COPIED for _, dtype in outputs)
        held = (*DECIDED, *HELD) if self.conversion.moves_point else DECIDED
        if not holds_floats or not data or node.op in held:
            return
        # what makes the point, reads, draws or runs Python is computed once, and both have the same of it
        of_point = EXACT_SCOPE in node.name
        if (of_point and not self.conversion.moves_point) or op_def_registry.get(node.op).is_stateful:
            if self.some is None and (EXACT_SCOPE in node.name or node.op in READING):
                self.moving.update(reference for reference, _ in outputs)
            return
        if not self.moving.intersection(data):
            return
        if node.op in COMPOSED and self.conversion.compositions.get(self.old.signature.name) != node.op:
            self._convert_composed(node, outputs)
            return
        dtypes, inputs = input_dtypes(node), self._list_inputs_of_copy(node)
        terms, units = (0.0, 0.0) if of_point else _rounding_of(node, dtypes, outputs)
        if node.op in SUMS and not of_point and dtypes[0].is_floating:
            inputs[0] = self._perturb_terms(node, inputs[0], dtypes[0])
        elif terms:
            typed = zip(inputs, dtypes, strict=True)
            inputs = [self._perturb(r, t, terms * coarseness(node.op, t)) if t in FLOATS else r for r, t in typed]
        copy = self._add_copy(node, inputs)
        for reference, dtype in outputs:
            if dtype in COPIED:
                self.moving.add(reference)
                own = copy.name + reference[len(node.name) :]
                self._know(reference, own)
                rounds = units and dtype in FLOATS
                self.copies[reference] = (
                    self._perturb(own, dtype, units * coarseness(node.op, dtype)) if rounds else own
                )
                self._know(reference, self.copies[reference])

    def _list_inputs_of_copy(self, node: Node) -> list[str]:
        """The inputs of an operation's copy: copies too, but where they decide."""
        decisive, zero = DECIDING.get(node.op, ()), DECIDING_ZERO.get(node.op, ())
        data, dtypes = list_data_inputs(node), input_dtypes(node)
        inputs = [r if k in decisive else self.copies.get(r, r) for k, r in enumerate(data)]
        return [self._zero_where_zero(data[k], r, dtypes[k]) if k in zero else r for k, r in enumerate(inputs)]

    def _zero_where_zero(self, tensor: str, copy: str, dtype: Any) -> str:
        """The copy of a tensor, with 0 where the tensor is 0."""
        kind = make_type_attribute(dtype)
        is_zero = self._add("Equal", [tensor, self._add_constant(0.0, dtype)], output="z", T=kind)
        return self._add("SelectV2", [is_zero, tensor, copy], T=kind)

    def _know(self, reference: str, other: str) -> None:
        """Let another tensor have the shape of the first."""
        if reference in self.shapes:
            self.shapes[other] = self.shapes[reference]

    def _add_copy(self, node: Node, inputs: list[str]) -> Node:
        """Add the node once more, of other inputs."""
        copy = self.new.node_def.add()
        copy.CopyFrom(node)
        copy.name = node.name + COPY
        del copy.input[:]
        copy.input.extend([*inputs, *list_control_inputs(node)])
        for key in LEFT_OUT:
            copy.attr.pop(key, None)
        return copy

    def _convert_composed(self, node: Node, outputs: list[tuple[str, Any]]) -> None:
        data, dtypes = list_data_inputs(node), input_dtypes(node)
        name = self.conversion.convert_composition(node)
        copies = [self.copies.get(r, r) for r, t in zip(data, dtypes, strict=True) if t in COPIED]
        signature = self.conversion.library[name].signature
        first = self._add(
            "StatefulPartitionedCall",
            [*data, *copies, COMMON],
            f=attr_value_pb2.AttrValue(func=attr_value_pb2.NameAttrList(name=name)),
            Tin=make_types_attribute(a.type for a in signature.input_arg),
            Tout=make_types_attribute(a.type for a in signature.output_arg),
        )
        for k, (reference, _) in enumerate(outputs):
            self.moving.add(reference)
            self.copies[reference] = f"{first[:-1]}{len(outputs) + k}"
            self._know(reference, self.copies[reference])

    def _convert_call(self, node: Node) -> None:
        """A call of the converted functions: the originals and the copies come out of one."""
        op, before = CALLS[node.op]
        data, outputs = list_data_inputs(node), list_outputs(node)
        if self.some is not None and not self.moving.intersection(data):
            self.new.node_def.add().CopyFrom(node)
            return
        new = self.new.node_def.add()
        new.CopyFrom(node)
        new.op = op
        for key in LEFT_OUT:
            new.attr.pop(key, None)
        for value in new.attr.values():
            for function in [value.func] if value.HasField("func") else value.list.func:
                function.name = self.conversion.convert(function.name)
        held = [p for p in zip(data[before:], input_dtypes(node)[before:], strict=True) if p[1] in COPIED]
        copied = [(reference, dtype) for reference, dtype in outputs if dtype in COPIED]
        del new.input[:]
        new.input.extend([*data, *(self.copies.get(r, r) for r, _ in held), COMMON, *list_control_inputs(node)])
        more = [*(dtype.as_datatype_enum for _, dtype in held), tf.int32.as_datatype_enum]
        if op == "While":
            new.attr["T"].list.type.extend(more)
            self._return_common(new.attr["body"].func.name)
        else:
            new.attr["Tin"].list.type.extend(more)
            new.attr["Tout"].list.type.extend(dtype.as_datatype_enum for _, dtype in copied)
        for k, (reference, _) in enumerate(copied):
            self.moving.add(reference)
            self.copies[reference] = f"{node.name}:output:{len(outputs) + k}"
            self._know(reference, self.copies[reference])

    def _return_common(self, name: str) -> None:
        """Let the body of a loop return COMMON to its next round."""
        body, out = self.conversion.library[name], COMMON + "_out"
        if out not in body.ret:
            body.signature.output_arg.add(name=out, type=tf.int32.as_datatype_enum)
            body.ret[out] = COMMON


def _rounding_of(node: Node, dtypes: list[Any], outputs: list[tuple[str, Any]]) -> tuple[float, float]:
    """By how many units the inputs of an operation are off before it, and its result."""
    result = outputs[0][1]
    if node.op in EXACT:
        return 0.0, 0.0
    if node.op == "Cast":
        lower = dtypes[0] in FLOATS and result in FLOATS and unit_of(result) > unit_of(dtypes[0])
        return 0.0, float(lower)
    if node.op in UNITS:  # half precision is computed in float32, and rounded
        return 0.0, 1.0 if result in (tf.float16, tf.bfloat16) else UNITS[node.op]
    return 1.0, SUMMED
