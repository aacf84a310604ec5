"""Which weight of one program has the values of which weight of the other: by names, order, shape and layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from keras_ref.errors import BadInput
from keras_ref.programs.program import Weight
from scratch.arrays import Array


@dataclass(frozen=True)
class WeightLayout:
    """How a program may keep a weight that Keras keeps otherwise: in words, both ways, for arrays of `rank` axes."""

    words: str
    away: Callable[[Array], Array]
    back: Callable[[Array], Array]
    rank: int = 0


#: the layouts that are tried for weights whose own is not known, in this order; rank 0 is any
LAYOUTS = (
    WeightLayout("", lambda a: a, lambda a: a),
    WeightLayout("transposed", lambda a: a.T, lambda a: a.T, 2),
    WeightLayout("as a row", lambda a: a.reshape(1, -1), lambda a: a.reshape(-1), 1),
    WeightLayout("as a column", lambda a: a.reshape(-1, 1), lambda a: a.reshape(-1), 1),
    WeightLayout(
        "(out, in, height, width)",
        lambda a: np.moveaxis(a, (-1, -2), (0, 1)),
        lambda a: np.moveaxis(a, (0, 1), (-1, -2)),
        4,
    ),
)

#: filters of a convolution by group, (space…, 1, in·m), and by channel, (space…, in, m): the same entries in order
GROUPED = WeightLayout("filters by group", lambda a: a, lambda a: a)


@dataclass(frozen=True)
class Pair:
    """A weight of A and a weight of B with the same values, B's in another layout."""

    a: Weight
    b: Weight
    layout: WeightLayout

    def to_b(self, value: Array) -> Array:
        return np.asarray(self.layout.away(np.asarray(value)).reshape(self.b.shape), order="C")

    def to_a(self, value: Array) -> Array:
        return np.asarray(self.layout.back(np.asarray(value)).reshape(self.a.shape), order="C")


@dataclass(frozen=True)
class Matching:
    """Pairs in the order of A, and what has no counterpart."""

    pairs: tuple[Pair, ...]
    only_a: tuple[Weight, ...] = ()
    only_b: tuple[Weight, ...] = ()


def match_weights(a: Sequence[Weight], b: Sequence[Weight], given: Mapping[str, str] | None = None) -> Matching:
    """The pairs of two programs' weights; `given` {name in A: name in B} decides first.

    Raises: BadInput where a given name does not exist or does not fit, or nothing can be matched.
    """
    if not a or not b:  # a program without weights of its own takes those of the other one
        return Matching(tuple(Pair(one, one, LAYOUTS[0]) for one in a or b))
    chosen = _read_given_pairs(a, b, given or {})
    rest_a = [w for w in a if w not in {x for x, _ in chosen}]
    rest_b = [w for w in b if w not in {y for _, y in chosen}]
    everywhere = not all(w.known for w in (*a, *b))  # a program that does not say what is trained trains all
    found = list(chosen)
    for kind in (None,) if everywhere else (True, False):
        first, second = ([w for w in rest if kind is None or w.trainable is kind] for rest in (rest_a, rest_b))
        found += _align_weights(first, second)
    if not found:
        raise BadInput(
            "Two programs must have weights that fit each other. Received: "
            f"{_shapes(a)} in A and {_shapes(b)} in B. Say which are the same with --map NAME_IN_A=NAME_IN_B."
        )
    pairs = _with_layouts(found)
    order = {w: i for i, w in enumerate(a)}
    pairs.sort(key=lambda pair: order[pair.a])
    matched_a, matched_b = {p.a for p in pairs}, {p.b for p in pairs}
    return Matching(tuple(pairs), tuple(w for w in a if w not in matched_a), tuple(w for w in b if w not in matched_b))


def _read_given_pairs(
    a: Sequence[Weight], b: Sequence[Weight], given: Mapping[str, str]
) -> list[tuple[Weight, Weight]]:
    pairs = []
    for name_a, name_b in given.items():
        sides = [next((w for w in side if w.name == name), None) for side, name in ((a, name_a), (b, name_b))]
        for side, name, weights in (("A", name_a, a), ("B", name_b, b)):
            if not any(w.name == name for w in weights):
                raise BadInput(
                    f"--map must name a weight of A and one of B. Received: {name!r}, which {side} does not have. "
                    f"Its weights are {_shapes(weights)}."
                )
        one, other = (weight for weight in sides if weight is not None)
        if not find_fitting_layouts(one, other):
            raise BadInput(
                f"Mapped weights must have the same entries. Received: {_shapes([one])} and {_shapes([other])}. "
                "Map others."
            )
        pairs.append((one, other))
    return pairs


def find_fitting_layouts(a: Weight, b: Weight) -> list[WeightLayout]:
    """The layouts in which b can hold the values of a."""
    if a.known and b.known:
        return [LAYOUTS[0]] if a.shape == b.shape else [GROUPED] if _has_same_filters(a.shape, b.shape) else []
    known = [layout for layout in LAYOUTS if layout.rank in (0, len(a.shape))]
    return [layout for layout in known if layout.away(np.empty(a.shape)).shape == b.shape]


def _has_same_filters(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Whether one shape is that of filters by group, the other the same by channel."""
    is_same = len(a) == len(b) > 2 and a[:-2] == b[:-2] and np.prod(a) == np.prod(b)
    return bool(is_same and 1 in (a[-2], b[-2]))


def _align_weights(a: Sequence[Weight], b: Sequence[Weight]) -> list[tuple[Weight, Weight]]:
    """The longest common order of weights that fit, parts of the same name preferred."""
    rows, columns = len(a), len(b)
    score = np.zeros((rows + 1, columns + 1))
    gain = np.zeros((rows, columns))
    shapes: dict[tuple[object, ...], bool] = {}
    for i in range(rows):
        for j in range(columns):
            key = (a[i].shape, b[j].shape, a[i].known and b[j].known)
            if key not in shapes:
                shapes[key] = bool(find_fitting_layouts(a[i], b[j]))
            parts = a[i].known and b[j].known and a[i].part != b[j].part
            if shapes[key] and not parts:
                gain[i, j] = 1 + 0.25 * (a[i].part == b[j].part) + 0.25 * (a[i].name == b[j].name)
    for i in reversed(range(rows)):
        for j in reversed(range(columns)):
            score[i, j] = max(score[i + 1, j], score[i, j + 1], score[i + 1, j + 1] + gain[i, j] if gain[i, j] else 0.0)
    pairs, i, j = [], 0, 0
    while i < rows and j < columns:
        if gain[i, j] and score[i, j] == score[i + 1, j + 1] + gain[i, j]:
            pairs.append((a[i], b[j]))
            i, j = i + 1, j + 1
        elif score[i, j] == score[i + 1, j]:
            i += 1
        else:
            j += 1
    return pairs


def _with_layouts(found: Sequence[tuple[Weight, Weight]]) -> list[Pair]:
    """A layout for each pair: what the shape of a square matrix leaves open is as it is for the others."""
    options = [(one, other, find_fitting_layouts(one, other)) for one, other in found]
    decided = {known[0].words for one, _, known in options if len(known) == 1 and len(one.shape) > 1}
    turned = "transposed" in decided and "" not in decided
    return [Pair(one, other, known[-1] if turned and len(one.shape) > 1 else known[0]) for one, other, known in options]


def _shapes(weights: Sequence[Weight]) -> str:
    named = [f"{w.name} {w.shape}" for w in weights]
    return ", ".join(named[:8]) + (f" and {len(named) - 8} more" if len(named) > 8 else "")
