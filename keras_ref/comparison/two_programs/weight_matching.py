"""Which weight of one program has the values of which weight of the other: by names, order, shape and layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

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
#: what a pair of weights gains where part and name are the same, in quarters: sums of whole numbers are exact
BEST = 6


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
    chosen_a, chosen_b = {x for x, _ in chosen}, {y for _, y in chosen}
    rest_a, rest_b = [w for w in a if w not in chosen_a], [w for w in b if w not in chosen_b]
    everywhere = not all(w.known for w in (*a, *b))  # a program that does not say what is trained trains all
    found = list(chosen)
    for kind in (None,) if everywhere else (True, False):
        first, second = ([w for w in rest if kind is None or w.trainable is kind] for rest in (rest_a, rest_b))
        aligned = _align_weights(first, second)
        found += [*aligned, *_pair_by_name(first, second, aligned)]
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
    """The longest common order of weights that fit, parts of the same name preferred; of several the earliest pairs.

    Where both begin with weights of the same names and shapes these are pairs of it: no others of theirs gain more.
    """
    same = list(takewhile(lambda pair: _count_gain(*pair) == BEST, zip(a, b, strict=False)))
    a, b = a[len(same) :], b[len(same) :]
    gain = _count_gains(a, b)
    score = np.zeros((len(a) + 1, len(b) + 1), np.int32)
    for i in reversed(range(len(a))):
        paired = np.where(gain[i] > 0, score[i + 1, 1:] + gain[i], 0)
        score[i, :-1] = np.maximum.accumulate(np.maximum(score[i + 1, :-1], paired)[::-1])[::-1]
    pairs, i, j = [], 0, 0
    while i < len(a) and j < len(b):
        if gain[i, j] and score[i, j] == score[i + 1, j + 1] + gain[i, j]:
            pairs.append((a[i], b[j]))
            i, j = i + 1, j + 1
        elif score[i, j] == score[i + 1, j]:
            i += 1
        else:
            j += 1
    return [*same, *pairs]


def _pair_by_name(
    a: Sequence[Weight], b: Sequence[Weight], aligned: Sequence[tuple[Weight, Weight]]
) -> list[tuple[Weight, Weight]]:
    """The pairs of the same name among what the common order leaves over: the branches of a model in another order."""
    taken_a, taken_b = {one for one, _ in aligned}, {other for _, other in aligned}
    left = {other.name: other for other in b if other not in taken_b}
    pairs = [(one, left[one.name]) for one in a if one not in taken_a and one.name in left]
    return [(one, other) for one, other in pairs if _count_gain(one, other)]


def _count_gain(a: Weight, b: Weight) -> int:
    """What two weights gain as a pair, in quarters: BEST of the same part and name, 0 where they do not fit."""
    if (a.known and b.known and a.part != b.part) or not find_fitting_layouts(a, b):
        return 0
    return BEST - (a.part != b.part) - (a.name != b.name)


def _count_gains(a: Sequence[Weight], b: Sequence[Weight]) -> Array:
    """`_count_gain` of each of `a` with each of `b` (a, b), asked once of weights that differ in the layer alone."""
    numbers: dict[str, int] = {}
    names, sides = [], []
    for weights in (a, b):
        names.append(np.array([numbers.setdefault(w.name, len(numbers)) for w in weights], int))
        kinds: dict[Weight, int] = {}
        which = [kinds.setdefault(replace(w, name=w.part, path=""), len(kinds)) for w in weights]
        sides.append((list(kinds), np.array(which, int)))
    (kinds_a, which_a), (kinds_b, which_b) = sides
    by_kind = np.array([_count_gain(one, other) for one in kinds_a for other in kinds_b], int)
    gains: Array = by_kind.reshape(len(kinds_a), len(kinds_b))[np.ix_(which_a, which_b)]
    gains -= (gains == BEST) & (names[0][:, None] != names[1])
    return gains


def _with_layouts(found: Sequence[tuple[Weight, Weight]]) -> list[Pair]:
    """A layout for each pair: what the shape of a square matrix leaves open is as it is for the others."""
    options = [(one, other, find_fitting_layouts(one, other)) for one, other in found]
    decided = {known[0].words for one, _, known in options if len(known) == 1 and len(one.shape) > 1}
    turned = "transposed" in decided and "" not in decided
    return [Pair(one, other, known[-1] if turned and len(one.shape) > 1 else known[0]) for one, other, known in options]


def _shapes(weights: Sequence[Weight]) -> str:
    named = [f"{w.name} {w.shape}" for w in weights]
    return ", ".join(named[:8]) + (f" and {len(named) - 8} more" if len(named) > 8 else "")
