"""The book's two recipes beside Keras: the same weights, SGD(0.01), and the difference that the nudge explains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_ref.evaluation.changed_state.float64 import in_float64
from keras_ref.lesson.keras_recipe import feed_forward
from keras_ref.own_modules import recipe
from scratch.arrays import Array

RECIPES: dict[str, tuple[list[Any], str]] = {
    "recipe1": (recipe.RECIPE_1, "y = 2x with one weight and one bias"),
    "recipe2": (recipe.RECIPE_2, recipe.RECIPE_2_NOTE),
}


@dataclass(frozen=True)
class RecipeRow:
    """One weight after some epochs, nudged and by Keras; `explained`: how much of the difference the nudge causes."""

    name: str
    start: float
    nudged: float
    keras: float
    explained: float

    @property
    def difference(self) -> float:
        """nudged - keras"""
        return self.nudged - self.keras


def build_keras_model(weights: Sequence[Any]) -> keras.Model:
    """The equivalent Keras model in float64: Dense layers with ReLU between, compiled with SGD(0.01) and mse."""
    model: keras.Model = feed_forward(weights)
    model.compile(optimizer=keras.optimizers.SGD(recipe.LEARNING_RATE), loss="mse")
    return model


def train_keras(weights: Sequence[Any], epochs: int) -> list[Array]:
    """The weights after `epochs` full-batch steps of Keras's own train_step."""
    x, y = np.asarray(recipe.INPUTS, dtype=float), np.asarray(recipe.OUTPUTS, dtype=float)
    model = build_keras_model(weights)
    with in_float64(model):
        model.optimizer.learning_rate.assign(recipe.LEARNING_RATE)  # SGD keeps it in float32, which cannot hold 0.01
        model.run_eagerly = True
        for _ in range(epochs):
            model.train_step((x, y))
        return [np.asarray(w) for w in model.get_weights()]


def measure_curvature_error(weights: Sequence[Any]) -> list[Array]:
    """The error of a forward difference, h/2 · f″, for every weight, from the second difference of the loss.

    For the weight of recipe 1 this is h · mean(x²), since the loss is mean((w·x + b - y)²).
    """
    arrays = [np.array(w, dtype=float) for w in weights]

    def loss(values: list[Array]) -> float:
        return float(np.mean(recipe.feed_forward(recipe.INPUTS, recipe.OUTPUTS, values)))

    centre, errors = loss(arrays), []
    for i, array in enumerate(arrays):
        error = np.zeros_like(array)
        for entry in np.ndindex(array.shape):
            losses = []
            for sign in (1, -1):
                nudged = [a.copy() for a in arrays]
                nudged[i][entry] += sign * recipe.NUDGE
                losses.append(loss(nudged))
            error[entry] = (losses[0] - 2 * centre + losses[1]) / recipe.NUDGE / 2
        errors.append(error)
    return errors


def compare_recipe(weights: Sequence[Any], *, epochs: int = 1) -> list[RecipeRow]:
    """Every weight after `epochs`, by scratch/recipe.py and by Keras.

    `explained` is that of one epoch: -learning rate · h/2 · f″, as a step along a slope that is too large by the error
    leaves the weight lower by learning rate · error.
    """
    nudged = recipe.update_weights(recipe.INPUTS, recipe.OUTPUTS, weights, epochs)
    beside = train_keras(weights, epochs)
    errors = measure_curvature_error(weights)
    return [
        RecipeRow(
            name=_label(i, entry, layers=len(weights) // 2, single=start.size == 1),
            start=float(start[entry]),
            nudged=float(nudged[i][entry]),
            keras=float(beside[i][entry]),
            explained=-recipe.LEARNING_RATE * float(errors[i][entry]),
        )
        for i, start in enumerate(np.asarray(w, dtype=float) for w in weights)
        for entry in np.ndindex(start.shape)
    ]


def _label(i: int, entry: tuple[int, ...], *, layers: int, single: bool) -> str:
    part = "bias" if i % 2 else "kernel"
    layer = f"layer {i // 2 + 1} {part}" if layers > 1 else part
    return layer if single else f"{layer}{list(entry)}"
