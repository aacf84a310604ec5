"""What a check compared of one variable, entry beside entry, around the worst: the heat map of a report."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scratch.arrays import Array

#: rows and columns that are kept of a larger variable
WINDOW = 24


@dataclass(frozen=True)
class Cells:
    """A window of a variable whose axes but the last are made one: numeric and autodiff (rows, columns), nan where an
    entry was not compared; `top` and `left` say where the window lies, `worst` the worst entry's row and column in the
    whole, `size` how many entries the variable has."""

    numeric: Array
    autodiff: Array
    top: int
    left: int
    worst: tuple[int, int]
    size: int

    @classmethod
    def around(cls, worst: int, shape: tuple[int, ...], entries: Array, numeric: Array, autodiff: Array) -> Cells:
        """The window of WINDOW × WINDOW around the flat entry `worst`, from values of the flat `entries`."""
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

    @property
    def difference(self) -> Array:
        """numeric - autodiff"""
        with np.errstate(invalid="ignore"):
            return self.numeric - self.autodiff
