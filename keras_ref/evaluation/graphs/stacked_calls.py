"""A traced function of one point, called for a stack of them.

TensorFlow's `MapDefun` calls a traced function once for every entry of a stack, on all cores and in any order. Nothing
is traced or optimized for it: a traced loop costs more than the thousand evaluations of a small model. What writes
anything, draws random numbers or runs Python depends on the order: it is called in a traced loop, one after another.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from keras_ref.evaluation.changed_state.traced_functions import take_note_of_call
from keras_ref.evaluation.graphs.graph import walk_operations

#: operations that TensorFlow counts as stateful, and that may run in any order: they read, or call functions of others
ORDERLESS = frozenset(
    """
    ReadVariableOp ResourceGather ResourceGatherNd PartitionedCall StatefulPartitionedCall While StatelessWhile If
    StatelessIf Case StatelessCase
    """.split()  # noqa: SIM905 (a dozen quoted words are no easier to read)
)
#: bytes that the evaluations of one call may hold at a time
MEMORY = 2**28
#: how often a stack is made before it is called with: by NumPy, and by TensorFlow
COPIES = 2


class StackedCall:
    """A concrete function of k tensors that differ, and what is the same for all, as a function of stacks of the k.

    function   gives one float64 number
    varying    k, how many of its arguments, the first ones, differ from one evaluation to the next
    """

    def __init__(self, function: Any, *, varying: int) -> None:
        self.function, self._varying = function, varying
        known = list(walk_operations(function.graph))
        self.has_order = any(map(has_order, known))
        self._loop: Any = None
        #: what one evaluation makes and is given, as far as shapes are known
        self.bytes = sum(map(_count_bytes, known)) + COPIES * sum(_count_bytes(t.op) for t in function.inputs[:varying])
        #: how many evaluations fit into MEMORY, if all of a call run at once
        self.most = count_fitting(self.bytes)

    def __call__(self, *arguments: Any) -> Any:
        """The results (m,) of stacks (m, …) of the first arguments; the others, flat, are the same for all."""
        if self.has_order:
            return self.in_order(*arguments)(*arguments)
        take_note_of_call(self.function)
        return tf.raw_ops.MapDefun(
            arguments=list(arguments[: self._varying]),
            captured_inputs=[*arguments[self._varying :], *self.function.captured_inputs],
            output_types=[tf.float64],
            output_shapes=[[]],
            f=self.function.function_def.signature.name,
        )[0]

    def in_order(self, *arguments: Any) -> Any:
        """The concrete function that calls it one after another; `arguments` show what it takes."""
        if self._loop is None:
            specs = [tf.TensorSpec(t.shape, t.dtype) for t in map(tf.convert_to_tensor, arguments)]
            specs[: self._varying] = [tf.TensorSpec([None, *s.shape[1:]], s.dtype) for s in specs[: self._varying]]
            self._loop = tf.function(self._call_in_order, autograph=False).get_concrete_function(*specs)
        return self._loop

    def _call_in_order(self, *arguments: Any) -> Any:
        fixed = arguments[self._varying :]

        def one(varying: tuple[Any, ...]) -> Any:
            return self.function(*varying, *fixed)

        return tf.map_fn(one, arguments[: self._varying], fn_output_signature=tf.float64, parallel_iterations=1)


def count_fitting(size: int) -> int:
    """How many evaluations of so many bytes fit into MEMORY; one does."""
    return max(1, MEMORY // max(1, size))


def has_order(operation: Any) -> bool:
    """Whether it matters when an operation runs, or where: TensorFlow compiles or places some."""
    if operation.device or "_XlaMustCompile" in operation.node_def.attr:
        return True
    return operation.type not in ORDERLESS and bool(operation.op_def.is_stateful)


def _count_bytes(operation: Any) -> int:
    """The size of what an operation gives, as far as it is known."""
    return sum(
        (t.shape.num_elements() or 0) * (t.dtype.size or 0) for t in operation.outputs if t.shape.rank is not None
    )
