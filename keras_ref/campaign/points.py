"""The points at which an operation is checked: generic ones, and those where derivatives go wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import zip_longest
from typing import Any

import numpy as np

from scratch.arrays import Array

#: entries of a vector
SIZE = 4
#: points at which one argument is not special while the others are generic
ORDINARY = (
    "generic",
    "between 0 and 1",
    "above 1",
    "ones",
    "integers",
    "ties",
    "one element",
    "tiny",
    "negative zeros",
)


def _make_vectors(rng: np.random.Generator) -> dict[str, Array]:
    """The vectors by the name of what is special in them."""
    return {
        "generic": rng.normal(size=SIZE),
        "between 0 and 1": rng.uniform(0.1, 0.9, size=SIZE),
        "above 1": rng.uniform(1.5, 3.0, size=SIZE),
        "zeros": np.zeros(SIZE),
        "negative zeros": -np.zeros(SIZE),
        "one zero": np.array([0.0, 1.25, -0.75, 2.0]),
        "a zero among positive": np.array([0.5, 0.0, 1.25, 2.0]),
        "ones": np.ones(SIZE),
        "equal": np.full(SIZE, 0.5),
        "ties": np.array([1.5, -0.5, 1.5, -0.5]),
        "edges": np.array([1.0, -1.0, 0.5, 0.0]),
        "integers": np.array([-2.0, 1.0, 2.0, 3.0]),
        "saturated": np.array([20.0, -20.0, 40.0, -40.0]),
        "far": np.array([700.0, -700.0, 300.0, -300.0]),
        "tiny": np.array([1e-8, -1e-8, 1e-300, -1e-300]),
        # exp is below the smallest normal number, and is not 0
        "exp underflows": np.array([-708.5, -709.0, -720.0, -744.0]),
        # exp is near the largest number, and the sum of two, a square or a cosh beyond it
        "exp is huge": np.array([709.5, 709.0, 355.0, -355.0]),
        "subnormal": np.array([1e-310, -1e-310, 5e-324, 1e-320]),
        "huge": np.array([1e100, -1e100, 1e150, 1e30]),
        "one element": np.array([0.3]),
    }


def _make_matrices(rng: np.random.Generator) -> dict[str, Array]:
    square = rng.normal(size=(3, 3))
    return {
        "generic": square,
        "positive definite": square @ square.T + 3 * np.eye(3),
        "symmetric": square + square.T,
        "lower triangular": np.tril(square) + 3 * np.eye(3),
        "identity": np.eye(3),
        "zeros": np.zeros((3, 3)),
        "singular": np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [0.5, -1.0, 1.0]]),
        "rank one": np.outer([1.0, 2.0, 3.0], [1.0, 0.0, 1.0]),
        "equal values": np.diag([2.0, 2.0, 1.0]),
        "defective": np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 2.0]]),
        "two equal rows": np.array([[1.0, 2.0, 0.5], [1.0, 2.0, 0.5], [-1.0, 0.75, 1.5]]),
        "one zero": np.array([[0.0, 1.25, -0.75], [2.0, 0.5, 1.0], [-1.0, 0.75, 1.5]]),
        "equal": np.full((3, 3), 0.5),
        "one element": np.array([[0.7]]),
    }


def _make_images(rng: np.random.Generator) -> dict[str, Array]:
    size = (1, 4, 4, 3)
    return {
        "generic": rng.uniform(0.1, 0.9, size=size),
        "zeros": np.zeros(size),
        "equal": np.full(size, 0.5),
        "one pixel": rng.uniform(0.1, 0.9, size=(1, 1, 1, 3)),
        "a part is zero": rng.uniform(0.1, 0.9, size=size) * np.array([1.0, 1.0, 0.0]),
        "ties": np.repeat(rng.uniform(0.1, 0.9, size=(1, 4, 4, 1)), 3, axis=-1),
    }


def _make_complex(table: Mapping[str, Array], rng: np.random.Generator) -> dict[str, Any]:
    """Complex arrays: those of a table with imaginary parts of their own, purely real and purely imaginary ones."""
    generic = table["generic"]
    parts = generic + 1j * rng.normal(size=generic.shape)
    return {
        "generic": parts,
        "zeros": np.zeros(generic.shape, complex),
        "real": generic + 0j,
        "imaginary": 1j * generic,
        "equal": np.full(generic.shape, 0.5 - 0.25j),
        "one zero": parts * np.where(np.arange(generic.size).reshape(generic.shape) == 1, 0, 1),
        "small": parts * 1e-170,
    }


def _make_complex_matrices(rng: np.random.Generator) -> dict[str, Any]:
    table = _make_complex(_make_matrices(rng), rng)
    square = table["generic"]
    positive = square @ square.conj().T + 3 * np.eye(3)
    return {**table, "positive definite": positive, "Hermitian": square + square.conj().T, "identity": np.eye(3) + 0j}


KINDS: Mapping[str, Callable[[np.random.Generator], Mapping[str, Any]]] = {
    "vector": _make_vectors,
    "matrix": _make_matrices,
    "images": _make_images,
    "vectors": lambda rng: {name: [v, v[::-1].copy()] for name, v in _make_vectors(rng).items()},
    "sequence": lambda rng: {
        "generic": rng.normal(size=(1, 6, 2)),
        "zeros": np.zeros((1, 6, 2)),
        "equal": np.ones((1, 6, 2)),
    },
    "kernel": lambda rng: {"generic": rng.normal(size=(2, 2, 3, 2)), "zeros": np.zeros((2, 2, 3, 2))},
    "sequence kernel": lambda rng: {"generic": rng.normal(size=(2, 2, 2)), "zeros": np.zeros((2, 2, 2))},
    "signal": lambda rng: {"generic": rng.normal(size=16), "zeros": np.zeros(16), "equal": np.ones(16)},
    "probabilities": lambda rng: {
        "generic": rng.dirichlet(np.ones(3), size=2),
        "one-hot": np.eye(3)[[0, 2]],
        "equal": np.full((2, 3), 1 / 3),
    },
    "logits": lambda rng: {
        "generic": rng.normal(size=(2, 3)),
        "zeros": np.zeros((2, 3)),
        "ties": np.array([[1.0, 1.0, -1.0], [0.5, 0.5, 0.5]]),
        "saturated": np.array([[40.0, -40.0, 0.0], [20.0, 0.0, -20.0]]),
        "far": np.array([[700.0, -700.0, 0.0], [300.0, 0.0, -300.0]]),
    },
    "row": lambda rng: {"generic": rng.normal(size=3), "zeros": np.zeros(3), "equal": np.full(3, 0.5)},
    "positive row": lambda rng: {"generic": rng.uniform(0.5, 1.5, size=3), "equal": np.full(3, 0.5)},
    "positive": lambda rng: {"generic": rng.uniform(0.5, 1.5, size=SIZE), "one zero": np.array([0.5, 0.0, 1.0, 2.0])},
    "shares": lambda rng: {
        "generic": rng.uniform(0.1, 0.9, size=SIZE),
        "zeros": np.zeros(SIZE),
        "ones": np.ones(SIZE),
        "edges": np.array([1.0, 0.0, 0.5, 0.25]),
    },
    "pair": lambda rng: {"generic": rng.normal(size=2), "zeros": np.zeros(2)},
    "heads": lambda rng: {"generic": rng.normal(size=(1, 3, 1, 2)), "zeros": np.zeros((1, 3, 1, 2))},
    "wide images": lambda rng: {"generic": rng.normal(size=(1, 2, 2, 4)), "zeros": np.zeros((1, 2, 2, 4))},
    "first images": lambda rng: {"generic": rng.normal(size=(1, 2, 3, 3)), "zeros": np.zeros((1, 2, 3, 3))},
    "flat kernel": lambda rng: {"generic": rng.normal(size=(2, 2, 3)), "zeros": np.zeros((2, 2, 3))},
    "index column": lambda _: {"generic": np.array([[0], [2]]), "zeros": np.array([[1], [1]])},
    "six": lambda _: {"generic": 6},
    "complex vector": lambda rng: _make_complex(_make_vectors(rng), rng),
    "complex matrix": _make_complex_matrices,
    "complex vectors": lambda rng: {
        name: [v, v[::-1].copy()] for name, v in _make_complex(_make_vectors(rng), rng).items()
    },
    "volumes": lambda rng: {"generic": rng.normal(size=(1, 3, 3, 3, 2)), "zeros": np.zeros((1, 3, 3, 3, 2))},
    "volumes of one channel": lambda rng: {"generic": rng.normal(size=(1, 3, 3, 3, 1))},
    "volume kernel": lambda rng: {"generic": rng.normal(size=(2, 2, 2, 2, 1))},
    "triples": lambda rng: {"generic": rng.normal(size=(2, 3)), "equal": np.ones((2, 3))},
    "diagonals": lambda rng: {
        "generic": rng.normal(size=(3, 4)) + np.array([[0.0], [4.0], [0.0]]),
        "equal": np.array([[0.5], [3.0], [0.5]]) * np.ones((3, 4)),
    },
    "column": lambda rng: {"generic": rng.normal(size=(4, 1)), "zeros": np.zeros((4, 1))},
    "number": lambda rng: {
        "generic": np.asarray(rng.uniform(0.2, 0.8)),
        "zeros": np.asarray(0.0),
        "ones": np.asarray(1.0),
    },
    "pairs": lambda rng: {"generic": rng.normal(size=(4, 2)), "zeros": np.zeros((4, 2))},
    "pair of vectors": lambda rng: {"generic": [rng.normal(size=5), rng.normal(size=5)]},
    "pair of matrices": lambda rng: {"generic": [rng.normal(size=(3, 3)), rng.normal(size=(3, 3))]},
    "pair of frames": lambda rng: {"generic": [rng.normal(size=(3, 5)), rng.normal(size=(3, 5))]},
    "numbers": lambda rng: {"generic": [np.asarray(v) for v in rng.normal(size=3)]},
    "kernel of one": lambda rng: {"generic": rng.normal(size=(2, 2, 3, 1)), "zeros": np.zeros((2, 2, 3, 1))},
    "pointwise kernel": lambda rng: {"generic": rng.normal(size=(1, 1, 3, 2))},
    "images of two channels": lambda rng: {"generic": rng.normal(size=(1, 4, 4, 2))},
    "cube": lambda rng: {"generic": rng.normal(size=(2, 3, 4))},
    "complex cube": lambda rng: {"generic": rng.normal(size=(2, 3, 4)) + 1j * rng.normal(size=(2, 3, 4))},
    "complex frames": lambda rng: {"generic": rng.normal(size=(3, 5)) + 1j * rng.normal(size=(3, 5))},
    "row of four": lambda rng: {"generic": rng.normal(size=(1, 4)), "zeros": np.zeros((1, 4))},
    "frames of logits": lambda rng: {"generic": rng.normal(size=(2, 4, 3)), "zeros": np.zeros((2, 4, 3))},
    "label rows": lambda _: {"generic": np.array([[1, 2], [2, 1]]), "equal": np.array([[1, 1], [2, 2]])},
    "one length": lambda _: {"generic": np.array([2, 2])},
    "frame count": lambda _: {"generic": np.array([4, 4])},
    "two pairs": lambda rng: {"generic": [rng.normal(size=2), rng.normal(size=2)]},
    "kernel shape": lambda _: {"generic": (2, 2, 3, 1)},
    "shape of images": lambda _: {"generic": (1, 4, 4, 3)},
    "shape of four": lambda _: {"generic": (4,)},
    "two sizes": lambda _: {"generic": np.array([3, 5], np.int32)},
    "start": lambda _: {"generic": np.array([1])},
    "size": lambda _: {"generic": np.array([2])},
    "paddings": lambda _: {"generic": np.array([[1, 2]])},
    "lengths": lambda _: {"generic": np.array([1, 3, 2])},
    "axis": lambda _: {"generic": 0},
    "integer": lambda _: {"generic": 1},
    "indices": lambda _: {
        "generic": np.array([0, 2, 1, 0]),
        "equal": np.array([1, 1, 1, 1]),
        "negative": np.array([0, -1, 1, -1]),
    },
    "segments": lambda _: {
        "generic": np.array([0, 0, 1, 3]),
        "equal": np.zeros(4, int),
        "negative": np.array([0, -1, 1, -1]),
    },
    "labels": lambda _: {"generic": np.array([2, 0])},
}


def _of_other_sizes(generic: Any) -> dict[str, Any]:
    """An array without rows, without columns, and with axes of length one, from the generic one."""
    if not isinstance(generic, np.ndarray) or not generic.ndim:
        return {}
    found = {"no rows": generic[:0]}
    if generic.ndim > 1:
        found |= {"no columns": generic[..., :0], "one row": generic[:1], "one column": generic[..., :1]}
    return found


def _make_points(kind: str, rng: np.random.Generator) -> dict[str, Any]:
    table = KINDS[kind](rng)
    return {**table, **_of_other_sizes(table["generic"])}


def draw_generic_arguments(kinds: tuple[str, ...], seed: int = 0) -> list[Any]:
    """Arguments of these kinds between 0 and 1 where that is a point of theirs, which nearly every function takes."""
    rng = np.random.default_rng(seed)
    tables = [KINDS[kind](rng) for kind in kinds]
    return [table.get("between 0 and 1", table.get("positive definite", table["generic"])) for table in tables]


def _make_uneven_points(kinds: tuple[str, ...], others: list[Any]) -> Iterator[tuple[str, list[Any]]]:
    """Points at which arguments differ in what they are, or in their sizes; `others` are generic."""
    vectors = [i for i, kind in enumerate(kinds) if kind == "vector"]
    if len(vectors) == len(kinds) > 1:
        # 0 beside whole numbers: powers, shapes and degrees are special there, the first of them 1
        whole = [np.arange(1.0, SIZE + 1)] * len(kinds)
        for i in vectors:
            yield f"zeros in argument {i} beside whole numbers", [*whole[:i], np.zeros(SIZE), *whole[i + 1 :]]
            yield f"one number in argument {i}", [*others[:i], others[i][:1], *others[i + 1 :]]
    chosen = [kind in ("indices", "segments") for kind in kinds]
    if any(chosen):
        yield "nothing chosen", [np.zeros(0, int) if c else v for c, v in zip(chosen, others, strict=True)]


def make_points(kinds: tuple[str, ...], seed: int) -> Iterator[tuple[str, list[Any]]]:
    """(name, arguments) of each point: the same special values for all arguments, and each with generic others."""
    rng = np.random.default_rng(seed)
    tables = [_make_points(kind, rng) for kind in kinds]
    others = draw_generic_arguments(kinds, seed)
    shared = [
        (name, [table[name] for table in tables])
        for names in zip_longest(*tables)
        for name in dict.fromkeys(filter(None, names))
        if all(name in table for table in tables)
    ]
    # the ordinary ones that nearly every function takes come first: a slow function has no time for many
    yield from shared[:2]
    yield from _make_uneven_points(kinds, others)
    yield from shared[2:]
    if len(kinds) == 1:
        return
    for i, table in enumerate(tables):
        for name, value in table.items():
            if name not in ORDINARY:
                yield f"{name} in argument {i}", [*others[:i], value, *others[i + 1 :]]
