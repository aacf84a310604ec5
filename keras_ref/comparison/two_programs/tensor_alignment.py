"""Which tensor of one forward pass is which of the other: in order, by shape, value and name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from scratch.arrays import Array


def align(
    a: Mapping[str, Array], b: Mapping[str, Array], agree: Mapping[tuple[str, str], bool]
) -> list[tuple[str, str]]:
    """Pairs (name in a, name in b) in the order of the computation; "" where a tensor has no counterpart.

    agree   of each pair of the same shape, whether the values are the same to rounding
    Of all ways that keep both orders, the one in which most agree, then the one whose values are nearest.
    """
    first, second = list(a), list(b)
    gain = np.full((len(first), len(second)), -np.inf)
    for i, one in enumerate(first):
        for j, other in enumerate(second):
            if (one == "output") != (other == "output"):
                continue
            gain[i, j] = _score_pair(one, other, a[one], b[other], agree=agree.get((one, other), False))
    score = np.zeros((len(first) + 1, len(second) + 1))
    for i in reversed(range(len(first))):
        for j in reversed(range(len(second))):
            score[i, j] = max(score[i + 1, j], score[i, j + 1], score[i + 1, j + 1] + gain[i, j])
    found: list[tuple[str, str]] = []
    i = j = 0
    while i < len(first) or j < len(second):
        both = i < len(first) and j < len(second)
        if both and score[i, j] == score[i + 1, j + 1] + gain[i, j]:
            found.append((first[i], second[j]))
            i, j = i + 1, j + 1
        elif i < len(first) and (j == len(second) or score[i, j] == score[i + 1, j]):
            found.append((first[i], ""))
            i += 1
        else:
            found.append(("", second[j]))
            j += 1
    return found


def _score_pair(one: str, other: str, a: Array, b: Array, *, agree: bool) -> float:
    """How much speaks for two tensors being the same."""
    name = 0.25 * (one == other)
    if a.shape != b.shape:
        # another padding, another stride: the same layer all the same if it has the same name and rank
        return 0.05 + name if a.ndim == b.ndim and a.shape[:1] == b.shape[:1] and one == other else -np.inf
    if agree:
        return 2.0 + name
    size = float(np.linalg.norm(a)) or 1.0
    with np.errstate(all="ignore"):
        distance = float(np.linalg.norm(np.subtract(a, b, dtype=float))) / size
    return (1.0 / (1.0 + 4 * distance) if np.isfinite(distance) else 0.05) + name


def drop_lone_tensors(names: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The pairs without those tensors that only one side shows and that stand before an agreement (fused layers)."""
    return [pair for pair in names if all(pair)]
