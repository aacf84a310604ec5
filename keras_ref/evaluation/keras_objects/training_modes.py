"""Which layers compute in training something else than in inference."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

#: attributes of Keras's own layers by which they drop or disturb in training; at 0 they do not
AMOUNTS = ("rate", "stddev", "dropout", "recurrent_dropout", "_dropout")
#: Keras's own layers that measure in training what they use in inference, by class; the base class is that of Keras 2
MEASURING = frozenset(("BatchNormalization", "BatchNormalizationBase", "SpectralNormalization"))
#: packages whose layers are judged by their options: nearly all of them take `training`, also where it changes nothing
KERAS = frozenset(("keras", "tf_keras"))


def find_training_dependent(layers: Iterable[Any]) -> list[str]:
    """The names of the layers that may compute something else in training, each once, outer layers first.

    layers   of Keras 3 or Keras 2, an outer one before those inside it

    Of Keras's own layers their options say it. Of all others the `call` does, where it takes `training`: what it does
    with it is not looked at. What is inside a layer that is named is not named again.
    """
    found: dict[int, str] = {}
    for layer in layers:
        if id(layer) not in found and _is_training_dependent(layer):
            found |= {id(inner): "" for inner in _list_inner(layer)} | {id(layer): layer.name}
    return list(dict.fromkeys(filter(None, found.values())))


def _list_inner(layer: Any) -> list[Any]:
    """The layers inside a layer, with the cells of a recurrent one, of either Keras."""
    return list(layer._flatten_layers(include_self=False))


def _is_training_dependent(layer: Any) -> bool:
    call = type(layer).call
    if call.__module__.partition(".")[0] not in KERAS:
        return "training" in inspect.signature(call).parameters
    if MEASURING & {one.__name__ for one in type(layer).__mro__}:
        return bool(layer.trainable)  # a frozen one computes as in inference
    given = vars(layer)
    return (
        any(getattr(layer, name, 0) for name in AMOUNTS)
        or "generator" in given  # of a random layer of images
        or bool(given.get("_fn_expects_training_arg"))  # a Lambda whose function takes `training`
        or "training" in given.get("call_fn_arguments", ())  # a JaxLayer whose function does
    )
