"""The layers of a Keras model, on any backend, of Keras 3 and Keras 2: a list of them, and what each returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from keras_ref.undoing import undoing

#: parts of the names of layers that draw random numbers in training: they are kept in inference
RANDOM = ("Dropout", "Gaussian", "Random")
#: layers whose insides run once a time step, or on symbolic values: they are looked at from outside
OPAQUE = ("RNN", "LSTM", "GRU", "Bidirectional", "TimeDistributed", "MultiHeadAttention", "SpectralNormalization")


def is_random(layer: Any) -> bool:
    """Whether a layer draws random numbers in training."""
    return any(part in type(layer).__name__ for part in RANDOM)


def leaves(model: Any) -> list[Any]:
    """The layers of a model in order, nested models and blocks entered, loops over time not; inputs left out."""
    found: list[Any] = []

    def parts(layer: Any) -> list[Any]:
        return list(getattr(layer, "layers", None) or getattr(layer, "_layers", None) or ())

    def walk(layer: Any) -> None:
        for part in parts(layer):
            if type(part).__name__ == "InputLayer" or part in found or not hasattr(part, "call"):
                continue
            if not is_opaque(part):
                walk(part)
            if not hasattr(part, "layers"):
                found.append(part)

    walk(model)
    return found


def is_opaque(layer: Any) -> bool:
    """Whether the inside of a layer is not looked at."""
    return any(part in cls.__name__ for cls in type(layer).__mro__ for part in OPAQUE)


@contextmanager
def observing(model: Any, observe: Callable[[str, Any], None] | None) -> Iterator[None]:
    """Every layer reports its output; layers that draw random numbers are in inference."""
    with ExitStack() as stack:
        for layer in leaves(model):
            stack.enter_context(_replaced_call(layer, observe))
        yield


@contextmanager
def _replaced_call(layer: Any, observe: Callable[[str, Any], None] | None) -> Iterator[None]:
    call, own = layer.call, vars(layer)
    undo = partial(own.__setitem__, "call", own["call"]) if "call" in own else partial(own.pop, "call", None)

    def called(*args: Any, **kwargs: Any) -> Any:
        if is_random(layer):
            kwargs["training"] = False
        output = call(*args, **kwargs)
        if observe is not None:
            observe(layer.name, output)
        return output

    with undoing(undo):
        object.__setattr__(layer, "call", called)
        yield
