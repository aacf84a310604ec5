"""Layers that hold other layers: those are mirrored too, in the same dtype."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import keras

from keras_ref.translation.exceptions import mirrors
from keras_ref.translation.to_keras import mirror_object
from scratch.layers.base import Layer


@mirrors("TimeDistributed", "Bidirectional", "RNN", "StackedRNNCells")
def holding(spec: Any, **options: Any) -> Any:
    """A Keras layer of the same name, the layers in its fields (or in tuples of them) mirrored."""
    shared = {key: value for key, value in options.items() if key == "dtype"}

    def inner(value: Any) -> Any:
        if isinstance(value, tuple):
            return [inner(item) for item in value]
        return mirror_object(value, **shared) if isinstance(value, Layer) else value

    return getattr(keras.layers, type(spec).__name__)(
        **{field.name: inner(getattr(spec, field.name)) for field in fields(spec)}, **options
    )
