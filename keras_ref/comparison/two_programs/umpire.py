"""The slope of a program's own loss at one entry, by moving it: neither side's calculus is needed."""

from __future__ import annotations

import numpy as np

from keras_ref.errors import CouldNotRun, UserCodeFailed
from keras_ref.programs.program import Point, Program
from scratch.arrays import Array
from scratch.differences import UNIT, Estimate, Richardson


def slope_at(program: Program, point: Point, name: str, entry: int, *, loss: float, noise: float) -> Estimate | None:
    """The slope of the loss at a flat entry of a weight, with its errors; None where the program has no loss.

    noise   the absolute error of the loss
    """
    if np.isnan(loss) or name not in point.weights:
        return None
    at = np.ravel(np.asarray(point.weights[name], dtype=float))[[entry]]

    def line(offsets: Array) -> Array:
        return program.losses(point, name, np.array([entry]), offsets)

    try:
        return Richardson()(line, at, max(noise, UNIT * abs(loss)))
    except (CouldNotRun, UserCodeFailed):
        return None
