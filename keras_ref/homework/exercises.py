"""Six networks to hand to students: the Keras model, its data, and the file that a student completes."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_ref.errors import CouldNotRun
from keras_ref.reports.files import NO_PATH, explain_no_path, read_text, refuse_hidden_name, require_readable, write
from scratch.arrays import Array


@dataclass(frozen=True, kw_only=True)
class Exercise:
    """A network to write in NumPy.

    name       as in EXERCISE of a student's file
    law        the network in formulas
    layers     of Keras: makes them from the module keras.layers
    loss       by Keras's name; its law in words
    x, y       shapes of the data, batch first; y of classes is one-hot
    weights    {name: shape} in the order of Keras
    """

    name: str
    law: str
    layers: Callable[[Any], list[Any]]
    loss: str
    loss_law: str
    x: tuple[int, ...]
    y: tuple[int, ...]
    weights: Mapping[str, tuple[int, ...]]
    learning_rate: float = 0.1

    def build(self) -> Any:
        """The compiled Keras model."""
        import keras

        model = keras.Sequential([keras.Input(self.x[1:]), *self.layers(keras.layers)], name=self.name)
        model.compile(optimizer=keras.optimizers.SGD(self.learning_rate), loss=self.loss)
        return model

    def data(self) -> tuple[Array, Array]:
        """Inputs and targets, always the same: eighths, which are exact in every precision."""
        generator = np.random.default_rng(len(self.name))
        x = generator.integers(-16, 17, self.x) / 8
        if self.loss == "categorical_crossentropy":
            return x, np.eye(self.y[1])[generator.integers(0, self.y[1], self.y[0])]
        return x, generator.integers(-16, 17, self.y) / 8

    def page(self) -> str:
        """The file that a student completes."""
        shapes = "".join(f'        "{name}": rng.normal(size={shape}) / 2,\n' for name, shape in self.weights.items())
        return TEMPLATE.format(
            name=self.name,
            law=self.law,
            loss=self.loss_law,
            x=", ".join(map(str, ("batch", *self.x[1:]))),
            y=", ".join(map(str, ("batch", *self.y[1:]))),
            weights=shapes,
            rate=self.learning_rate,
        )


TEMPLATE = '''"""Homework: the network "{name}" in NumPy.

{law}

Complete the four functions below. Check them, together or one after the other, with

    gradtwin homework {name}.py

x has the shape ({x}), y ({y}). Change the functions as you like, also their parameters; leave the names of the
functions and of the weights.
"""

import numpy as np

EXERCISE = "{name}"
LEARNING_RATE = {rate}


def initial_weights():
    """The weights by name; the check replaces the values, not the shapes."""
    rng = np.random.default_rng(0)
    return {{
{weights}    }}


def forward(x, weights):
    """The output of the network for a batch x."""
    raise NotImplementedError


def loss(output, y):
    """{loss}"""
    raise NotImplementedError


def backward(x, y, weights):
    """The gradient of the loss: a dictionary with an array of the same shape for each weight."""
    raise NotImplementedError


def update_weights(weights, gradients, learning_rate):
    """The weights after one step of gradient descent."""
    raise NotImplementedError
'''

_ALL = (
    Exercise(
        name="linear",
        law="    output = x · W1 + b1",
        layers=lambda k: [k.Dense(2)],
        loss="mse",
        loss_law="The mean of (output - y)² over the batch and the outputs.",
        x=(5, 3),
        y=(5, 2),
        weights={"W1": (3, 2), "b1": (2,)},
    ),
    Exercise(
        name="relu",
        law="    hidden = relu(x · W1 + b1)\n    output = hidden · W2 + b2          (the book's network, chapter 1)",
        layers=lambda k: [k.Dense(4, "relu"), k.Dense(2)],
        loss="mse",
        loss_law="The mean of (output - y)² over the batch and the outputs.",
        x=(5, 3),
        y=(5, 2),
        weights={"W1": (3, 4), "b1": (4,), "W2": (4, 2), "b2": (2,)},
    ),
    Exercise(
        name="softmax",
        law="    output = softmax(x · W1 + b1)",
        layers=lambda k: [k.Dense(3, "softmax")],
        loss="categorical_crossentropy",
        loss_law="The mean over the batch of -Σ y · log(output); y is one-hot.",
        x=(5, 4),
        y=(5, 3),
        weights={"W1": (4, 3), "b1": (3,)},
    ),
    Exercise(
        name="tanh",
        law=("    first = tanh(x · W1 + b1)\n    second = tanh(first · W2 + b2)\n    output = second · W3 + b3"),
        layers=lambda k: [k.Dense(4, "tanh"), k.Dense(3, "tanh"), k.Dense(2)],
        loss="mse",
        loss_law="The mean of (output - y)² over the batch and the outputs.",
        x=(5, 3),
        y=(5, 2),
        weights={"W1": (3, 4), "b1": (4,), "W2": (4, 3), "b2": (3,), "W3": (3, 2), "b3": (2,)},
    ),
    Exercise(
        name="cnn",
        law=(
            "    map[i, j, f] = relu(Σ x[i + k, j + l, c] · K1[k, l, c, f] + b1[f])      k and l from 0 to 1\n"
            "    output = flatten(map) · W2 + b2                              (row by row, channels last)"
        ),
        layers=lambda k: [k.Conv2D(3, 2, activation="relu"), k.Flatten(), k.Dense(2)],
        loss="mse",
        loss_law="The mean of (output - y)² over the batch and the outputs.",
        x=(4, 4, 4, 2),
        y=(4, 2),
        weights={"K1": (2, 2, 2, 3), "b1": (3,), "W2": (27, 2), "b2": (2,)},
    ),
    Exercise(
        name="rnn",
        law=("    h_t = tanh(x_t · W1 + h_(t-1) · U1 + b1)      h_0 = 0\n    output = h_last · W2 + b2"),
        layers=lambda k: [k.SimpleRNN(3), k.Dense(2)],
        loss="mse",
        loss_law="The mean of (output - y)² over the batch and the outputs.",
        x=(4, 5, 2),
        y=(4, 2),
        weights={"W1": (2, 3), "U1": (3, 3), "b1": (3,), "W2": (3, 2), "b2": (2,)},
    ),
)
EXERCISES: Mapping[str, Exercise] = {one.name: one for one in _ALL}


def hand_out(folder: str) -> list[str]:
    """Write the six files into a new folder. Raises: CouldNotRun where it is not empty."""
    refuse_hidden_name("--new", folder)
    place = Path(folder)
    try:
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            raise CouldNotRun(f"--new must name a folder that is empty or new. Received: {folder}. Choose another one.")
        place.mkdir(parents=True, exist_ok=True)
    except NO_PATH as error:
        raise CouldNotRun(
            f"--new must name a folder that can be made. Received: {folder}: {explain_no_path(error)}. Choose another "
            "one."
        ) from error
    written = []
    for one in _ALL:
        write("--new", str(place / f"{one.name}.py"), one.page())
        written.append(f"{one.name}.py")
    return written


def find_exercise(path: str, given: str = "") -> Exercise:
    """The exercise of a submission: the one given, else that of its line EXERCISE = …, else that of its file's name.

    The file is read, not run. Raises: CouldNotRun where there is none of them, or it may not be read.
    """
    require_readable(path)
    name = given or _read_stated(path) or next((n for n in EXERCISES if n in Path(path).stem.lower()), "")
    if name not in EXERCISES:
        raise CouldNotRun(
            f"A submission must say its exercise ({', '.join(EXERCISES)}). Received: {path}"
            f'{f" with {name!r}" if name else ""}. Add a line EXERCISE = "relu", say, or pass --exercise.'
        )
    return EXERCISES[name]


def _read_stated(path: str) -> str:
    try:
        tree = ast.parse(read_text(path))
    except (*NO_PATH, SyntaxError, MemoryError):  # MemoryError: brackets that are nested too deeply
        return ""
    for node in tree.body:
        named = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and any(getattr(t, "id", "") == "EXERCISE" for t in named):
            value = node.value
            return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else ""
    return ""
