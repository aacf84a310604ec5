"""Rows of an embedding that no index of the data names: a check of a large one leaves them out.

A loss does not depend on them, and autodiff's gradient has nothing there. Which rows autodiff reads, a sparse gradient
(tf.IndexedSlices) says; which of the integers among the inputs are their indices is tried before anything is left out.
The loss and every gradient must be the same bit for bit where the other rows hold anything else. So they must be with
the used rows alone, and indices that count these. Then the embedding has the used rows alone while the check lasts.
What the check costs, in memory and in time, does not grow with the rows that are left out.

A training step may move unused rows too, by what its optimizer remembers or by weight decay. Where the optimizer's law
treats every row by itself, all of them take the same step without a gradient, and a few examples are compared for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from keras_ref.checks.checked_loss import CheckedLoss, ModelLoss
from keras_ref.comparison.steps.optimizer_step import steps_rows_alone
from keras_ref.errors import BadInput, UserCodeFailed, running_user_code
from keras_ref.evaluation.backward_errors import running_backward_pass
from keras_ref.evaluation.changed_state import keras_2
from keras_ref.evaluation.changed_state.float64 import in_precision, is_float, rekey, restore_process_state
from keras_ref.evaluation.changed_state.restoration import Restoration, has_same_bits
from keras_ref.evaluation.keras_objects.keras_classes import KerasVariable
from keras_ref.evaluation.keras_objects.keras_parts import list_layers, list_optimizers, unwrap_variable
from keras_ref.evaluation.keras_objects.naming import find_path, read_path
from keras_ref.evaluation.loss_function import Data
from keras_ref.reports.verdict import Report, Verdict
from keras_ref.translation.from_keras import NoTwin, reflect_object
from scratch.arrays import Array
from scratch.optimizers.base import Optimizer

#: entries of unused rows from which on they are left out: below, nobody notices them
WORTHWHILE = 2**18
#: rows that are drawn, and repeated, in the place of those that are tried to be without effect
DRAWN = 1009
#: unused rows that a training step is compared on
EXAMPLES = 8
#: what floats of the data are cast to where a model computes in its own precision
OWN = "float32"

#: builds the loss of data, in a precision
Prepare = Callable[[Data, str | None], CheckedLoss | ModelLoss]


@dataclass(frozen=True)
class Observed:
    """A number that was computed, or the gradient in a variable, a sparse one as it is."""

    value: Any
    variable: Any = None


#: computes on data what must not depend on unused rows; None where that raises, or writes the variables itself
Observe: TypeAlias = Callable[[Data], Sequence[Observed] | None]


@dataclass(frozen=True, kw_only=True)
class Used:
    """The rows of a matrix that the data name, in order, and at which places of the inputs they name them.

    examples   how many of the rows are examples of those that the data do not name
    """

    variable: Any
    places: tuple[int, ...]
    rows: Array
    examples: int = 0

    @property
    def width(self) -> int:
        """Entries of a row."""
        return int(np.prod(self.variable.shape[1:]))

    @property
    def left_out(self) -> int:
        """How many rows are left out."""
        return int(self.variable.shape[0]) - len(self.rows)

    def with_examples(self, seed: int) -> Used:
        """The same rows, and a few of the others, drawn with a seed."""
        others = np.setdiff1d(np.arange(int(self.variable.shape[0])), self.rows, assume_unique=True)
        drawn = np.random.default_rng(seed).choice(others, min(EXAMPLES, len(others)), replace=False)
        return replace(self, rows=np.union1d(self.rows, drawn), examples=len(drawn))


def leave_unused_rows_out(
    keras_objects: Sequence[Any],
    data: Data,
    prepare: Prepare,
    *,
    laws: Sequence[Optimizer] = (),
    seed: int = 0,
) -> AbstractContextManager[tuple[Data, Callable[[Report], Report]]]:
    """`leave_rows_out` where what is checked is a loss, and the steps that an optimizer makes of its gradients."""
    observe = partial(_loss_and_gradients, keras_objects, prepare)
    return leave_rows_out(keras_objects, data, observe, laws=laws, seed=seed)


@contextmanager
def leave_rows_out(
    keras_objects: Sequence[Any],
    data: Data,
    observe: Observe,
    *,
    laws: Sequence[Optimizer] = (),
    seed: int = 0,
) -> Iterator[tuple[Data, Callable[[Report], Report]]]:
    """While the block lasts, large embeddings have the rows that the data use. Yields the data for that, and what turns
    a report into one on the embeddings as they are.

    keras_objects   the model, layer or variables that are checked, and what else belongs to the loss
    laws            of the optimizers whose steps are compared: then a few of the unused rows, drawn with the seed, stay
    """
    variables = _find_variables(keras_objects)
    leaves = tf.nest.flatten(data.x)
    indices = {place: np.unique(leaf) for place, leaf in enumerate(leaves) if _are_indices(leaf)}
    found: list[Used] = []
    before: Sequence[Observed] | None = None
    if indices and any(_is_large(one) for one in variables):
        with restore_process_state():
            before = observe(data)
        found = _find_used(variables, before or (), indices)
    if found:
        with restore_process_state(), Restoration() as restoration:
            for one in found:
                _draw_others(restoration, one)
            moved = observe(data)
        if not _are_same(before, moved):
            found = []
    if laws:
        alone = [one for one in found if all(_steps_rows_alone(law, one) for law in laws)]
        found = [one.with_examples(seed) for one in alone]
    if not found:
        yield data, lambda report: report
        return
    fewer = replace(data, x=_with_fewer(data.x, leaves, found))
    rows = {find_path(one.variable): one for one in found}
    totals = {name: int(np.prod(one.variable.shape)) for name, one in rows.items()}
    notes = [_note(one) for one in found]
    with Restoration() as restoration:
        with restore_process_state():
            for one in found:
                _shrink(restoration, one, keras_objects)
            after = observe(fewer)
        is_same = _are_same(before, after, found)
        del before, after
        if is_same:
            yield fewer, lambda report: _report_all_rows(report, rows, totals, notes)
            return
    yield data, lambda report: report


def _find_variables(keras_objects: Sequence[Any]) -> list[Any]:
    """The variables of floats among some objects and in their layers: Keras's, and those of TensorFlow in no other."""
    found: list[Any] = []
    for one in keras_objects:
        if isinstance(one, (tf.Variable, KerasVariable)):
            found.append(one)
        elif list_layers(one) or keras_2.is_layer(one):
            found += map(keras_2.unwrap_variable, one.variables)
    found.sort(key=lambda one: isinstance(one, tf.Variable))
    held = {id(unwrap_variable(one)): one for one in reversed(found)}
    return [one for one in reversed(held.values()) if is_float(one.dtype)]


def _is_large(variable: Any) -> bool:
    return len(variable.shape) > 1 and int(np.prod(variable.shape)) >= WORTHWHILE


def _are_indices(leaf: Any) -> bool:
    """Whether one of the inputs may hold the indices of rows."""
    if not isinstance(leaf, (np.ndarray, tf.Tensor)):
        return False
    indices = np.asarray(leaf)
    return indices.dtype.kind in "iu" and indices.size > 0 and int(indices.min()) >= 0


def _loss_and_gradients(keras_objects: Sequence[Any], prepare: Prepare, data: Data) -> list[Observed] | None:
    """The loss, and its gradient in each variable."""
    variables = _find_variables(keras_objects)
    try:
        with in_precision(None, *keras_objects):
            subject = prepare(data, None)
            held = [unwrap_variable(one) for one in variables]
            with running_user_code(), tf.GradientTape() as tape:
                for one in held:
                    tape.watch(one)
                loss = subject.loss(subject.data.tensors(getattr(subject, "own_dtype", OWN)))
            with running_backward_pass():
                gradients = tape.gradient(loss, held)
            return [Observed(loss), *map(Observed, gradients, variables)]
    except (UserCodeFailed, BadInput):  # the check itself says so, or the matrix has another use
        return None


def _find_used(variables: Sequence[Any], observed: Sequence[Observed], indices: Mapping[int, Array]) -> list[Used]:
    """The used rows of each large variable whose gradient is sparse, and which inputs may be their indices.

    The gradients are those before anything is left out. Row 0 is among them: masks are made of index 0.
    """
    found: list[Used] = []
    ranges: dict[int, Array] = {}  # the rows by which the indices of a place are counted
    for variable in filter(_is_large, variables):
        gradients = [one.value for one in observed if one.variable is variable]
        if not (gradients and all(isinstance(one, tf.IndexedSlices) for one in gradients)):
            continue
        rows = np.unique(np.concatenate([[0], *(one.indices for one in gradients)]))
        exact = [place for place, some in indices.items() if np.array_equal(np.union1d([0], some), rows)]
        places = exact or [place for place, some in indices.items() if np.isin(some, rows).all()]
        one = Used(variable=variable, places=tuple(places), rows=rows)
        named = np.unique(np.concatenate([[0], *(indices[place] for place in places)]))
        is_alone = all(np.array_equal(ranges.setdefault(place, rows), rows) for place in places)
        if np.array_equal(named, rows) and is_alone and one.left_out * one.width >= WORTHWHILE:
            found.append(one)
    return found


def _are_same(before: Sequence[Observed] | None, after: Sequence[Observed] | None, found: Sequence[Used] = ()) -> bool:
    """Whether what was computed is the same bit for bit, in the used rows alone of what was found."""
    if before is None or after is None or len(before) != len(after):
        return False
    rows = {id(one.variable): one.rows for one in found}
    for former, latter in zip(before, after, strict=True):
        one, other = former.value, latter.value
        if type(one) is not type(other) or former.variable is not latter.variable:
            return False
        if isinstance(one, tf.IndexedSlices):
            kept = rows.get(id(former.variable))
            indices = one.indices if kept is None else np.searchsorted(kept, one.indices)
            if not np.array_equal(indices, other.indices):
                return False
            one, other = one.values, other.values
        if one is not None and not (one.shape == other.shape and has_same_bits(one, other)):
            return False
    return True


def _with_fewer(x: Any, leaves: Sequence[Any], found: Sequence[Used]) -> Any:
    """The inputs with the numbers of the used rows in place of those of all."""
    counted = list(leaves)
    for one in found:
        for place in one.places:
            indices = np.asarray(leaves[place])
            counted[place] = np.searchsorted(one.rows, indices).astype(indices.dtype)
    return tf.nest.pack_sequence_as(x, counted)


def _steps_rows_alone(law: Optimizer, one: Used) -> bool:
    """Whether a step treats each row of an embedding by itself."""
    given = one.variable.constraint
    try:
        constraint = None if given is None else reflect_object(given, "constraint")
    except NoTwin:
        return False
    return steps_rows_alone(law, path=read_path(one.variable), constraint=constraint)


def _draw_others(restoration: Restoration, one: Used) -> None:
    """Until the restoration, let the rows that the data do not name hold random numbers."""
    held = unwrap_variable(one.variable)
    drawn = np.random.default_rng(0).random((DRAWN, *held.shape[1:]))
    indices = np.arange(held.shape[0], dtype=np.int32) % DRAWN
    indices[one.rows] = DRAWN + np.arange(len(one.rows))
    values = tf.gather(tf.concat([tf.cast(drawn, held.dtype), tf.gather(held, one.rows)], 0), indices)
    restoration.replace_variable(held, tf.Variable(values, trainable=held.trainable, name=held.name.split(":")[0]))


def _shrink(restoration: Restoration, one: Used, keras_objects: Sequence[Any]) -> None:
    """Let a matrix, and what optimizers remember of it, have the used rows alone, and its layer say so."""
    variable = one.variable
    shape, prefix = tuple(variable.shape), read_path(variable).replace("/", "_") + "_"
    old, new = _keep_rows(restoration, variable, one.rows)
    for layer in (each for owner in keras_objects for each in (*list_layers(owner), *keras_2.list_layers(owner))):
        held = [keras_2.unwrap_variable(value) for value in vars(layer).values() if hasattr(value, "assign")]
        if getattr(layer, "input_dim", None) == shape[0] and any(value is variable for value in held):
            restoration.set_attribute(layer, "input_dim", len(one.rows))
    for optimizer in (each for owner in keras_objects for each in list_optimizers(owner)):
        if keras_2.is_optimizer(optimizer):  # no step of Keras 2 is compared so
            continue
        rekey(restoration, optimizer, {old: new})
        for slot in optimizer.variables:
            if slot.name.startswith(prefix) and tuple(slot.shape) == shape:
                _keep_rows(restoration, slot, one.rows)


def _keep_rows(restoration: Restoration, variable: Any, rows: Array) -> tuple[str, str]:
    """Let a variable have some of its rows. Returns how TensorFlow identifies what it has held, and what it holds."""
    held = unwrap_variable(variable)
    old = held._unique_id  # noqa: SLF001 (what optimizers find their variables by)
    fewer = tf.Variable(tf.gather(held, rows), trainable=held.trainable, name=held.name.split(":")[0])
    restoration.replace_variable(held, fewer)
    if isinstance(variable, KerasVariable):
        restoration.set_attribute(variable, "_shape", tuple(fewer.shape))
    return old, fewer._unique_id  # noqa: SLF001


def _note(one: Used) -> str:
    unused = (
        f"{find_path(one.variable)}: {one.left_out + one.examples:,} of {int(one.variable.shape[0]):,} rows are used "
        "by none of the data. The loss does not depend on them, and autodiff gives them no gradient: "
    )
    if not one.examples:
        return unused + "they were left out."
    return unused + f"all take the same step, which was compared on {one.examples} of them; the others were left out."


def _report_all_rows(
    report: Report, rows: Mapping[str, Used], totals: Mapping[str, int], notes: Sequence[str]
) -> Report:
    """A report whose indices and counts are those of all rows."""

    def on_all(verdict: Verdict) -> Verdict:
        if verdict.name not in rows:
            return verdict
        worst = verdict.worst and (int(rows[verdict.name].rows[verdict.worst[0]]), *verdict.worst[1:])
        return replace(verdict, worst=worst, total=totals[verdict.name], cells=None, accused=(), slopes=())

    return replace(report, verdicts=tuple(map(on_all, report.verdicts)), notes=(*notes, *report.notes))
