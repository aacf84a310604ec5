"""The type of every array here: float32, float64, complex128, integers and booleans alike."""

from typing import Any, TypeAlias

from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
