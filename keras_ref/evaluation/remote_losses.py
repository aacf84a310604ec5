"""Losses at nudged points as data, for processes without the model; and who is asked for them.

A graph of TensorFlow and the arrays that it reads travel; the model and the code that made it do not. Whatever a worker
could load, draw or seed otherwise, it evaluates the same operations on the same numbers.
"""

from __future__ import annotations

import math
import os
import sys
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Self

import numpy as np

from scratch.arrays import Array
from scratch.nudging.blocks import Remote, ask_workers
from scratch.progress import Progress

#: arguments of the traced loss that differ from one nudge to the next: step, entry, target
VARYING = 3
#: types of tensors that name something in the memory of one process
HANDLES = ("resource", "variant")
#: graphs that a worker keeps
KEPT = 32
#: whether TensorFlow takes oneDNN's kernels, whose last bits are others; it is read when TensorFlow is imported
ONEDNN = "TF_ENABLE_ONEDNN_OPTS"


@dataclass(frozen=True, kw_only=True)
class GraphJob:
    """A function of a graph, and all of its arguments but the first, which differ from one nudge to the next.

    graph             a GraphDef, serialized
    inputs, output    names of tensors in it
    fixed             the arguments behind those that differ
    onednn            the caller's ONEDNN, "" where it is not set
    """

    graph: bytes = field(repr=False)
    inputs: tuple[str, ...]
    output: str
    fixed: tuple[Array, ...]
    onednn: str

    @abstractmethod
    def __call__(self, entries: Array, numbers: Array) -> Array:
        """The losses of nudges, (stack,), (stack,) → (stack,)."""

    @classmethod
    def of(cls, function: Any, graph: bytes, fixed: Sequence[Any], **options: Any) -> Self:
        """The job of a concrete function, whose graph is serialized."""
        return cls(
            graph=graph,
            inputs=tuple(tensor.name for tensor in function.inputs),
            output=function.outputs[0].name,
            fixed=tuple(map(np.asarray, (*fixed, *function.captured_inputs))),
            onednn=os.environ.get(ONEDNN, ""),
            **options,
        )

    def function(self) -> Any:
        """The concrete function, in this process."""
        if self.onednn and "tensorflow" not in sys.modules:
            os.environ[ONEDNN] = self.onednn
        return _imported(self.graph, self.inputs, self.output)


@dataclass(frozen=True, kw_only=True)
class WholeJob(GraphJob):
    """Whole forward passes with entry entries[i] of the flat vector of all values, the first of `fixed`, set to
    numbers[i]; NaN where an operation raises.
    """

    def __call__(self, entries: Array, numbers: Array) -> Array:
        import tensorflow as tf

        from keras_ref.evaluation.domain import losses_in_domain
        from keras_ref.evaluation.stacked_calls import StackedCall

        stack = StackedCall(self.function(), varying=VARYING)
        fixed = [*map(tf.constant, self.fixed)]

        def losses_of(some: Array) -> Array:
            return np.asarray(stack(*map(tf.constant, (np.zeros(len(some)), entries[some], numbers[some])), *fixed))

        given, every = numbers == self.fixed[0][entries], np.arange(len(entries))
        blocks = (every[i : i + stack.most] for i in range(0, len(every), stack.most))
        return np.concatenate([losses_in_domain(losses_of, some, given=given) for some in blocks])


@dataclass(frozen=True, kw_only=True)
class ColumnJob(GraphJob):
    """Losses with entry entries[i] of one variable moved by numbers[i], as `ColumnLosses` computes `block` of them."""

    block: int

    def __call__(self, entries: Array, numbers: Array) -> Array:
        import tensorflow as tf

        return call_in_blocks(self.function(), entries, numbers, [*map(tf.constant, self.fixed)], block=self.block)


def call_in_blocks(function: Any, entries: Array, moves: Array, fixed: list[Any], *, block: int) -> Array:
    """The results (stack,) of a concrete function of so many entries and moves at a time, and of what is fixed."""
    import tensorflow as tf

    count = len(entries)
    blocks = math.ceil(count / block)
    padded = np.arange(blocks * block).clip(max=count - 1).reshape(blocks, block)
    found = tf.raw_ops.MapDefun(  # nothing is optimized for it, and it uses all cores
        arguments=[tf.constant(entries[padded]), tf.constant(moves[padded])],
        captured_inputs=fixed,
        output_types=[tf.float64],
        output_shapes=[[block]],
        f=function.function_def.signature.name,
    )[0]
    return np.array(found).ravel()[:count]


@lru_cache(KEPT)
def _imported(graph: bytes, inputs: tuple[str, ...], output: str) -> Any:
    """The function of a graph that another process has traced."""
    import tensorflow as tf

    definition = tf.compat.v1.GraphDef.FromString(graph)
    whole = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(definition, name=""), [])
    named = whole.graph.as_graph_element
    return whole.prune([named(name) for name in inputs], named(output))


@dataclass
class Workers:
    """The workers of an executor, None for none, and what is told how many losses they have computed.

    graphs   those that were asked about, serialized
    """

    executor: Any = None
    progress: Progress | None = None
    graphs: dict[Any, bytes] = field(default_factory=dict)

    def can_evaluate(self, function: Any, fixed: Sequence[Any]) -> bool:
        """Whether there are any, and a concrete function reads nothing of the memory of this process alone: variables,
        tables.
        """
        return self.executor is not None and not any(
            tensor.dtype.name in HANDLES for tensor in (*fixed, *function.captured_inputs)
        )

    def graph_of(self, function: Any) -> bytes:
        """The graph of a concrete function, serialized once."""
        if function not in self.graphs:
            self.graphs[function] = function.graph.as_graph_def().SerializeToString()
        return self.graphs[function]

    def ask(
        self, job: GraphJob, blocks: list[tuple[Array, Array]], here: Callable[[Array, Array], Array]
    ) -> list[Array | None]:
        """The losses of blocks of entries and numbers, as the workers compute them by the job; None for those that they
        do not, which `here` computes.
        """
        found: list[Array | None] = [None] * len(blocks)
        arrived, total = 0, sum(len(entries) for entries, _ in blocks)

        def done(i: int) -> None:
            nonlocal arrived
            arrived += len(blocks[i][0])
            if self.progress is not None:
                self.progress(arrived, total, "losses of other processes")

        remote = Remote.of(self.executor, job, blocks, here=here, given_up=self._give_up)
        ask_workers(remote, results=found, done=done)
        return found

    def _give_up(self) -> None:
        self.executor = None
