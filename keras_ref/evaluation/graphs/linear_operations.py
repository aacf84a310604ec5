"""Operations that are linear in a variable, and what one entry of it moves their output by.

Columns are those of a tensor as a matrix (rows, columns) with its entries in their order: the last axis, or the last
axes, of the output.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import tensorflow as tf

#: products of matrices, and whether they transpose
PRODUCTS: Mapping[str, tuple[str, str]] = {
    "MatMul": ("transpose_a", "transpose_b"),
    "BatchMatMulV2": ("adj_x", "adj_y"),
}
#: entries of a table of factors that are worth keeping
MOST_FACTORS = 2**24

#: a tensor of the graph at the point, by name
Base: TypeAlias = Callable[[str], Any]


@dataclass(frozen=True)
class Moved:
    """How the entries of a variable move the output of an operation that is linear in it.

    output     the tensor whose columns move
    columns    how many it has
    operands   the tensors that `factors` reads
    factors    what an offset is multiplied with: tensors at the point → (n, rows)
    factor_of  flat entries → which of the n
    column_of  flat entries → the column that moves
    """

    output: str
    columns: int
    operands: tuple[str, ...]
    factors: Callable[[Base], Any]
    factor_of: Callable[[Any], Any]
    column_of: Callable[[Any], Any]


def find_moved(operation: Any, variable: set[str]) -> Moved | None:
    """How entries of a variable, under any of these names, move what an operation gives that is linear in it."""
    reader = LINEAR.get(operation.type)
    places = [i for i, t in enumerate(operation.inputs) if t.name in variable]
    if reader is None or len(places) != 1 or operation.outputs[0].dtype != tf.float64:
        return None
    return reader(operation, places[0])


def _of_kernel(operation: Any, columns: int, operand: str, factors: Callable[[Base], Any]) -> Moved:
    output = operation.outputs[0].name
    return Moved(
        output,
        columns,
        operands=(operand,),
        factors=factors,
        factor_of=lambda entry: entry // columns,
        column_of=lambda entry: entry % columns,
    )


def _move_by_matrix_product(operation: Any, place: int) -> Moved | None:
    """x · kernel: entry (i, j) moves column j by x[:, i]."""
    left, right = operation.inputs
    if place != 1 or right.shape.rank != 2 or any(operation.get_attr(name) for name in PRODUCTS[operation.type]):
        return None
    count, columns = right.shape

    def factors(base: Base) -> Any:
        return tf.transpose(tf.reshape(base(left.name), (-1, count)))

    return _of_kernel(operation, columns, left.name, factors)


def _move_by_einsum(operation: Any, place: int) -> Moved | None:
    """Σ x[…, c] · kernel[c, j], c and j one or more axes: entry (c, j) moves column j by x[…, c]."""
    left, _, rest = operation.get_attr("equation").decode().partition(",")
    kernel, _, output = rest.partition("->")
    summed = "".join(axis for axis in kernel if axis in left)
    free, rows = kernel[len(summed) :], "".join(axis for axis in left if axis not in summed)
    if place != 1 or "." in left + kernel + output or kernel != summed + free or output != rows + free:
        return None
    if len(set(left)) != len(left) or len(set(kernel)) != len(kernel):
        return None
    operand, columns = operation.inputs[0].name, math.prod(operation.inputs[1].shape[len(summed) :])
    count = math.prod(operation.inputs[1].shape[: len(summed)])

    def factors(base: Base) -> Any:
        return tf.reshape(tf.einsum(f"{left}->{summed}{rows}", base(operand)), (count, -1))

    return _of_kernel(operation, columns, operand, factors)


def _move_by_convolution(operation: Any, place: int) -> Moved | None:
    """Entry (…, c, j) of a kernel moves channel j by what a kernel of zeros with a 1 at (…, c) makes of the inputs."""
    data, kernel = operation.inputs
    count = math.prod(kernel.shape[:-1])
    rows = math.prod(operation.outputs[0].shape[:-1])
    in_groups = kernel.shape[-2] != data.shape[-1]
    if place != 1 or operation.get_attr("data_format")[-1:] != b"C" or in_groups or count * rows > MOST_FACTORS:
        return None

    def patches(base: Base) -> Any:
        units = tf.reshape(tf.eye(count, dtype=kernel.dtype), (*kernel.shape[:-1], count))
        return tf.transpose(tf.reshape(run_again(operation, [base(data.name), units]), (rows, count)))

    return _of_kernel(operation, kernel.shape[-1], data.name, patches)


def _move_by_lookup(operation: Any, place: int) -> Moved | None:
    """Rows of a table: entry (i, j) moves column j where the index is i."""
    table, indices = operation.inputs[:2]
    rows = indices.shape.num_elements()
    axis = tf.get_static_value(operation.inputs[2]) if operation.type == "GatherV2" else 0
    if place != 0 or table.shape.rank != 2 or axis != 0 or table.shape[0] * rows > MOST_FACTORS:
        return None
    count = table.shape[0]

    def places(base: Base) -> Any:
        return tf.one_hot(tf.reshape(base(indices.name), [-1]), count, axis=0, dtype=table.dtype)

    return _of_kernel(operation, table.shape[1], indices.name, places)


#: {type of an operation: (operation, which input the variable is) → how its entries move the output}
LINEAR: Mapping[str, Callable[[Any, int], Moved | None]] = {
    **dict.fromkeys(PRODUCTS, _move_by_matrix_product),
    "Einsum": _move_by_einsum,
    "Conv2D": _move_by_convolution,
    "Conv3D": _move_by_convolution,
    "GatherV2": _move_by_lookup,
}


def run_again(operation: Any, inputs: list[Any]) -> Any:
    """What an operation of one output gives for other inputs, which may have other shapes."""
    if operation.type == "BiasAdd":
        return tf.add(*inputs)
    definition = operation.op_def
    inferred = {argument.type_attr for argument in definition.input_arg}
    own = {a.name: operation.get_attr(a.name) for a in definition.attr if a.name not in inferred}
    named = dict(zip((argument.name for argument in definition.input_arg), inputs, strict=True))
    return getattr(tf.raw_ops, operation.type)(**named, **own)


def as_row(variable: Any) -> Moved:
    """A variable as one row: an entry moves its own column, by 1."""

    def factors(_: Base) -> Any:
        return tf.ones((1, 1), variable.dtype)

    return Moved(
        variable.name,
        variable.shape.num_elements(),
        operands=(),
        factors=factors,
        factor_of=tf.zeros_like,
        column_of=tf.identity,
    )


def broadcast_columns(shape: Any, whole: Any) -> int:
    """How many columns of a tensor of shape `whole` one of this shape has, of one row, that is broadcast to it.

    0 where it is broadcast in another way.
    """
    own, output = list(shape), list(whole)
    while own[:1] == [1] and output[-len(own) :] != own:
        own = own[1:]
    return math.prod(own) if own and output[-len(own) :] == own else 0
