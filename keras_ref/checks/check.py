"""The way through a check of gradients, which check_gradients, check_layer and check_function share."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from keras_ref.checks.annotations import list_annotators
from keras_ref.checks.checked_loss import Prepare
from keras_ref.checks.disconnected import GradientPaths
from keras_ref.checks.gather import gather
from keras_ref.checks.given_function import OtherFunction, require_given_function, require_gradient_in_float64
from keras_ref.checks.precision import (
    LowPrecision,
    PrecisionCost,
    is_about_precision,
    measure_cost,
    measure_low_precision,
    note_refusal,
)
from keras_ref.comparison.digits import compare_digits
from keras_ref.comparison.efforts import choose_effort
from keras_ref.comparison.higher_order import compare_higher_orders
from keras_ref.comparison.modes import compare_modes
from keras_ref.comparison.repeatability import compare_runs
from keras_ref.comparison.sources.evidence import Evidence, Outcome, annotate
from keras_ref.comparison.sources.settings import Settings
from keras_ref.errors import BadInput, UserCodeFailed, errors_as_bad_input
from keras_ref.evaluation.changed_state.float64 import DTYPE, in_precision, restore_process_state
from keras_ref.evaluation.loss_function import LossFunction
from keras_ref.reports.verdict import Report

NOTE_ON_ESTIMATE = (
    "The rounding of the {} could not be measured operation by operation ({}): it was estimated from differences, "
    "which is no bound. Please report it."
)


def check(keras_objects: Sequence[Any], prepare: Prepare, settings: Settings) -> Report:
    """Check the gradients of a loss that `prepare` builds over Keras objects.

    The objects compute in float64 for the time of the check. Where they do not run in float64 at all, they are checked
    in the precision that they have. What a lower precision than float64 costs the gradient is measured first.
    """
    with errors_as_bad_input(), restore_process_state():
        first: UserCodeFailed | None = None
        low = LowPrecision()
        try:
            low = measure_low_precision(keras_objects, prepare, with_gradient=not settings.along_directions)
        except UserCodeFailed as failed:  # data in float64 may be what it does not take
            if not is_about_precision(failed):
                raise
            first = failed
        try:
            return check_in(DTYPE, keras_objects, prepare, settings=settings, low=low)
        except UserCodeFailed as failed:
            if not (isinstance(failed, OtherFunction) or is_about_precision(failed)):
                raise
            note = str(failed) if isinstance(failed, OtherFunction) else note_refusal(failed.error)
            first, low = first or failed, LowPrecision(notes=(note,), loss=low.loss, unit=low.unit)
            try:
                return check_in(None, keras_objects, prepare, settings=settings, low=low)
            except (UserCodeFailed, BadInput):
                if isinstance(failed, OtherFunction):
                    raise
                raise first from first.error


def check_in(
    dtype: str | None, keras_objects: Sequence[Any], prepare: Prepare, *, settings: Settings, low: LowPrecision
) -> Report:
    """Check the gradients while the objects compute in `dtype` (None: in the precision that they have)."""
    started = time.perf_counter()
    with in_precision(dtype, *keras_objects):
        subject = prepare(dtype or "float32")
        evidence = gather(subject, settings, dtype=dtype, started=started)
        require_given_function(low, evidence, dtype=dtype)
        if dtype is not None:
            require_gradient_in_float64(low, evidence)
        paths = GradientPaths.of(subject, cast("LossFunction", evidence.loss), keras_objects)  # as gather made it
        evidence = replace(evidence, surrogates=paths.find_surrogates(evidence.names))
        outcome = annotate(compare(evidence), list_annotators(evidence, paths, keras_objects))
        cost = measure_cost(low, evidence.autodiff, evidence.loss)
    return make_report(evidence, outcome, cost)


def compare(evidence: Evidence) -> Outcome:
    """The verdicts of a check. A loss that is no function of the point is compared no further."""
    runs = compare_runs(evidence)
    if runs.verdicts:
        return runs
    compared = choose_effort(evidence).compare(evidence) + compare_modes(evidence) + compare_higher_orders(evidence)
    return compared + compare_digits(evidence) if evidence.settings.digits else compared


def make_report(evidence: Evidence, outcome: Outcome, cost: PrecisionCost) -> Report:
    """The report of a check, with what a low precision costs."""
    estimated = (NOTE_ON_ESTIMATE.format(what, why) for what, why in evidence.loss.estimated.items())
    notes = (*evidence.notes, *outcome.notes, *cost.notes, *estimated)
    return Report(
        evidence.subject,
        (*outcome.verdicts, *cost.verdicts),
        notes=tuple(dict.fromkeys(notes)),
        seed=evidence.settings.seed,
        replay=evidence.settings.replay,
        noise=evidence.oracles[0].noise,
        precision_loss=dict(cost.shares),
    )
