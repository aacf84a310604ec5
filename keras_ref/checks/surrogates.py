"""Layers whose gradient is not the derivative of their forward pass on purpose: straight-through, gradient reversal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from keras_ref.errors import BadInput

Class = TypeVar("Class", bound=type)
FLAG = "gradtwin_surrogate"


def surrogate(cls: Class) -> Class:
    """Class decorator for a Keras layer: every gradient that passes through its call is declared a surrogate.

    That is what `expect={name: "surrogate"}` says of single variables: its own weights, and whatever feeds it.
    Raises: BadInput for anything but such a class.
    """
    if not isinstance(cls, type) or not callable(getattr(cls, "call", None)):
        raise BadInput(
            f"`surrogate` must decorate the class of a Keras layer. Received: a {type(cls).__name__}. Write @surrogate "
            "above the class."
        )
    setattr(cls, FLAG, True)
    return cls


@contextmanager
def recorded(layers: list[Any]) -> Iterator[list[Any]]:
    """While the block runs, the tensors that layers under `surrogate` return are appended to the list it is given."""
    import keras

    from keras_ref.evaluation.restoration import Restoration

    found: list[Any] = []

    def watching(call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **keywords: Any) -> Any:
            outputs = call(*arguments, **keywords)
            found.extend(keras.tree.flatten(outputs))
            return outputs

        return watched

    with Restoration() as restoration:
        for layer in layers:
            # what Keras calls in the place of `call`
            name = "call" if getattr(layer, "quantization_mode", None) is None else "quantized_call"
            restoration.set_attribute(layer, name, watching(getattr(layer, name)))
        yield found


def declared_layers(keras_objects: Any) -> list[Any]:
    """The layers among Keras objects, and inside them, whose class is under `surrogate`."""
    from keras_ref.evaluation.keras_parts import layers_of

    return [layer for one in keras_objects for layer in layers_of(one) if getattr(type(layer), FLAG, False)]


def quantizing_layers(keras_objects: Any) -> list[Any]:
    """The layers among Keras objects, and inside them, that quantize what they are called on, or their weights.

    Their forward pass is a staircase, and Keras gives it the gradient of the line through it.
    """
    from keras_ref.evaluation.keras_parts import layers_of

    return [layer for one in keras_objects for layer in layers_of(one) if _quantizes(layer)]


def _quantizes(layer: Any) -> bool:
    mode = getattr(layer, "quantization_mode", None)
    return mode == "float8" or (mode is not None and getattr(layer, "inputs_quantizer", None) is not None)
