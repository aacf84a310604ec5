"""Everything in nested values, which may hold themselves, and lie deeper than Python's recursion goes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

#: types of values that hold nothing and do not change: most attributes are of one
ATOMS = frozenset((type(None), bool, int, float, complex, str, bytes))


def walk_everything(
    value: Any, parts_of: Callable[[Any], Iterable[Any] | None], *, levels: float = math.inf
) -> Iterator[Any]:
    """A value and all that is in it, in the order in which it is written; what holds others, once.

    parts_of   what is in a value; None where it holds nothing
    levels     how deep parts are looked into
    """
    seen: dict[int, Any] = {}  # which stay alive, or another could have the identity of one
    waiting: list[tuple[Any, float]] = [(value, levels)]
    while waiting:
        one, left = waiting.pop()
        if id(one) in seen:
            continue
        yield one
        parts = parts_of(one)
        if parts is None:
            continue
        seen[id(one)] = one
        if left > 0:
            waiting += [(part, left - 1) for part in reversed([*parts])]


def list_items(value: Any) -> list[Any] | None:
    """The values of a mapping, the items of a list or tuple; None of anything else."""
    if isinstance(value, Mapping):
        return list(value.values())
    return list(value) if isinstance(value, (list, tuple)) else None
