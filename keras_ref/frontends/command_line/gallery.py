"""Small models on real data (Fisher's iris measurements), which `gradtwin` alone checks.

assets/iris.csv is R. A. Fisher, "The use of multiple measurements in taxonomic problems", 1936, as scikit-learn's
load_iris gives it: 150 rows, for which a checker need not install that package (200 MB with SciPy).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np

import keras_ref.own_modules  # noqa: F401 (before anything imports from scratch)
from scratch.arrays import Array
from scratch.calls import Call
from scratch.layers.core import Activation, Dense
from scratch.model import Model


@dataclass(frozen=True)
class Exhibit:
    """A model, its data, loss and optimizer."""

    name: str
    model: Model
    weights: dict[str, Array]
    x: Any
    y: Any
    loss: Any
    optimizer: Any


def load_iris(samples: int = 24) -> tuple[Array, Array]:
    """Standardised measurements (samples, 4) and one-hot species (samples, 3), of flowers at even distances."""
    with (files("keras_ref.frontends") / "assets" / "iris.csv").open(encoding="utf-8") as file:
        table = np.loadtxt(file, delimiter=",", skiprows=1)
    features, species = table[:, :4], table[:, 4].astype(int)
    step = len(features) // samples
    x = ((features - features.mean(axis=0)) / features.std(axis=0))[::step][:samples]
    return x, np.eye(3)[species[::step][:samples]]


def draw_weights(model: Model, *, seed: int = 0) -> dict[str, Array]:
    """Random weights: normal kernels scaled by 1 / sqrt(inputs), biases scaled by 0.1."""
    generator = np.random.default_rng(seed)
    return {
        name: generator.normal(scale=1 / np.sqrt(shape[0]) if len(shape) > 1 else 0.1, size=shape)
        for name, shape in model.weight_shapes.items()
    }


def build_two_towers() -> Model:
    """Two inputs (petals and sepals) in layers of their own, a shared layer, two outputs."""
    layers = {
        "petals": Dense(4, "tanh"),
        "sepals": Dense(4, "tanh"),
        "shared": Dense(3, "sigmoid"),
        "species": Dense(3, "softmax"),
        "size": Dense(1),
    }
    calls = (
        Call("petals", ("petal",), ("p",)),
        Call("sepals", ("sepal",), ("s",)),
        Call("shared", ("p",), ("sp",)),
        Call("shared", ("s",), ("ss",)),
        Call("species", ("sp",), ("kind",)),
        Call("size", ("ss",), ("length",)),
    )
    return Model({"petal": (None, 2), "sepal": (None, 2)}, layers, calls, ("kind", "length"))


def exhibits() -> Iterator[Exhibit]:
    """The models of the gallery, one after another."""
    from scratch.optimizers.adam import Adam
    from scratch.optimizers.sgd import SGD

    x, y = load_iris()
    chains: tuple[tuple[Any, ...], ...] = (
        ("linear regression", [Dense(1)], x[:, :3], x[:, 3:], "MeanSquaredError", SGD(0.01)),
        ("softmax regression", [Dense(3, "softmax")], x, y, "CategoricalCrossentropy", SGD(0.1, momentum=0.9)),
        ("one against the rest", [Dense(5, "tanh"), Dense(1, "sigmoid")], x, y[:, :1], "BinaryCrossentropy", Adam()),
        (
            "ReLU network",
            [Dense(8, "relu"), Dense(6, "relu"), Dense(3, "softmax")],
            x,
            y,
            "CategoricalCrossentropy",
            SGD(0.1, momentum=0.9, nesterov=True),
        ),
        ("autoencoder", [Dense(2), Activation("sigmoid"), Dense(4)], x, x, "MeanSquaredError", Adam(0.01)),
    )
    for seed, (name, layers, inputs, targets, loss, optimizer) in enumerate(chains):
        model = Model.chain(layers, inputs.shape[1:])
        yield Exhibit(
            name, model, weights=draw_weights(model, seed=seed), x=inputs, y=targets, loss=loss, optimizer=optimizer
        )
    towers = build_two_towers()
    yield Exhibit(
        "two towers",
        towers,
        weights=draw_weights(towers, seed=9),
        x=[x[:, 2:], x[:, :2]],
        y=[y, x[:, :1]],
        loss=("CategoricalCrossentropy", "MeanSquaredError"),
        optimizer=SGD(0.05),
    )
