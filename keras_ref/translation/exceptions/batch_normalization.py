"""Layers with a read-only dictionary among their fields: Keras is given a plain one."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import keras

from keras_ref.translation.exceptions import mirrors


@mirrors("BatchNormalization", "Lambda")
def with_plain_dictionaries(spec: Any, **options: Any) -> Any:
    """The Keras layer of the same name and fields."""
    values = {field.name: getattr(spec, field.name) for field in fields(spec)}
    plain = {name: dict(value) if isinstance(value, dict) else value for name, value in values.items()}
    return getattr(keras.layers, type(spec).__name__)(**plain, **options)
