"""A train_step of a model's own: the gradients that it hands to optimizers, and what these make of them.

Two comparisons for every call of an optimizer: the weights after it with the optimizer's law on the gradients that were
handed over, and these gradients with the slopes of the loss that the train step returns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend.common.stateless_scope import in_stateless_scope

from keras_ref.comparison.autodiff import autodiff_at
from keras_ref.comparison.diagnoses.table import Gradients, explain_gradients
from keras_ref.comparison.evidence import Outcome
from keras_ref.comparison.optimizer_step import (
    DepartingStep,
    NumericGradient,
    OptimizerTwin,
    StepPredictions,
    StepStart,
    predict,
)
from keras_ref.comparison.oracles import Oracles
from keras_ref.comparison.training_steps import compare_variable, numeric_gradient, packed, worst_step
from keras_ref.errors import BadInput, UserCodeFailed, running_user_code, short
from keras_ref.evaluation.keras_parts import tensorflow_variable
from keras_ref.evaluation.loss_function import Data, LossFunction
from keras_ref.evaluation.restoration import Restoration
from keras_ref.evaluation.sparse_gradient import SparseGradient
from keras_ref.reports.verdict import Kind, Reason, Verdict, worst_of
from keras_ref.translation.from_keras import NoTwin
from scratch.arrays import Array
from scratch.differences import UNIT
from scratch.progress import Progress

#: the name under which a train step returns its loss
LOSS = "loss"
#: methods by which a variable of TensorFlow is written
WRITES = ("assign", "assign_add", "assign_sub")


class NoStepLoss(BadInput):
    """A train step returns no loss that could be differenced."""


def own_optimizers(model: Any) -> list[Any]:
    """The optimizers that a model trains with: the compiled one, and those that it keeps as attributes."""
    found = [getattr(model, "optimizer", None), *vars(model).values()]
    return list({id(o): o for o in found if isinstance(o, keras.optimizers.Optimizer)}.values())


@contextmanager
def _running_functions_eagerly() -> Iterator[None]:
    """Run tf.functions as Python, so that none keeps a trace of what is put in the place of its parts for a while."""
    with Restoration() as restoration:
        restoration.undo_by(tf.config.run_functions_eagerly, tf.config.functions_run_eagerly())
        tf.config.run_functions_eagerly(run_eagerly=True)
        yield


# The loss that a train step returns ---------------------------------------------------------------------------------


def returned_loss(model: Any, optimizers: Sequence[Any]) -> Callable[[Data], Any]:
    """The loss that a model's train step returns, as a function of data: no optimizer acts, metrics start from zero.

    The function raises NoStepLoss where there is none.
    """

    def loss(data: Data) -> Any:
        # metrics are assigned to: inside a scope that is a value, which autodiff follows
        scope: AbstractContextManager[Any] = (
            nullcontext() if in_stateless_scope() else keras.StatelessScope(collect_losses=True)
        )
        with Restoration() as restoration, _running_functions_eagerly(), scope:
            for optimizer in optimizers:
                restoration.set_attribute(optimizer, "apply", lambda *_, **__: None)
            restoration.undo_by(setattr, tf.GradientTape, "gradient", tf.GradientTape.gradient)
            tf.GradientTape.gradient = zero_by_variables(tf.GradientTape.gradient)
            model.reset_metrics()
            return _loss_in(model.train_step(packed(data)))

    return loss


def zero_by_variables(original: Callable[..., Any]) -> Callable[..., Any]:
    """`GradientTape.gradient` where no optimizer acts: zeros by variables, which a scope may stand in for.

    By anything else it is what it was: a loss may contain a gradient, such as a penalty on that by inputs.
    """

    def gradient(tape: Any, target: Any, sources: Any, *arguments: Any, **options: Any) -> Any:
        flat = tf.nest.flatten(sources)
        others = [s for s in flat if not isinstance(s, (keras.Variable, tf.Variable))]
        found = iter(original(tape, target, others, *arguments, **options) if others else [])

        def of(source: Any) -> Any:
            if isinstance(source, (keras.Variable, tf.Variable)):
                return tf.zeros(source.shape, source.dtype)
            slope = next(found)
            return tf.zeros_like(source) if slope is None else slope

        return tf.nest.pack_sequence_as(sources, [of(source) for source in flat])

    return gradient


def _loss_in(logs: Any) -> Any:
    """The loss among what a train step returned. Raises: NoStepLoss."""
    found = logs.get(LOSS) if isinstance(logs, Mapping) else None
    loss = None if found is None else tf.convert_to_tensor(found)
    if loss is None or loss.shape.rank != 0 or not loss.dtype.is_floating:
        received = ", ".join(map(str, logs)) if isinstance(logs, Mapping) else type(logs).__name__
        raise NoStepLoss(f"it returns no scalar {LOSS!r} (but {received or 'nothing'})")
    return loss


# What a train step hands to optimizers ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Handover:
    """One call of an optimizer: its twin before it, gradients and weights by name, weights after it.

    twin   the refusal where there is none
    """

    twin: OptimizerTwin | NoTwin
    optimizer: Any
    gradients: Mapping[str, Any]
    before: Mapping[str, Array]
    after: Mapping[str, Array]


@dataclass(kw_only=True)
class Recording:
    """What one train step did: the calls of optimizers, whether it wrote weights by itself, and its logs."""

    calls: list[Handover] = field(default_factory=list)
    writes: bool = False
    logs: Any = None


def record_step(
    model: Any, data: Data, *, optimizers: Sequence[Any], names: dict[int, str], trained: Sequence[Any]
) -> Recording:
    """Take one training step and record what it hands to optimizers; `names` are those of variables by identity."""
    recording, acting = Recording(), []

    def applied(optimizer: Any, original: Callable[..., Any], grads: Any, variables: Any = None) -> None:
        grads = list(grads)
        known = list(optimizer._trainable_variables if variables is None else variables)  # noqa: SLF001 (as Keras)
        for variable in known:
            names.setdefault(id(variable), variable.path)
        before = {names[id(v)]: v.numpy() for v in known}
        gradients = {
            names[id(v)]: _array(g, tuple(v.shape)) for v, g in zip(known, grads, strict=True) if g is not None
        }
        try:
            twin: OptimizerTwin | NoTwin = OptimizerTwin.of(optimizer, known, names, before)
        except NoTwin as error:
            twin = error
        acting.append(optimizer)
        try:
            original(grads, known)
        finally:
            acting.pop()
        after = {names[id(v)]: v.numpy() for v in known}
        recording.calls.append(
            Handover(twin=twin, optimizer=optimizer, gradients=gradients, before=before, after=after)
        )

    def written(original: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        recording.writes |= not acting
        return original(*arguments, **options)

    with Restoration() as restoration, _running_functions_eagerly():
        for optimizer in optimizers:
            restoration.set_attribute(optimizer, "apply", partial(applied, optimizer, optimizer.apply))
        for variable in map(tensorflow_variable, trained):
            for method in WRITES:
                restoration.set_attribute(variable, method, partial(written, getattr(variable, method)))
        model.reset_metrics()
        with running_user_code():
            recording.logs = model.train_step(packed(data))
    return recording


def _array(gradient: Any, shape: tuple[int, ...]) -> Any:
    """A gradient as an array; a sparse one keeps its slices."""
    if isinstance(gradient, tf.IndexedSlices):
        return SparseGradient.of(gradient.values.numpy(), gradient.indices.numpy().astype(int), shape)
    return np.asarray(gradient, dtype=float)


# The comparison -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReturnedSlopes:
    """The slopes of the loss that a step returns, by name; or why there are none."""

    slopes: Mapping[str, NumericGradient] = field(default_factory=dict)
    value: float = float("nan")
    noise: float = 0.0
    why_not: str = ""
    notes: tuple[str, ...] = ()


def compare_own_steps(
    model: keras.Model,
    loss: LossFunction,
    batches: Sequence[Data],
    *,
    oracles_at: Callable[[LossFunction], Oracles],
    seed: int = 0,
    progress: Progress | None = None,
) -> Outcome:
    """One verdict per trained variable, of its worst step, where the model has a train_step of its own.

    loss   that of `returned_loss`
    """
    names = {id(v): name for name, v in loss.variables.items()}
    optimizers, trained = own_optimizers(model), list(loss.variables.values())
    found: dict[str, list[Verdict]] = {name: [] for name in loss.variables}
    notes, followed, idle = list[str](), dict[int, OptimizerTwin](), False
    for step, data in enumerate(batches, start=1):
        loss.refresh(data)
        known = _slopes(loss, oracles_at)
        notes += known.notes
        recording = record_step(model, data, optimizers=optimizers, names=names, trained=trained)
        idle |= not recording.calls
        known = _repeated(known, recording)
        for call in recording.calls:
            for verdict in _compare_call(call, known, step=step, seed=seed, followed=followed):
                once = sum(verdict.name in other.gradients for other in recording.calls) == 1
                honest = once and not recording.writes and not idle
                found.setdefault(verdict.name, []).append(verdict if honest else _excused(verdict))
        if progress is not None:
            progress(step, len(batches), f"step {step}")
    missing = "it handed no gradient of this variable to an optimizer"
    verdicts = [
        _worst(own) if own else Verdict(name, "update", Kind.UNDECIDED).because(Reason.OWN_STEP, missing)
        for name, own in found.items()
    ]
    return Outcome(tuple(verdicts), tuple(notes))


def _worst(verdicts: Sequence[Verdict]) -> Verdict:
    """That of the worst step among those of the worst kind."""
    kind = worst_of(v.verdict for v in verdicts)
    return worst_step(v for v in verdicts if v.verdict is kind)


def _slopes(loss: LossFunction, oracles_at: Callable[[LossFunction], Oracles]) -> ReturnedSlopes:
    """The slopes of the returned loss at the point, where it can be differenced."""
    try:
        gathered = oracles_at(loss)
        autodiff = autodiff_at(loss, loss.values)
    except NoStepLoss as error:
        return ReturnedSlopes(why_not=str(error))
    except UserCodeFailed as failed:
        return ReturnedSlopes(
            why_not=f"the loss that it returns cannot be differenced: {short(failed.error).rstrip('.')}"
        )
    oracle = gathered.oracles[-1]
    slopes = {}
    for name in loss.variables:
        numeric = numeric_gradient(oracle, name)
        # the backward pass inside the step rounds like the one around it, in an order of its own
        slopes[name] = replace(numeric, error=numeric.error + 2 * autodiff.rounding[name])
    return ReturnedSlopes(slopes, float(oracle.base), float(oracle.noise), notes=gathered.notes)


def _repeated(known: ReturnedSlopes, recording: Recording) -> ReturnedSlopes:
    """The slopes, if the step itself returned the loss that was differenced."""
    if known.why_not:
        return known
    value = float(_loss_in(recording.logs))
    if abs(value - known.value) <= 2 * known.noise + 64 * UNIT * abs(known.value):
        return known
    return ReturnedSlopes(
        why_not=f"the loss that it returns is {value:.15g} and {known.value:.15g} with the same weights and data",
        notes=known.notes,
    )


def _compare_call(
    call: Handover, known: ReturnedSlopes, *, step: int, seed: int, followed: dict[int, OptimizerTwin]
) -> Iterator[Verdict]:
    """The verdicts on the variables of one call.

    `followed` has the twin of every optimizer that was the law so far, with a state of its own, and is brought on;
    where there is none, or an optimizer is called on other variables, the twin starts from the optimizer's own state.
    """
    if isinstance(call.twin, NoTwin):
        for name, value in call.before.items():
            yield Verdict(name, "update", Kind.UNDECIDED, total=value.size).because(Reason.NO_TWIN, call.twin)
        return
    before = followed.pop(id(call.optimizer), call.twin)
    twin = before if before.paths == call.twin.paths else call.twin
    scale = twin.optimizer.loss_scale(twin.state)
    handed = {name: g / scale for name, g in call.gradients.items()}
    dense = {name: np.array(g, copy=True, subok=False) for name, g in handed.items()}
    start = StepStart(
        weights=call.before, gradients=dense, errors={name: UNIT * np.abs(g) for name, g in dense.items()}
    )
    rows = {name: g for name, g in handed.items() if isinstance(g, SparseGradient)}
    law = predict(twin, start, seed=seed)
    predictions = StepPredictions(
        numeric=law, law=law, departing=lambda: DepartingStep.of(twin, start, rows=rows, seed=seed)
    )
    verdicts = {name: compare_variable(name, value, predictions, step=step) for name, value in call.after.items()}
    if all(verdict.verdict is Kind.MATCH for verdict in verdicts.values()):
        followed[id(call.optimizer)] = replace(twin, state=law.state, doubt=law.doubt)
    for name, verdict in verdicts.items():
        if verdict.failed or name not in dense:
            yield verdict
        elif known.why_not or name not in known.slopes:
            reason = known.why_not or "it trains a frozen variable"
            why = f"{reason}; its update is the optimizer's law on the gradients that it hands over"
            counts = {"undecided": verdict.total}
            yield replace(verdict, verdict=Kind.UNDECIDED, counts=counts).because(Reason.OWN_STEP, why)
        else:
            yield _compare_gradient(verdict, dense[name], known.slopes[name], step=step)


def _compare_gradient(verdict: Verdict, handed: Array, slopes: NumericGradient, *, step: int) -> Verdict:
    """The verdict on an update that follows the law: also on the gradient that was handed over for it."""
    slope, allowed = slopes.slope, UNIT * np.abs(handed) + slopes.error
    off = np.abs(handed - slope)
    wrong = ~(off <= allowed)
    if not wrong.any():
        return replace(verdict, visible=max(verdict.visible, float(2 * allowed.max(initial=0.0))))
    with np.errstate(invalid="ignore", divide="ignore"):
        i = int(np.argmax(np.nan_to_num(np.where(wrong, off / allowed, 0.0), nan=np.inf)))
    name, error = verdict.name, float(np.max(allowed))
    cause = explain_gradients(Gradients(wrong={name: handed}, right={name: slope}, allowed={name: error}))
    return replace(
        verdict,
        verdict=Kind.MISMATCH,
        looks_like="" if cause is None else cause.words,
        counts={"mismatch": int(wrong.sum()), "match": int((~wrong).sum())},
        worst=tuple(int(k) for k in np.unravel_index(i, handed.shape)) if handed.shape else (),
        autodiff=float(handed.ravel()[i]),
        numeric=float(slope.ravel()[i]),
        rounding=float(allowed.ravel()[i]),
        visible=float(2 * allowed.max(initial=0.0)),
        cells=None,
    ).because(Reason.OWN_STEP_GRADIENT, step)


def _excused(verdict: Verdict) -> Verdict:
    """A gradient that differs where the step moves weights by itself or gathers gradients over steps proves nothing."""
    if verdict.reason_code is not Reason.OWN_STEP_GRADIENT:
        return verdict
    counts = {"undecided": sum(verdict.counts.values())}
    undecided = replace(verdict, verdict=Kind.UNDECIDED, counts=counts, looks_like="")
    return undecided.because(Reason.OWN_STEP_GATHERS)
