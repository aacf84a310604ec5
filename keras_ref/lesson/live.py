"""What the live part of a page begins with, for the networks that assets/engine.js computes; and the network, drawn."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np

from keras_ref.errors import CouldNotRun, shorten_error
from keras_ref.lesson.lesson_model import LessonModel, make_recipe_model
from keras_ref.lesson.recipe_table import RECIPES
from keras_ref.own_modules import recipe
from keras_ref.reports.escaping import make_printable
from keras_ref.reports.files import NO_PATH, read_text
from scratch.layers.core import Dense
from scratch.losses.regression import MeanAbsoluteError, MeanSquaredError
from scratch.optimizers.adagrad import RMSprop
from scratch.optimizers.adam import Adam
from scratch.optimizers.sgd import SGD

#: what assets/engine.js knows
ACTIVATIONS = ("linear", "relu", "leaky_relu", "tanh", "sigmoid")
LOSSES = {"squared": MeanSquaredError(), "absolute": MeanAbsoluteError()}
UNITS = 6
#: layers that are drawn side by side
LAYERS = 12
#: kinds of questions, and what each needs beside the situation
KINDS = {"sign": "weight", "moves": "", "diverges": "epochs", "dies": "epochs"}


@dataclass(frozen=True)
class Live:
    """The state that the live part begins with.

    start    the state of assets/engine.js, without what its optimizer remembers
    names    layer names: hidden, output, and only, that of a network without hidden units
    pair     indices of the two weights of the landscape
    recipes  {recipe: its start}, for the situations and questions
    """

    start: dict[str, Any]
    names: dict[str, str]
    pair: tuple[int, int]
    recipes: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class DrawnLayer:
    """A layer in the drawing of a network that cannot be edited.

    kernel, bias   of a Dense layer in a chain of Dense layers; None and () for any other
    """

    name: str
    text: str
    units: int
    kernel: tuple[tuple[float, ...], ...] | None = None
    bias: tuple[float, ...] = ()


def build_live(lesson_model: LessonModel, pair: tuple[int, int] | None = None) -> Live | None:
    """The start of the live part; None for a model that assets/engine.js does not compute."""
    start = _start(lesson_model)
    if start is None:
        return None
    names = [*map(make_printable, lesson_model.model.layers)]  # they stand in programs that a reader takes home
    hidden, output = (names[0], names[-1]) if len(names) == 2 else ("hidden", "output")
    return Live(
        start=start,
        names={"hidden": hidden, "output": output, "only": names[-1] if len(names) == 1 else "dense"},
        pair=pair or (0, len(start["weights"]) - 1),
        recipes={name: _start_recipe(name) for name in RECIPES},
    )


def _start_recipe(name: str) -> dict[str, Any]:
    start = _start(make_recipe_model(name))
    if start is None:
        raise RuntimeError(f"assets/engine.js must know the networks of the book. Received: {name}.")
    return start


def _start(lesson_model: LessonModel) -> dict[str, Any] | None:
    """The state of a network with one input, at most UNITS hidden units and one output; None for any other."""
    model, layers = lesson_model.model, list(lesson_model.model.layers.values())
    dense = [layer for layer in layers if isinstance(layer, Dense) and layer == Dense(layer.units, layer.activation)]
    losses = [name for name, loss in LOSSES.items() if lesson_model.objective.losses == (loss,)]
    optimizer, rate = lesson_model.optimizer, getattr(lesson_model.optimizer, "learning_rate", None)
    fits = (
        1 <= len(dense) == len(layers) == len(model.calls) <= 2
        and (dense[-1].units, dense[-1].activation) == (1, "linear")
        and dense[0].units <= (UNITS if len(dense) == 2 else 1)
        and dense[0].activation in ACTIVATIONS
        and not model.regularizers
        and losses
        and isinstance(rate, float)
        and all(np.shape(part)[1:] == (1,) for part in (lesson_model.x, lesson_model.y))
        and set(lesson_model.trained) == set(lesson_model.weights)
    )
    if not fits:
        return None
    optimizers = {
        "sgd": SGD(rate),  # type: ignore[arg-type]
        "momentum": SGD(rate, momentum=0.9),  # type: ignore[arg-type]
        "rmsprop": RMSprop(rate),  # type: ignore[arg-type]
        "adam": Adam(rate),  # type: ignore[arg-type]
    }
    known = [name for name, one in optimizers.items() if one == optimizer]
    if not known:
        return None
    return {
        "units": dense[0].units if len(dense) == 2 else 0,
        "activation": dense[0].activation if len(dense) == 2 else "relu",
        "loss": losses[0],
        "optimizer": known[0],
        "rate": rate,
        "nudge": recipe.NUDGE,
        "batch": 0,
        "x": np.ravel(lesson_model.x).astype(float).tolist(),
        "y": np.ravel(lesson_model.y).astype(float).tolist(),
        "weights": lesson_model.flatten(lesson_model.weights).tolist(),
    }


def draw_layers(lesson_model: LessonModel) -> tuple[DrawnLayer, ...]:
    """The layers of a model as they are drawn; none of more than LAYERS."""
    model, weights = lesson_model.model, lesson_model.weights
    if len(model.calls) > LAYERS:
        return ()
    dense = all(isinstance(model.layers[call.layer], Dense) for call in model.calls)
    chain = all(a.outputs == b.inputs for a, b in zip(model.calls, model.calls[1:], strict=False))
    if not (dense and chain):
        kinds = ((call.layer, type(model.layers[call.layer]).__name__) for call in model.calls)
        return tuple(DrawnLayer(make_printable(name), kind, 1) for name, kind in kinds)
    return tuple(
        DrawnLayer(
            name=make_printable(call.layer),
            text=str(getattr(model.layers[call.layer], "activation", "")),
            units=weights[f"{call.layer}/kernel"].shape[-1],
            kernel=tuple(tuple(map(float, row)) for row in weights[f"{call.layer}/kernel"]),
            bias=tuple(map(float, weights.get(f"{call.layer}/bias", ()))),
        )
        for call in model.calls
    )


# Questions ------------------------------------------------------------------------------------------------------------


def read_questions(path: str = "") -> list[dict[str, Any]]:
    """The questions of an exercise: those of a TOML file, or the twelve that come with gradtwin.

    Raises: CouldNotRun for a file that cannot be read, is no TOML, or whose questions are not of a known kind.
    """
    own = files("keras_ref.lesson") / "assets" / "questions.toml"
    try:
        found = tomllib.loads(read_text(path) if path else own.read_text(encoding="utf-8")).get("question", [])
    except (*NO_PATH, RecursionError) as error:
        raise CouldNotRun(
            f"--questions must be a TOML file of [[question]] tables. Received: {path}: {shorten_error(error)} "
            "Copy keras_ref/lesson/assets/questions.toml and change it."
        ) from error
    if not isinstance(found, list) or not found or not all(isinstance(one, dict) for one in found):
        raise CouldNotRun(f"--questions must hold a [[question]] table at least. Received: {path} without. Add one.")
    return [_complete_question(one, number) for number, one in enumerate(found, start=1)]


def _complete_question(given: dict[str, Any], number: int) -> dict[str, Any]:
    """One question, complete. Raises: CouldNotRun."""
    needs = next((needs for kind, needs in KINDS.items() if kind == given.get("kind")), None)
    settings = "a table of rate, nudge, batch, units, activation, loss and optimizer with legal values"
    for name, wrong, right in (
        ("kind", needs is None, f"one of {', '.join(KINDS)}"),
        ("ask", not isinstance(given.get("ask"), str), "a sentence"),
        ("recipe", given.get("recipe") not in [*RECIPES], f"one of {', '.join(RECIPES)}"),
        ("weight", needs == "weight" and not isinstance(given.get("weight"), str), "a weight's name"),
        ("epochs", needs == "epochs" and type(given.get("epochs")) is not int, "a whole number"),
        ("set", not _is_settings(given.get("set", {})), settings),
    ):
        if wrong:
            raise CouldNotRun(
                f"`{name}` of question {number} must be {right}. Received: {given.get(name)!r}. "
                "See keras_ref/lesson/assets/questions.toml."
            )
    return {"set": {}, "because": "", **given}


def _is_settings(given: Any) -> bool:
    """Whether all settings of a question are known and legal."""
    legal: dict[str, Callable[[Any], bool]] = {
        "rate": lambda v: type(v) in (int, float) and v >= 0,
        "nudge": lambda v: type(v) in (int, float) and v > 0,
        "batch": lambda v: type(v) is int and v in range(5),
        "units": lambda v: type(v) is int and v in range(UNITS + 1),
        "activation": lambda v: v in [*ACTIVATIONS],
        "loss": lambda v: v in [*LOSSES],
        "optimizer": lambda v: v in ("sgd", "momentum", "rmsprop", "adam"),
    }
    return isinstance(given, dict) and all(name in legal and legal[name](value) for name, value in given.items())
