"""The table of diagnoses, and the proof that they share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from keras_ref.comparison.diagnoses.chain import ChainPoint
from keras_ref.own_modules import registry
from scratch.arrays import Array
from scratch.differences import UNIT


@dataclass(frozen=True, kw_only=True)
class Gradients:
    """Gradients that are wrong, beside those that are right.

    wrong, right    by name
    allowed         how far two equal values of a variable may differ by rounding, and by the error of the right one
    weights         the values of the variables; empty where they are not known
    samples         the size of the batch, 0 where there is none
    outputs         how many numbers the model puts out for a sample, 0 where that is not known
    chain           the model as a chain of dense layers, where it is one
    indices         the integers that a model looked up in an embedding, where it did
    """

    wrong: Mapping[str, Array]
    right: Mapping[str, Array]
    allowed: Mapping[str, float]
    weights: Mapping[str, Array] = field(default_factory=dict)
    samples: int = 0
    outputs: int = 0
    chain: ChainPoint | None = None
    indices: Array | None = None


#: (words, {name: value}): what the gradients would be if the words were true
Proposal = tuple[str, Mapping[str, Array]]
Diagnosis = Callable[[Gradients], Iterator[Proposal]]

diagnosis: Callable[[Diagnosis], Diagnosis] = registry.add_kind("diagnosis", package="keras_ref.comparison.diagnoses")


@dataclass(frozen=True)
class Cause:
    """An explanation that fits: the name of the diagnosis, its words, and the variables that it explains."""

    name: str
    words: str
    explains: frozenset[str]


def explain_gradients(found: Gradients) -> Cause | None:
    """The explanation that fits the most wrong gradients, of these the first of the table; None where none does.

    It has to fit the first of `found.wrong`, where the programs part.
    """
    wrong = [name for name in found.wrong if not is_same(found.wrong[name], found.right[name], found.allowed[name])]
    if not wrong:
        return None
    best: Cause | None = None
    with np.errstate(all="ignore"):  # a proposal that is no number proves nothing
        for name, propose in order_diagnoses().items():
            for words, values in propose(found):
                explained = frozenset(n for n in wrong if n in values and proves(found, n, values[n]))
                if wrong[0] in explained and (best is None or len(explained) > len(best.explains)):
                    best = Cause(name, words, explained)
    return best


def explain_each(found: Gradients) -> dict[str, str]:
    """What each of the wrong gradients looks like, in words: one explanation after another, until none fits."""
    causes: dict[str, str] = {}
    wrong = dict(found.wrong)
    while wrong and (cause := explain_gradients(replace(found, wrong=wrong))) is not None:
        causes |= dict.fromkeys(cause.explains, cause.words)
        wrong = {name: value for name, value in wrong.items() if name not in cause.explains}
    return causes


def order_diagnoses() -> dict[str, Diagnosis]:
    """The diagnoses by name, in the order of the files and of the lines in them."""
    known = registry.every("diagnosis")
    return dict(sorted(known.items(), key=lambda one: (one[1].__module__, one[1].__code__.co_firstlineno)))


def proves(found: Gradients, name: str, value: Array) -> bool:
    """Whether a proposed value is the wrong one to rounding, and is not the right one."""
    wrong, right = found.wrong[name], found.right[name]
    scale = ratio_of(value, right)
    allowed = found.allowed[name] * max(1.0, scale)
    return is_same(value, wrong, allowed) and not is_same(value, right, allowed)


def is_same(a: Array, b: Array, allowed: float) -> bool:
    """Whether two arrays are equal to what is allowed, and a unit in the last place of the largest entry."""
    if np.shape(a) != np.shape(b):
        return False
    with np.errstate(invalid="ignore"):
        size = float(np.max(np.abs(b), initial=0.0))
        return bool(np.max(np.abs(np.subtract(a, b, dtype=float)), initial=0.0) <= allowed + UNIT * size)


def ratio_of(value: Array, right: Array) -> float:
    """How much larger a proposed value is than the right one: its error is larger by as much."""
    size = float(np.linalg.norm(right))
    return float(np.linalg.norm(value)) / size if size else 1.0
