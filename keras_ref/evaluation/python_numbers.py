"""A Python float that TensorFlow takes for a float64, and that otherwise does what a float does.

`keras.ops.cast(0.9, "float64")` is 0.8999999761581421, since TensorFlow takes a plain 0.9 for a float32; for an
np.float64 it does not. But an np.float64 times a variable of Keras is an array of NumPy, which no gradient goes
through, where a float times a variable is a tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_ref.evaluation.keras_classes import KerasVariable

#: operators of two operands, on the left and on the right
OPERATORS = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow")
#: without equality, which TensorFlow asks for in C++: that ends the process where Python code that it calls is
#: interrupted
COMPARISONS = ("lt", "le", "gt", "ge")


class DoubleFloat(np.float64):
    """A float that leaves operations with variables and tensors of Keras to them, as a plain one does."""

    __slots__ = ()


def _leaving_variables_alone(name: str) -> Callable[[DoubleFloat, Any], Any]:
    original = getattr(np.float64, name)

    def operator(self: DoubleFloat, other: Any) -> Any:
        if isinstance(other, (KerasVariable, keras.KerasTensor)):
            return NotImplemented
        result = original(self, other)
        return DoubleFloat(result) if type(result) is np.float64 else result

    return operator


def _of_one(name: str) -> Callable[[DoubleFloat], DoubleFloat]:
    original = getattr(np.float64, name)
    return lambda self: DoubleFloat(original(self))


for _name in [*OPERATORS, *(f"r{name}" for name in OPERATORS), *COMPARISONS]:
    setattr(DoubleFloat, f"__{_name}__", _leaving_variables_alone(f"__{_name}__"))
for _name in ("neg", "pos", "abs"):
    setattr(DoubleFloat, f"__{_name}__", _of_one(f"__{_name}__"))
