"""Layers and models of Keras 2 (tf_keras): what they are, and how they compute in another precision.

Nothing here imports tf_keras: who has an object of it has imported it.
"""

from __future__ import annotations

import sys
from typing import Any

import tensorflow as tf

from keras_ref.evaluation.changed_state.restoration import Restoration
from keras_ref.evaluation.keras_objects.nesting import list_items, walk_everything


def is_layer(value: Any) -> bool:
    """Whether an object is a layer or model of Keras 2."""
    library = sys.modules.get("tf_keras")
    return library is not None and isinstance(value, library.layers.Layer)


def is_model(value: Any) -> bool:
    """Whether an object is a model of Keras 2."""
    library = sys.modules.get("tf_keras")
    return library is not None and isinstance(value, library.Model)


def is_optimizer(value: Any) -> bool:
    """Whether an object is an optimizer of Keras 2."""
    library = sys.modules.get("tf_keras")
    return library is not None and isinstance(value, library.optimizers.Optimizer)


def list_optimizers(model: Any) -> list[Any]:
    """The optimizers that a model of Keras 2 trains with: the compiled one, and those that it keeps, in lists too."""
    held = walk_everything([getattr(model, "optimizer", None), *vars(model).values()], list_items)
    return list({id(one): one for one in held if is_optimizer(one)}.values())


def unwrap_optimizer(optimizer: Any) -> Any:
    """The optimizer inside one of mixed precision, which scales the loss; another one itself."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def leave_out_scale(restoration: Restoration, optimizer: Any) -> None:
    """Until the restoration, let an optimizer of mixed precision not scale the loss: float64 does not need it.

    What it keeps of the scale stays as it is.
    """
    for name in ("get_scaled_loss", "get_unscaled_gradients"):
        restoration.set_attribute(optimizer, name, lambda value: value)
    for name in ("_loss_has_been_scaled", "_gradients_have_been_unscaled"):  # it would warn
        restoration.set_attribute(optimizer, name, value=True)
    for variable in getattr(getattr(optimizer, "_loss_scale", None), "_weights", {}).values():
        restoration.keep_value(variable)


def trains_as_keras_2(model: Any) -> bool:
    """Whether a model of Keras 2 trains by Keras 2's own train_step."""
    return is_model(model) and type(model).train_step is sys.modules["tf_keras"].Model.train_step


def is_never_called(model: Any) -> bool:
    """Whether a model of Keras 2 has no `call`, and so is never built: it trains the models that it holds."""
    return is_model(model) and type(model).call is sys.modules["tf_keras"].Model.call


def list_layers(value: Any) -> list[Any]:
    """A layer of Keras 2 and all layers inside it; none of other objects."""
    return list(value._flatten_layers()) if is_layer(value) else []


def unwrap_variable(variable: Any) -> Any:
    """The variable inside another one that holds it: in mixed precision Keras 2 wraps it, to quantize it larq does."""
    inside = vars(variable).values() if isinstance(variable, tf.Variable) else ()
    inner = next((one for one in inside if isinstance(one, tf.Variable)), None)
    return variable if inner is None else unwrap_variable(inner)


def losses_of(model: Any) -> list[Any]:
    """The loss objects that a model of Keras 2 is compiled with."""
    return losses_in(getattr(getattr(model, "compiled_loss", None), "_user_losses", None))


def losses_in(given: Any) -> list[Any]:
    """The loss objects of Keras 2 among losses, as `compile` takes them."""
    return [loss for loss in tf.nest.flatten(given) if isinstance(loss, sys.modules["tf_keras"].losses.Loss)]


def as_losses(given: Any, model: Any) -> Any:
    """Losses, as `compile` takes them, as Keras 2 calls them: of targets, outputs and sample weights."""
    names = getattr(model, "output_names", None)
    return sys.modules["tf_keras"].src.engine.compile_utils.LossesContainer(given, output_names=names)


def set_precision(restoration: Restoration, dtype: str) -> None:
    """Until the restoration, let Keras 2 make tensors and layers in a precision, if anything of it is there."""
    library = sys.modules.get("tf_keras")
    if library is None:
        return
    restoration.undo_by(library.backend.set_floatx, library.backend.floatx())
    library.backend.set_floatx(dtype)


def set_policy(restoration: Restoration, layer: Any, dtype: str) -> None:
    """Until the restoration, let one layer of Keras 2 compute in a precision, and a model take inputs in it."""
    policy = sys.modules["tf_keras"].mixed_precision.Policy(dtype)
    restoration.set_attribute(layer, "_dtype_policy", policy)
    restoration.set_attribute(layer, "_compute_dtype_object", tf.as_dtype(dtype))
    for tensor in tf.nest.flatten(vars(layer).get("_nested_inputs")):
        spec = getattr(tensor, "_type_spec", None)
        if isinstance(spec, tf.TensorSpec) and spec.dtype.is_floating:
            restoration.set_attribute(tensor, "_type_spec", tf.TensorSpec(spec.shape, dtype, spec.name))


def fix_draws(restoration: Restoration, layer: Any) -> None:
    """Until the restoration, let a random layer of Keras 2 draw the same numbers in every call.

    Its own way is an operation that keeps its state to itself, where no check can put it back.
    """
    generator = vars(layer).get("_random_generator")
    if generator is None:
        return
    seed = generator._seed
    for name, value in (("_rng_type", "stateless"), ("_seed", 1 if seed is None else seed), ("_built", True)):
        restoration.set_attribute(generator, name, value)
