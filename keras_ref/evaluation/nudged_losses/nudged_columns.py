"""What one entry of a variable moves in a traced loss, found in its graph.

An entry (i, j) of a kernel moves column j of the product x · kernel, by x[:, i]. Elementwise operations keep that one
column. Where a column meets another product, that product moves by an update of rank one. A route says through which
operations of a graph an entry's movement goes in this way, and which tensors have to be stacked as a whole from there
on. Tensors are named as in the graph ("dense/MatMul:0"). Columns are those of a tensor as a matrix (rows, columns) with
its entries in their order: the last axis, or the last axes, of the output of the operation that the variable is in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from keras_ref.evaluation.graphs.graph import list_called_functions
from keras_ref.evaluation.graphs.linear_operations import PRODUCTS, Moved, as_row, broadcast_columns, find_moved

#: operations that give each entry of their output from the entries at the same place of their inputs, as they broadcast
ELEMENTWISE = frozenset(
    """
    Abs Add AddV2 Acosh Asinh Atan Atanh BiasAdd Ceil Cos Cosh Div DivNoNan Elu Equal Erf Erfc Exp Expm1 Floor Greater
    GreaterEqual Identity Inv IsFinite IsInf IsNan LeakyRelu Less LessEqual Lgamma Log Log1p LogicalAnd LogicalNot
    LogicalOr Maximum Minimum Mul MulNoNan Neg NotEqual Pow RealDiv Reciprocal Relu Relu6 Rsqrt SelectV2 Selu Sigmoid
    Sign Sin Sinh Softplus Softsign Sqrt Square SquaredDifference StopGradient Sub Tan Tanh
    """.split()  # noqa: SIM905 (sixty quoted words are no easier to read)
)
#: operations that leave the entries in their order
RESHAPING = frozenset({"Reshape", "ExpandDims", "Squeeze"})
#: operations whose output depends on shapes alone
SHAPES = frozenset({"Shape", "ShapeN", "Size", "Rank"})


@dataclass(frozen=True)
class Column:
    """A tensor of which one column moves, by an operation on columns and on tensors that stay.

    operation  None where the column is that of `source`, in another shape
    moving     which inputs of the operation are columns
    """

    name: str
    operation: Any
    moving: tuple[bool, ...]
    source: str = ""


@dataclass(frozen=True)
class RankOne:
    """A product of a tensor with a matrix: it moves by (movement of the column) ⊗ (row of the matrix)."""

    output: str
    column: str
    matrix: str
    transposed: bool


@dataclass(frozen=True)
class Route:
    """How an entry's movement goes through a graph.

    columns    tensors of which one column moves, in order
    products   tensors that move by rank one
    whole      tensors of which one column moves and that are needed as a whole
    variable   the tensor that holds the variable, where it is needed as a whole too: a regularizer reads it
    """

    moved: Moved
    columns: tuple[Column, ...]
    products: tuple[RankOne, ...]
    whole: tuple[str, ...]
    variable: str = ""

    @property
    def stacked(self) -> tuple[str, ...]:
        """The names of the tensors that are stacked as a whole."""
        return (*(p.output for p in self.products), *self.whole, *([self.variable] if self.variable else []))


def find_route(graph: Any, variable: Any, loss: Any) -> Route | None:
    """How entries of a variable move the loss, both tensors of a graph; None where the way is not known.

    It is known where one operation that is linear in the variable reads it, or where it goes into elementwise
    operations alone. Everything on the way must have a known shape, and nothing that is stacked may go into a loop, a
    branch or an inner function.
    """
    before = _order_before(graph, loss.op)
    of_product = _Walk(same={variable.name})
    if all(map(of_product.take, before)) and of_product.moved is not None:
        return of_product.find_route()
    elementwise = _Walk(moved=as_row(variable), columns={variable.name: None})
    known = all(map(elementwise.take, before)) and variable.name not in elementwise.whole
    return elementwise.find_route() if known else None


@dataclass
class _Walk:
    """What is known of the tensors that were passed so far, by name.

    same      those that hold the variable
    columns   those of which one column moves; None for that which the variable moves
    whole     those of which one column moves, or which hold the variable, and that are needed as a whole
    stacked   those that move as a whole
    """

    same: set[str] = field(default_factory=set)
    columns: dict[str, Column | None] = field(default_factory=dict)
    whole: dict[str, None] = field(default_factory=dict)
    stacked: set[str] = field(default_factory=set)
    products: list[RankOne] = field(default_factory=list)
    moved: Moved | None = None

    def take(self, operation: Any) -> bool:
        """Take note of what an operation gives; False where the way through it is not known."""
        names = {t.name for t in operation.inputs}
        touched = not names.isdisjoint(self.same | self.columns.keys() | self.stacked)
        if operation.type in SHAPES or not touched:
            return True
        if list_called_functions(operation) or any(not t.shape.is_fully_defined() for t in operation.outputs):
            return False
        if not names.isdisjoint(self.same):
            return self._read(operation, names)
        if names.isdisjoint(self.stacked):
            count = 0 if self.moved is None else self.moved.columns
            if (column := _find_column(operation, self.columns, count)) is not None:
                self.columns[column.name] = column
                return True
            if (product := _rank_one(operation, self.columns, count)) is not None:
                self.products.append(product)
                self.stacked.add(product.output)
                return True
        self._stack(operation)
        return True

    def _read(self, operation: Any, names: set[str]) -> bool:
        """Take note of an operation that reads the variable."""
        if is_same(operation):
            self.same.update(t.name for t in operation.outputs)
            return True
        moved = find_moved(operation, self.same)
        if moved is None:
            self._stack(operation)
            return True
        if self.moved is not None or not names.isdisjoint(self.columns.keys() | self.stacked):
            return False
        self.moved, self.columns[moved.output] = moved, None
        return True

    def _stack(self, operation: Any) -> None:
        """Take note of an operation that needs all of its inputs as a whole."""
        for tensor in operation.inputs:
            if tensor.name in self.columns or tensor.name in self.same:
                self.whole[tensor.name] = None
        self.stacked.update(t.name for t in operation.outputs)

    def find_route(self) -> Route | None:
        """The way; None where the variable moves nothing by columns, or is read as a whole in more than one shape."""
        read = [name for name in self.whole if name in self.same]
        if self.moved is None or not self.stacked or len(read) > 1:
            return None
        columns = tuple(column for column in self.columns.values() if column is not None)
        whole = tuple(name for name in self.whole if name not in self.same)
        return Route(self.moved, columns, tuple(self.products), whole, *read)


def _order_before(graph: Any, last: Any) -> list[Any]:
    """The operations that one depends on, and it, in the order in which they were traced."""
    needed, waiting = {last}, [last]
    while waiting:
        for tensor in waiting.pop().inputs:
            if tensor.op not in needed:
                needed.add(tensor.op)
                waiting.append(tensor.op)
    return [operation for operation in graph.get_operations() if operation in needed]


def is_same(operation: Any) -> bool:
    """Whether an operation hands on the entries that it is given, in their order."""
    return operation.type in {"Identity", "StopGradient"} | RESHAPING


def _find_column(operation: Any, columns: Mapping[str, Any], count: int) -> Column | None:
    """The output of an operation of which again one of `count` columns moves, the same; None where others do."""
    moving = tuple(t.name in columns for t in operation.inputs)
    if len(operation.outputs) != 1 or operation.outputs[0].dtype not in (tf.float64, tf.bool):
        return None
    (output,) = operation.outputs
    given = [t for t, moves in zip(operation.inputs, moving, strict=True) if moves]
    if operation.type in RESHAPING:
        return Column(output.name, None, moving, source=given[0].name) if moving[0] and len(given) == 1 else None
    one_row = [t for t in given if t.shape != output.shape]
    if operation.type not in ELEMENTWISE or any(broadcast_columns(t.shape, output.shape) != count for t in one_row):
        return None
    if operation.type == "BiasAdd" and operation.get_attr("data_format") != b"NHWC":
        return None
    return Column(output.name, operation, moving)


def _rank_one(operation: Any, columns: Mapping[str, Any], count: int) -> RankOne | None:
    """The product of a matrix, one of `count` columns of which moves, with a matrix that stays."""
    if operation.type not in PRODUCTS or operation.get_attr(PRODUCTS[operation.type][0]):
        return None
    left, right = operation.inputs
    if left.name not in columns or left.shape[-1] != count or right.name in columns or right.shape.rank != 2:
        return None
    transposed = bool(operation.get_attr(PRODUCTS[operation.type][1]))
    return RankOne(operation.outputs[0].name, left.name, right.name, transposed)
