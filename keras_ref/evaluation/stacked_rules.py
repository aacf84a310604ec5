"""How operations compute at a stack of nudged points: a rule for each, with TensorFlow's own kernels.

    rule(call) → what each output is: a tensor where it is the same at all points, or Nudged, Unit, Stack

A sum at nudged points is that at the point and what the nudge adds to it: it rounds where the whole sum does, and no
more often.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ref.evaluation.stacked_values import (
    CHANGED,
    CannotStack,
    Nudged,
    Stack,
    Unit,
    Value,
    as_unit,
    number_of_points,
    require_finite,
    shape_of,
    stacked,
    units_first,
)


@dataclass(frozen=True, kw_only=True)
class Call:
    """An operation of a traced function at a stack of points, some of whose inputs change with the point.

    run   the operation itself on other tensors, or one of another kind with its attributes
    base  its outputs at the point
    """

    operation: Any
    inputs: list[Value]
    run: Callable[..., list[Any]]
    base: list[Any]

    @property
    def kind(self) -> str:
        """The type of the operation."""
        return str(self.operation.type)

    def attribute(self, name: str) -> Any:
        """An attribute of the operation."""
        return self.operation.get_attr(name)


Rule = Callable[[Call], list[Value]]
RULES: dict[str, Rule] = {}


def rule(names: str) -> Callable[[Rule], Rule]:
    """Register a rule for operations of these types."""

    def register(found: Rule) -> Rule:
        RULES.update(dict.fromkeys(names.split(), found))
        return found

    return register


def _aligned(value: Value, rank: int) -> Any:
    """A tensor that broadcasts with those of `rank` dimensions at each of the points."""
    if not isinstance(value, CHANGED):
        return value
    tensor, own = stacked(value), len(shape_of(value))
    return tf.reshape(tensor, [tensor.shape[0], *([1] * (rank - own)), *tensor.shape[1:]])


def _whole(tensor: Any, count: int, shape: tuple[int, ...]) -> Stack:
    """A result as a stack: what did not need all dimensions is repeated."""
    return Stack(tensor if tuple(tensor.shape) == (count, *shape) else tf.broadcast_to(tensor, [count, *shape]))


@rule(
    """
    Abs Acos Acosh Add AddV2 Asin Asinh Atan Atan2 Atanh BesselI0e BesselI1e Cast Ceil ClipByValue Complex Conj Cos Cosh
    Digamma Div DivNoNan Elu Equal Erf Erfc Erfinv Exp Expm1 Floor FloorDiv FloorMod Greater GreaterEqual Imag Inv
    IsFinite IsInf IsNan LeakyRelu Less LessEqual Lgamma Log Log1p LogicalAnd LogicalNot LogicalOr Maximum Minimum Mul
    MulNoNan Neg NotEqual Pow Real RealDiv Reciprocal Relu Relu6 Rint Round Rsqrt Select SelectV2 ReluGrad Selu Sigmoid
    SigmoidGrad Sign Sin Sinh Softplus Softsign Sqrt Square SquaredDifference Sub Tan Tanh TanhGrad Xdivy Xlog1py
    Xlogy ZerosLike OnesLike
    """
)
def _elementwise(call: Call) -> list[Value]:
    """One number after another: one unit stays one unit."""
    shape, inputs = tuple(call.base[0].shape), [as_unit(value) for value in call.inputs]
    changed = [value for value in inputs if isinstance(value, CHANGED)]
    kind = "SelectV2" if call.kind == "Select" else call.kind
    if call.kind == "Select" and any(shape_of(value) != shape for value in inputs):
        raise CannotStack(call.kind)
    first = changed[0]
    if isinstance(first, Unit) and all(_is_unit_of(value, shape, first) for value in changed):
        units = first.units
        parts = []
        for value in inputs:
            own = shape_of(value)
            if isinstance(value, Unit):
                part = value.values
            elif own and own[-1] == shape[-1] > 1:
                part = units_first(value, units)
            else:
                parts.append(value[..., 0] if own else value)
                continue
            lead = part.shape[1:]
            parts.append(tf.reshape(part, [len(units), *([1] * (len(shape) - 1 - len(lead))), *lead]))
        found = call.run(parts, kind=kind)[0]
        return [Unit(call.base[0], units, _whole(found, len(units), shape[:-1]).values)]
    found = call.run([_aligned(value, len(shape)) for value in inputs], kind=kind)[0]
    return [_whole(found, number_of_points(changed), shape)]


def _is_unit_of(value: Value, shape: tuple[int, ...], first: Value) -> bool:
    """Whether a value is another in the same unit of a tensor of `shape` as the first."""
    return isinstance(value, Unit) and value.units is first.units and shape_of(value)[-1:] == shape[-1:]


@rule("Identity StopGradient PreventGradient Snapshot EnsureShape CheckNumerics IdentityN")
def _passed(call: Call) -> list[Value]:
    """What is passed on as it is."""
    return call.inputs


@rule("Shape ShapeN Size Rank")
def _of_shape(call: Call) -> list[Value]:
    """What depends on shapes alone."""
    return call.base


@rule("BiasAdd")
def _bias(call: Call) -> list[Value]:
    if call.attribute("data_format") != b"NHWC":
        raise CannotStack("BiasAdd NCHW")
    return _elementwise(replace(call, run=lambda tensors, **_: [tf.add(*tensors)]))


@rule("AddN")
def _sum_of_all(call: Call) -> list[Value]:
    count, shape = number_of_points(call.inputs), tuple(call.base[0].shape)
    parts = [stacked(v) if isinstance(v, CHANGED) else tf.broadcast_to(v, [count, *shape]) for v in call.inputs]
    return [Stack(tf.add_n(parts))]


# Products ------------------------------------------------------------------------------------------------------------


@rule("MatMul")
def _product(call: Call) -> list[Value]:
    """Of a nudged right factor one column of the product changes; of one unit on the left, by a product of rank one."""
    left, right = call.inputs
    turned = (call.attribute("transpose_a"), call.attribute("transpose_b"))
    out = call.base[0]
    if isinstance(right, Nudged) and not isinstance(left, CHANGED):
        left = tf.transpose(left) if turned[0] else left
        rows, columns = np.divmod(right.entries, right.base.shape[1])
        rows, columns = (columns, rows) if turned[1] else (rows, columns)
        require_finite(out, left)
        moved = right.values - tf.gather(tf.reshape(right.base, [-1]), right.entries)
        values = units_first(out, columns) + moved[:, None] * units_first(left, rows)
        return [Unit(out, columns, values)]
    if isinstance(left, Unit) and not isinstance(right, CHANGED) and not turned[0]:
        right = tf.transpose(right) if turned[1] else right
        require_finite(out, left.base, right)
        moved = left.values - units_first(left.base, left.units)
        rows = tf.gather(right, left.units)
        return [Stack(out[None] + moved[:, :, None] * rows[:, None, :])]
    if isinstance(left, CHANGED) and not isinstance(right, CHANGED) and not turned[0]:
        tensor = stacked(left)
        found = tf.matmul(tf.reshape(tensor, [-1, tensor.shape[-1]]), right, transpose_b=turned[1])
        return [Stack(tf.reshape(found, [tensor.shape[0], *out.shape]))]
    first, second = (stacked(v) if isinstance(v, CHANGED) else v[None] for v in (left, right))
    found = tf.matmul(first, second, transpose_a=turned[0], transpose_b=turned[1])
    return [_whole(found, number_of_points(call.inputs), tuple(out.shape))]


@rule("BatchMatMul BatchMatMulV2 BatchMatMulV3")
def _batched_product(call: Call) -> list[Value]:
    rank = len(call.base[0].shape)
    left, right = (_aligned(value, rank) for value in call.inputs)
    found = tf.linalg.matmul(left, right, adjoint_a=call.attribute("adj_x"), adjoint_b=call.attribute("adj_y"))
    return [_whole(found, number_of_points(call.inputs), tuple(call.base[0].shape))]


@rule("Einsum")
def _einsum(call: Call) -> list[Value]:
    """The equation with a letter for the points in front of what changes."""
    given, result = call.attribute("equation").decode().replace(" ", "").split("->")
    letter = next(one for one in "ZYXWVUTSRQPONMLKJIHGFEDCBA" if one not in given + result)
    parts = zip(given.split(","), call.inputs, strict=True)
    equation = ",".join((letter if isinstance(value, CHANGED) else "") + part for part, value in parts)
    tensors = [stacked(value) if isinstance(value, CHANGED) else value for value in call.inputs]
    return [Stack(tf.einsum(f"{equation}->{letter}{result}", *tensors))]


@rule("Conv2D")
def _convolution(call: Call) -> list[Value]:
    """Of a nudged kernel one channel of the result changes, by the patches that the nudged entry meets."""
    x, kernel = call.inputs
    if call.attribute("data_format") != b"NHWC":
        raise CannotStack("Conv2D NCHW")
    if not isinstance(kernel, CHANGED):
        return _folded(call)
    if not isinstance(kernel, Nudged) or isinstance(x, CHANGED):
        raise CannotStack("a kernel that changes as a whole, or with its input")
    height, width, depth, channels = kernel.base.shape
    if x.shape[-1] != depth or call.attribute("padding") not in (b"SAME", b"VALID"):
        raise CannotStack("Conv2D by groups, or padded by hand")
    places, units = np.divmod(kernel.entries, channels)
    require_finite(call.base[0], x)
    present, where = np.unique(places, return_inverse=True)
    patches = tf.image.extract_patches(
        x,
        [1, height, width, 1],
        call.attribute("strides"),
        call.attribute("dilations"),
        call.attribute("padding").decode(),
    )
    met = tf.gather(units_first(patches, present), where)
    moved = kernel.values - tf.gather(tf.reshape(kernel.base, [-1]), kernel.entries)
    return [Unit(call.base[0], units, units_first(call.base[0], units) + moved[:, None, None, None] * met)]


# What is computed of each sample by itself: all points in one batch --------------------------------------------------


@rule("AvgPool MaxPool MaxPoolV2 DepthwiseConv2dNative SparseSoftmaxCrossEntropyWithLogits")
@rule("SoftmaxCrossEntropyWithLogits LRN")
def _folded(call: Call) -> list[Value]:
    """The samples of all points as one batch; what does not change is repeated where it has a sample for each."""
    count = number_of_points(call.inputs)
    batch = shape_of(call.inputs[0])[0]
    kernel = call.kind in ("Conv2D", "DepthwiseConv2dNative", "MaxPoolV2")
    if kernel and any(isinstance(value, CHANGED) for value in call.inputs[1:]):
        raise CannotStack(call.kind)
    tensors = []
    for i, value in enumerate(call.inputs):
        if i and kernel:
            tensors.append(value)
        elif shape_of(value)[0] != batch:
            raise CannotStack(call.kind)
        elif isinstance(value, CHANGED):
            tensor = stacked(value)
            tensors.append(tf.reshape(tensor, [count * batch, *tensor.shape[2:]]))
        else:
            tensors.append(tf.tile(value, [count, *([1] * (len(value.shape) - 1))]))
    found = zip(call.run(tensors), call.base, strict=True)
    return [Stack(tf.reshape(tensor, [count, *out.shape])) for tensor, out in found]


@rule("Softmax LogSoftmax")
def _of_last_axis(call: Call) -> list[Value]:
    tensor = stacked(call.inputs[0])
    found = call.run([tf.reshape(tensor, [-1, tensor.shape[-1]])])[0]
    return [Stack(tf.reshape(found, tensor.shape))]


# Reductions, and what moves numbers ----------------------------------------------------------------------------------


def _axes(tensor: Any, rank: int, *, by: int = 1) -> list[int]:
    """Axes of a tensor of `rank` dimensions, as those behind the axis of the points."""
    return [int(axis) % max(rank, 1) + by for axis in np.ravel(np.asarray(tensor))]


@rule("Sum Mean Max Min Prod All Any")
def _reduction(call: Call) -> list[Value]:
    value, axes = as_unit(call.inputs[0]), call.inputs[1]
    if isinstance(axes, CHANGED):
        raise CannotStack(call.kind)
    found = _axes(axes, len(shape_of(value)))
    if isinstance(value, Unit) and len(shape_of(value)) not in found:
        own = call.run([value.values, tf.constant(found, axes.dtype)])[0]
        return [Unit(call.base[0], value.units, own)]
    tensor = stacked(value)
    reduced = call.run([tensor, tf.constant(found, axes.dtype)])[0] if found else tensor
    return [Stack(reduced)]


@rule("Reshape")
def _reshape(call: Call) -> list[Value]:
    value, shape = call.inputs[0], tuple(call.base[0].shape)
    if isinstance(value, Nudged):
        return [Nudged(call.base[0], value.entries, value.values)]
    if isinstance(value, Unit) and shape and shape[-1] == shape_of(value)[-1]:
        return [Unit(call.base[0], value.units, tf.reshape(value.values, [len(value.units), *shape[:-1]]))]
    return [Stack(tf.reshape(stacked(value), [number_of_points(call.inputs[:1]), *shape]))]


@rule("ExpandDims Squeeze")
def _same_numbers(call: Call) -> list[Value]:
    """Other dimensions of size 1."""
    return _reshape(call)


@rule("Transpose")
def _transpose(call: Call) -> list[Value]:
    order = [0, *_axes(call.inputs[1], len(shape_of(call.inputs[0])))]
    return [Stack(tf.transpose(stacked(call.inputs[0]), order))]


@rule("ConcatV2")
def _concatenation(call: Call) -> list[Value]:
    count, rank = number_of_points(call.inputs[:-1]), len(call.base[0].shape)
    parts = [
        stacked(v) if isinstance(v, CHANGED) else tf.tile(v[None], [count, *([1] * rank)]) for v in call.inputs[:-1]
    ]
    return [Stack(tf.concat(parts, _axes(call.inputs[-1], rank)[0]))]


@rule("Pack")
def _pack(call: Call) -> list[Value]:
    count, axis = number_of_points(call.inputs), call.attribute("axis") % len(call.base[0].shape) + 1
    parts = [
        stacked(v) if isinstance(v, CHANGED) else tf.tile(v[None], [count, *([1] * len(v.shape))]) for v in call.inputs
    ]
    return [Stack(tf.stack(parts, axis=axis))]


@rule("Unpack")
def _unpack(call: Call) -> list[Value]:
    axis = call.attribute("axis") % len(shape_of(call.inputs[0])) + 1
    return [Stack(part) for part in tf.unstack(stacked(call.inputs[0]), axis=axis)]


@rule("Split")
def _split(call: Call) -> list[Value]:
    axis = _axes(call.inputs[0], len(shape_of(call.inputs[1])))[0]
    return [Stack(part) for part in tf.split(stacked(call.inputs[1]), call.attribute("num_split"), axis)]


@rule("StridedSlice")
def _slice(call: Call) -> list[Value]:
    """All points, and of each what is asked for."""
    begin, end, strides = (
        tf.concat([[one], tf.cast(t, tf.int64)], 0) for one, t in zip((0, 0, 1), call.inputs[1:], strict=True)
    )
    masks = {
        f"{name}_mask": 2 * int(call.attribute(f"{name}_mask")) + whole
        for name, whole in (("begin", 1), ("end", 1), ("ellipsis", 0), ("new_axis", 0), ("shrink_axis", 0))
    }
    found = tf.raw_ops.StridedSlice(input=stacked(call.inputs[0]), begin=begin, end=end, strides=strides, **masks)
    return [Stack(found)]


@rule("Pad PadV2 Tile BroadcastTo")
def _extended(call: Call) -> list[Value]:
    tensor, how = stacked(call.inputs[0]), np.asarray(call.inputs[1])
    rank = len(call.base[0].shape)
    if call.kind == "BroadcastTo":
        return [_whole(_aligned(call.inputs[0], rank), tensor.shape[0], tuple(call.base[0].shape))]
    if call.kind == "Tile":
        return [Stack(tf.tile(tensor, [1, *how]))]
    value = np.asarray(call.inputs[2]) if len(call.inputs) > 2 else 0
    return [Stack(tf.pad(tensor, [(0, 0), *how], constant_values=value))]


@rule("GatherV2")
def _gather(call: Call) -> list[Value]:
    """Of a nudged table the places change that take its row."""
    table, indices, axis = call.inputs
    if isinstance(indices, CHANGED) or call.attribute("batch_dims") or not isinstance(table, CHANGED):
        raise CannotStack(call.kind)
    where = _axes(axis, len(shape_of(table)), by=0)[0]
    if isinstance(table, Nudged) and where == 0 and len(table.base.shape) == 2:
        rows, units = np.divmod(table.entries, table.base.shape[1])
        taken = indices[None] == tf.reshape(tf.constant(rows, indices.dtype), [-1, *([1] * len(indices.shape))])
        own = tf.reshape(table.values, [-1, *([1] * len(indices.shape))])
        return [Unit(call.base[0], units, tf.where(taken, own, units_first(call.base[0], units)))]
    return [Stack(tf.gather(stacked(table), indices, axis=where + 1))]
