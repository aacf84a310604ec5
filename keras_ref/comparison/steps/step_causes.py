"""What a training step that differs looks like: its gradient, or what the optimizer makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace

import numpy as np

from keras_ref.comparison.diagnoses.step_variations import StepOf, explain_step
from keras_ref.comparison.diagnoses.table import Gradients, explain_each
from keras_ref.comparison.steps.optimizer_step import StepPredictions
from keras_ref.evaluation.loss_function import Data
from keras_ref.programs.program import flatten_arrays
from keras_ref.reports.verdict import Reason, Verdict
from scratch.arrays import Array

#: what the two sides of a step are called
LAW, KERAS = "the optimizer's law", "Keras's step"


def name_causes(
    verdicts: Mapping[str, Verdict],
    predictions: StepPredictions,
    *,
    before: Mapping[str, Array],
    after: Mapping[str, Array],
    data: Data,
) -> dict[str, Verdict]:
    """The verdicts on one step, by name, with what explains those that differ, where something fits to rounding.

    before, after   the weights around Keras's own step
    """
    leaves = flatten_arrays(data.x)
    samples = len(leaves[0]) if leaves and leaves[0].ndim else 0
    wrong = [name for name, verdict in verdicts.items() if verdict.reason_code is Reason.GRADIENT_DIFFERS]
    causes = explain_each(
        Gradients(
            wrong={name: predictions.gradients[name] for name in wrong if name in predictions.gradients},
            right={name: numeric.slope for name, numeric in predictions.slopes.items()},
            allowed={name: float(np.max(numeric.error, initial=0.0)) for name, numeric in predictions.slopes.items()},
            weights=before,
            samples=samples,
            indices=next((leaf for leaf in leaves if leaf.dtype.kind in "iu"), None),
        )
    )
    for name, verdict in verdicts.items():
        if verdict.reason_code is Reason.LAW_DIFFERS:
            causes[name] = _of_law(name, predictions, before=before[name], after=after[name], samples=samples)
    return {name: replace(verdict, looks_like=causes.get(name, "")) for name, verdict in verdicts.items()}


def _of_law(name: str, predictions: StepPredictions, *, before: Array, after: Array, samples: int) -> str:
    """What Keras's step does otherwise than the optimizer's law; "" where nothing fits."""
    optimizer = predictions.optimizer
    found = StepOf(
        name=name,
        start=before,
        a=(predictions.law.weights[name],),
        b=(after,),
        gradient=predictions.gradients.get(name),
        optimizer=None
        if optimizer is None
        else (type(optimizer).__name__, {one.name: getattr(optimizer, one.name) for one in fields(optimizer)}),
        samples=samples,
        called=(LAW, KERAS),
    )
    return explain_step(found, 0, float(np.max(predictions.law.allowed[name], initial=0.0)))
