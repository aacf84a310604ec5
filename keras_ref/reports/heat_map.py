"""The compared entries of a variable around the worst one: what a report's heat map shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scratch.arrays import Array

#: at most so many rows and columns of a variable are kept
WINDOW = 24


def _find_window(worst: int, shape: tuple[int, ...]) -> tuple[slice, slice, tuple[int, int]]:
    """Rows and columns of the window around a flat index, and its own row and column."""
    width = shape[-1] if shape else 1
    row, column = divmod(worst, width)

    def around(at: int, length: int) -> slice:
        first = max(0, min(at - WINDOW // 2, length - WINDOW))
        return slice(first, min(first + WINDOW, length))

    return around(row, int(np.prod(shape, dtype=int)) // width), around(column, width), (row, column)


@dataclass(frozen=True)
class ErrorWindow:
    """Part of a variable, seen as a matrix: all axes but the last are merged into rows.

    numeric, autodiff   (rows, columns); nan where an entry was not compared
    top, left           where the window lies in the whole matrix
    worst               row and column of the worst entry in the whole matrix
    size                entries of the variable; 0 if unknown
    """

    numeric: Array
    autodiff: Array
    top: int
    left: int
    worst: tuple[int, int]
    size: int

    @classmethod
    def around(
        cls, worst: int, shape: tuple[int, ...], *, entries: Array, numeric: Array, autodiff: Array
    ) -> ErrorWindow:
        """The window of at most WINDOW × WINDOW entries around the flat index `worst` of a variable of this shape.

        `entries` are the flat indices that were compared; `numeric` and `autodiff` hold a value for each of them.
        """
        tall, wide, worst_at = _find_window(worst, shape)
        grids = np.full((2, tall.stop - tall.start, wide.stop - wide.start), np.nan)
        rows, columns = np.divmod(np.asarray(entries), shape[-1] if shape else 1)
        inside = (tall.start <= rows) & (rows < tall.stop) & (wide.start <= columns) & (columns < wide.stop)
        grids[:, rows[inside] - tall.start, columns[inside] - wide.start] = numeric[inside], autodiff[inside]
        return cls(
            grids[0], grids[1], top=tall.start, left=wide.start, worst=worst_at, size=int(np.prod(shape, dtype=int))
        )

    @classmethod
    def of_all(cls, worst: int, *, numeric: Array, autodiff: Array) -> ErrorWindow:
        """The same where all entries were compared: both are the whole variable."""
        tall, wide, worst_at = _find_window(worst, numeric.shape)
        width = numeric.shape[-1] if numeric.shape else 1
        first, second = (np.array(one.reshape(-1, width)[tall, wide]) for one in (numeric, autodiff))
        return cls(first, second, top=tall.start, left=wide.start, worst=worst_at, size=numeric.size)

    @classmethod
    def of_entry(cls, index: tuple[int, ...], *, numeric: float, autodiff: float) -> ErrorWindow:
        """The window of a single entry, of a variable whose other entries were not kept."""
        shape = tuple(i + 1 for i in index) or (1,)
        row, column = int(np.prod(shape[:-1], dtype=int)) - 1, shape[-1] - 1
        return cls(np.array([[numeric]]), np.array([[autodiff]]), top=row, left=column, worst=(row, column), size=0)

    @property
    def difference(self) -> Array:
        """numeric - autodiff"""
        with np.errstate(invalid="ignore"):
            difference: Array = self.numeric - self.autodiff
        return difference
