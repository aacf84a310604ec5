"""Keras → scratch for the losses of a compiled model."""

from __future__ import annotations

from typing import Any

import keras

from keras_ref.evaluation.keras_objects.keras_parts import compiled_losses_of
from keras_ref.translation.exceptions.losses import find_loss_name
from keras_ref.translation.specifications import NoTwin, reflect_object


def build_twin_losses(model: Any, count: int) -> tuple[Any, ...]:
    """The scratch loss of each of `count` outputs of a compiled model, None where it has none. Raises: NoTwin."""
    losses = [None if loss is None else keras.losses.get(loss) for loss in compiled_losses_of(model, count)]
    return tuple(None if loss is None else build_twin_loss(loss) for loss in losses)


def build_twin_loss(loss: Any) -> Any:
    """The scratch loss of a Keras loss object, or of one of Keras's own loss functions. Raises: NoTwin."""
    if isinstance(loss, keras.losses.Loss):
        return reflect_object(loss, "loss")
    name = find_loss_name(loss)
    if name is None:
        received = getattr(loss, "__name__", str(loss))
        raise NoTwin(f"A loss must be one of Keras's to have a twin. Received: {received}, a function of its own.")
    return reflect_object(getattr(keras.losses, name)(), "loss")
