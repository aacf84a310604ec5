"""The passes of the minimiser as data: each names what it takes away, and gives candidates, the boldest first.

A candidate may be nonsense (a layer of the wrong shape): it is tried, and does not fail in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from keras_ref.minimisation.expressions import (
    Call,
    Expression,
    Inline,
    Item,
    Listing,
    Table,
    Values,
    list_children,
    replace_node,
    walk,
    with_children,
)

#: numbers that every reader knows, from the first that is tried
ROUND = (1.0, 0.0, 2.0, 0.5, -1.0)
#: sizes that are tried in place of a larger one
SMALL = (1, 2, 3)

Candidates = Iterator[Expression]


@dataclass(frozen=True)
class Pass:
    """A kind of reduction: what it takes away, in words, and its candidates for a tree."""

    what: str
    candidates: Callable[[Expression], Candidates]


def take_out_layers(tree: Expression) -> Candidates:
    """Without halves of a list, then without single items."""
    for path, node in walk(tree):
        if not isinstance(node, Listing):
            continue
        count = len(node.items)
        for size in _list_halvings(count):
            for start in range(0, count, size):
                left = node.items[:start] + node.items[start + size :]
                if left:
                    yield replace_node(tree, path, Listing(left))


def drop_options(tree: Expression) -> Candidates:
    """Without keywords: all of a call at once, then one by one; without entries of a table."""
    for path, node in walk(tree):
        if isinstance(node, Call) and node.keywords:
            for left in _without(node.keywords):
                yield replace_node(tree, path, Call(node.function, node.arguments, left))
        elif isinstance(node, Table) and len(node.items) > 1:
            for left in _without(node.items):
                if left:
                    yield replace_node(tree, path, Table(left))


def reduce_sizes(tree: Expression) -> Candidates:
    """One size for another wherever it stands: units, batch, channels and steps stay those of the arrays."""
    found = {n for _, node in walk(tree) for n in _list_sizes(node) if n > 1}
    for size in sorted(found, reverse=True):
        for smaller in dict.fromkeys((*SMALL, size // 2, size - 1)):
            if smaller < size:
                yield _resize(tree, size, smaller)


def cut_arrays(tree: Expression) -> Candidates:
    """Single arrays, along each axis: one of the entries, halves, without one."""
    for path, node in walk(tree):
        if not isinstance(node, Values):
            continue
        for axis, size in enumerate(node.array.shape):
            if size < 2:
                continue
            kept = [[i] for i in range(min(size, 6))] + [list(range(size // 2)), list(range(size // 2, size))]
            kept += [[j for j in range(size) if j != i] for i in range(min(size, 6))]
            for chosen in kept:
                yield replace_node(tree, path, Values(node.array.take(chosen, axis), node.held))
        if node.array.ndim and node.array.size == 1:
            yield replace_node(tree, path, Values(node.array.reshape(()), node.held))


def reduce_integers(tree: Expression) -> Candidates:
    """Whole numbers among the arguments and options, one by one."""
    for path, node in walk(tree):
        if isinstance(node, int) and not isinstance(node, bool) and abs(node) > 1:
            for smaller in dict.fromkeys((*SMALL, node // 2)):
                if smaller < abs(node):
                    yield replace_node(tree, path, smaller)


def round_numbers(tree: Expression) -> Candidates:
    """All numbers of an array round, then each; numbers among the arguments and options."""
    for path, node in walk(tree):
        if isinstance(node, Values) and node.array.dtype.kind in "fc":
            for array in _round_arrays(node.array):
                yield replace_node(tree, path, Values(array, node.held))
        elif isinstance(node, float):
            for number in _list_rounder(node):
                yield replace_node(tree, path, number)


def round_entries(tree: Expression) -> Candidates:
    """Entries of arrays, one by one."""
    for path, node in walk(tree):
        if not (isinstance(node, Values) and node.array.dtype.kind in "fi" and 1 < node.array.size <= 32):
            continue
        for place, value in enumerate(node.array.ravel()):
            for number in _list_rounder(float(value)) if node.array.dtype.kind == "f" else (0, 1):
                array = node.array.copy()
                array.ravel()[place] = number
                yield replace_node(tree, path, Values(array, node.held))


def unnest(tree: Expression) -> Candidates:
    """A wrapper replaced by what it wraps: a layer of a layer, one item for a list of it."""
    for path, node in walk(tree):
        if isinstance(node, Call):
            inner = [a for a in (*node.arguments, *(v for _, v in node.keywords)) if isinstance(a, Call)]
            for one in inner:
                yield replace_node(tree, path, one)
            for argument in node.arguments:
                if isinstance(argument, Listing) and len(argument.items) == 1:
                    yield replace_node(tree, path, argument.items[0])


def shrink(tree: Expression) -> Candidates:
    """All sizes above 1, 2 and 3 at once: what a search begins with, so that large arrays are never differenced."""
    sizes = {n for _, node in walk(tree) for n in _list_sizes(node)}
    for limit in SMALL:
        smaller = tree
        for size in sorted(n for n in sizes if n > limit):
            smaller = _resize(smaller, size, limit)
        if smaller != tree:
            yield smaller


PASSES = (
    Pass("layers", take_out_layers),
    Pass("wrappers", unnest),
    Pass("options", drop_options),
    Pass("sizes", reduce_sizes),
    Pass("entries", cut_arrays),
    Pass("whole numbers", reduce_integers),
    Pass("numbers", round_numbers),
    Pass("single numbers", round_entries),
)


def weigh(tree: Expression, text: str) -> tuple[Any, ...]:
    """How large a case is: by its objects and entries, by the length of its text, by how round its numbers are."""
    entries = roundness = 0
    for _, node in walk(tree):
        entries += node.array.size if isinstance(node, Values) else isinstance(node, (Call, Item, Inline))
        entries += node if isinstance(node, int) and not isinstance(node, bool) and 0 < node < 10**6 else 0
        if isinstance(node, Values) and node.array.dtype.kind == "f":
            roundness += sum(map(_rank, node.array.ravel()[:64]))
            entries += node.array.ndim
        elif isinstance(node, float):
            roundness += _rank(node)
    return entries, len(text), roundness


def _rank(value: float) -> int:
    return ROUND.index(value) if value in ROUND else len(ROUND)


def _list_halvings(count: int) -> Iterator[int]:
    size = count - 1
    while size >= 1:
        yield size
        size //= 2


def _without(items: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    yield ()
    if len(items) > 1:
        yield from (items[:i] + items[i + 1 :] for i in range(len(items)))


def _list_sizes(node: Expression) -> tuple[int, ...]:
    if isinstance(node, Values):
        return tuple(node.array.shape)
    return (node,) if isinstance(node, int) and not isinstance(node, bool) else ()


def _resize(tree: Expression, size: int, smaller: int) -> Expression:
    if isinstance(tree, Values):
        array = tree.array
        for axis in range(array.ndim):
            if array.shape[axis] == size:
                array = array.take(range(smaller), axis)
        return Values(array, tree.held)
    if isinstance(tree, int) and not isinstance(tree, bool):
        return smaller if tree == size else tree
    below = list_children(tree)
    return with_children(tree, tuple(_resize(child, size, smaller) for child in below)) if below else tree


def _round_arrays(array: Any) -> Iterator[Any]:
    """The array with all numbers round, the roundest first."""
    if array.dtype.kind == "f":
        for number in ROUND:
            yield np.full_like(array, number)
        if array.size > 4:
            yield np.arange(array.size, dtype=array.dtype).reshape(array.shape)
        with np.errstate(all="ignore"):
            yield np.sign(array)
    for digits in (0, 1, 2):
        yield np.round(array, digits)
    yield _round_to_digits(array, 1)
    yield _round_to_digits(array, 2)


def _round_to_digits(array: Any, digits: int) -> Any:
    """Each number to so many significant digits: 3.3e-310 is 3e-310."""
    text = np.vectorize(
        lambda v: complex(f"{v:.{digits - 1}e}") if np.iscomplexobj(v) else float(f"{v:.{digits - 1}e}")
    )
    return text(array).astype(array.dtype) if array.size else array


def _list_rounder(value: float) -> Iterator[float]:
    yield from chain(
        (number for number in ROUND if number != value),
        (round(value, digits) for digits in (0, 1, 2)),
        (float(f"{value:.{digits}e}") for digits in (0, 1)),
        ((10.0 ** round(np.log10(abs(value)))) * np.sign(value),) if value and np.isfinite(value) else (),
    )
