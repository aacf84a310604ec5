"""Keras's own training steps against numeric gradient and optimizer twin, variable by variable."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import keras
import numpy as np

from keras_ref.comparison.entries.sharpness import is_coarse
from keras_ref.comparison.sources.autodiff import run_autodiff
from keras_ref.comparison.sources.evidence import Outcome
from keras_ref.comparison.sources.oracles import Oracles
from keras_ref.comparison.steps.optimizer_step import (
    DepartingStep,
    OptimizerTwin,
    StepPredictions,
    StepStart,
    predict,
)
from keras_ref.comparison.steps.step_causes import name_causes
from keras_ref.comparison.steps.step_slopes import AT_ONCE, measure_slopes
from keras_ref.errors import BadInput, TrainStepFailed, UserCodeFailed, join_names, running_user_code
from keras_ref.evaluation.changed_state.float64 import DTYPE
from keras_ref.evaluation.changed_state.restoration import restore_variables
from keras_ref.evaluation.loss_function import Data, LossFunction
from keras_ref.evaluation.sparse_gradient import find_sparse_gradients
from keras_ref.reports.heat_map import ErrorWindow
from keras_ref.reports.verdict import Kind, Reason, Verdict
from keras_ref.translation.exceptions import optimizers as mirrors
from scratch.arrays import Array, index_of
from scratch.differences import UNIT
from scratch.progress import Progress


@dataclass(frozen=True)
class Precision:
    """The precision in which steps are compared.

    dtype   what floats of the data are cast to
    unit    the distance of 1 from the next number in the precision in which a model and its optimizer compute
    """

    dtype: str | None = DTYPE
    unit: float = UNIT


def compare_steps(
    model: keras.Model,
    loss: LossFunction,
    batches: Sequence[Data],
    *,
    oracles_at: Callable[[LossFunction], Oracles],
    precision: Precision,
    seed: int = 0,
    progress: Progress | None = None,
) -> Outcome:
    """One verdict per trained variable, of its worst step. The model must be compiled, and compute in `precision`.

    oracles_at   the oracles of the loss at the point that it is moved to before each step; the last of them decides
    """
    names = {id(v): name for name, v in loss.variables.items()}
    values = {name: loss.values[name] for name in loss.variables}
    twin = OptimizerTwin.of(model.optimizer, model.trainable_variables, names, values, unit=precision.unit)
    found: dict[str, list[Verdict]] = {name: [] for name in loss.variables}
    notes, departed = list[str](), False
    for step, data in enumerate(batches, start=1):
        loss.refresh(data)
        predictions = predict_step(twin, loss, oracles_at, seed=seed, is_last=step == len(batches))
        notes += predictions.notes
        before = {name: loss.values[name] for name in loss.variables}
        _train(model, data, dtype=precision.dtype)
        after = {name: variable.numpy() for name, variable in loss.variables.items()}
        verdicts = {name: compare_variable(name, value, predictions, step=step) for name, value in after.items()}
        verdicts = name_causes(verdicts, predictions, before=before, after=after, data=data)
        off = [name for name, verdict in verdicts.items() if verdict.reason_code is Reason.LAW_DIFFERS]
        written = find_written(model, {name: loss.variables[name] for name in off}, loss.data.x, before=before)
        verdicts |= {name: verdicts[name].because(Reason.FORWARD_WRITES, step) for name in written}
        departed |= predictions.repeated
        for name, verdict in verdicts.items():
            departed |= verdict.verdict is Kind.DEPARTURE
            found[name].append(verdict)
        if departed:
            # what Keras remembers is no longer what the law says: the next step starts from Keras's own state
            state = mirrors.read_state(model.optimizer, {v.path: names[id(v)] for v in model.trainable_variables})
            twin = replace(twin, state=state, doubt={})
        else:
            twin = replace(twin, state=predictions.law.state, doubt=predictions.law.doubt)
        if progress is not None:
            progress(step, len(batches), f"step {step}")
    return Outcome(tuple(choose_worst_step(verdicts) for verdicts in found.values()), tuple(notes))


def predict_step(
    twin: OptimizerTwin,
    loss: LossFunction,
    oracles_at: Callable[[LossFunction], Oracles],
    *,
    seed: int,
    is_last: bool = False,
) -> StepPredictions:
    """What the next training step should lead to, from the present weights. Raises: BadInput if nothing trains.

    is_last   whether no step follows: then nobody needs the state after it
    """
    weights = {name: loss.values[name] for name in loss.variables}
    autodiff = run_autodiff(loss, loss.values)
    exact = {name: g for name in weights if (g := autodiff.gradient[name]) is not None}
    if not exact:
        raise BadInput(
            "A training step needs the gradient of at least one trained variable: Keras's optimizer refuses it "
            f"otherwise (No gradients provided for any variable). Received: none for {join_names(weights)}. "
            "check_gradients says what stops each of them."
        )
    gathered = oracles_at(loss)
    numeric, notes = measure_slopes(gathered, list(exact), autodiff=autodiff, seed=seed)
    notes = (*gathered.notes, *notes)
    low = is_coarse(gathered.oracles[-1])
    del gathered  # which holds copies of the weights
    rounding = {name: autodiff.rounding[name] for name in exact}
    by_numeric = predict(
        twin,
        StepStart(
            weights=weights,
            gradients={name: n.slope for name, n in numeric.items()},
            errors={name: n.error + rounding[name] for name, n in numeric.items()},
        ).with_nearest(exact),
        seed=seed,
        of_state=False,
    )
    by_autodiff = StepStart(weights=weights, gradients=exact, errors=rounding)
    rows = find_sparse_gradients(loss) if loss.sparse else {}
    return StepPredictions(
        numeric=by_numeric,
        law=predict(twin, by_autodiff, seed=seed, of_state=not is_last),
        departing=cache(lambda: DepartingStep.of(twin, by_autodiff, rows=rows, seed=seed)),
        slopes=numeric,
        gradients=exact,
        optimizer=twin.optimizer,
        notes=notes,
        repeated=any(one.repeated for one in rows.values()),
        is_coarse=low,
    )


def find_written(model: Any, variables: Mapping[str, Any], x: Any, *, before: Mapping[str, Array]) -> list[str]:
    """The names of the variables that the forward pass of a training step writes by itself. Nothing stays written.

    x   the inputs of the step, as the model takes them
    """
    if not variables:
        return []
    with restore_variables(model.variables), running_user_code():
        for name, value in before.items():
            if name in variables:
                variables[name].assign(value)
        model(x, training=True)
        return [name for name, variable in variables.items() if not np.array_equal(variable.numpy(), before[name])]


def _train(model: Any, data: Data, *, dtype: str | None) -> None:
    """One training step of Keras's own, at a point where the loss has been computed before, on floats in `dtype`."""
    try:
        with running_user_code():
            model.train_step(pack_batch(data, dtype))
    except UserCodeFailed as failed:
        raise TrainStepFailed(str(failed)) from failed.error


def pack_batch(data: Data, dtype: str | None = DTYPE) -> Any:
    """A batch as fit hands it to a train step, floats in `dtype`: inputs alone where there are no targets."""
    tensors = data.tensors(dtype)
    return keras.utils.pack_x_y_sample_weight(tensors.x, tensors.y, tensors.sample_weight)


def choose_worst_step(verdicts: Iterable[Verdict]) -> Verdict:
    """The first verdict that fails; where none does, that whose difference is the largest share of what is allowed."""

    def badness(verdict: Verdict) -> tuple[bool, float]:
        return verdict.failed, verdict.difference / (verdict.allowed or UNIT)

    worst, *others = verdicts
    for verdict in others:
        if not worst.failed and badness(verdict) > badness(worst):
            worst = verdict
    return worst


@dataclass(frozen=True, kw_only=True)
class StepDifferences:
    """What a step made of a variable, against what it should lead to by the numeric gradient and by the law.

    worst        the flat index of the worst entry
    mismatches   entries that differ from either by more than is allowed
    of_law       whether one differs from what the law leads to
    """

    worst: int
    mismatches: int
    of_law: bool

    @classmethod
    def find(cls, value: Array, *, predicted: tuple[Array, Array], allowed: tuple[Array, Array]) -> StepDifferences:
        """The differences between a variable and two predictions, some thousand entries at a time."""
        worst, worst_by, mismatches, of_law = 0, -1.0, 0, False
        arrays = [np.ravel(one) for one in (value, *predicted, *allowed)]
        for first in range(0, value.size, AT_ONCE):
            after, by_numeric, by_law, allowed_by_numeric, allowed_by_law = (
                one[first : first + AT_ONCE] for one in arrays
            )
            with np.errstate(invalid="ignore", divide="ignore"):
                off = np.abs(after - by_numeric)
                wrong = ~(off <= allowed_by_numeric)
                law_wrong = ~(np.abs(after - by_law) <= allowed_by_law)
                excess = np.nan_to_num(np.where(off != 0, off / allowed_by_numeric, 0.0), nan=np.inf)
            either = wrong | law_wrong
            badness = np.where(either, np.maximum(excess, 1.0) + wrong, excess)
            i = int(np.argmax(badness))
            if badness[i] > worst_by:
                worst, worst_by = first + i, float(badness[i])
            mismatches += int(either.sum())
            of_law |= bool(law_wrong.any())
        return cls(worst=worst, mismatches=mismatches, of_law=of_law)


def compare_variable(name: str, value: Array, predictions: StepPredictions, *, step: int) -> Verdict:
    """The verdict on what Keras's step made of one variable.

    It has to be what the numeric gradient leads to, and what the law makes of autodiff's own gradient: that is sharper.
    """
    if not value.size:
        return Verdict(name, "update", Kind.MATCH)
    numeric, law = predictions.numeric, predictions.law
    differences = StepDifferences.find(
        value,
        predicted=(numeric.weights[name], law.weights[name]),
        allowed=(numeric.allowed[name], law.allowed[name]),
    )
    predicted, allowed, i = numeric.weights[name], numeric.allowed[name], differences.worst
    # the law does not show an error of the gradient that is less than slopes in low precision do
    seen_by = np.maximum(law.allowed[name], allowed) if predictions.is_coarse else law.allowed[name]
    is_wrong = differences.mismatches > 0
    if is_wrong and abs(value - predicted).ravel()[i] <= allowed.ravel()[i]:  # what differs is the law's
        predicted, allowed = law.weights[name], law.allowed[name]
    verdict = Verdict(
        name,
        "update",
        Kind.MISMATCH if is_wrong else Kind.MATCH,
        compared=value.size,
        total=value.size,
        counts={"mismatch": differences.mismatches, "match": value.size - differences.mismatches},
        worst=index_of(i, value.shape),
        autodiff=float(value.ravel()[i]),
        numeric=float(predicted.ravel()[i]),
        truncation=0.0,
        rounding=float(allowed.ravel()[i]),
        visible=float(2 * seen_by.max(initial=0.0)),
        cells=ErrorWindow.of_all(i, numeric=predicted, autodiff=value),
    )
    if not is_wrong:
        return verdict.because(Reason.WORST_STEP, step)
    if (departing := predictions.departing()).explains(name, value):
        departure = replace(verdict, verdict=Kind.DEPARTURE)
        return departure.because(Reason.STEP_DEPARTS, step, ", ".join(departing.ids))
    return verdict.because(Reason.LAW_DIFFERS if differences.of_law else Reason.GRADIENT_DIFFERS, step)
