"""The words of a lesson: the caption of each figure says what to look for, given what happened in this lesson."""

from __future__ import annotations

from dataclasses import dataclass

from keras_ref.lesson.figures import times_longer
from keras_ref.lesson.lesson import Lesson
from keras_ref.lesson.what_if import Landscape, Training


@dataclass(frozen=True)
class Caption:
    """Title and caption of a figure."""

    title: str
    text: str


@dataclass(frozen=True)
class Comparison:
    """A figure of trainings with one thing changed: its id, the trainings, what was changed, and its caption."""

    name: str
    trainings: tuple[Training, ...]
    changed: str
    caption: Caption


def write_captions(lesson: Lesson) -> dict[str, Caption]:
    """{figure: its caption}, of every figure but landscapes and comparisons."""
    farthest = lesson.track.labels[lesson.farthest]
    at_rest = "" if lesson.track.diverged else " It tends to zero as the weight comes to rest."
    return {
        "loss": Caption("Loss", _loss(lesson)),
        "weight": Caption(
            "The weight",
            "See the dashes of the nudged weight lie on Keras's line, epoch after epoch. "
            f"This is {farthest}, which moves farthest; choose another above.",
        ),
        "slope": Caption("Its slope", f"See how steep the loss is along this weight, in both trainings.{at_rest}"),
        "difference": Caption(
            "How far apart",
            "See each solid line stay on or below the dotted line of its colour: the two trainings differ by no more "
            "than the nudge explains. Slopes are compared at the same weights. Weights are compared along their own "
            "paths, so their differences add up.",
        ),
        "precision": Caption("… the nudge were larger, or smaller?", _precision(lesson)),
    }


def _loss(lesson: Lesson) -> str:
    track = lesson.track
    first, last = f"{track.losses[0]:.4g}", f"{track.losses[-1]:.4g}"
    dies = " A dotted line marks where a unit dies." if any(u.since > 0 for u in lesson.units) else ""
    if track.diverged:
        return (
            "See both trainings diverge together: the steps are too large, each lands farther from the minimum than "
            f"the one before, and the loss grows from {first} to {last} in {lesson.epochs} epochs.{dies}"
        )
    moved = "falls" if track.losses[-1] < track.losses[0] else "goes"
    return f"See one line on the other: in both trainings the loss {moved} from {first} to {last}.{dies}"


def _precision(lesson: Lesson) -> str:
    steepest = lesson.steepest
    return (
        "Read from left to right, as h shrinks. The error of the forward difference is a V: first its truncation error "
        "h/2·f″ falls with h, then rounding error rises, because the change of the loss disappears in the last digits "
        "of the loss. The star marks the best h. "
        f"For {lesson.track.labels[steepest]} it is {lesson.precisions[0].best[steepest]:.2g}. {_others(lesson)} "
        "Errors below about 1e-14 are autodiff's own rounding; an error of exactly 0 cannot be drawn on this axis."
    )


def _others(lesson: Lesson) -> str:
    """What to see of the other schemes. Along a weight of Dense layers, mean squared error is a parabola."""
    straight = all("activation=" not in layer or "'linear'" in layer or "'relu'" in layer for layer in lesson.layers)
    if straight and lesson.loss.startswith("MeanSquaredError") and all("Dense" in layer for layer in lesson.layers):
        return (
            "Along each weight this loss is a parabola (until a ReLU switches), so the other three schemes have no "
            "truncation error at all: central and Richardson have rounding error only, and the complex step, which "
            "subtracts nothing, not even that."
        )
    return (
        "The error of the central difference falls twice as steeply, Richardson extrapolation has hardly any "
        "truncation error, and the complex step subtracts nothing, so nothing is lost to rounding."
    )


def write_landscape_caption(lesson: Lesson, landscape: Landscape) -> str:
    """What to see in a landscape."""
    both = (
        "See both paths leap across the valley, each time farther, until they leave the picture"
        if lesson.track.diverged
        else "See both paths run downhill"
    )
    rest = (
        ""
        if len(lesson.track.labels) == 2
        else " The other weights are held at their start, so away from it the paths are seen in projection."
    )
    return (
        f"{both}; the dashes of the nudged one lie on Keras's. At the white point the two nudges of this epoch are "
        f"drawn in red, {times_longer(landscape, lesson.nudge)} than they are: a nudge measures how the height changes "
        f"along one axis at a time.{rest}"
    )


def write_comparisons(lesson: Lesson) -> tuple[Comparison, ...]:
    """The figures of trainings with one thing changed; without those that have no trainings."""
    found = (
        Comparison(
            "rates",
            lesson.rates,
            "learning rate",
            Caption("… the learning rate were another?", _rates(lesson.rates)),
        ),
        Comparison(
            "batches",
            lesson.batches,
            "batch size",
            Caption(
                "… the batches were smaller?",
                "See the same number of epochs, cut into smaller batches that are drawn anew each epoch. There are "
                "more steps, so the loss changes faster, but each step follows the slope of a few samples only, so the "
                "line is noisy. “Spread of slopes” measures that noise: the standard deviation of single batches' "
                "slopes at the start, for the steepest weight.",
            ),
        ),
        Comparison(
            "optimizers",
            lesson.optimizers,
            "optimizer",
            Caption(
                "… the optimizer were another?",
                "See the same start and the same learning rate with different optimizers. A rate that suits one "
                "optimizer need not suit another: compare the shapes of the lines, not their order.",
            ),
        ),
    )
    return tuple(comparison for comparison in found if comparison.trainings)


def _rates(trainings: tuple[Training, ...]) -> str:
    away = "; ".join(
        f"at {training.label} the loss passes 10¹² times its start in epoch {training.diverged}, and we stop"
        for training in trainings
        if training.diverged
    )
    higher = " and ".join(training.label for training in trainings if training.higher and not training.diverged)
    sentences = ["See small rates creep and larger ones arrive."]
    if away:
        sentences.append(f"Rates that are too large diverge: {away}.")
    if higher:
        sentences.append(f"At {higher} the loss ends higher than it started: too large as well.")
    return " ".join(sentences)
