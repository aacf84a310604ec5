"""`gradtwin recipe --explain`: what happens to one weight in an epoch, in sentences; and the schemes by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from keras_ref.lesson.lesson_model import LessonModel
from keras_ref.lesson.two_trainings import keras_training, measure_slopes
from keras_ref.lesson.walkthrough import explain_difference, measure_curvature_error
from scratch.differences import Backward, Central, ComplexStep, Forward, Richardson, Scheme


@dataclass(frozen=True)
class NamedScheme:
    """How to make a difference scheme with a nudge of size h, and how it gets a slope, in sentences.

    The sentences are a format string of h, slope, after (the nudged loss) and change (of the loss).
    """

    make: Callable[[float], Scheme]
    sentences: str


SCHEMES = {
    "forward": NamedScheme(
        lambda h: Forward(step=h),
        "Push it up by h = {h:g}: the loss becomes {after:.12g}, a change of {change:+.6g}.\n"
        "The change divided by h is the slope: {slope:.10g}.",
    ),
    "backward": NamedScheme(
        lambda h: Backward(step=h),
        "Pull it down by h = {h:g}; the change of the loss divided by -h is the slope: {slope:.10g}.",
    ),
    "central": NamedScheme(
        lambda h: Central(step=h),
        "Push it up by h = {h:g}, then pull it down by h; half the difference of the two losses divided by h is the "
        "slope: {slope:.10g}.",
    ),
    "richardson": NamedScheme(
        lambda h: Richardson(start=h),
        "Push and pull it by ever smaller nudges, the first one {h:g} times its size, and extrapolate to a nudge of 0: "
        "the slope is {slope:.10g}.",
    ),
    "complex": NamedScheme(
        lambda h: ComplexStep(step=h),
        "Push it by h = {h:g} in the imaginary direction: the imaginary part of the loss divided by h is the slope, "
        "{slope:.10g}.",
    ),
}


def explain_weight(lesson_model: LessonModel, scheme: str, step: float) -> list[str]:
    """What happens to the weight with the largest slope in the first epoch, sentence by sentence.

    scheme   a name in SCHEMES;   step   the size of its nudge
    """
    estimates = measure_slopes(
        lesson_model, lesson_model.weights, lesson_model.x, lesson_model.y, scheme=SCHEMES[scheme].make(step)
    )
    slopes = lesson_model.flatten({n: e.value for n, e in estimates.items()})
    i = int(np.argmax(np.abs(slopes)))
    slope, allowed = slopes[i], lesson_model.flatten({n: e.error for n, e in estimates.items()})[i]
    with keras_training(lesson_model) as keras_side:
        autodiff = lesson_model.flatten(keras_side.gradient(lesson_model.weights))[i]
    start = lesson_model.flatten(lesson_model.weights)
    moved = start.copy()
    moved[i] += step
    before = lesson_model.evaluate_loss(lesson_model.weights)
    after = lesson_model.evaluate_loss(lesson_model.unflatten(moved))
    why = []
    if scheme == "forward":
        curved = float(measure_curvature_error(lesson_model, step)[i])
        reason = explain_difference(
            lesson_model,
            lesson_model.labels[i].split("[")[0],
            slope=slope,
            autodiff=autodiff,
            explained=curved,
            allowed=allowed,
            step=step,
        )
        why = [f"{reason} Measured on the loss itself, h/2·f″ is {curved:+.3g}."]
    rate = lesson_model.optimizer.learning_rate  # type: ignore[attr-defined]
    return [
        (
            f"Look at {lesson_model.labels[i]} of {lesson_model.name}, which is {start[i]:.10g}. "
            f"The loss of all {lesson_model.samples} samples is {before:.12g}."
        ),
        *SCHEMES[scheme].sentences.format(h=step, slope=slope, after=after, change=after - before).splitlines(),
        (
            f"Back-propagation computes {autodiff:.10g}: the two differ by {slope - autodiff:+.3g}, and may differ by "
            f"{allowed:.3g}, truncation and rounding error of the nudge."
        ),
        *why,
        (
            f"The weight steps against the slope, {rate:g} times as far: {start[i]:.10g} - {rate:g} · {slope:.10g} = "
            f"{start[i] - rate * slope:.12g}. "
            f"With back-propagation's slope it would be {start[i] - rate * autodiff:.12g}."
        ),
        "Every other weight is nudged the same way, one at a time, and then all step together: that is one epoch."
        + (f" {lesson_model.note}" if lesson_model.name == "recipe2" else ""),
    ]
