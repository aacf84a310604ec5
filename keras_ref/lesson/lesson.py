"""Lesson: everything that a page or a notebook shows, computed once; make() computes one."""

from __future__ import annotations

import contextlib
import inspect
import io
import math
import runpy
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import cache, partial
from typing import Any

import numpy as np

from keras_ref.errors import CouldNotRun, errors_as_bad_input
from keras_ref.evaluation.changed_state.float64 import restore_process_state
from keras_ref.evaluation.changed_state.guard import leaves_no_trace
from keras_ref.lesson import keras_recipe
from keras_ref.lesson import what_if as what_if_module
from keras_ref.lesson.lesson_model import LessonModel, load_lesson_model
from keras_ref.lesson.live import DrawnLayer, Live, build_live, draw_layers
from keras_ref.lesson.tables import track_table
from keras_ref.lesson.two_trainings import Track, keras_training, record_trainings
from keras_ref.lesson.walkthrough import Step, Unit, find_dead_units, walk_through
from keras_ref.lesson.what_if import Landscape, Precision, Training
from keras_ref.lesson.words import ENGLISH, Phrase, Words, phrase
from keras_ref.own_modules import recipe
from keras_ref.reports.escaping import make_printable
from keras_ref.undoing import undoing
from scratch.progress import Progress

#: epochs of the two trainings, and of each training with one thing changed
EPOCHS, SHORT = 100, 60
#: weights × epochs that fit into a page
SHOWN = 15_000


@dataclass(frozen=True)
class Listing:
    """A program and what it printed."""

    title: Phrase
    source: str
    printed: str


@dataclass(frozen=True)
class Lesson:
    """All that a page or a notebook shows of one LessonModel."""

    name: str
    title: Phrase
    note: Phrase
    source: Phrase | None
    layers: tuple[str, ...]
    optimizer: str
    loss: str
    nudge: float
    step: Step
    track: Track
    units: tuple[Unit, ...]
    landscapes: tuple[Landscape, ...]
    precisions: tuple[Precision, ...]
    rates: tuple[Training, ...]
    batches: tuple[Training, ...]
    optimizers: tuple[Training, ...]
    listings: tuple[Listing, ...]
    live: Live | None
    network: tuple[DrawnLayer, ...]

    @property
    def epochs(self) -> int:
        """Epochs of both trainings."""
        return len(self.track.losses) - 1

    @property
    def steepest(self) -> int:
        """The index of the weight with the largest slope at the start: the one to explain first."""
        return int(np.argmax(np.nan_to_num(np.abs(self.track.slopes[0]))))

    @property
    def farthest(self) -> int:
        """The index of the weight that moves farthest: the one to watch."""
        return int(np.argmax(np.nan_to_num(np.max(np.abs(self.track.weights - self.track.weights[0]), axis=0))))

    @property
    def verdict(self) -> Phrase:
        """Whether every difference between the two trainings is within what is allowed, in one sentence."""
        compared, outside = 2 * self.track.weights.size, self.track.outside
        values = {"compared": compared, "outside": outside, "epochs": self.epochs}
        verdict = phrase("verdict_outside" if outside else "verdict_within", **values)
        away = self.track.diverged
        return phrase("verdict_diverges", verdict=verdict, away=away) if away else verdict

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; numbers that are not finite become None."""
        return _simplify_record(self)

    def __repr__(self) -> str:
        return f"{self.title}: {self.note}\n{self.verdict}"

    def _repr_html_(self) -> str:
        return self.summarize(ENGLISH)

    def summarize(self, words: Words) -> str:
        """Title, note, source, verdict and the weights at the start and at the end, as HTML."""
        marks = sorted({0, min(1, self.epochs), self.epochs})
        sentences = "".join(f"<p>{words.html(said)}</p>" for said in (self.note, self.source, self.verdict) if said)
        return f"<h3>{words.html(self.title)}</h3>{sentences}{track_table(self.track, marks, words)}"


def simplify(value: Any) -> Any:
    """Records, arrays and numbers as dictionaries, lists and floats; phrases in English; what is not finite, None."""
    if is_dataclass(value) and not isinstance(value, type):
        return str(value) if isinstance(value, Phrase) else _simplify_record(value)
    if isinstance(value, dict):
        return {key: simplify(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [simplify(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return simplify(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _simplify_record(record: Any) -> dict[str, Any]:
    """A record's fields and properties."""
    derived = [name for name, member in vars(type(record)).items() if isinstance(member, property)]
    return {name: simplify(getattr(record, name)) for name in (*(f.name for f in fields(record)), *derived)}


@errors_as_bad_input()
@leaves_no_trace
@restore_process_state()
def make(
    target: str | LessonModel = "recipe1",
    data: str = "",
    *,
    seed: int = 0,
    epochs: int = EPOCHS,
    progress: Progress | None = None,
) -> Lesson:
    """Compute the lesson of a recipe, a model or a LessonModel.

    target     "recipe1", "recipe2", "package.module:factory", "file.keras", or a LessonModel
    data       path of an .npz file with x and y; drawn with `seed` where neither it nor the factory gives any
    progress   called with (done, total, what) before each of the parts, and at least every second

    What the process shares (random states, Keras's scopes and float type) is afterwards what it was.
    Raises: CouldNotRun or BadInput, in one sentence, for a model that no lesson can be made of.
    """
    lesson_model = target if isinstance(target, LessonModel) else load_lesson_model(target, data, seed=seed)
    refuse_long(lesson_model, epochs)
    parts = ("both trainings", "step sizes", "learning rates", "batch sizes", "optimizers", "landscape", "programs")

    def begin(part: str) -> None:
        if progress is not None:
            progress(parts.index(part), len(parts), part)

    short = min(epochs, SHORT)
    begin("both trainings")
    with keras_training(lesson_model) as keras_side:
        track = record_trainings(lesson_model, keras_side, epochs=epochs)
        step = walk_through(lesson_model, keras_side, track)
        begin("step sizes")
        precisions = what_if_module.compare_schemes(lesson_model, keras_side)
    begin("learning rates")
    rates = what_if_module.try_learning_rates(lesson_model, short)
    begin("batch sizes")
    batches = what_if_module.try_batch_sizes(lesson_model, short, seed=seed)
    begin("optimizers")
    optimizers = what_if_module.try_optimizers(lesson_model, short)
    begin("landscape")
    landscapes = what_if_module.draw_landscapes(lesson_model, track)
    begin("programs")
    return Lesson(
        name=lesson_model.name,
        title=lesson_model.title,
        note=lesson_model.note,
        source=lesson_model.source,
        layers=tuple(make_printable(f"{n}: {layer!r}") for n, layer in lesson_model.model.layers.items()),
        optimizer=_describe(lesson_model.optimizer),
        loss=", ".join(repr(loss) for loss in lesson_model.objective.losses),
        nudge=recipe.NUDGE,
        step=step,
        track=track,
        units=find_dead_units(lesson_model, [lesson_model.unflatten(vector) for vector in track.weights]),
        landscapes=landscapes,
        precisions=precisions,
        rates=rates,
        batches=batches,
        optimizers=optimizers,
        listings=run_programs(),
        live=build_live(lesson_model, landscapes[0].entries if landscapes else None),
        network=draw_layers(lesson_model),
    )


def refuse_long(lesson_model: LessonModel, epochs: int) -> None:
    """Raises: CouldNotRun for more weights times epochs than a page can show."""
    entries = len(lesson_model.labels)
    if entries * epochs > SHOWN:
        raise CouldNotRun(
            f"A lesson must have at most {SHOWN} weights times epochs to fit into a page. Received: {entries} weights "
            f"of {lesson_model.name}, {epochs} epochs. Pass --epochs {SHOWN // entries}, or a smaller model."
        )


def _describe(optimizer: Any) -> str:
    """An optimizer with its learning rate, which its repr leaves out where it is the default."""
    shown, rate = repr(optimizer), getattr(optimizer, "learning_rate", None)
    if "learning_rate" in shown or not isinstance(rate, float):
        return shown
    return shown.replace("(", f"(learning_rate={rate:g}, ", 1).replace(", )", ")")


@cache
def run_programs() -> tuple[Listing, ...]:
    """scratch/recipe.py and its equivalent in Keras, with what each prints when it is run."""
    return (
        Listing(
            phrase("listing_numpy"),
            inspect.getsource(recipe),
            _capture_print(lambda: runpy.run_path(str(recipe.__file__), run_name="__main__")),
        ),
        Listing(
            phrase("listing_keras"),
            inspect.getsource(keras_recipe),
            _capture_print(keras_recipe.show),
        ),
    )


def _capture_print(program: Callable[[], object]) -> str:
    """What a program prints. NumPy's print options, which recipe.py sets, are put back."""
    out = io.StringIO()
    with undoing(partial(np.set_printoptions, **np.get_printoptions())), contextlib.redirect_stdout(out):
        program()
    return out.getvalue()
