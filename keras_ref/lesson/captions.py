"""What a lesson says beside its figures: each caption tells what to see, from what happened in this lesson."""

from __future__ import annotations

from dataclasses import dataclass

from keras_ref.lesson.figures import nudge_length
from keras_ref.lesson.lesson import Lesson
from keras_ref.lesson.what_if import Landscape, Run


@dataclass(frozen=True)
class Change:
    """A figure of trainings with one thing changed: its id, the trainings, what was changed, question and caption."""

    name: str
    runs: tuple[Run, ...]
    what: str
    question: str
    caption: str


def captions(lesson: Lesson) -> dict[str, tuple[str, str]]:
    """Title and caption of every figure but landscapes and changes."""
    far = lesson.track.labels[lesson.farthest]
    at_rest = "" if lesson.track.diverged else " It tends to zero as the weight comes to rest."
    return {
        "loss": ("Loss", _loss(lesson)),
        "weight": (
            "The weight",
            f"See the dashes of the nudged weight lie on Keras's line, epoch after epoch. At first this is {far}, which moves farthest; choose another above.",
        ),
        "slope": ("Its slope", f"See how steep the loss is along this weight, on both sides.{at_rest}"),
        "difference": (
            "How far apart",
            "See each solid line stay on or below the dotted one of its colour: both sides differ by what the nudge explains, and by no more. Slopes are compared at the same weights; weights each on their own path, so their differences add up.",
        ),
        "precision": ("… the nudge were larger, or smaller?", _precision(lesson)),
    }


def _loss(lesson: Lesson) -> str:
    track = lesson.track
    first, last = f"{track.losses[0]:.4g}", f"{track.losses[-1]:.4g}"
    dies = " The dotted line marks where a unit dies." if any(u.since > 0 for u in lesson.units) else ""
    if track.diverged:
        return f"See both sides run away together: the steps are too bold, each lands farther off than the last, and the loss grows from {first} to {last} in {lesson.epochs} epochs.{dies}"
    moved = "falls" if track.losses[-1] < track.losses[0] else "goes"
    return f"See one line on the other: the loss {moved} from {first} to {last} on both sides.{dies}"


def _precision(lesson: Lesson) -> str:
    steepest = lesson.steepest
    best = f"For {lesson.track.labels[steepest]} its best h is {lesson.precisions[0].best[steepest]:.2g}."
    return (
        "Read from left to right, as h shrinks. See the V of the forward difference: first its truncation h/2·f″ falls with h, then rounding rises, "
        f"because the change of the loss drowns in the last digits of the loss; the star marks the best h. {best} {_others(lesson)} "
        "What is smaller than 1e-14 or so is autodiff's own rounding, and an error of exactly 0 has no place on this axis."
    )


def _others(lesson: Lesson) -> str:
    """What to see of the other schemes: along a weight of Dense layers with mean squared error the loss is a parabola."""
    straight = all("activation=" not in layer or "'linear'" in layer or "'relu'" in layer for layer in lesson.layers)
    if straight and lesson.loss.startswith("MeanSquaredError") and all("Dense" in layer for layer in lesson.layers):
        return "Along each weight this loss is a parabola (until a ReLU flips), so the other three have no truncation at all: central and Richardson only suffer rounding, and the complex step, which takes no difference, not even that."
    return "Central falls twice as steeply, Richardson has hardly any truncation, and the complex step takes no difference, so nothing is ever lost to rounding."


def landscape(lesson: Lesson, scene: Landscape) -> str:
    """The caption of a landscape."""
    times = nudge_length(scene, lesson.nudge) / lesson.nudge
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
        f"{both}; the dashes of the nudged one lie on Keras's. At the white point both nudges of this epoch are drawn in red, {times:g} times longer than they are: "
        f"a nudge asks how the height changes along one axis at a time.{rest}"
    )


def changes(lesson: Lesson) -> tuple[Change, ...]:
    """The figures of trainings with one thing changed; those without trainings are left out."""
    found = (
        Change("rates", lesson.rates, "learning rate", "… the learning rate were another?", _rates(lesson.rates)),
        Change(
            "batches",
            lesson.batches,
            "batch size",
            "… the batches were smaller?",
            "See as many epochs, cut into smaller batches drawn anew each epoch: more steps, so the loss changes faster, but each step follows the slope of a few samples only, so the line trembles. “Slopes spread” is that noise in numbers: the standard deviation of single batches' slopes at the start, for the steepest weight.",
        ),
        Change(
            "optimizers",
            lesson.optimizers,
            "optimizer",
            "… the optimizer were another?",
            "See the same start and the same learning rate under different laws. A rate that suits one law need not suit another: compare the shapes, not the ranks.",
        ),
    )
    return tuple(change for change in found if change.runs)


def _rates(runs: tuple[Run, ...]) -> str:
    away = "; ".join(
        f"at {run.label} the loss passes 10¹² times its start in epoch {run.diverged}, and we stop"
        for run in runs
        if run.diverged
    )
    higher = " and ".join(run.label for run in runs if run.higher and not run.diverged)
    parts = ["See timid rates creep and bolder ones arrive."]
    if away:
        parts.append(f"Too bold ones diverge: {away}.")
    if higher:
        parts.append(f"At {higher} the loss ends higher than it started: too bold as well.")
    return " ".join(parts)
