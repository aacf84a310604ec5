"""Sensitivity and false positives: errors planted in gradients must be found, right gradients must pass, wherever.

    python tests/sensitivity.py [--draws 220] [--seed 0] [--only CLASS] [--errors 0.6] [--minutes 30]

draws points of each class (sensitivity_cases.py), judges the gradient of every variable and input at each point by the
twin and by Keras's own forward pass, each for itself, plants errors in them, and prints the table of
.github/docs/numbers.md. Exit status 1 where a right gradient is reported or a planted error passes.

One gradient is that of one variable or input at one point before one oracle. A planted error changes what autodiff says
(at the point and beside it, as a wrong backward pass would); the oracles know nothing of it.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import tensorflow as tf
from carried_digits import carries
from sensitivity_cases import CLASSES, FUNCTIONS, Case
from support_built import Built

from keras_ref.comparison.entries.entrywise import compare_entries
from keras_ref.comparison.sources.autodiff import Autodiff, run_autodiff
from keras_ref.comparison.sources.oracles import ForwardOracle, Oracle
from keras_ref.evaluation.loss_function import Data, LossFunction
from keras_ref.reports.verdict import Kind, Verdict
from scratch.arrays import Array

SIZES = tuple(10.0**-k for k in range(1, 7))
Plant = Callable[[Array, int], Array]


def scaled(relative: float) -> Plant:
    """A whole tensor wrong by a relative error."""
    return lambda gradient, entry: gradient * (1 + relative)


def scaled_entry(relative: float) -> Plant:
    """One entry wrong by a relative error."""

    def plant(gradient: Array, entry: int) -> Array:
        wrong = gradient.copy()
        wrong.flat[entry] *= 1 + relative
        return wrong

    return plant


def zero_entry(gradient: Array, entry: int) -> Array:
    """One entry zero."""
    wrong = gradient.copy()
    wrong.flat[entry] = 0.0
    return wrong


def transposed(gradient: Array, entry: int) -> Array:
    """A matrix laid out the wrong way round."""
    del entry
    if gradient.ndim < 2:
        return np.flip(gradient).copy()
    return np.ascontiguousarray(gradient.swapaxes(-1, -2)).reshape(gradient.shape)


#: class of planted error → what it does to a gradient array, given the flat index of its largest entry
PLANTS: dict[str, Plant] = {
    "sign": lambda gradient, entry: -gradient,
    **{f"tensor {size:.0e}": scaled(size) for size in SIZES},
    **{f"entry {size:.0e}": scaled_entry(size) for size in SIZES},
    "one entry zero": zero_entry,
    "dropped": lambda gradient, entry: np.zeros_like(gradient),
    "transposed": transposed,
    "1/batch missing": lambda gradient, entry: gradient * 3,
}


def remembered(autodiff: Autodiff) -> Autodiff:
    """The same, which takes its gradient at another point, and its rounding, once: all errors are looked at beside the
    same points.
    """
    known: dict[tuple[bytes, ...], Autodiff] = {}

    def at(point: dict[str, Array]) -> Autodiff:
        key = _key(*point.values())
        if key not in known:
            known[key] = remembered(autodiff.at(point))
        return known[key]

    return replace(autodiff, at=at, measure_rounding=functools.cache(autodiff.measure_rounding))


def _key(*arrays: Array) -> tuple[bytes, ...]:
    return tuple(np.asarray(array).tobytes() for array in arrays)


class RememberingOracle(Oracle):
    """An oracle that computes what it is asked for once: the right gradient and all errors are compared with the same
    losses.
    """

    def __init__(self, whole: Oracle) -> None:
        self.whole, self.known = whole, {}
        self.name, self.values, self.base, self.noise = whole.name, whole.values, whole.base, whole.noise
        self.supports_complex, self.of_forward_pass = whole.supports_complex, whole.of_forward_pass
        self.specifications, self.inputs = whole.specifications, whole.inputs

    def _once(self, key: tuple[Any, ...], compute: Callable[[], Any]) -> Any:
        if key not in self.known:
            self.known[key] = compute()
        return self.known[key]

    def covers(self, name: str) -> bool:
        return self.whole.covers(name)

    def losses(self, name: str, entries: Array, offsets: Array) -> Array:
        key = ("losses", name, *_key(entries, offsets))
        return self._once(key, lambda: self.whole.losses(name, entries, offsets))

    def directional(self, direction: dict[str, Array], steps: Array) -> Array:
        key = ("directional", *direction, *_key(*direction.values(), steps))
        return self._once(key, lambda: self.whole.directional(direction, steps))

    def moved(self, values: dict[str, Array]) -> RememberingOracle:
        return self._once(_key(*values.values()), lambda: RememberingOracle(self.whole.moved(values)))

    def with_noise(self, noise: float) -> Oracle:
        return self.whole.with_noise(noise)

    def with_noise_beside(self, noise: float) -> Oracle:
        return self.whole.with_noise_beside(noise)

    def branch_losses(self, name: str, entries: Array, offsets: Array) -> Array | None:
        return self.whole.branch_losses(name, entries, offsets)

    def branch_directional(self, direction: dict[str, Array], steps: Array) -> Array | None:
        return self.whole.branch_directional(direction, steps)


def planted(autodiff: Autodiff, name: str, plant: Plant, entry: int) -> Autodiff:
    """What autodiff would say with the error planted in one variable, here and at any other point."""
    gradient = {
        n: plant(np.asarray(g), entry) if n == name and g is not None else g for n, g in autodiff.gradient.items()
    }
    return replace(autodiff, gradient=gradient, at=lambda point: planted(autodiff.at(point), name, plant, entry))


def case(kind: str, seed: int) -> Case:
    """Point number `seed` of a class. A class that is new goes to the end: its place is a part of the seed."""
    return CLASSES[kind](np.random.default_rng([seed, list(CLASSES).index(kind)]))


# Both sides of a point ------------------------------------------------------------------------------------------------


@functools.cache
def _loss_of_function(name: str) -> LossFunction:
    """One of FUNCTIONS under cotangents, traced once; its data are moved."""
    function = {
        "e/(s²+e)": lambda s, e: e / (s * s + e),
        "s/sqrt(s²+e²)": lambda s, e: s / tf.sqrt(s * s + e * e),
        "s/(|s|+e)": lambda s, e: s / (tf.abs(s) + e),
        "log(relu(s)+e)": lambda s, e: tf.math.log(tf.nn.relu(s) + e),
        "e/(relu(s)+e)": lambda s, e: e / (tf.nn.relu(s) + e),
        "tanh(s/e)": lambda s, e: tf.tanh(s / e),
    }[name]
    data = Data([np.ones(3), np.ones(1)], np.ones(3))
    return LossFunction(lambda d: tf.reduce_sum(function(*d.x) * d.y), variables=[], state=[], data=data)


@functools.cache
def _built(key: str, keep: _Keep) -> Built:
    one = keep.case
    return Built(one.subject, one.x, y=one.y, loss=one.loss)


@dataclass(frozen=True)
class _Keep:
    """A case as part of a cache's key: all cases are equal, since the key says which differ."""

    case: Case = field(compare=False)


@contextmanager
def sides(one: Case) -> Iterator[tuple[tuple[Oracle, ...], Autodiff]]:
    """The oracles and Keras's autodiff (as a graph) of a case, good inside the `with` block."""
    if one.subject in FUNCTIONS:
        probe = _loss_of_function(one.subject).refresh(Data(one.x, one.y))
        forward = ForwardOracle.at(probe, probe.values, inputs=frozenset(probe.inputs))
        yield (RememberingOracle(forward),), remembered(run_autodiff(probe, probe.values, mode="function"))
        return
    built = _built(f"{one.subject!r} {one.loss!r} {np.shape(one.x)}", _Keep(one))
    with built.at(one.weights, one.x, one.y) as probe:
        forward = ForwardOracle.at(probe, probe.values, inputs=frozenset(probe.inputs))
        autodiff = run_autodiff(probe, probe.values, mode="function")
        yield (RememberingOracle(forward), RememberingOracle(built.twin(probe))), remembered(autodiff)


# Judging --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judged:
    """What came of one gradient.

    error      the class of the planted error, "" of a right gradient
    size       the planted error's largest entry
    is_hidden  whether the rounding of the right gradient is as large as the error in every entry
    is_carried  of an error that was not found: whether the float64 losses carry the digits that it changes
    """

    kind: str
    seed: int
    name: str
    verdict: Verdict
    error: str = ""
    size: float = 0.0
    is_hidden: bool = False
    is_carried: bool = False

    @property
    def outcome(self) -> str:
        """One of "passed", "accused" and "undecided" of a right gradient; of PLANTED, or "missed as …", of an error."""
        found = self.verdict.verdict
        if found is Kind.UNDECIDED:
            return "undecided"
        if not self.error:
            return "accused" if self.verdict.failed else "passed"
        if found in (Kind.MISMATCH, Kind.NAN):
            return "found"
        if self.is_hidden:
            return "no error"
        return "below" if found is Kind.MATCH and self.size <= self.verdict.visible else f"missed as {found}"

    @property
    def is_wrong(self) -> bool:
        """Whether the check was wrong: a right gradient accused, or an error that passed."""
        return self.outcome == "accused" or self.outcome.startswith("missed")

    def explain(self) -> str:
        """Where it is, and the verdict."""
        planted = f", planted {self.error} ({self.size:.2g})" if self.error else ""
        planted += ", which float64 carries" if self.is_carried else ""
        return f"{self.kind!r}, seed {self.seed}, {self.verdict.oracle}{planted}: {self.outcome}\n{self.verdict}"


def plants_of(
    gradient: Array, g: np.random.Generator, errors: float, labels: tuple[str, ...]
) -> Iterator[tuple[str, Plant, int]]:
    """The classes of error to plant in a gradient, `errors` of them on average, that change it."""
    entry = int(np.argmax(np.abs(gradient)))
    count = int(errors) + int(g.uniform() < errors % 1)
    for label in g.permutation(labels)[:count]:
        if not np.array_equal(PLANTS[label](gradient, entry), gradient):
            yield str(label), PLANTS[label], entry


def judge_case(kind: str, seed: int, *, errors: float, labels: tuple[str, ...] = tuple(PLANTS)) -> Iterator[Judged]:
    """The right gradients of a point before each oracle, and as many planted errors in each as `errors` on average."""
    generator = np.random.default_rng([seed, 1])
    with sides(case(kind, seed)) as (oracles, autodiff):
        for oracle in oracles:
            for name in filter(oracle.covers, oracle.values):
                yield Judged(kind, seed, name, compare_entries(oracle, name, autodiff=autodiff))
                gradient = autodiff.gradient[name]
                if gradient is None or not np.any(gradient):
                    continue
                for label, plant, entry in plants_of(gradient, generator, errors, labels):
                    wrong = planted(autodiff, name, plant, entry)
                    error = np.abs(np.asarray(wrong.gradient[name]) - gradient)
                    hidden = bool((error <= autodiff.rounding[name]).all())
                    verdict = compare_entries(oracle, name, autodiff=wrong)
                    judged = Judged(kind, seed, name, verdict, label, float(np.max(error)), hidden)
                    if judged.outcome in NOT_FOUND:
                        judged = replace(judged, is_carried=carries(oracle, oracles[0].whole.loss, name, error))
                    yield judged


#: what is said of an error that is not found where the check knows that it would not have seen it
NOT_FOUND = ("undecided", "below")
#: what may become of a planted error other than to pass: found; undecided; a match that says it would not have seen an
#: error as small; within the rounding of the right gradient
PLANTED = ("found", "undecided", "below", "no error")


#: the class of a gradient, whether it is wrong, what came of it, and whether float64 carries what was not found
Tally = Counter[tuple[str, bool, str, bool]]


def shown(kinds: tuple[str, ...], tally: Tally) -> str:
    """The table of the outcomes."""

    def row(title: str, among: tuple[str, ...]) -> str:
        def count(wrong: bool, *outcomes: str, carried: bool = False) -> int:
            return sum(
                n
                for (kind, w, o, c), n in tally.items()
                if kind in among and w == wrong and (not outcomes or o in outcomes) and c >= carried
            )

        outcomes = [count(True, outcome) for outcome in PLANTED]
        right = [count(False), count(False, "accused"), count(False, "undecided")]
        missed = [count(True) - sum(outcomes), count(True, *NOT_FOUND, carried=True)]
        numbers = [*right, count(True), *outcomes, *missed]
        return f"| {title} | " + " | ".join(f"{n:,}" for n in numbers) + " |"

    head = ("class", "right gradients", "accused", "undecided", "planted", *PLANTED, "missed", "carried")
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *(row(kind, (kind,)) for kind in kinds)]
    return "\n".join([*lines, row("all", kinds)])


#: points of each class after which a run prints what it has found so far
ROUND = 5


def _table(kinds: tuple[str, ...], tally: Tally, *, seed: int, number: int) -> str:
    spent = f"seed {seed}, {number} points of each class, {time.process_time():.0f} processor seconds"
    return f"{shown(kinds, tally)}\n\n{spent}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=220, help="points of each class")
    parser.add_argument("--seed", type=int, default=0, help="number of the first point")
    parser.add_argument("--only", choices=tuple(CLASSES), help="one class alone")
    parser.add_argument("--errors", type=float, default=0.6, help="errors planted in each gradient, on average")
    parser.add_argument("--every", action="store_true", help="print the undecided ones too")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="how long to go on at most")
    options = parser.parse_args()
    kinds = (options.only,) if options.only else tuple(CLASSES)
    tally: Tally = Counter()
    wrong, begun, number = 0, time.monotonic(), 0
    for seed in range(options.seed, options.seed + options.draws):
        if time.monotonic() - begun > 60 * options.minutes:
            break
        for kind in kinds:
            for one in judge_case(kind, seed, errors=options.errors):
                tally[kind, bool(one.error), one.outcome, one.is_carried] += 1
                wrong += one.is_wrong
                if one.is_wrong or (options.every and one.outcome in NOT_FOUND):
                    print(one.explain(), file=sys.stderr, flush=True)
        number += 1
        if number % ROUND == 0:  # a run that is cut off has said what it found
            print(_table(kinds, tally, seed=options.seed, number=number), file=sys.stderr, flush=True)
    print(_table(kinds, tally, seed=options.seed, number=number))
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
