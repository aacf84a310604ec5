"""The proof of teeth: errors planted in gradients must be found, correct gradients must pass, wherever they are taken.

    python tests/sensitivity.py [--correct 10000] [--seed 0]

prints the table of the README. A planted error changes what autodiff says (at the point and beside it, as a wrong
backward pass would); the twin knows nothing of it. The suite runs a sample of the same in test_teeth.py.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from support_sides import numeric_sides

from keras_ref.comparison.autodiff import Autodiff
from keras_ref.comparison.entrywise import compare_entries
from scratch.layers.core import Activation, Dense
from scratch.losses.regression import MeanSquaredError
from scratch.model import Model

SIZES = tuple(10.0**-k for k in range(1, 7))
ACTIVATIONS = ("tanh", "sigmoid", "softmax", "relu", "hard_tanh", "hard_sigmoid")
KINDS = ("smooth", "near a kink", "on a kink", "badly scaled")


def scaled(relative: float) -> Callable[[np.ndarray, int], np.ndarray]:
    """A whole tensor wrong by a relative error."""
    return lambda gradient, entry: gradient * (1 + relative)


def scaled_entry(relative: float) -> Callable[[np.ndarray, int], np.ndarray]:
    """One entry wrong by a relative error."""

    def plant(gradient: np.ndarray, entry: int) -> np.ndarray:
        wrong = gradient.copy()
        wrong.flat[entry] *= 1 + relative
        return wrong

    return plant


def zero_entry(gradient: np.ndarray, entry: int) -> np.ndarray:
    """One entry zero."""
    wrong = gradient.copy()
    wrong.flat[entry] = 0.0
    return wrong


def transposed(gradient: np.ndarray, entry: int) -> np.ndarray:
    """A matrix laid out the wrong way round."""
    del entry
    return (
        np.ascontiguousarray(gradient.swapaxes(-1, -2)).reshape(gradient.shape)
        if gradient.ndim > 1
        else gradient[::-1].copy()
    )


#: class of planted error → what it does to a gradient array, given the flat index of its largest entry
PLANTS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "sign": lambda gradient, entry: -gradient,
    **{f"tensor {size:.0e}": scaled(size) for size in SIZES},
    **{f"entry {size:.0e}": scaled_entry(size) for size in SIZES},
    "one entry zero": zero_entry,
    "dropped": lambda gradient, entry: np.zeros_like(gradient),
    "transposed": transposed,
    "1/batch missing": lambda gradient, entry: gradient * 3,
}


def remembered(autodiff: Autodiff) -> Autodiff:
    """The same, which takes its gradient at another point once: all errors are looked at beside the same points."""
    known: dict[tuple[bytes, ...], Autodiff] = {}

    def at(point: dict[str, np.ndarray]) -> Autodiff:
        key = tuple(value.tobytes() for value in point.values())
        if key not in known:
            known[key] = autodiff.at(point)
        return known[key]

    return replace(autodiff, at=at)


def planted(autodiff: Autodiff, name: str, plant: Callable[[np.ndarray, int], np.ndarray], entry: int) -> Autodiff:
    """What autodiff would say with the error planted in one variable, here and at any other point."""
    gradient = {
        n: plant(np.asarray(g), entry) if n == name and g is not None else g for n, g in autodiff.gradient.items()
    }
    return replace(autodiff, gradient=gradient, at=lambda point: planted(autodiff.at(point), name, plant, entry))


def caught(oracle, autodiff: Autodiff, name: str) -> Iterator[tuple[str, bool, object]]:
    """(class, whether it was called a mismatch, verdict) of every error that changes this variable's gradient."""
    gradient = autodiff.gradient[name]
    if gradient is None or not np.any(gradient):
        return
    entry = int(np.argmax(np.abs(gradient)))
    for label, plant in PLANTS.items():
        wrong = planted(autodiff, name, plant, entry)
        if np.array_equal(wrong.gradient[name], gradient):
            continue
        verdict = compare_entries(oracle, name, autodiff=wrong)
        yield label, verdict.verdict in ("mismatch", "nan"), verdict


@functools.cache
def network(seed: int) -> Model:
    """One of 84 small networks: two or three dense layers with a mix of activations."""
    g = np.random.default_rng(seed)
    first, second = g.choice(ACTIVATIONS, 2)
    layers = [Dense(int(g.integers(2, 5)), str(first))]
    if g.integers(2):
        layers += [Dense(int(g.integers(2, 4))), Activation(str(second))]
    return Model.chain([*layers, Dense(int(g.integers(1, 3)))], (int(g.integers(1, 4)),))


@dataclass(frozen=True)
class Case:
    """A network at a point."""

    seed: int
    kind: str
    model: Model
    weights: dict[str, np.ndarray]
    x: np.ndarray
    y: np.ndarray


def case(seed: int, kind: str) -> Case:
    """A point of the given kind: kinks are set by the bias of the first layer, scales by powers of ten up to 1e4."""
    model = network(seed % 84)
    g = np.random.default_rng(seed)
    weights = {n: g.normal(size=s) / np.sqrt(s[0] if len(s) > 1 else 4) for n, s in model.weight_shapes.items()}
    x = g.normal(size=(3, *next(iter(model.inputs.values()))[1:]))
    y = g.normal(size=(3, model.shapes[model.outputs[0]][-1]))
    kernel, bias = weights["dense/kernel"], weights["dense/bias"]
    if kind == "near a kink":
        bias[:] = -(x[0] @ kernel) + 10.0 ** -g.integers(5, 10, bias.shape) * g.choice([-1.0, 1.0], bias.shape)
    if kind == "on a kink":
        style = g.integers(3)
        if style == 0:
            x[0], bias[:] = 0.0, 0.0
        elif style == 1:
            kernel[:], bias[:] = 0.0, 0.0
        else:
            kernel[:] = np.round(kernel * 8) / 8
            x[:] = np.round(x * 8) / 8
            bias[:] = -(x[0] @ kernel)
    if kind == "badly scaled":
        size = 10.0 ** g.uniform(-4, 4)
        kernel *= size
        x /= size
        weights["dense/bias"] = bias * 10.0 ** g.uniform(-4, 0)
    return Case(seed, kind, model, weights, x, y)


def sides(one: Case):
    """The twin as oracle and Keras's autodiff, for a case; the Keras model of each network is built once."""
    oracle, autodiff = numeric_sides(one.model, one.weights, one.x, one.y, MeanSquaredError())
    return oracle, remembered(autodiff)


def table(correct: int, wrong_every: int, seed: int = 0, progress: Callable[[int], None] | None = None):
    """(planted and caught by class, correct and accused by kind, what went wrong)."""
    plants, hits, cases, accused, trouble = Counter(), Counter(), Counter(), Counter(), []
    for i in range(correct):
        one = case(seed + i, KINDS[i % len(KINDS)])
        oracle, autodiff = sides(one)
        for name in oracle.names:
            verdict = compare_entries(oracle, name, autodiff=autodiff)
            cases[one.kind] += 1
            if verdict.failed:
                accused[one.kind] += 1
                trouble.append((one.seed, one.kind, name, verdict))
            if i % wrong_every == 0:
                for label, found, wrong in caught(oracle, autodiff, name):
                    plants[label] += 1
                    hits[label] += found
                    if not found:
                        trouble.append((one.seed, one.kind, f"{name} planted {label}", wrong))
        if progress is not None:
            progress(i + 1)
    return plants, hits, cases, accused, trouble


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--correct", type=int, default=2500, help="networks (each has several variables, one correct case each)"
    )
    parser.add_argument("--every", type=int, default=25, help="errors are planted in every n-th network")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    start = time.time()
    plants, hits, cases, accused, trouble = table(options.correct, options.every, options.seed)
    print("| planted error | planted | caught |\n|---|---|---|")
    for label in PLANTS:
        print(f"| {label} | {plants[label]} | {hits[label]} |")
    print(
        f"| all | {sum(plants.values())} | {sum(hits.values())} |\n\n| correct gradients | cases | accused "
        f"|\n|---|---|---|"
    )
    for kind in KINDS:
        print(f"| {kind} | {cases[kind]} | {accused[kind]} |")
    print(
        f"| all | {sum(cases.values())} | {sum(accused.values())} |\n\n{time.time() - start:.0f} s, seed {options.seed}"
    )
    for one in trouble[:20]:
        print(*one[:3], one[3].explain(), sep="\n", file=sys.stderr)
    return 1 if trouble else 0


if __name__ == "__main__":
    sys.exit(main())
