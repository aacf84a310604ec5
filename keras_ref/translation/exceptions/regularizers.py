"""Factors in full precision: Keras makes float32 tensors of them (`tf.cast(0.1, "float64")` is 0.10000000149011612),
and OrthogonalRegularizer refuses float64 weights for that reason.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import keras
import numpy as np

from keras_ref.translation.exceptions import mirrors


@mirrors("L1", "L2", "L1L2")
def norms(spec: Any, **options: Any) -> Any:
    """The regularizer, its factors as numbers of which tf.cast keeps every digit."""
    made = getattr(keras.regularizers, type(spec).__name__)(**options)
    for field in fields(spec):
        setattr(made, field.name, np.float64(getattr(spec, field.name)))
    return made


@mirrors("OrthogonalRegularizer")
def orthogonal(spec: Any, **options: Any) -> Any:
    """OrthogonalRegularizer, its factor as a plain number, which multiplies a tensor of any precision."""
    made = keras.regularizers.OrthogonalRegularizer(mode=spec.mode, **options)
    made.factor = float(spec.factor)
    return made
