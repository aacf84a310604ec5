"""Losses whose configuration in Keras leaves out arguments: these are read from what Keras calls the loss with."""

from __future__ import annotations

from typing import Any

import keras

from keras_ref.own_modules import registry
from keras_ref.translation.exceptions import reflects
from keras_ref.translation.specifications import NoTwin, reflect_object
from scratch.losses.base import Loss
from scratch.losses.metric import CosineSimilarity
from scratch.losses.probabilistic import SparseCategoricalCrossentropy
from scratch.losses.regression import Huber


@reflects("Huber")
def huber(keras_loss: Any) -> Loss:
    """get_config leaves `delta` out."""
    return Huber(reduction=keras_loss.reduction, delta=float(keras_loss._fn_kwargs["delta"]))


@reflects("CosineSimilarity")
def cosine_similarity(keras_loss: Any) -> Loss:
    """get_config leaves `axis` out."""
    return CosineSimilarity(reduction=keras_loss.reduction, axis=keras_loss._fn_kwargs["axis"])


@reflects("SparseCategoricalCrossentropy")
def sparse_categorical_crossentropy(keras_loss: Any) -> Loss:
    """get_config leaves `axis` out; on TensorFlow the only one is the last, counted from either end."""
    own = keras_loss._fn_kwargs
    return SparseCategoricalCrossentropy(
        reduction=keras_loss.reduction, from_logits=own["from_logits"], ignore_class=own["ignore_class"]
    )


@reflects("LossFunctionWrapper")
def of_function(keras_loss: Any) -> Loss:
    """The loss of a wrapped function: Keras wraps what loss="mse" names. Raises: NoTwin for a user's function."""
    name = find_loss_name(keras_loss.fn)
    if name is None:
        raise NoTwin(
            f"A loss function must be one of keras.losses to have a twin. Received: {keras_loss.fn!r}. "
            "Use a loss object."
        )
    made = getattr(keras.losses, name)(reduction=keras_loss.reduction, **keras_loss._fn_kwargs)
    found: Loss = reflect_object(made, "loss")
    return found


def find_loss_name(function: Any) -> str | None:
    """The class name of the loss that a function of keras.losses computes; None for any other function."""
    name = getattr(function, "__name__", "")
    known = {loss.lower(): loss for loss in registry.names("loss")}
    return known.get(name.replace("_", "")) if getattr(keras.losses, name, None) is function else None
