"""Losses at a stack of nudged points: one entry moved, or all along a direction."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ref.errors import BadInput
from keras_ref.evaluation.changed_state.float64 import DTYPE
from keras_ref.evaluation.graphs.graph import find_casts_down
from keras_ref.evaluation.graphs.stacked_calls import COPIES, StackedCall, count_fitting
from keras_ref.evaluation.graphs.traced_losses import TracedLosses, Way
from keras_ref.evaluation.keras_objects.real_parts import is_real_or_complex
from keras_ref.evaluation.nudged_losses.column_losses import ColumnLosses
from keras_ref.evaluation.nudged_losses.domain import losses_in_domain
from keras_ref.evaluation.nudged_losses.flat_points import nudge_points, unflatten
from keras_ref.evaluation.nudged_losses.remembered_losses import RememberedLosses
from keras_ref.evaluation.nudged_losses.remote_losses import GraphLosses
from scratch.arrays import Array
from scratch.nudging.blocks import Remote, ask_workers
from scratch.progress import Progress

#: nudged losses that one call of the traced function evaluates, fewer where memory does not suffice; and a worker
BLOCK = 512
#: bytes that forward passes have to make before columns pay for their trace, which costs as much as a thousand passes
WORTH = 2**29
#: nudges of one call of columns
CALL = 4096
#: nudges whose losses are computed in both ways, before columns are relied on
COMPARED = 8


@dataclass(frozen=True)
class FlatTrace:
    """The loss as a traced function of one flat vector and of what is held fixed.

    arguments   the point: the flat vector, and what is held fixed
    offsets     where each variable or input begins in the vector
    """

    function: Any
    arguments: list[Array]
    offsets: Mapping[str, int]


class StackedLosses(TracedLosses):
    """Losses at stacks of points, a stack of evaluations in one call.

    What a loss is, at a point, is abstract here.
    """

    #: the point: arrays by name, and where each begins in the flat vector
    values: dict[str, Array]
    _offsets: dict[str, Any]

    def __init__(self, *, variables: Mapping[str, Any], state: Iterable[Any]) -> None:
        super().__init__(variables=variables, state=state)
        self._evaluate: Any = None
        #: the loss traced for directions, where it is: its graph has what that of every trace of the loss has
        self.traced_along: Any = None
        self._call: StackedCall | None = None
        #: losses by columns for each name that has been looked at; None where whole forward passes are taken
        self._columns: dict[str, ColumnLosses | None] = {}
        #: a point, and the noise that both ways may differ by there
        self._noise_there: tuple[Any, float] = (None, 0.0)
        #: the traced loss for other processes; None where they cannot evaluate it, () where that is not known yet
        self._remote: GraphLosses | tuple[()] | None = ()
        #: nudged losses of what runs only eagerly
        self.remembered = RememberedLosses()
        #: a concurrent.futures.Executor whose workers evaluate blocks of nudges too, and what is told how many they did
        self.executor: Any = None
        self.progress: Progress | None = None
        #: forward passes so far
        self.evaluations = 0
        self.block = BLOCK

    def _forget_traces(self) -> None:
        self._evaluate = self._call = self.traced_along = None
        self._remote = ()
        self._columns.clear()
        self.remembered.forget()

    @abstractmethod
    def _pack_held(self) -> list[Any]:
        """Everything that is fixed during a check: state and data, as one list of tensors."""

    @abstractmethod
    def _evaluate_at(self, flat: Any, held: list[Any]) -> Any:
        """The loss where all values are those of one flat vector."""

    @abstractmethod
    def _evaluate_at_parts(self, parts: list[Any], held: list[Any]) -> Any:
        """The loss where the values are these, in the order of the names."""

    @abstractmethod
    def restore_values(self) -> None:
        """Assign the values of the point to the variables and the state."""

    @property
    @abstractmethod
    def writes_variables(self) -> bool:
        """Whether losses assign to variables."""

    def _restore_written(self) -> None:
        if self.writes_variables:
            self.restore_values()

    @property
    def untracked(self) -> list[Any]:
        """TensorFlow's own trainable variables that the loss reads, which are no weights of a Keras object."""
        if self.traced_along is None:
            self._traced()
        own = [v for v in self._state if isinstance(v, tf.Variable)]
        return [v for v in own if v.trainable and is_real_or_complex(v.dtype)]

    @property
    def graph(self) -> Any:
        """The traced losses as a graph; None where they run only eagerly."""
        return getattr(self.traced_along or self._traced(), "graph", None)

    @property
    def passes_singly(self) -> bool:
        """Whether each loss takes a pass of its own, without a graph."""
        self._traced()
        return self.way is Way.EAGER

    def _flatten(self, values: Mapping[str, Array]) -> Array:
        """All values as one vector, in the order of the names."""
        return np.concatenate([np.ravel(values[name]) for name in self.values]) if self.values else np.zeros(0)

    @property
    def _shapes(self) -> list[tuple[int, ...]]:
        """The shapes of the values, in the order of the names."""
        return [value.shape for value in self.values.values()]

    def _make_point(self, values: Mapping[str, Array]) -> list[Any]:
        """The arguments of the traced loss at a point."""
        return [*(tf.constant(values[name], DTYPE) for name in self.values), *self._pack_held()]

    def _compute_loss(self, *point: Any) -> Any:
        """The loss at a point: the values in the order of the names, then what is held fixed."""
        count = len(self.values)
        return tf.cast(self._evaluate_at_parts(list(point[:count]), list(point[count:])), DTYPE)

    def _stack_eagerly(self, *point: Any) -> Any:
        """The losses at points whose values are stacks, without a graph."""
        count = len(self.values)
        stacks, held = map(tf.unstack, point[:count]), list(point[count:])
        losses = [tf.cast(self._evaluate_at_parts(list(parts), held), DTYPE) for parts in zip(*stacks, strict=True)]
        return tf.stack(losses) if losses else tf.zeros(0, DTYPE)

    def _traced(self) -> Any:
        """The traced loss at one point; the losses of a stack of them where they run only eagerly."""
        if self._evaluate is None:
            self._evaluate = self.complete(self._trace, self._stack_eagerly)
        return self._evaluate

    def _trace(self) -> Any:
        specs = [tf.TensorSpec(shape, DTYPE) for shape in self._shapes]
        specs += [tf.TensorSpec(t.shape, t.dtype) for t in self._pack_held()]
        return tf.function(self._compute_loss, autograph=False).get_concrete_function(*specs)

    def trace_flat(self) -> FlatTrace | None:
        """The loss at one point, traced; None where it runs only eagerly, or assigns to variables."""
        self._traced()
        if self.way is Way.EAGER or self.writes_variables:
            return None
        held = self._pack_held()
        specs = [tf.TensorSpec(t.shape, t.dtype) for t in held]
        flat = self._flatten(self.values)
        traced = tf.function(self._evaluate_at, autograph=False).get_concrete_function(
            tf.TensorSpec(flat.shape, DTYPE), specs
        )
        offsets = {name: int(start) for name, start in self._offsets.items()}
        return FlatTrace(traced, [flat, *map(np.asarray, held)], offsets)

    def _stack(self) -> Callable[..., Any]:
        """Losses (m,) of stacks (m, …) of the values, in the order of the names; then what is held fixed."""
        traced: Callable[..., Any] = self._traced()
        if self.way is not Way.EAGER:
            return self._stacked()
        self.block = min(self.block, count_fitting(COPIES * sum(value.nbytes for value in self.values.values())))
        return traced

    def _stacked(self) -> StackedCall:
        """The traced loss as a function of stacks."""
        if self._call is None:
            self._call = StackedCall(self._traced(), varying=len(self.values))
            self.block = min(self.block, self._call.most)
        return self._call

    def _run(
        self,
        values: Mapping[str, Array],
        *,
        steps: Array,
        entries: Array,
        targets: Array,
        direction: Array | None = None,
    ) -> Array:
        """Losses at values + step · direction with one entry of the flat vector set to a target, for each step."""
        stack, flat, held = self._stack(), self._flatten(values), self._pack_held()
        is_plain = direction is None and self.way is not Way.EAGER
        self.evaluations += len(steps)
        # at the point itself nothing may raise
        given = (steps == 0) & (targets == flat[entries]) if values is self.values else np.zeros(len(steps), bool)

        def losses_at(points: Array) -> Array:
            return np.asarray(stack(*map(tf.constant, unflatten(points, self._shapes)), *held))

        def losses_of(some: Array) -> Array:
            nudges = {"entries": entries[some], "targets": targets[some], "steps": steps[some]}
            return losses_at(nudge_points(flat, **nudges, direction=direction))

        def plain(entries: Array, targets: Array) -> Array:
            return losses_in_domain(
                lambda some: losses_at(nudge_points(flat, entries=entries[some], targets=targets[some])),
                np.arange(len(entries)),
                given=np.zeros(len(entries), bool),
            )

        blocks = [np.arange(i, min(i + BLOCK, len(steps))) for i in range(0, len(steps), BLOCK)]
        found: list[Array | None] = [None] * len(blocks)
        losses = []
        try:
            if is_plain and len(blocks) > 1:
                found = self._ask_workers(
                    self._make_job(flat, held), [(entries[b], targets[b]) for b in blocks], here=plain
                )
            for some, known in zip(blocks, found, strict=True):
                losses.append(self._within_memory(losses_of, some, given=given) if known is None else known)
        finally:
            self._restore_written()
        return np.concatenate(losses) if losses else np.zeros(0)

    def _within_memory(self, evaluate: Callable[[Array], Array], some: Array, *, given: Array) -> Array:
        """The losses of some nudges, as many at once as memory suffices for."""
        found, i = [], 0
        while i < len(some):
            part = some[i : i + self.block]
            try:
                found.append(losses_in_domain(evaluate, part, given=given))
            except tf.errors.ResourceExhaustedError as error:
                self._shrink_block(error)
            else:
                i += len(part)
        return np.concatenate(found)

    def _make_job(self, flat: Array, held: list[Any]) -> GraphLosses | None:
        """The losses at a point for other processes; None where they cannot evaluate them, or nobody asks them."""
        if self.executor is None:
            return None
        if self._remote == ():
            order = self._stacked().has_order
            self._remote = None if order else GraphLosses.of(self._traced(), flat, held, shapes=self._shapes)
        return self._remote.at(flat, held) if isinstance(self._remote, GraphLosses) else None

    def _ask_workers(
        self, job: GraphLosses | None, blocks: list[tuple[Array, Array]], *, here: Callable[[Array, Array], Array]
    ) -> list[Array | None]:
        """The losses of blocks of entries and targets that workers of the executor evaluate; None for the others."""
        found: list[Array | None] = [None] * len(blocks)
        if job is None:
            return found
        arrived, total = 0, sum(len(entries) for entries, _ in blocks)

        def done(i: int) -> None:
            nonlocal arrived
            arrived += len(blocks[i][0])
            if self.progress is not None:
                self.progress(arrived, total, "losses of other processes")

        remote = Remote.of(self.executor, job, blocks, here=here, given_up=self._give_up_workers)
        ask_workers(remote, results=found, done=done)
        return found

    def _give_up_workers(self) -> None:
        self.executor = None

    def _shrink_block(self, error: Exception) -> None:
        if self.block == 1:
            raise BadInput(
                "A forward pass must fit into memory. Received: TensorFlow ran out of it at one evaluation, the "
                "smallest block. Pass a smaller batch, or a machine with more memory."
            ) from error
        self.block = max(1, self.block // 8)

    @abstractmethod
    def noise(self, *, at: Mapping[str, Array] | None = None) -> float:
        """The absolute rounding error of the loss at the point (or `at`); nan where it cannot be told."""

    def losses(self, name: str, entries: Array, offsets: Array, *, at: Mapping[str, Array] | None = None) -> Array:
        """Losses (m, e) with entry entries[j] of `name` moved by offsets[i, j]; all else as at the point (or `at`)."""
        values = at or self.values
        flat_entries, targets = self.find_targets(name, entries, offsets, values=values)

        def whole(some: Array) -> Array:
            return self._run(values, steps=np.zeros(len(some)), entries=flat_entries[some], targets=targets[some])

        if self.passes_singly:
            known = self.remembered.compute(values.values(), entries=flat_entries, targets=targets, compute=whole)
            return known.reshape(offsets.shape)
        losses = self._evaluate_by_columns(name, flat_entries, targets, values=values, whole=whole)
        return (whole(np.arange(len(targets))) if losses is None else losses).reshape(offsets.shape)

    def find_targets(
        self, name: str, entries: Array, offsets: Array, *, values: Mapping[str, Array]
    ) -> tuple[Array, Array]:
        """For offsets (m, e) of the entries (e,) of a name: flat entries, and what they are set to."""
        flat_entries = np.broadcast_to(self._offsets[name] + np.asarray(entries), offsets.shape)
        return flat_entries.ravel().astype(np.int64), (np.ravel(values[name])[entries] + offsets).ravel()

    def _evaluate_by_columns(
        self,
        name: str,
        entries: Array,
        targets: Array,
        *,
        values: Mapping[str, Array],
        whole: Callable[[Array], Array],
    ) -> Array | None:
        """Losses by columns, some of them compared with those of `whole` forward passes; None where they differ.

        None too where they are not worth it, or no way through the graph is known.
        """
        columns = self._choose_columns(name, len(targets))
        if columns is None:
            return None
        flat, held, start = self._flatten(values), self._pack_held(), int(self._offsets[name])
        point = [*map(tf.constant, unflatten(flat, self._shapes)), *held]

        def here(entries: Array, targets: Array) -> Array:
            return columns(entries - start, targets - flat[entries], point)

        self.evaluations += len(targets)
        size = columns.block * max(1, CALL // columns.block)
        blocks = [(entries[i : i + size], targets[i : i + size]) for i in range(0, len(targets), size)]
        job = self._make_job(flat, held)
        found = self._ask_workers(
            job and job.compute_by_columns(list(self.values).index(name), start), blocks, here=here
        )
        parts = [here(*block) if known is None else known for block, known in zip(blocks, found, strict=True)]
        losses = np.concatenate(parts)
        if self._noise_there[0] is not values:
            self._noise_there = (values, self.noise(at=values))
        compared = np.unique(np.linspace(0, len(targets) - 1, COMPARED).astype(int))
        differ = np.abs(whole(compared) - losses[compared])
        noise = self._noise_there[1]
        if np.isnan(noise) or (differ > 2 * noise).any():  # a noise that is not known allows no comparison
            self._columns[name] = None
            return None
        lost = np.flatnonzero(~np.isfinite(losses))  # ∞ − ∞ in an update of rank one, or an operation refused a nudge
        losses[lost] = whole(lost)
        return losses

    def _choose_columns(self, name: str, count: int) -> ColumnLosses | None:
        """Losses by columns where that pays for so many evaluations, and is possible."""
        graph = None if self.writes_variables else self.graph
        if graph is None or self._stacked().has_order or count * self._stacked().bytes < WORTH:
            return None
        if name not in self._columns:
            found = None if find_casts_down(graph) else ColumnLosses.of(self._traced(), self._find_tensors()[name])
            self._columns[name] = found
        return self._columns[name]

    def _find_tensors(self) -> dict[str, Any]:
        """The tensors of the traced loss that hold the values of variables and inputs, by name."""
        return dict(zip(self.values, self._traced().graph.inputs, strict=False))

    def directional(
        self, direction: Mapping[str, Array], steps: Array, *, at: Mapping[str, Array] | None = None
    ) -> Array:
        """Losses (m,) along the point (or `at`) + step · direction; names left out of `direction` stay."""
        values, steps = at or self.values, np.asarray(steps, dtype=float)
        vector = self._flatten({name: direction.get(name, np.zeros_like(value)) for name, value in values.items()})
        flat = self._flatten(values)
        entries = np.zeros(len(steps), dtype=np.int64)
        return self._run(values, direction=vector, steps=steps, entries=entries, targets=flat[0] + steps * vector[0])
