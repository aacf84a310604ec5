"""Arrays: their type, their absolute value, and the epsilon that several definitions share."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

#: an array of float32, float64, complex128, integers or booleans
Array: TypeAlias = NDArray[Any]

#: keras.config.epsilon(), which keeps divisors and arguments of logarithms from 0 (keras.io/api/utils/config_utils)
EPSILON = 1e-7


def absolute(x: Array) -> Array:
    """|x|, where the real part decides the sign, so that a complex step stays on its branch."""
    return np.where(x.real < 0, -x, x)
