"""Schedules, mirrored so that they compute in float64: a plain float becomes a float32 tensor in Keras."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import keras
import numpy as np

from keras_ref.own_modules import registry
from keras_ref.translation.exceptions import mirrors


def make_exact(value: Any, *, precise: bool) -> Any:
    """A float as one of which Keras keeps every digit, a tuple as a list."""
    if isinstance(value, tuple):
        return [make_exact(item, precise=precise) for item in value]
    return np.float64(value) if precise and isinstance(value, float) else value


@mirrors(*registry.names("schedule"))
def schedule(spec: Any, *, precise: bool = True, **options: Any) -> Any:
    """The Keras schedule, in float64 if `precise`; a rate that is an integer becomes a float, as Keras asks."""
    values = {f.name: getattr(spec, f.name) for f in fields(spec)}
    for name in ("initial_learning_rate", "warmup_target"):
        if values.get(name) is not None:
            values[name] = float(values[name])
    if "values" in values:
        values["values"] = tuple(map(float, values["values"]))
    values = {name: make_exact(value, precise=precise) for name, value in values.items()}
    return getattr(keras.optimizers.schedules, type(spec).__name__)(**values, **options)
