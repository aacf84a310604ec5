"""The compared entries of a variable around the worst one: what a report's heat map shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scratch.arrays import Array

#: at most so many rows and columns of a variable are kept
WINDOW = 24


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
        width = shape[-1] if shape else 1
        size = int(np.prod(shape, dtype=int))
        row, column = divmod(worst, width)
        tall, wide = min(WINDOW, size // width), min(WINDOW, width)
        top, left = (
            max(0, min(at - WINDOW // 2, length - kept))
            for at, length, kept in ((row, size // width, tall), (column, width, wide))
        )
        grids = np.full((2, tall, wide), np.nan)
        rows, columns = np.divmod(np.asarray(entries), width)
        inside = (top <= rows) & (rows < top + tall) & (left <= columns) & (columns < left + wide)
        grids[:, rows[inside] - top, columns[inside] - left] = numeric[inside], autodiff[inside]
        return cls(grids[0], grids[1], top, left, (row, column), size)

    @classmethod
    def of_entry(cls, index: tuple[int, ...], *, numeric: float, autodiff: float) -> ErrorWindow:
        """The window of a single entry, of a variable whose other entries were not kept."""
        shape = tuple(i + 1 for i in index) or (1,)
        row, column = int(np.prod(shape[:-1], dtype=int)) - 1, shape[-1] - 1
        return cls(np.array([[numeric]]), np.array([[autodiff]]), row, column, (row, column), 0)

    @property
    def difference(self) -> Array:
        """numeric - autodiff"""
        with np.errstate(invalid="ignore"):
            difference: Array = self.numeric - self.autodiff
        return difference
