"""A Python float that TensorFlow takes for a float64, and that otherwise does what a float does.

`keras.ops.cast(0.9, "float64")` is 0.8999999761581421, since TensorFlow takes a plain 0.9 for a float32; for an
np.float64 it does not. But an np.float64 times a variable of Keras is an array of NumPy, which no gradient goes
through, where a float times a variable is a tensor. And it equals a variable by NumPy's rules, not by Keras's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

#: operators of one and of two operands, on the left and on the right, whose results are such floats again
OPERATORS = ("neg", "pos", "abs", *(f"{r}{name}" for r in ("", "r") for name in
             ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow")))  # fmt: skip


class DoubleFloat(np.float64):
    """A float that leaves operations with variables and tensors of Keras to them, as a plain one does.

    Comparisons are NumPy's own, in C: TensorFlow asks for equality in C++, and ends the process where Python code that
    it calls is interrupted.
    """

    __slots__ = ()
    #: below that of whatever has none, which is -1,000,000: NumPy leaves operations with anything but numbers to it
    __array_priority__ = -1e9


def _stays(name: str) -> Callable[..., Any]:
    original = getattr(np.float64, name)

    def operator(self: DoubleFloat, *other: Any) -> Any:
        result = original(self, *other)
        return DoubleFloat(result) if type(result) is np.float64 else result

    return operator


for _name in OPERATORS:
    setattr(DoubleFloat, f"__{_name}__", _stays(f"__{_name}__"))
