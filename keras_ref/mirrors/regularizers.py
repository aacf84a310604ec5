"""L1 and OrthogonalRegularizer keep their factor as a float32 tensor: 0.1 is not 0.1 there, and the second refuses
float64 weights. A plain number in its place is the same factor in any precision.
"""

from __future__ import annotations

from typing import Any

import keras

from keras_ref.mirrors import mirrors


@mirrors("L1")
def l1(spec: Any, **options: Any) -> Any:
    """L1 with its factor in full precision."""
    made = keras.regularizers.L1(**options)
    made.l1 = float(spec.l1)
    return made


@mirrors("OrthogonalRegularizer")
def orthogonal(spec: Any, **options: Any) -> Any:
    """OrthogonalRegularizer with its factor in full precision."""
    made = keras.regularizers.OrthogonalRegularizer(mode=spec.mode, **options)
    made.factor = float(spec.factor)
    return made
