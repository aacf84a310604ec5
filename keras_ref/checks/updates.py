"""The public verb check_updates: numeric gradient and optimizer twin against the weights after Keras's own train_step.

Every step starts both sides from the same weights, so that an error is named at the step that makes it; the twin keeps a
state of its own. allowed = twice the largest move of the law's step when the gradient is off by its error (both signs, and
patterns of them), the state by what the steps before may have left in it, and every operation by a unit in the last place
(comparison/monte_carlo_arithmetic.py, where the twice is derived).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ref.checks.checked_loss import loss_objects, mirrored_losses, model_loss, untrained
from keras_ref.checks.gather import Oracles, oracles_of
from keras_ref.checks.optimizer_step import carried, explained_by, slot_of, step_of
from keras_ref.checks.twins import twin_of
from keras_ref.comparison.autodiff import autodiff_at
from keras_ref.comparison.entry_slopes import measure_by_tiers
from keras_ref.comparison.evidence import Outcome
from keras_ref.comparison.oracles import Oracle
from keras_ref.comparison.settings import Progress
from keras_ref.errors import BadInput, errors_as_bad_input, running_user_code
from keras_ref.evaluation.float64 import in_float64, restore_seeds
from keras_ref.evaluation.loss_function import Data, LossFunction
from keras_ref.evaluation.sparse_gradient import find_sparse_gradients
from keras_ref.inputs import data as data_module
from keras_ref.reports.heat_map import ErrorWindow
from keras_ref.reports.verdict import Kind, Reason, Report, Verdict
from keras_ref.translation.exceptions import optimizers as mirrors
from keras_ref.translation.from_keras import NoTwin
from keras_ref.translation.to_keras import mirror, mirrored
from scratch.arrays import Array
from scratch.differences import UNIT
from scratch.model import Model
from scratch.one_sided import Slopes

#: an entry of the numeric gradient gets more steps while truncation exceeds this share of it
SHARP = 1e-9


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

    model, x, y       as for check_gradients, and so are sample_weight, class_weight, weights and executor
    optimizer, loss   those the model was compiled with, unless given
    steps             training steps to compare, each from the weights that Keras has by then
    batch_size        samples that a step takes, in order, from the start again after the last; None for all

    Model, optimizer and data are afterwards what they were. Raises: BadInput (a ValueError) for what cannot be checked.
    """
    if steps < 1:
        raise BadInput(
            f"`steps` must be at least 1. Received: steps={steps}. Pass the number of training steps to compare."
        )
    if isinstance(model, Model):
        model = mirror(model, weights)
        optimizer = optimizer if isinstance(optimizer, (str, keras.optimizers.Optimizer)) else mirrored(optimizer)
        loss = mirrored_losses(loss)
    sample_weight = data_module.apply_class_weight(y, sample_weight, class_weight)
    data_module.validate_data(model, x, y, sample_weight)
    data_module.require_finite_weights(model)
    compiled = getattr(model, "optimizer", None)
    if optimizer is None and compiled is None:
        raise BadInput(
            f"A model must have an optimizer for its updates to be checked. Received: {model.name!r}, not compiled. "
            "Compile it, or pass optimizer= and loss=."
        )
    with ExitStack() as stack:
        stack.enter_context(errors_as_bad_input())
        stack.enter_context(restore_seeds())
        given = [optimizer] if isinstance(optimizer, keras.optimizers.Optimizer) else []
        stack.enter_context(in_float64(model, *given, *loss_objects(loss)))
        if optimizer is not None or loss is not None:
            model.compile(
                optimizer=optimizer or compiled, loss=loss if loss is not None else model.loss, run_eagerly=True
            )
        batches = _batches(Data(x, y, sample_weight), steps, batch_size)
        outcome = _compare_updates(model, batches, seed=seed, executor=executor, progress=progress)
    return Report(
        f"{model.name}, {steps} steps of {_optimizer_name(optimizer or compiled)}",
        outcome.verdicts,
        tuple(dict.fromkeys(outcome.notes)),
        seed,
        replay,
    )


def _compare_updates(
    model: Any, batches: Sequence[Data], *, seed: int, executor: Any, progress: Progress | None
) -> Outcome:
    """The verdicts on every trained variable; undecided where there is no twin of the optimizer."""
    found = model_loss(model, batches[0], training=True, seed=seed)
    if found.is_projection:
        raise BadInput(
            f"A training step needs targets. Received: y=None for {model.name!r}, which was compiled with a loss. Pass y."
        )
    trained = list(model.trainable_variables)
    probe = LossFunction(found.loss, trained, untrained(model, trained), batches[0], watch_inputs=False)

    def gather(probe: LossFunction) -> Oracles:
        return oracles_of(
            probe,
            lambda p: twin_of(model, p, data=p.data, projection=False, training=True, seed=seed, executor=executor),
            subject=model.name,
            seed=seed,
        )

    try:
        return compare_steps(model, probe, batches, gather=gather, seed=seed, progress=progress)
    except NoTwin as error:
        none = [Verdict(v.path, "update", Kind.UNDECIDED, total=int(np.prod(v.shape))) for v in trained]
        return Outcome(tuple(v.because(Reason.NO_TWIN, error) for v in none), (f"No twin: {error}",))


def _optimizer_name(optimizer: Any) -> str:
    return optimizer if isinstance(optimizer, str) else type(optimizer).__name__


def _batches(data: Data, steps: int, batch_size: int | None) -> list[Data]:
    """`steps` batches in order, round and round."""
    samples = len(np.asarray(tf.nest.flatten(data.x)[0]))
    size = min(batch_size or samples, samples)
    starts = range(0, samples - samples % size, size)

    def take(part: Any, start: int) -> Any:
        return tf.nest.map_structure(
            lambda leaf: None if leaf is None else np.asarray(leaf)[start : start + size], part
        )

    order = [starts[i % len(starts)] for i in range(steps)]
    return [Data(take(data.x, s), take(data.y, s), take(data.sample_weight, s)) for s in order]


def numeric_gradient(oracle: Oracle, names: Sequence[str]) -> dict[str, tuple[Array, Array]]:
    """{name: (slope, error)} of every entry of the named variables, each with as many steps as it needs.

    At a kink any value between the sides is a convention: the middle, give or take half their distance.
    """

    def is_certain(known: Slopes) -> Array:
        estimate = known.value
        return known.smooth & (estimate.truncation <= np.maximum(SHARP * np.abs(estimate.value), estimate.rounding))

    found = {}
    for name in names:
        shape = oracle.values[name].shape
        s = measure_by_tiers(oracle, name, entries=np.arange(oracle.values[name].size), is_certain=is_certain)
        low, high = np.minimum(s.left.value, s.right.value), np.maximum(s.left.value, s.right.value)
        slope = np.where(s.smooth, s.value.value, (low + high) / 2)
        error = np.where(s.smooth, s.value.error, (high - low) / 2 + s.left.error + s.right.error)
        found[name] = slope.reshape(shape), error.reshape(shape)
    return found


def compare_steps(
    model: keras.Model,
    probe: LossFunction,
    batches: Sequence[Data],
    *,
    gather: Callable[[LossFunction], Oracles],
    seed: int = 0,
    progress: Progress | None = None,
) -> Outcome:
    """One verdict per trained variable, of its worst step. The model must be compiled and computing in float64."""
    names = {id(v): name for name, v in probe.variables.items()}
    slot = slot_of(model, names, {name: probe.values[name] for name in probe.variables})
    worst: dict[str, Verdict] = {}
    notes: list[str] = []
    departed = False
    for step, data in enumerate(batches, start=1):
        gathered = gather(probe.refresh(data))
        notes += gathered.notes
        weights = {name: probe.values[name] for name in probe.variables}
        measured = numeric_gradient(gathered.oracles[-1], list(probe.variables))
        autodiff = autodiff_at(probe, probe.values)
        exact = {n: g for n in weights if (g := autodiff.gradient[n]) is not None}
        gradients = {n: measured[n][0] for n in exact}
        predicted, _ = step_of(slot, weights, gradients)
        allowed = carried(
            slot, weights, gradients, {n: measured[n][1] + autodiff.rounding[n] for n in exact}, seed=seed
        )
        by_law, state = step_of(slot, weights, exact)
        law_errors = {n: autodiff.rounding[n] for n in exact}
        law_allowed = carried(slot, weights, exact, law_errors, seed=seed)
        as_keras = explained_by(
            slot, weights, exact, find_sparse_gradients(probe) if probe.sparse else {}, law_errors, seed=seed
        )
        tensors = data.tensors()
        with running_user_code():
            model.train_step(
                (tensors.x, tensors.y) if data.sample_weight is None else (tensors.x, tensors.y, tensors.sample_weight)
            )
        for name, variable in probe.variables.items():
            value = variable.numpy()
            verdict = _step_verdict(name, step, value, predicted[name], allowed[name], by_law[name], law_allowed[name])
            if verdict.failed and (known := as_keras(name, value)):
                verdict = replace(verdict, verdict=Kind.DEPARTURE).because(Reason.STEP_DEPARTS, step, known)
            departed |= verdict.verdict is Kind.DEPARTURE
            if name not in worst or (verdict.failed, verdict.difference / (verdict.allowed or UNIT)) > (
                worst[name].failed,
                worst[name].difference / (worst[name].allowed or UNIT),
            ):
                worst[name] = verdict if not (name in worst and worst[name].failed) else worst[name]
        if departed:
            # what Keras remembers is no longer what the law says: the next step starts from Keras's own state
            state = mirrors.state_of(model.optimizer, {v.path: names[id(v)] for v in model.trainable_variables})
        slot = replace(
            slot, state=state, doubt={} if departed else {n: d for n, d in law_allowed.items() if isinstance(n, tuple)}
        )
        if progress is not None:
            progress(step, len(batches), f"step {step}")
    return Outcome(tuple(worst.values()), tuple(notes))


def _step_verdict(
    name: str, step: int, keras_value: Array, predicted: Array, allowed: Array, by_law: Array, law_allowed: Array
) -> Verdict:
    with np.errstate(invalid="ignore", divide="ignore"):
        off = np.abs(keras_value - predicted)
        wrong = ~(off <= allowed)
        law_wrong = ~(np.abs(keras_value - by_law) <= law_allowed)
        excess = np.nan_to_num(np.where(off != 0, off / allowed, 0.0), nan=np.inf)
    i = int(np.argmax(np.where(wrong | law_wrong, np.maximum(excess, 1.0) + wrong, excess))) if excess.size else 0
    failed = bool(wrong.any() or law_wrong.any())
    where = tuple(int(k) for k in np.unravel_index(i, keras_value.shape)) if keras_value.shape else ()
    if not failed:
        reason = Reason.WORST_STEP
    else:
        reason = Reason.LAW_DIFFERS if law_wrong.any() else Reason.GRADIENT_DIFFERS
    return Verdict(
        name,
        "update",
        Kind.MISMATCH if failed else Kind.MATCH,
        keras_value.size,
        keras_value.size,
        {"mismatch": int((wrong | law_wrong).sum()), "match": int((~(wrong | law_wrong)).sum())},
        where,
        float(keras_value.ravel()[i]),
        float(predicted.ravel()[i]),
        truncation=0.0,
        rounding=float(allowed.ravel()[i]),
        visible=float(2 * law_allowed.max(initial=0.0)),
        cells=ErrorWindow.around(
            i, keras_value.shape, np.arange(keras_value.size), predicted.ravel(), keras_value.ravel()
        )
        if keras_value.size
        else None,
    ).because(reason, step)
