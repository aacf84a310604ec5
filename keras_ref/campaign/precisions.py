"""The precisions that an operation computes in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import tensorflow as tf

from keras_ref.comparison.exact_slopes import NORMAL
from keras_ref.evaluation.many_digits.exact_graph import Graph, needed


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


def find_lowest_precision(graph: Graph) -> Precision:
    """The lowest precision through which the arguments come to the outputs; what only decides is left out."""
    operations = needed(graph.outputs)
    moving, reaching = {id(t) for t in graph.graph.inputs}, {id(t) for t in graph.outputs}
    for operation in operations:
        if any(id(t) in moving for t in operation.inputs):
            moving |= {id(t) for t in operation.outputs if _is_float(t)}
    for operation in reversed(operations):
        if any(id(t) in reaching for t in operation.outputs):
            reaching |= {id(t) for t in operation.inputs if _is_float(t)}
    between = moving & reaching
    return max([FLOAT64, *(Precision.of(t.dtype) for o in operations for t in o.outputs if id(t) in between)])


def _is_float(tensor: Any) -> bool:
    return bool(tensor.dtype.is_floating or tensor.dtype.is_complex)
