"""The public verb check_updates: numeric gradient and optimizer twin against the weights after Keras's own train_step.

Every step starts both sides from the same weights, so that an error is named at the step that makes it; the twin keeps
a state of its own. How far a step may be off is derived in comparison/steps/optimizer_step.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ref.checks.annotations import note_untracked_variables
from keras_ref.checks.checked_loss import (
    ModelLoss,
    find_loss_objects,
    has_own_train_step,
    list_untrained,
    make_model_loss,
    mirror_losses,
)
from keras_ref.checks.gather import NOTE_ON_EMPTY, build_oracles
from keras_ref.checks.precision import find_coarsest_unit, is_about_precision, note_refusal
from keras_ref.checks.twins import build_twin
from keras_ref.checks.used_rows import OWN, leave_unused_rows_out
from keras_ref.checks.used_rows_of_steps import leave_unused_rows_of_steps_out
from keras_ref.comparison.sources.evidence import Outcome
from keras_ref.comparison.sources.oracles import Oracles, TwinOracle
from keras_ref.comparison.steps.own_train_steps import compare_own_steps
from keras_ref.comparison.steps.train_step_losses import NoStepLoss, own_optimizers
from keras_ref.comparison.steps.training_steps import Precision, compare_steps
from keras_ref.errors import (
    BackwardPassFailed,
    BadInput,
    TrainStepFailed,
    UserCodeFailed,
    errors_as_bad_input,
)
from keras_ref.evaluation.arguments import LOADED_MODEL, Rule, takes
from keras_ref.evaluation.changed_state.float64 import DTYPE, in_precision, restore_process_state
from keras_ref.evaluation.changed_state.guard import leaves_no_trace
from keras_ref.evaluation.changed_state.keras_2 import is_optimizer, trains_as_keras_2
from keras_ref.evaluation.changed_state.restoration import Restoration
from keras_ref.evaluation.keras_objects.naming import find_path
from keras_ref.evaluation.loss_function import Data, LossFunction
from keras_ref.inputs import data as data_module
from keras_ref.inputs.arrays import convert_data, count_samples, take_samples
from keras_ref.inputs.building import build_model
from keras_ref.reports.verdict import Kind, Reason, Report, Verdict
from keras_ref.translation.from_keras import NoTwin, reflect_object
from keras_ref.translation.to_keras import mirror, mirror_object
from scratch.arrays import Array
from scratch.model import Model
from scratch.optimizers.base import Optimizer
from scratch.progress import Progress


def _is_name(value: Any) -> bool:
    """Whether Keras knows an optimizer by this name."""
    if not isinstance(value, str):
        return False
    try:
        keras.optimizers.get(value)
    except ValueError:
        return False
    return True


@takes(
    model=LOADED_MODEL,
    optimizer=Rule(
        "be an optimizer or the name of one",
        lambda value: (
            isinstance(value, (keras.optimizers.Optimizer, Optimizer)) or is_optimizer(value) or _is_name(value)
        ),
        "Pass 'sgd', say.",
    ),
)
@leaves_no_trace
def check_updates(
    model: Any,
    x: Any,
    y: Any = None,
    *,
    optimizer: Any = None,
    loss: Any = None,
    sample_weight: Any = None,
    class_weight: Mapping[int, float] | None = None,
    steps: int = 3,
    batch_size: int | None = None,
    weights: Mapping[str, Array] | None = None,
    seed: int = 0,
    executor: Any = None,
    progress: Progress | None = None,
    replay: str = "",
) -> Report:
    """Compare the weights after each of Keras's own training steps with numeric gradient and optimizer twin.

    model, x, y       as for check_gradients, and so are sample_weight, class_weight, weights, seed, executor, progress
                      and replay
    optimizer, loss   those the model was compiled with, unless given
    steps             training steps to compare, each from the weights that Keras has by then
    batch_size        samples that a step takes, in order, from the start again after the last; None for all

    The steps are taken in float64. Where the model does not run in it, they are taken in the precision that it has, and
    what rounding does to the law there is allowed: two to a few hundred units of it, which the report states.
    Model, optimizer and data are afterwards what they were. Units in the report are those of the variables.
    Raises: BadInput (a ValueError) for what cannot be checked; LookupError for a layer or optimizer of scratch that
    Keras does not have; MemoryError where memory does not suffice.
    """
    if steps < 1:
        raise BadInput(
            f"`steps` must be at least 1. Received: steps={steps}. Pass the number of training steps to compare."
        )
    if isinstance(model, Model):
        model = mirror(model, weights)
        optimizer = optimizer if isinstance(optimizer, (str, keras.optimizers.Optimizer)) else mirror_object(optimizer)
        loss = mirror_losses(loss)
    data = convert_data(x, y, sample_weight)
    data = replace(data, sample_weight=data_module.apply_class_weight(data.y, data.sample_weight, class_weight))
    with errors_as_bad_input():
        build_model(model, data.x)
    data_module.validate_data(model, data.x, data.y, data.sample_weight)
    data_module.require_finite_weights(model)
    compiled = getattr(model, "optimizer", None)
    own = own_optimizers(model) if has_own_train_step(model) else []
    if optimizer is None and compiled is None and not own:
        raise BadInput(
            f"A model must have an optimizer for its updates to be checked. Received: {model.name!r}, not compiled. "
            "Compile it, or pass optimizer= and loss=."
        )
    taken = _Steps(
        model=model, data=data, optimizer=optimizer, loss=loss, own=own, steps=steps, batch_size=batch_size, seed=seed
    )
    with errors_as_bad_input(), restore_process_state():
        try:
            return _compare_in(DTYPE, taken, executor=executor, progress=progress, replay=replay)
        except UserCodeFailed as failed:
            if isinstance(failed, (BackwardPassFailed, TrainStepFailed)) or not is_about_precision(failed):
                raise
            found = _compare_in(None, taken, executor=executor, progress=progress, replay=replay)
            return replace(found, notes=(note_refusal(failed.error), *found.notes))


@dataclass(frozen=True, kw_only=True)
class _Steps:
    """The training steps to compare.

    own   the optimizers of a model that has a train_step of its own; the others are the options of check_updates
    """

    model: Any
    data: Data
    optimizer: Any
    loss: Any
    own: Sequence[Any]
    steps: int
    batch_size: int | None
    seed: int


def _compare_in(dtype: str | None, taken: _Steps, *, executor: Any, progress: Progress | None, replay: str) -> Report:
    """Compare training steps while model and optimizer compute in `dtype` (None: in the precision that they have)."""
    model, data, optimizer, loss, seed = taken.model, taken.data, taken.optimizer, taken.loss, taken.seed
    compiled, is_own = getattr(model, "optimizer", None), has_own_train_step(model)
    given = [optimizer] if isinstance(optimizer, keras.optimizers.Optimizer) else []
    objects = (model, *given, *find_loss_objects(loss))
    with ExitStack() as stack:
        if is_own:
            as_compiled = taken.own if optimizer is None and loss is None else ()
            used = leave_unused_rows_of_steps_out(objects, data, optimizers=as_compiled, seed=seed)
        else:
            used = _select_used_rows(objects, data, optimizer=optimizer or compiled, loss=loss, seed=seed)
        data, on_all_rows = stack.enter_context(used)
        stack.enter_context(in_precision(dtype, *taken.own, *objects))
        if optimizer is not None or loss is not None:
            model.compile(
                optimizer=optimizer or compiled, loss=loss if loss is not None else model.loss, run_eagerly=True
            )
        batches = _make_batches(data, taken.steps, taken.batch_size)
        precision = Precision() if dtype else Precision(OWN, _find_unit(model, batches[0].tensors(OWN)))
        if is_own:
            if dtype is not None:
                stack.enter_context(_metrics_in_float64(model))
            outcome = _compare_own_updates(model, batches, precision=precision, seed=seed, progress=progress)
        else:
            outcome = _compare_updates(
                model, batches, precision=precision, seed=seed, executor=executor, progress=progress
            )
        outcome = _without_empty(outcome, model.trainable_variables)
    name = "its own train_step" if is_own and not trains_as_keras_2(model) else _name_optimizer(optimizer or compiled)
    return on_all_rows(
        Report(
            f"{model.name}, {taken.steps} steps of {name}",
            outcome.verdicts,
            notes=tuple(dict.fromkeys(outcome.notes)),
            seed=seed,
            replay=replay,
        )
    )


def _select_used_rows(
    keras_objects: Sequence[Any], data: Data, *, optimizer: Any, loss: Any, seed: int
) -> AbstractContextManager[tuple[Data, Callable[[Report], Report]]]:
    """leave_unused_rows_out; with all rows where a step follows no law that is known."""
    try:
        law = reflect_object(keras.optimizers.get(optimizer), "optimizer")
    except NoTwin:
        return nullcontext((data, lambda report: report))

    def prepare(data: Data, dtype: str | None) -> ModelLoss:
        return make_model_loss(keras_objects[0], data, loss=loss, training=True, seed=seed, dtype=dtype)

    return leave_unused_rows_out(keras_objects, data, prepare, laws=(law,), seed=seed)


def _compare_updates(
    model: Any,
    batches: Sequence[Data],
    *,
    precision: Precision,
    seed: int,
    executor: Any,
    progress: Progress | None,
) -> Outcome:
    """The verdicts on every trained variable; undecided where there is no twin of the optimizer."""
    found = make_model_loss(model, batches[0], training=True, seed=seed, dtype=precision.dtype)
    if found.is_projection:
        state = "with" if getattr(model, "_compile_loss", None) is not None else "without"
        raise BadInput(
            f"A training step needs a loss to minimise. Received: y=None for {model.name!r}, which was compiled "
            f"{state} a loss. {'Pass y.' if state == 'with' else 'Compile it with one and pass y.'}"
        )
    trained = list(model.trainable_variables)
    loss = LossFunction(
        found.loss,
        variables=trained,
        state=list_untrained(model, trained),
        data=batches[0],
        watch_inputs=False,
        dtype=precision.dtype,
    )
    loss.executor, loss.progress, loss.unit = executor, progress, precision.unit

    def twin(at: LossFunction) -> TwinOracle:
        return build_twin(model, at, data=at.data, projection=False, training=True, executor=executor)

    def oracles_at(at: LossFunction) -> Oracles:
        return build_oracles(at, twin, subject=model.name, seed=seed)

    try:
        outcome = compare_steps(
            model, loss, batches, oracles_at=oracles_at, precision=precision, seed=seed, progress=progress
        )
        return replace(
            outcome, notes=(*found.notes, *outcome.notes, *note_untracked_variables(loss.untracked, [model]))
        )
    except NoTwin as error:
        none = [Verdict(find_path(v), "update", Kind.UNDECIDED, total=int(np.prod(v.shape))) for v in trained]
        return Outcome(tuple(v.because(Reason.NO_TWIN, error) for v in none), (f"No twin: {error}",))


def _compare_own_updates(
    model: Any, batches: Sequence[Data], *, precision: Precision, seed: int, progress: Progress | None
) -> Outcome:
    """The verdicts on every trained variable of a model that has a train_step of its own."""
    trained = list(model.trainable_variables)
    state = [*list_untrained(model, trained), *(v for o in own_optimizers(model) for v in o.variables)]

    losses: list[LossFunction] = []

    def make(loss: Callable[[Data], Any]) -> LossFunction:
        made = LossFunction(
            loss, variables=trained, state=state, data=batches[0], watch_inputs=False, dtype=precision.dtype
        )
        made.unit = precision.unit
        losses.append(made)
        return made

    def oracles_at(at: LossFunction) -> Oracles:
        return build_oracles(at, _refuse_twin, subject=model.name, wanted=("forward",), seed=seed)

    outcome = compare_own_steps(
        model,
        batches,
        trained=trained,
        make=make,
        oracles_at=oracles_at,
        precision=precision,
        seed=seed,
        progress=progress,
    )
    what = "trains as Keras 2 does" if trains_as_keras_2(model) else "has a train_step of its own"
    note = (
        f"{type(model).__name__} {what}: the gradients that it hands to its optimizers were compared with the slopes "
        "of the loss that it returns or of the losses that it differentiates. The weights were compared with the "
        "optimizers' laws on these gradients."
    )
    untracked = note_untracked_variables([v for one in losses for v in _find_untracked(one)], [model])
    return replace(outcome, notes=(note, *outcome.notes, *untracked))


def _find_untracked(loss: LossFunction) -> list[Any]:
    """TensorFlow's own trainable variables that a loss of a train step reads; none of one that cannot be computed."""
    with suppress(NoStepLoss, UserCodeFailed):  # of which the verdicts say why
        return loss.untracked
    return []


def _without_empty(outcome: Outcome, trained: Sequence[Any]) -> Outcome:
    """The outcome without verdicts on variables that have no entries, each of which has a note."""
    empty = [find_path(v) for v in trained if 0 in v.shape]
    compared = tuple(verdict for verdict in outcome.verdicts if verdict.name not in empty)
    return replace(outcome, verdicts=compared).with_notes(*map(NOTE_ON_EMPTY.format, empty))


def _refuse_twin(_: LossFunction) -> TwinOracle:
    """Raises: NoTwin: what a train step computes has no other definition."""
    raise NoTwin("A loss that a train step computes has no definition in scratch.")


@contextmanager
def _metrics_in_float64(model: Any) -> Iterator[None]:
    """Let the metrics of a model, by which a train step may return its loss, compute in float64."""
    with Restoration() as restoration:
        for metric in model.metrics:
            restoration.set_attribute(metric, "_dtype", DTYPE)
            restoration.set_attribute(metric, "_dtype_policy", keras.DTypePolicy(DTYPE))
        yield


def _find_unit(model: Any, data: Data) -> float:
    """The distance of 1 from the next number in the coarsest precision among trained variables and inputs."""
    return find_coarsest_unit(
        [*model.trainable_variables, *(leaf for leaf in tf.nest.flatten(data.x) if leaf is not None)]
    )


def _name_optimizer(optimizer: Any) -> str:
    return optimizer if isinstance(optimizer, str) else type(optimizer).__name__


def _make_batches(data: Data, steps: int, batch_size: int | None) -> list[Data]:
    """`steps` batches in order, round and round."""
    samples = count_samples(data.x)
    size = min(batch_size or samples, samples)
    starts = range(0, samples - samples % size, size)
    parts = data.x, data.y, data.sample_weight
    return [Data(*(take_samples(part, starts[i % len(starts)], size) for part in parts)) for i in range(steps)]
