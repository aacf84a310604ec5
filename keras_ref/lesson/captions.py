"""The words of a lesson: the caption of each figure says what to look for, given what happened in this lesson."""

from __future__ import annotations

from dataclasses import dataclass

from keras_ref.lesson.figures import describe_times_longer
from keras_ref.lesson.lesson import Lesson
from keras_ref.lesson.what_if import Landscape, Training
from keras_ref.lesson.words import Phrase, Words, phrase


@dataclass(frozen=True)
class Caption:
    """Title and caption of a figure."""

    title: Phrase
    text: Phrase


@dataclass(frozen=True)
class Comparison:
    """A figure of trainings with one thing changed: its id, the trainings, what was changed, and its caption."""

    name: str
    trainings: tuple[Training, ...]
    changed: Phrase
    caption: Caption


def write_captions(lesson: Lesson) -> dict[str, Caption]:
    """{figure: its caption}, of every figure but landscapes and comparisons."""
    farthest = lesson.track.labels[lesson.farthest]
    rests = "slope_text" if lesson.track.diverged else "slope_rest"
    return {
        "loss": Caption(phrase("loss_title"), _caption_loss(lesson)),
        "weight": Caption(phrase("weight_title"), phrase("weight_text", weight=farthest)),
        "slope": Caption(phrase("slope_title"), phrase(rests)),
        "difference": Caption(phrase("difference_title"), phrase("difference_text")),
        "precision": Caption(phrase("precision_title"), _caption_precision(lesson)),
    }


def _caption_loss(lesson: Lesson) -> Phrase:
    track = lesson.track
    ends = {"first": f"{track.losses[0]:.4g}", "last": f"{track.losses[-1]:.4g}"}
    moved = "falls" if track.losses[-1] < track.losses[0] else "goes"
    text = phrase("loss_diverges", **ends, epochs=lesson.epochs) if track.diverged else phrase(f"loss_{moved}", **ends)
    return phrase("loss_dies", text=text) if any(unit.since > 0 for unit in lesson.units) else text


def _caption_precision(lesson: Lesson) -> Phrase:
    steepest = lesson.steepest
    best = f"{lesson.precisions[0].best[steepest]:.2g}"
    return phrase("precision_text", weight=lesson.track.labels[steepest], best=best, others=_caption_others(lesson))


def _caption_others(lesson: Lesson) -> Phrase:
    """What to see of the other schemes. Along a weight of Dense layers, mean squared error is a parabola."""
    straight = all("activation=" not in layer or "'linear'" in layer or "'relu'" in layer for layer in lesson.layers)
    squared = lesson.loss.startswith("MeanSquaredError")
    parabola = straight and squared and all("Dense" in layer for layer in lesson.layers)
    return phrase("precision_parabola" if parabola else "precision_curved")


def write_landscape_caption(lesson: Lesson, landscape: Landscape) -> Phrase:
    """What to see in a landscape."""
    both = phrase("landscape_leaps" if lesson.track.diverged else "landscape_runs")
    text = phrase("landscape_text", both=both, times=describe_times_longer(landscape, lesson.nudge))
    return text if len(lesson.track.labels) == 2 else phrase("landscape_rest", text=text)


def write_comparisons(lesson: Lesson, words: Words) -> tuple[Comparison, ...]:
    """The figures of trainings with one thing changed; without those that have no trainings."""
    trainings = {"rates": lesson.rates, "batches": lesson.batches, "optimizers": lesson.optimizers}
    texts = {"rates": _caption_rates(lesson.rates, words), "batches": phrase("batches_text")}
    return tuple(
        Comparison(
            name,
            found,
            phrase(f"{name}_changed"),
            Caption(phrase(f"{name}_title"), texts.get(name, phrase("optimizers_text"))),
        )
        for name, found in trainings.items()
        if found
    )


def _caption_rates(trainings: tuple[Training, ...], words: Words) -> Phrase:
    """What to see of several learning rates; how many sentences that are depends on what became of them."""
    away = "; ".join(
        words.say("rates_away_one", rate=training.label, epoch=training.diverged)
        for training in trainings
        if training.diverged
    )
    ended_higher = [words.say(training.label) for training in trainings if training.higher and not training.diverged]
    sentences = [words.say("rates_text")]
    if away:
        sentences.append(words.say("rates_away", away=away))
    if ended_higher:
        sentences.append(words.say("rates_higher", rates=words.say("rates_and").join(ended_higher)))
    return phrase("plain", text=" ".join(sentences))
