"""The precisions that an operation computes in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import tensorflow as tf

from keras_ref.comparison.exact_slopes import NORMAL
from keras_ref.evaluation.exact_graph import Graph, needed


@dataclass(frozen=True, order=True)
class Precision:
    """Half a unit in the last place of 1 in a floating dtype, and its smallest normal number."""

    unit: float
    normal: float

    @classmethod
    def of(cls, dtype: Any) -> Precision:
        """That of a dtype; of a complex one that of its parts."""
        real = tf.as_dtype(dtype).real_dtype if tf.as_dtype(dtype).is_complex else tf.as_dtype(dtype)
        found = ml_dtypes.finfo(real.as_numpy_dtype)  # type: ignore[no-untyped-call]
        return cls(float(found.eps) / 2, float(found.tiny))


FLOAT64 = Precision(2.0**-53, NORMAL)


def lowest_precision(graph: Graph) -> Precision:
    """The lowest precision that the arguments go through."""
    moving: set[int] = {id(t) for t in graph.graph.inputs}
    found = [FLOAT64]
    for operation in needed(graph.outputs):
        if any(id(t) in moving for t in operation.inputs):
            floats = [t for t in operation.outputs if t.dtype.is_floating or t.dtype.is_complex]
            moving |= {id(t) for t in floats}
            found += [Precision.of(t.dtype) for t in floats]
    return max(found)
