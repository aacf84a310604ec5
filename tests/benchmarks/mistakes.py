"""24 classic mistakes in 4 networks, and 24 correct solutions in 6 styles: which causes `gradtwin homework` names.

Run it with `python -m tests.benchmarks.mistakes` (minutes); tests/test_homework.py runs one network of each.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from keras_ref.homework.exercises import Exercise
from keras_ref.homework.grades import Grade
from keras_ref.homework.grading import grade_program
from keras_ref.programs.targets import open_object

RATE = 0.1


@dataclass(frozen=True)
class Network:
    """A chain of dense layers: sizes from the input on, hidden activation, and whether it ends in a softmax."""

    name: str
    sizes: tuple[int, ...]
    hidden: str
    softmax: bool = False

    @property
    def exercise(self) -> Exercise:
        last = "softmax" if self.softmax else "linear"
        acts = [*[self.hidden] * (len(self.sizes) - 2), last]
        shapes = {}
        for i, (rows, columns) in enumerate(zip(self.sizes, self.sizes[1:], strict=False), start=1):
            shapes |= {f"W{i}": (rows, columns), f"b{i}": (columns,)}
        return Exercise(
            name=self.name,
            law="",
            layers=lambda k: [k.Dense(n, a) for n, a in zip(self.sizes[1:], acts, strict=True)],
            loss="categorical_crossentropy" if self.softmax else "mse",
            loss_law="",
            x=(5, self.sizes[0]),
            y=(5, self.sizes[-1]),
            weights=shapes,
            learning_rate=RATE,
        )

    @property
    def depth(self) -> int:
        return len(self.sizes) - 1


NETWORKS = (
    Network("relu", (4, 3, 3), "relu"),
    Network("tanh", (4, 3, 3, 3), "tanh"),
    Network("classifier", (4, 3, 3), "sigmoid", softmax=True),
    Network("leaky", (4, 3, 3, 3), "leaky_relu"),
)
ACTIVATIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0) * 1.0),
    "leaky_relu": (lambda z: np.where(z > 0, z, 0.2 * z), lambda z: np.where(z > 0, 1.0, 0.2)),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "sigmoid": (lambda z: 1 / (1 + np.exp(-z)), lambda z: np.exp(-z) / (1 + np.exp(-z)) ** 2),
}


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


@dataclass
class Student:
    """A correct network, with one mistake where `mistake` names one."""

    network: Network
    mistake: str = ""
    weights: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.weights = {name: np.ones(shape) for name, shape in self.network.exercise.weights.items()}

    def _pass(self, x, weights):
        z, a = [], [x]
        for i in range(1, self.network.depth + 1):
            z.append(a[-1] @ weights[f"W{i}"] + weights[f"b{i}"])
            last = i == self.network.depth
            if last:
                a.append(softmax(z[-1]) if self.network.softmax else z[-1])
            else:
                a.append(ACTIVATIONS[self.network.hidden][0](z[-1]))
        return z, a

    def forward(self, x, weights):
        return self._pass(x, weights)[1][-1]

    def loss(self, output, y):
        if self.network.softmax:
            return -np.mean(np.sum(y * np.log(output), axis=1))
        return np.mean((output - y) ** 2)

    def backward(self, x, y, weights):
        m, net = self.mistake, self.network
        z, a = self._pass(x, weights)
        n = len(x)
        size = n if net.softmax else y.size / 2
        error = a[-1] - y
        if m == "error the other way round":
            error = -error
        if m == "target not subtracted":
            error = a[-1]
        if m == "absolute error, or before the softmax":
            error = z[-1] - y if net.softmax else np.sign(error) / 2
        delta = error / size
        if m == "2 of the square missing":
            delta = delta / 2
        if m == "summed over the batch":
            delta = delta * n
        if m == "mean taken twice":
            delta = delta / n
        if m == "loss scale":
            delta = delta * 1024
        if m == "output derivative again, or gradient doubled":
            delta = delta * a[-1] * (1 - a[-1]) if net.softmax else delta * 2
        _f, slope = ACTIVATIONS[net.hidden]
        other = ACTIVATIONS["leaky_relu" if net.hidden == "relu" else "relu"][1]
        gradients = {}
        for i in range(net.depth, 0, -1):
            below = a[i - 1]
            if m == "layer below before its activation" and i > 1:
                below = z[i - 2]
            gradients[f"W{i}"] = below.T @ delta
            gradients[f"b{i}"] = delta.sum(axis=0)
            if m == "last sample only":
                gradients[f"W{i}"], gradients[f"b{i}"] = np.outer(below[-1], delta[-1]) * n, delta[-1] * n
            if m == "bias of the last sample":
                gradients[f"b{i}"] = delta[-1]
            if m == "bias averaged":
                gradients[f"b{i}"] = delta.mean(axis=0)
            if m == "bias over the wrong axis":
                gradients[f"b{i}"] = np.full(delta.shape[1], delta.sum())
            if m == "penalty":
                gradients[f"W{i}"] = gradients[f"W{i}"] + 0.05 * weights[f"W{i}"]
            kernel = weights[f"W{i}"]
            if m == "kernel after the step":
                kernel = kernel - RATE * gradients[f"W{i}"]
            if i == 1:
                break
            back = delta @ kernel.T
            if m == "kernel not transposed":
                back = delta @ kernel
            if m == "kernel left out":
                back = np.repeat(delta.sum(axis=1, keepdims=True), len(kernel), axis=1)
            zi, ai = z[i - 2], a[i - 1]
            own = slope(zi)
            if m == "derivative left out":
                own = np.ones_like(zi)
            if m == "derivative at the output":
                own = slope(ai) if net.hidden in ("tanh", "sigmoid") else other(zi)
            if m == "derivative of another":
                own = other(zi)
            if m == "formula for the output at the input":
                own = {"tanh": 1 - zi**2, "sigmoid": zi * (1 - zi)}.get(net.hidden, ACTIVATIONS["sigmoid"][1](zi))
            if m == "activation for its derivative":
                own = ai
            delta = back * own
        last = net.depth
        if m == "weight for its gradient":
            gradients[f"W{last}"] = weights[f"W{last}"].copy()
        if m == "first layer forgotten":
            gradients["W1"] = np.zeros_like(gradients["W1"])
        if m == "transposed":
            gradients[f"W{last}"] = gradients[f"W{last}"].T
        if m == "biases exchanged":
            gradients["b1"], gradients[f"b{last}"] = gradients[f"b{last}"], gradients["b1"]
        return gradients

    def update_weights(self, weights, gradients, learning_rate):
        return {name: w - learning_rate * gradients[name] for name, w in weights.items()}


#: {mistake: the diagnoses that name it}; the second stands for networks in which it is another one
MISTAKES: dict[str, tuple[str, ...]] = {
    "error the other way round": ("negated",),
    "2 of the square missing": ("scaled",),
    "summed over the batch": ("scaled",),
    "mean taken twice": ("scaled",),
    "loss scale": ("loss_scale",),
    "output derivative again, or gradient doubled": ("output_derivative_again", "scaled"),
    "target not subtracted": ("prediction_alone",),
    "absolute error, or before the softmax": ("sign_of_the_error", "before_softmax"),
    "derivative left out": ("derivative_left_out",),
    "derivative at the output": ("derivative_at_the_output", "derivative_of_another"),
    "formula for the output at the input": ("derivative_at_the_input", "derivative_of_another"),
    "derivative of another": ("derivative_of_another",),
    "activation for its derivative": ("derivative_is_the_activation",),
    "layer below before its activation": ("before_its_activation",),
    "kernel not transposed": ("kernel_not_transposed",),
    "kernel left out": ("kernel_left_out",),
    "kernel after the step": ("kernel_after_the_step",),
    "last sample only": ("one_sample",),
    "bias of the last sample": ("one_sample",),
    "bias averaged": ("scaled",),
    "bias over the wrong axis": ("bias_over_the_wrong_axis", "averaged_over_an_axis"),
    "penalty": ("decayed",),
    "weight for its gradient": ("the_weight_itself",),
    "first layer forgotten": ("no_gradient",),
}
#: beside the 24, for the tests
MORE = {"transposed": ("transposed",), "biases exchanged": ("of_another_variable",)}


def graded(student: Any, network: Network) -> Grade:
    return grade_program(open_object(student), network.exercise, path=network.name)


# Correct solutions in six styles --------------------------------------------------------------------------------------


class ListStyle(Student):
    """Weights in a list, a loop over the samples, gradients in a list."""

    def __post_init__(self) -> None:
        self.weights = [np.ones(shape) for shape in self.network.exercise.weights.values()]

    def _dict(self, weights):
        return dict(zip(self.network.exercise.weights, weights, strict=True))

    def predict(self, X, weights):
        return np.stack([self._pass(x[None], self._dict(weights))[1][-1][0] for x in X])

    forward = None
    backward = None

    def gradients(self, X, Y, weights):
        inner, total = Student(self.network), None
        for x, y in zip(X, Y, strict=True):
            one = list(inner.backward(x[None], y[None], self._dict(weights)).items())
            one = [dict(one)[name] for name in self.network.exercise.weights]
            total = one if total is None else [t + o for t, o in zip(total, one, strict=True)]
        return [t / len(X) for t in total]

    def update_weights(self, weights, gradients, learning_rate):
        for w, g in zip(weights, gradients, strict=True):
            w -= learning_rate * g


class Columns(Student):
    """Samples are columns, kernels (out, in), biases columns."""

    def __post_init__(self) -> None:
        shapes = self.network.exercise.weights
        self.weights = {n: np.ones(s[::-1] if len(s) == 2 else (*s, 1)) for n, s in shapes.items()}

    def _rows(self, weights):
        return {n: w.T if n[0] == "W" else w[:, 0] for n, w in weights.items()}

    def forward(self, x, weights):
        return self._pass(x.T, self._rows(weights))[1][-1].T

    def loss(self, output, y):
        return super().loss(output.T, y.T)

    def backward(self, x, y, weights):
        made = Student(self.network).backward(x.T, y.T, self._rows(weights))
        return {f"d{n}": g.T if n[0] == "W" else g[:, None] for n, g in made.items()}

    def update_weights(self, weights, gradients, learning_rate):
        return {n: w - learning_rate * gradients[f"d{n}"] for n, w in weights.items()}


class Attributes:
    """A class that holds its weights as attributes, keeps what forward made, and steps in place."""

    def __init__(self, network):
        self.network = network
        for name, shape in network.exercise.weights.items():
            setattr(self, name, np.ones(shape))

    def _weights(self):
        return {name: getattr(self, name) for name in self.network.exercise.weights}

    def forward(self, x):
        self.x = x
        return Student(self.network).forward(x, self._weights())

    def loss(self, y_hat, y):
        return Student(self.network).loss(y_hat, y)

    def backward(self, y):
        self.grads = Student(self.network).backward(self.x, y, self._weights())

    def step(self, lr):
        for name, gradient in self.grads.items():
            setattr(self, name, getattr(self, name) - lr * gradient)


class Sums(Student):
    """A loss that is summed over the batch, and the gradient that belongs to it."""

    @property
    def _by(self):
        return 5 if self.network.softmax else 15

    def loss(self, output, y):
        return super().loss(output, y) * self._by

    def backward(self, x, y, weights):
        return {n: g * self._by for n, g in super().backward(x, y, weights).items()}


class Book:
    """The book's: feed_forward returns the loss, update_weights nudges every weight."""

    def __init__(self, network):
        self.network = network
        self.weights = [np.ones(shape) for shape in network.exercise.weights.values()]

    def feed_forward(self, inputs, outputs, weights):
        named = dict(zip(self.network.exercise.weights, weights, strict=True))
        student = Student(self.network)
        return student.loss(student.forward(inputs, named), outputs)

    def update_weights(self, inputs, outputs, weights, epochs):
        for _ in range(epochs):
            before = self.feed_forward(inputs, outputs, weights)
            updated = [w.copy() for w in weights]
            for i, w in enumerate(weights):
                for entry in np.ndindex(w.shape):
                    nudged = [o.copy() for o in weights]
                    nudged[i][entry] += 0.0001
                    updated[i][entry] -= RATE * (self.feed_forward(inputs, outputs, nudged) - before) / 0.0001
            weights = updated
        return weights


STYLES: dict[str, Callable[[Network], Any]] = {
    "functions": Student,
    "lists and a loop": ListStyle,
    "columns": Columns,
    "attributes": Attributes,
    "sums": Sums,
    "the book's": Book,
}


def is_accused(found: Grade) -> bool:
    """Whether a stage is called wrong that is there."""
    return bool(found.refused) or any(one.state in ("wrong", "raised") for one in found.stages)


def main() -> int:
    named, placed, missed = 0, 0, []
    for mistake, expected in MISTAKES.items():
        row = []
        for network in NETWORKS:
            found = graded(Student(network, mistake), network)
            gradient = next(one for one in found.stages if one.stage == "gradient")
            placed += gradient.state == "wrong"
            right = gradient.cause in expected
            named += right
            row.append(gradient.cause or gradient.state)
            if not right:
                missed.append(f"{mistake}, {network.name}: {gradient.cause or gradient.text}")
        print(f"{mistake:<46} {'  '.join(f'{c:<28}' for c in row)}", flush=True)
    accused = []
    for style, make in STYLES.items():
        for network in NETWORKS:
            found = graded(make(network), network)
            if is_accused(found):
                accused.append(
                    f"{style}, {network.name}: {[s for s in found.stages if s.state in ('wrong', 'raised')]}"
                )
    for line in (*missed, *accused):
        print(line)
    print(
        f"{named} of 96 causes named right, {placed} of 96 called wrong at the gradient; {len(accused)} of 24 accused"
    )
    return 0 if named >= 90 and placed == 96 and not accused else 1


if __name__ == "__main__":
    sys.exit(main())
