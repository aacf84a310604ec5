"""A lesson: everything that is shown, computed once by the engine, frozen, and as plain data for a page."""

from __future__ import annotations

import contextlib
import inspect
import io
import math
import runpy
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any

import numpy as np

from keras_ref.errors import CouldNotRun
from keras_ref.lesson import keras_recipe
from keras_ref.lesson import what_if as what_if_module
from keras_ref.lesson.lesson_model import Subject, subject_of
from keras_ref.lesson.two_trainings import Track, keras_side, track
from keras_ref.lesson.walkthrough import Step, Unit, dead_units, one_step
from keras_ref.lesson.what_if import Landscape, Precision, Run
from scratch import recipe

#: epochs of the two trainings, and of each of the trainings with one thing changed
EPOCHS, SHORT = 100, 60
#: weights × epochs that fit into a page
SHOWN = 15_000
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Listing:
    """A program and what it printed."""

    title: str
    source: str
    printed: str


@dataclass(frozen=True)
class Lesson:
    """All that a page or a notebook shows of one subject."""

    name: str
    title: str
    note: str
    layers: tuple[str, ...]
    optimizer: str
    loss: str
    nudge: float
    step: Step
    track: Track
    units: tuple[Unit, ...]
    landscapes: tuple[Landscape, ...]
    precisions: tuple[Precision, ...]
    rates: tuple[Run, ...]
    batches: tuple[Run, ...]
    optimizers: tuple[Run, ...]
    listings: tuple[Listing, ...]

    @property
    def epochs(self) -> int:
        """Epochs that both sides made."""
        return len(self.track.losses) - 1

    @property
    def steepest(self) -> int:
        """The entry whose slope is largest at the start: the one to explain first."""
        return int(np.argmax(np.nan_to_num(np.abs(self.track.slopes[0]))))

    @property
    def farthest(self) -> int:
        """The entry that moves farthest: the one to watch."""
        return int(np.argmax(np.nan_to_num(np.max(np.abs(self.track.weights - self.track.weights[0]), axis=0))))

    @property
    def verdict(self) -> str:
        """Whether every difference stayed within what is allowed, in one sentence."""
        compared = 2 * self.track.weights.size
        outside, away = self.track.outside, self.track.diverged
        said = (
            f"All {compared} differences, of slopes and of weights over {self.epochs} epochs, are within what is allowed."
            if not outside
            else f"{outside} of {compared} differences, of slopes and of weights over {self.epochs} epochs, exceed what is allowed: Keras computes something else here, and gradtwin check and gradtwin updates say where."
        )
        return said + (f" The training diverges: it was stopped at epoch {away}." if away else "")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; numbers that are not finite become None."""
        return plain(self)

    def __repr__(self) -> str:
        return f"{self.title}: {self.note}\n{self.verdict}"

    def _repr_html_(self) -> str:
        from keras_ref.lesson.tables import lesson_table

        return lesson_table(self)


def plain(value: Any) -> Any:
    """Records, arrays and numbers as lists, dictionaries and floats; what is not finite becomes None."""
    if is_dataclass(value) and not isinstance(value, type):
        own = {f.name: plain(getattr(value, f.name)) for f in fields(value)}
        derived = [name for name, member in vars(type(value)).items() if isinstance(member, property)]
        return own | {name: plain(getattr(value, name)) for name in derived}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def make(
    target: str | Subject = "recipe1",
    data: str = "",
    *,
    seed: int = 0,
    epochs: int = EPOCHS,
    progress: Progress | None = None,
) -> Lesson:
    """The lesson of a recipe ("recipe1", "recipe2"), a model (package.module:factory, file.keras) or a Subject.

    Raises: CouldNotRun, one sentence, for what cannot be taught from.
    """
    tell = progress or (lambda what: None)
    subject = target if isinstance(target, Subject) else subject_of(target, data, seed=seed)
    entries = len(subject.labels)
    if entries * epochs > SHOWN:
        raise CouldNotRun(
            f"A lesson must have at most {SHOWN} weights times epochs to fit into a page. Received: {entries} weights of {subject.name}, {epochs} epochs. Pass --epochs {SHOWN // entries}, or a smaller model."
        )
    short = min(epochs, SHORT)
    tell("both trainings")
    with keras_side(subject) as side:
        found = track(subject, side, epochs=epochs)
        step = one_step(subject, side, found)
        tell("step sizes")
        precise = what_if_module.precisions(subject, side)
    path = [what_if_module.unflat(subject, vector) for vector in found.weights]
    tell("learning rates")
    tried = what_if_module.rates(subject, short)
    tell("batch sizes")
    batches = what_if_module.batch_sizes(subject, short, seed=seed)
    tell("optimizers")
    optimizers = what_if_module.optimizers(subject, short)
    tell("landscape")
    scenes = what_if_module.landscapes(subject, found)
    tell("both programs")
    return Lesson(
        subject.name,
        subject.title,
        subject.note,
        tuple(f"{n}: {layer!r}" for n, layer in subject.model.layers.items()),
        _law(subject.optimizer),
        ", ".join(repr(loss) for loss in subject.objective.losses),
        recipe.NUDGE,
        step,
        found,
        dead_units(subject, path),
        scenes,
        precise,
        tried,
        batches,
        optimizers,
        listings(),
    )


def _law(optimizer: Any) -> str:
    """An optimizer with its learning rate, which its repr leaves out where it is the default."""
    shown, rate = repr(optimizer), getattr(optimizer, "learning_rate", None)
    return (
        shown
        if "learning_rate" in shown or not isinstance(rate, float)
        else shown.replace("(", f"(learning_rate={rate:g}, ", 1).replace(", )", ")")
    )


@cache
def listings() -> tuple[Listing, ...]:
    """scratch/recipe.py and its equivalent in Keras, with what each prints when it is run."""
    return (
        Listing(
            "scratch/recipe.py: NumPy, nudging",
            inspect.getsource(recipe),
            _printed(lambda: runpy.run_path(str(recipe.__file__), run_name="__main__")),
        ),
        Listing(
            "keras_ref/lesson/keras_recipe.py: Keras, back-propagation",
            inspect.getsource(keras_recipe),
            _printed(keras_recipe.show),
        ),
    )


def _printed(program: Callable[[], Any]) -> str:
    out, options = io.StringIO(), np.get_printoptions()
    try:
        with contextlib.redirect_stdout(out):
            program()
    finally:
        np.set_printoptions(**options)
    return out.getvalue()
