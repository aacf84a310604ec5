"""The type of arrays: of float32, float64, complex128, integers or booleans."""

from typing import Any, TypeAlias

from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
