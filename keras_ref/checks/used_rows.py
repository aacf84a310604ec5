"""Rows of an embedding that no index of the data names: a check of a large one leaves them out.

A model's loss does not depend on them, and autodiff's gradient has nothing there: both are tried before anything is
left out. Then the embedding has the used rows alone while the check lasts, and the indices count these. What the check
costs, in memory and in time, does not grow with the rows that are left out.

A training step may move unused rows too, by what its optimizer remembers or by weight decay. Where the optimizer's law
treats every row by itself, all of them take the same step without a gradient, and a few examples are compared for all.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ref.checks.checked_loss import CheckedLoss, ModelLoss
from keras_ref.comparison.optimizer_step import steps_rows_alone
from keras_ref.errors import UserCodeFailed, running_user_code
from keras_ref.evaluation.backward_errors import running_backward_pass
from keras_ref.evaluation.float64 import in_precision, rekey, restore_process_state
from keras_ref.evaluation.keras_parts import optimizers_of, tensorflow_variable
from keras_ref.evaluation.loss_function import Data
from keras_ref.evaluation.naming import path_of
from keras_ref.evaluation.restoration import Restoration
from keras_ref.reports.verdict import Report, Verdict
from keras_ref.translation.from_keras import NoTwin, reflected
from scratch.arrays import Array
from scratch.optimizers.base import Optimizer

#: entries of unused rows from which on they are left out: below, nobody notices them
WORTHWHILE = 2**18
#: unused rows that a training step is compared on
EXAMPLES = 8
#: what floats of the data are cast to where a model computes in its own precision
OWN = "float32"

#: builds the loss of data, in a precision
Prepare = Callable[[Data, str | None], CheckedLoss | ModelLoss]


@dataclass(frozen=True, kw_only=True)
class Used:
    """The rows of an embedding that the data name, in order, and at which places of the inputs they name them.

    examples   how many of the rows are examples of those that the data do not name
    """

    layer: Any
    places: tuple[int, ...]
    rows: Array
    examples: int = 0

    @property
    def variable(self) -> Any:
        """The matrix of the embedding."""
        return self.layer._embeddings  # noqa: SLF001 (Keras has no public access to the variable itself)

    @property
    def width(self) -> int:
        """Entries of a row."""
        return int(self.variable.shape[1])

    @property
    def left_out(self) -> int:
        """How many rows are left out."""
        return int(self.variable.shape[0]) - len(self.rows)

    def with_examples(self, seed: int) -> Used:
        """The same rows, and a few of the others, drawn with a seed."""
        others = np.setdiff1d(np.arange(int(self.variable.shape[0])), self.rows, assume_unique=True)
        drawn = np.random.default_rng(seed).choice(others, min(EXAMPLES, len(others)), replace=False)
        return replace(self, rows=np.union1d(self.rows, drawn), examples=len(drawn))


@contextmanager
def only_used_rows(
    keras_objects: Sequence[Any],
    data: Data,
    prepare: Prepare,
    *,
    law: Optimizer | None = None,
    seed: int = 0,
) -> Iterator[tuple[Data, Callable[[Report], Report]]]:
    """While the block lasts, large embeddings have the rows that the data use. Yields the data for that, and what turns
    a report into one on the embeddings as they are.

    keras_objects   the model, and what else belongs to the loss
    law             of the optimizer whose steps are compared: then a few of the unused rows, drawn with the seed, stay
    """
    leaves = list(data.x) if isinstance(data.x, (list, tuple)) else [data.x]
    found = [one for one in _find_used(keras_objects[0], leaves) if one.left_out * one.width >= WORTHWHILE]
    if law is not None:
        found = [one.with_examples(seed) for one in found if _steps_rows_alone(law, one)]
    if not found:
        yield data, lambda report: report
        return
    fewer = replace(data, x=_with_fewer(data.x, leaves, found))
    rows = {path_of(one.variable): one for one in found}
    totals = {name: int(np.prod(one.variable.shape)) for name, one in rows.items()}
    notes = [_note(one) for one in found]
    with Restoration() as restoration:
        with restore_process_state():
            before = _loss_before(keras_objects, partial(prepare, data), found)
            for one in found:
                _shrink(restoration, one, [o for owner in keras_objects for o in optimizers_of(owner)])
            is_same = before is not None and before == _loss_after(keras_objects, partial(prepare, fewer))
        if is_same:
            yield fewer, lambda report: _on_all_rows(report, rows, totals, notes)
            return
    yield data, lambda report: report


def _find_used(model: Any, leaves: Sequence[Any]) -> list[Used]:
    """The used rows of each embedding whose indices are inputs of the model, and used for nothing else."""
    functional = getattr(model, "_functional", None) or model
    inputs, nodes = getattr(functional, "inputs", None), getattr(functional, "_nodes_by_depth", None)
    if not inputs or not nodes or len(inputs) != len(leaves):
        return []
    readers: dict[int, list[Any]] = {id(tensor): [] for tensor in inputs}
    for node in itertools.chain(*nodes.values()):
        for tensor in node.input_tensors:
            readers.setdefault(id(tensor), []).append(node.operation)
    asked: dict[int, list[tuple[Any, int]]] = {}
    for place, tensor in enumerate(inputs):
        layers = readers[id(tensor)]
        if len(layers) == 1 and _is_plain(layers[0]):
            asked.setdefault(id(layers[0]), []).append((layers[0], place))
    found = []
    for one in asked.values():
        layer, places = one[0][0], tuple(place for _, place in one)
        calls = sum(operation is layer for operations in readers.values() for operation in operations)
        indices = [np.asarray(leaves[place]) for place in places]
        if calls == len(places) and all(_are_indices(some, layer.input_dim) for some in indices):
            # the first row stays the first: masks are made of index 0
            found.append(
                Used(layer=layer, places=places, rows=np.unique(np.concatenate([[0], *map(np.ravel, indices)])))
            )
    return found


def _is_plain(layer: Any) -> bool:
    """Whether a layer looks rows up and does nothing else: Keras's own, without regularizer, adapter, quantization."""
    return (
        type(layer) is keras.layers.Embedding
        and layer.embeddings_regularizer is None
        and not layer.lora_enabled
        and getattr(layer, "quantization_mode", None) is None
    )


def _are_indices(indices: Array, count: int) -> bool:
    return indices.dtype.kind in "iu" and indices.size > 0 and int(indices.min()) >= 0 and int(indices.max()) < count


def _with_fewer(x: Any, leaves: Sequence[Any], found: Sequence[Used]) -> Any:
    """The inputs with the numbers of the used rows in place of those of all."""
    counted = list(leaves)
    for one in found:
        for place in one.places:
            indices = np.asarray(leaves[place])
            counted[place] = np.searchsorted(one.rows, indices).astype(indices.dtype)
    return type(x)(counted) if isinstance(x, (list, tuple)) else counted[0]


def _steps_rows_alone(law: Optimizer, one: Used) -> bool:
    """Whether a step treats each row of an embedding by itself."""
    given = one.variable.constraint
    try:
        constraint = None if given is None else reflected(given, "constraint")
    except NoTwin:
        return False
    return steps_rows_alone(law, path=path_of(one.variable), constraint=constraint)


def _shrink(restoration: Restoration, one: Used, optimizers: Sequence[Any]) -> None:
    """Let an embedding, and what optimizers remember of it, have the used rows alone."""
    variable = one.variable
    shape, prefix = tuple(variable.shape), variable.path.replace("/", "_") + "_"
    old, new = _keep_rows(restoration, variable, one.rows)
    restoration.set_attribute(one.layer, "input_dim", len(one.rows))
    for optimizer in optimizers:
        rekey(restoration, optimizer, {old: new})
        for slot in optimizer.variables:
            if slot.name.startswith(prefix) and tuple(slot.shape) == shape:
                _keep_rows(restoration, slot, one.rows)


def _keep_rows(restoration: Restoration, variable: Any, rows: Array) -> tuple[str, str]:
    """Let a variable have some of its rows. Returns how TensorFlow identifies what it has held, and what it holds."""
    held = tensorflow_variable(variable)
    fewer = tf.Variable(tf.gather(held, rows), trainable=held.trainable, name=held.name.split(":")[0])
    restoration.keep_value(held)
    restoration.set_attribute(variable, "_value", fewer)
    restoration.set_attribute(variable, "_shape", tuple(fewer.shape))
    return held._unique_id, fewer._unique_id  # noqa: SLF001 (what optimizers find their variables by)


def _loss_before(
    keras_objects: Sequence[Any],
    prepare: Callable[[str | None], CheckedLoss | ModelLoss],
    found: Sequence[Used],
) -> float | None:
    """The loss, if its gradient in each embedding is a sparse one with the used rows alone; else None."""
    variables = [tensorflow_variable(one.variable) for one in found]
    try:
        with in_precision(None, *keras_objects):
            subject = prepare(None)
            with running_user_code(), tf.GradientTape() as tape:
                loss = subject.loss(subject.data.tensors(OWN))
            with running_backward_pass():
                gradients = tape.gradient(loss, variables)
    except UserCodeFailed:  # the check itself says so
        return None
    for one, gradient in zip(found, gradients, strict=True):
        if not isinstance(gradient, tf.IndexedSlices) or not np.isin(gradient.indices, one.rows).all():
            return None
    return float(loss)


def _loss_after(keras_objects: Sequence[Any], prepare: Callable[[str | None], CheckedLoss | ModelLoss]) -> float | None:
    try:
        with in_precision(None, *keras_objects), running_user_code():
            subject = prepare(None)
            return float(subject.loss(subject.data.tensors(OWN)))
    except UserCodeFailed:  # the matrix is used in another way, too
        return None


def _note(one: Used) -> str:
    unused = (
        f"{path_of(one.variable)}: {one.left_out + one.examples:,} of {int(one.variable.shape[0]):,} rows are used by "
        "none of the data. The loss does not depend on them, and autodiff gives them no gradient: "
    )
    if not one.examples:
        return unused + "they were left out."
    return unused + f"all take the same step, which was compared on {one.examples} of them; the others were left out."


def _on_all_rows(report: Report, rows: Mapping[str, Used], totals: Mapping[str, int], notes: Sequence[str]) -> Report:
    """A report whose indices and counts are those of all rows."""

    def on_all(verdict: Verdict) -> Verdict:
        if verdict.name not in rows:
            return verdict
        worst = verdict.worst and (int(rows[verdict.name].rows[verdict.worst[0]]), *verdict.worst[1:])
        return replace(verdict, worst=worst, total=totals[verdict.name], cells=None, accused=(), slopes=())

    return replace(report, verdicts=tuple(map(on_all, report.verdicts)), notes=(*notes, *report.notes))
