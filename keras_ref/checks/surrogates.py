"""Layers whose gradient is not the derivative of their forward pass on purpose: straight-through, gradient reversal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Output:
    """A tensor that a layer returned."""

    layer: Any
    tensor: Any


#: (layer, its own call, arguments, keywords) → what the call returns instead
Instead = Callable[[Any, Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]


@contextmanager
def calling_instead(layers: list[Any], instead: Instead) -> Iterator[None]:
    """While the block runs, calls of these layers go through `instead`."""
    from keras_ref.evaluation.changed_state.restoration import Restoration

    def through(layer: Any, call: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arguments, **keywords: instead(layer, call, arguments, keywords)

    with Restoration() as restoration:
        for layer in layers:
            # what Keras calls in the place of `call`
            name = "call" if getattr(layer, "quantization_mode", None) is None else "quantized_call"
            restoration.set_attribute(layer, name, through(layer, getattr(layer, name)))
        yield


@contextmanager
def recorded(layers: list[Any]) -> Iterator[list[Output]]:
    """While the block runs, the tensors that these layers return are appended to the list it is given."""
    import keras

    found: list[Output] = []

    def watched(layer: Any, call: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        outputs = call(*arguments, **keywords)
        found.extend(Output(layer, tensor) for tensor in keras.tree.flatten(outputs))
        return outputs

    with calling_instead(layers, watched):
        yield found


def find_declared_layers(keras_objects: Any) -> list[Any]:
    """The layers among Keras objects, and inside them, whose class is under `surrogate`."""
    from keras_ref.evaluation.keras_objects.keras_parts import list_layers

    return [layer for one in keras_objects for layer in list_layers(one) if getattr(type(layer), FLAG, False)]


def find_quantizing_layers(keras_objects: Any) -> list[Any]:
    """The layers among Keras objects, and inside them, that quantize what they are called on, or their weights.

    Their forward pass is a staircase, and Keras gives it the gradient of the line through it.
    """
    from keras_ref.evaluation.keras_objects.keras_parts import list_layers

    return [layer for one in keras_objects for layer in list_layers(one) if _quantizes(layer)]


def _quantizes(layer: Any) -> bool:
    mode = getattr(layer, "quantization_mode", None)
    return mode == "float8" or (mode is not None and getattr(layer, "inputs_quantizer", None) is not None)
