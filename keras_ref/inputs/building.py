"""Build layers and models that are not built yet, from the data that they are checked on, as their first call would."""

from __future__ import annotations

from typing import Any

import keras
from keras.src.layers.layer import CallSpec

from keras_ref.errors import running_user_code
from keras_ref.evaluation.changed_state.float64 import restore_process_state
from keras_ref.evaluation.changed_state.restoration import Restoration, find_outermost
from keras_ref.evaluation.keras_objects.keras_parts import list_layers
from keras_ref.evaluation.loss_function import Data
from keras_ref.inputs.call_arguments import CallArguments


def is_built(layer: Any) -> bool:
    """Whether a layer has its weights, and every layer inside it."""
    return all(one.built for one in list_layers(layer))


def build_layer(layer: Any, arguments: CallArguments) -> None:
    """Build a layer as its first call would, without the call. One that raises on the way is as it was."""
    x = Data(arguments.x).tensors(None).x

    def built(*given: Any, **keywords: Any) -> None:
        # Keras builds a layer without calling it in no public way; its first releases have no context arguments
        context = [layer._call_context_args] if hasattr(layer, "_call_context_args") else []  # noqa: SLF001
        spec = CallSpec(layer._call_signature, *context, given, keywords)  # noqa: SLF001
        with layer._open_name_scope():  # noqa: SLF001
            layer._maybe_build(spec)  # noqa: SLF001
        if not is_built(layer):  # a build() may leave the layers inside to the first call
            with keras.StatelessScope():
                layer(*given, **keywords)

    with Restoration() as restoration:  # a layer that is half built is as it was
        for one in list_layers(layer):
            restoration.keep_attributes(one)
        arguments.call(built, x)
        restoration.forget()
    if (around := find_outermost()) is not None:  # what the layer leads to now is what is kept until the check ends
        around.keep_reached(layer)


def build_model(model: Any, x: Any) -> None:
    """Build a model of Keras 3 that is not built yet by the inputs that it will get; any other one stays as it is.

    Raises: UserCodeFailed where the model does not run on them.
    """
    if not isinstance(model, keras.Model) or model.built or x is None:
        return
    with restore_process_state(), running_user_code():
        build_layer(model, CallArguments.of(model.call, (x,), {}))
