"""Gather what a comparison starts from: the loss, the oracles that difference it, and autodiff's gradient."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf

from keras_ref.checks.checked_loss import CheckedLoss
from keras_ref.checks.precision import find_coarsest_unit, judge_precision
from keras_ref.comparison.modes import refuse_mode, run_mode
from keras_ref.comparison.sources.autodiff import Autodiff, run_autodiff
from keras_ref.comparison.sources.differenced_loss import DifferencedLoss
from keras_ref.comparison.sources.evidence import Evidence, Preparation
from keras_ref.comparison.sources.oracles import DirectionalOracle, ForwardOracle, Oracle, Oracles, TwinOracle
from keras_ref.comparison.sources.settings import Settings
from keras_ref.errors import BackwardPassFailed, BadInput, UserCodeFailed
from keras_ref.evaluation.graphs.gradient_modes import COMPILE_ERRORS
from keras_ref.evaluation.graphs.traced_losses import Way
from keras_ref.evaluation.keras_objects.leaves import name_leaves
from keras_ref.evaluation.keras_objects.real_parts import is_real_or_complex
from keras_ref.evaluation.loss_function import LossFunction
from keras_ref.translation.from_keras import NoTwin
from scratch.arrays import Array

#: a loss of TensorFlow or of a program
Loss = TypeVar("Loss", bound=DifferencedLoss)

#: what is said of a variable or input without entries
NOTE_ON_EMPTY = "{}: it has no entries, so that there was nothing to compare."
_NOTE_ON_EAGER = (
    "The backward pass runs in a tf.function only, as fit() runs it, and raises eagerly: its gradient was taken there."
)


def gather(subject: CheckedLoss, settings: Settings, *, dtype: str | None, started: float) -> Evidence:
    """The evidence of one check, whose subject computes in `dtype` (None: in the precision that it has).

    started   time.perf_counter() when the check began
    Raises: BadInput for what cannot be compared; NoTwin where only a twin is wanted and there is none.
    """

    def loss_of(**options: Any) -> LossFunction:
        return subject.function(watch_inputs=settings.watch_inputs, dtype=dtype or subject.own_dtype, **options)

    def contracted(direction: Mapping[str, Array]) -> LossFunction:
        return loss_of(contraction=direction)

    loss = loss_of()
    loss.progress = settings.progress
    if dtype is None:
        loss.unit = find_coarsest_unit([*subject.trained, *loss.inputs.values()])
    _require_anything(loss)
    matching = settings.select(loss.values, subject.name)
    names = tuple(name for name in matching if loss.values[name].size)
    settings.require_expected(loss.values, subject.name)
    wanted = settings.oracles_differenced
    if settings.along_directions and "forward" in wanted:
        found = build_directional_oracle(loss, subject=subject.name)
    else:
        found = build_oracles(loss, subject.twin, subject=subject.name, wanted=wanted, seed=settings.seed)
    prepared = Preparation(started, time.perf_counter(), loss.evaluations)
    autodiff = _run_autodiff(loss, settings.modes[0])
    refused = [] if autodiff.how == settings.modes[0] else [_NOTE_ON_EAGER]
    return Evidence(
        subject=subject.name,
        loss=loss,
        oracles=found.oracles,
        autodiff=autodiff,
        names=names,
        settings=settings,
        contracted=contracted,
        notes=(
            *subject.notes,
            *(NOTE_ON_EMPTY.format(name) for name in matching if name not in names),
            *_note_way(loss, subject.name),
            *_note_complex(loss),
            *(_note_integers(loss) if settings.watch_inputs else ()),
            *found.notes,
            *refused,
        ),
        preparation=prepared,
    )


def build_oracles(
    loss: Loss,
    twin: Callable[[Loss], TwinOracle],
    *,
    subject: str,
    wanted: Sequence[str] = ("forward", "twin"),
    seed: int = 0,
) -> Oracles:
    """The oracles that are wanted and possible.

    Raises: NoTwin where the twin alone is wanted and there is none; BadInput where the loss is not finite.
    """
    notes: list[str] = []
    forward: ForwardOracle | None = None
    if "forward" in wanted:
        forward = ForwardOracle.at(loss, loss.values, seed=seed, inputs=frozenset(loss.inputs))
        _require_finite(forward, subject)
        judged = judge_precision(forward, loss, subject=subject, seed=seed)
        forward, notes = judged.oracle, [*judged.notes]
    beside: TwinOracle | None = None
    if "twin" in wanted:
        try:
            beside = twin(loss)
        except NoTwin as reason:
            if forward is None:
                raise
            notes.append(f"No twin: {reason}")
        else:
            _require_finite(beside, subject)
            beside = replace(beside, inputs=frozenset(loss.inputs))
    return Oracles(tuple(oracle for oracle in (forward, beside) if oracle is not None), tuple(notes))


def build_directional_oracle(loss: LossFunction, *, subject: str) -> Oracles:
    """The oracle for directions that move everything at once. Raises: BadInput where the loss is not finite."""
    oracle = DirectionalOracle.of(loss)
    _require_finite(oracle, subject)
    judged = judge_precision(oracle, loss, subject=subject)
    return Oracles((judged.oracle,), judged.notes)


def _require_finite(oracle: Oracle, subject: str) -> None:
    if not np.isfinite(oracle.base):
        raise BadInput(
            f"The loss must be finite before its gradient can be checked. Received: {oracle.base} from the forward "
            f"pass of {subject!r}. Look at the forward pass, the data and the weights first."
        )
    if not np.isfinite(oracle.noise):
        raise BadInput(
            f"The loss of {subject!r} must be finite near the point. Received: values that are not. Move the weights."
        )


def _run_autodiff(loss: LossFunction, mode: str) -> Autodiff:
    try:
        return run_mode(loss, mode)
    except BackwardPassFailed as failed:
        if mode != "eager" or failed.place or failed.lacks_gradient or loss.way is Way.EAGER:
            raise
        try:  # a backward pass of Keras's own that runs as training runs it
            return run_autodiff(loss, loss.values, mode="function")
        except UserCodeFailed:
            raise failed from failed.error
    except COMPILE_ERRORS as error:
        if mode != "jit_compile":
            raise
        raise refuse_mode(mode, error) from error


def _note_way(loss: LossFunction, subject: str) -> list[str]:
    """A note where the loss is not traced as it is."""
    if loss.way is Way.AUTOGRAPH:
        return [f"{subject} looks at values (an `if`, `while` or `for` on a tensor): it was traced with AutoGraph."]
    if loss.way is Way.EAGER:
        return [
            (
                f"{subject} runs only eagerly (traced, it raises {loss.refusal}): its loss was evaluated once for "
                "every step of every entry, which is slow, and its rounding was estimated from differences, which is "
                "no bound."
            )
        ]
    return []


def _note_integers(loss: LossFunction) -> list[str]:
    leaves = {n: t for n, t in name_leaves(loss.data.x).items() if t is not None and n not in loss.inputs}
    kinds = {n: "an infinity" if is_real_or_complex(t.dtype) else t.dtype.name for n, t in leaves.items()}
    return [f"{name}: {kind} has no gradient; it was passed on as it is." for name, kind in kinds.items()]


def _note_complex(loss: LossFunction) -> list[str]:
    names = [name for name, source in loss.sources.items() if tf.as_dtype(source.dtype).is_complex]
    if not names:
        return []
    note = (
        f"{', '.join(names)}: complex. The last index is 0 for the real part a and 1 for the imaginary part b; the "
        "gradient of a real loss L is compared in TensorFlow's convention, ∂L/∂a + i ∂L/∂b."
    )
    return [note]


def _require_anything(loss: LossFunction) -> None:
    """Require a variable or a float input, and a number in one of them. Raises: BadInput."""
    if not loss.values:
        leaves = [t for t in tf.nest.flatten(loss.data.x) if t is not None]
        received = ", ".join(sorted({t.dtype.name for t in leaves})) or "nothing"
        raise BadInput(
            f"A check must have a float input or a variable to differentiate by. Received: {received}. Pass floats, "
            "or variables."
        )
    if not any(value.size for value in loss.values.values()):
        raise BadInput(
            f"A check must have a number to differentiate by. Received: nothing but {', '.join(loss.values)}, without "
            "entries. Pass data."
        )
