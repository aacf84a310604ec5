"""The book's two recipes beside Keras: the same weights, SGD(0.01), and the difference explained by the nudge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_ref.evaluation.float64 import in_float64
from scratch import recipe
from scratch.arrays import Array

RECIPES: dict[str, tuple[list[Any], str]] = {
    "recipe1": (recipe.RECIPE_1, "y = 2x with one weight and one bias"),
    "recipe2": (recipe.RECIPE_2, recipe.RECIPE_2_NOTE),
}


@dataclass(frozen=True)
class Row:
    """One weight after some epochs on both sides; `explained`: how much of the difference the nudge accounts for."""

    name: str
    start: float
    nudged: float
    keras: float
    explained: float

    @property
    def difference(self) -> float:
        """nudged - keras"""
        return self.nudged - self.keras


def keras_model(weights: Sequence[Any]) -> keras.Model:
    """The equivalent Keras model in float64: Dense layers with ReLU between, compiled with SGD(0.01) and mean squared error."""
    arrays = [np.asarray(w, dtype=float) for w in weights]
    kernels = arrays[::2]
    layers: list[Any] = [keras.Input((len(kernels[0]),), dtype="float64")]
    for i, kernel in enumerate(kernels):
        last = i == len(kernels) - 1
        layers.append(keras.layers.Dense(kernel.shape[1], activation="linear" if last else "relu", dtype="float64"))
    model = keras.Sequential(layers)
    model.set_weights(arrays)
    model.compile(optimizer=keras.optimizers.SGD(recipe.LEARNING_RATE), loss="mse")
    return model


def keras_epochs(weights: Sequence[Any], epochs: int) -> list[Array]:
    """The weights after `epochs` full-batch steps of model.train_on_batch."""
    x, y = np.asarray(recipe.INPUTS, dtype=float), np.asarray(recipe.OUTPUTS, dtype=float)
    model = keras_model(weights)
    with in_float64(model):
        # SGD keeps its rate in float32; 0.01 is meant
        model.optimizer.learning_rate.assign(recipe.LEARNING_RATE)
        model.run_eagerly = True
        for _ in range(epochs):
            model.train_step((x, y))
        return [np.asarray(w) for w in model.get_weights()]


def curvature_error(weights: Sequence[Any]) -> list[Array]:
    """What one forward difference errs by, h/2 · f'': computed from the second difference of the loss, not allowed for.

    For recipe 1 and its weight this is h · mean(x²), since the loss is mean((w·x + b - y)²).
    """
    arrays = [np.array(w, dtype=float) for w in weights]

    def loss(values: list[Array]) -> float:
        return float(np.mean(recipe.feed_forward(recipe.INPUTS, recipe.OUTPUTS, values)))

    centre, errors = loss(arrays), []
    for i, array in enumerate(arrays):
        error = np.zeros_like(array)
        for entry in np.ndindex(array.shape):
            sides = []
            for sign in (1, -1):
                nudged = [a.copy() for a in arrays]
                nudged[i][entry] += sign * recipe.NUDGE
                sides.append(loss(nudged))
            error[entry] = (sides[0] - 2 * centre + sides[1]) / recipe.NUDGE / 2
        errors.append(error)
    return errors


def rows(weights: Sequence[Any], *, epochs: int = 1) -> list[Row]:
    """Every weight after `epochs` on both sides. The explanation is that of one epoch: learning rate · h/2 · f''."""
    nudged = recipe.update_weights(recipe.INPUTS, recipe.OUTPUTS, weights, epochs)
    beside = keras_epochs(weights, epochs)
    errors = curvature_error(weights)
    found = []
    for i, start in enumerate(np.asarray(w, dtype=float) for w in weights):
        for entry in np.ndindex(start.shape):
            part = "bias" if i % 2 else "kernel"
            layer = f"layer {i // 2 + 1} {part}" if len(weights) > 2 else part
            index = "" if start.size == 1 else str(list(entry))
            # stepping along a slope that is too large by the error leaves the weight lower by rate · error
            explained = -recipe.LEARNING_RATE * float(errors[i][entry])
            found.append(
                Row(f"{layer}{index}", float(start[entry]), float(nudged[i][entry]), float(beside[i][entry]), explained)
            )
    return found
