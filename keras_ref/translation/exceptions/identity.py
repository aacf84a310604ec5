"""Lambda: the function of the Keras layer is the twin's function, where it works on NumPy arrays."""

from __future__ import annotations

import inspect
from typing import Any

import keras
import numpy as np

from keras_ref.translation.exceptions import reflects
from keras_ref.translation.specifications import NoTwin
from scratch.layers.identity import Lambda


@reflects("Lambda")
def lambda_layer(keras_layer: Any) -> Lambda:
    """The specification of a Keras Lambda. Raises: NoTwin where its function cannot be run on arrays of its inputs."""
    takes = inspect.signature(keras_layer.function).parameters
    if keras_layer.mask is not None or {"mask", "training"} & set(takes):
        raise NoTwin(
            "A Lambda must use neither mask nor training to have a twin. Received: "
            f"{keras_layer.name!r}. Its gradients are checked by differencing Keras's own forward pass."
        )
    twin = Lambda(keras_layer.function, keras_layer.arguments or None)
    for node in keras_layer._inbound_nodes:
        tensors = keras.tree.flatten(node.arguments.args)
        arrays = [np.zeros([2 if n is None else n for n in tensor.shape]) for tensor in tensors]
        try:
            twin.forward({}, *arrays)
        except Exception as error:
            raise NoTwin(
                f"The function of a Lambda must work on NumPy arrays to have a twin. Received: {keras_layer.name!r}, "
                f"which answers: {error} Its gradients are checked by differencing Keras's own forward pass."
            ) from error
    return twin
