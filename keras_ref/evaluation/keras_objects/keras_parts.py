"""The parts of Keras objects: layers inside layers, states, losses, optimizers inside wrappers, variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from keras_ref.errors import BadInput
from keras_ref.evaluation.keras_objects.keras_classes import KerasVariable
from keras_ref.evaluation.keras_objects.leaves import name_leaves
from keras_ref.evaluation.keras_objects.nesting import ATOMS, list_items, walk_everything
from keras_ref.evaluation.keras_objects.real_parts import is_real_or_complex
from scratch.arrays import Array


def list_layers(keras_object: Any) -> list[keras.layers.Layer]:
    """A layer and all layers inside it, a Sequential model's inner functional model included; none of other objects."""
    if not isinstance(keras_object, keras.layers.Layer):
        return []
    found = list(keras_object._flatten_layers())
    for layer in list(found):
        inner = getattr(layer, "_functional", None)
        if inner is not None and all(inner is not other for other in found):
            found.append(inner)
    return found


def find_untracked_variables(keras_object: Any) -> dict[str, Any]:
    """Trainable variables of TensorFlow's own in the attributes of layers, lists and dictionaries included, by name.

    Keras 3 does not count them among the weights: no optimizer sees them.
    """
    return {
        f"{layer.name}/{variable.name.removesuffix(':0')}": variable
        for layer in list_layers(keras_object)
        for variable in list_tensorflow_variables(list(vars(layer).values()))
        if variable.trainable and is_real_or_complex(variable.dtype)
    }


def list_states(keras_object: Any) -> list[Any]:
    """The variables that hold the states of stateful recurrent layers: written by calls, but not among the weights."""
    states = [getattr(layer, "states", None) or [] for layer in list_layers(keras_object)]
    return [v for v in keras.tree.flatten(states) if isinstance(v, KerasVariable)]


def losses_of(keras_object: Any) -> list[Any]:
    """The compiled loss of a model and the loss objects in it; or a loss given itself."""
    if isinstance(keras_object, keras.losses.Loss):
        return [keras_object]
    compiled = getattr(keras_object, "_compile_loss", None)
    if compiled is None:
        return []
    given = [getattr(compiled, "_user_loss", None), getattr(compiled, "_flat_losses", None)]
    flat = [loss for loss in tf.nest.flatten(given) if isinstance(loss, keras.losses.Loss)]
    return [compiled, *flat]


def list_metrics(keras_object: Any) -> list[Any]:
    """The metrics that a model was compiled with, whether they have been built yet or not."""
    compiled = getattr(keras_object, "_compile_metrics", None)
    if compiled is None:
        return []
    given = [getattr(compiled, name, None) for name in ("_user_metrics", "_user_weighted_metrics", "_flat_metrics")]
    return [one for one in tf.nest.flatten(given) if isinstance(one, keras.metrics.Metric)]


def list_optimizers(keras_object: Any) -> list[Any]:
    """A model's optimizer, or an optimizer given itself, and those that it wraps."""
    is_optimizer = isinstance(keras_object, keras.optimizers.Optimizer)
    queue = [keras_object if is_optimizer else getattr(keras_object, "optimizer", None)]
    found: list[Any] = []
    while queue:
        optimizer = queue.pop()
        if optimizer is not None and all(optimizer is not other for other in found):
            found.append(optimizer)
            inner = [vars(optimizer).get(name) or () for name in ("_optimizers", "_inner_optimizers")]
            queue += [vars(optimizer).get("inner_optimizer"), *inner[0], *inner[1]]
    return found


def compiled_losses_of(model: Any, count: int) -> tuple[Any, ...]:
    """The loss of each of `count` outputs as it was given to compile(): a name, a function, an object, or None."""
    return list_by_output(model, getattr(model, "loss", None), count)


def loss_weights_of(model: Any, count: int) -> tuple[float, ...]:
    """The weights that a compiled model gives the losses of its `count` outputs; none where it gives no weights.

    Keras reads weights by name only beside losses by name; beside a list of losses it takes them sorted by name. A list
    beside losses by name that leave an output out is of these losses, sorted by name.
    """
    given = getattr(getattr(model, "_compile_loss", None), "_user_loss_weights", None)
    if given is None:
        return ()
    if not isinstance(model.loss, Mapping):
        given = keras.tree.flatten(given)
    elif isinstance(given, (list, tuple)) and len(model.loss) < count:
        given = dict(zip(sorted(model.loss), given, strict=True))
    return tuple(1.0 if weight is None else float(weight) for weight in list_by_output(model, given, count))


def list_strayed_weights(model: Any) -> list[tuple[str, float, float]]:
    """(output, the weight that its loss has, the one that it was given by name) where Keras takes another one."""
    given = getattr(getattr(model, "_compile_loss", None), "_user_loss_weights", None)
    if not isinstance(given, Mapping) or isinstance(model.loss, Mapping):
        return []
    names = _name_outputs(model)
    taken = zip(names, loss_weights_of(model, len(names)), strict=False)
    return [(name, weight, given[name]) for name, weight in taken if name in given and given[name] != weight]


def list_by_output(model: Any, given: Any, count: int) -> tuple[Any, ...]:
    """What was given for the `count` outputs of a model (losses, targets, weights), one for each in their order.

    A mapping is by their names, and None stands for those that it leaves out; anything else is in order, and one value
    alone counts for all.
    """
    if isinstance(given, Mapping) and not any(map(keras.tree.is_nested, given.values())):
        names = _name_outputs(model)
        if len(names) == count and set(given) <= set(names):
            return tuple(given.get(name) for name in names)
    flat = keras.tree.flatten(given) if isinstance(given, (list, tuple, dict)) else [given]
    return tuple(flat * count if len(flat) == 1 else flat)


def _name_outputs(model: Any) -> list[Any]:
    """The names of a model's outputs as they are flattened: those under which it returns them, or their layers'."""
    graph = getattr(model, "_functional", None) or model
    returned = getattr(graph, "_outputs_struct", None) or getattr(graph, "_nested_outputs", None)  # Keras 3, Keras 2
    if isinstance(returned, dict):
        return list(keras.tree.flatten(type(returned)((name, name) for name in returned)))
    return list(getattr(graph, "output_names", None) or ())


def pair_inputs(model: Any, x: Any) -> dict[str, str]:
    """{leaf of x, as `name_leaves` names it: input of the model}, as a functional model pairs them, in its order.

    A mapping for inputs that are no mapping is by their names, all else is in order.
    """
    graph = getattr(model, "_functional", None) or model
    names = [tensor.name for tensor in graph.inputs]
    if isinstance(x, Mapping) and not isinstance(graph._inputs_struct, Mapping) and set(names) == set(x):
        leaves = {key: leaf for leaf, key in name_leaves({key: key for key in x}).items()}
        return {leaves[name]: name for name in names}
    return dict(zip(name_leaves(x), names, strict=True))


def unwrap_variable(variable: Any) -> Any:
    """The TensorFlow variable that a Keras variable holds, or the one given.

    Raises: BadInput for one of several devices, which a distribution strategy makes.
    """
    held = variable if isinstance(variable, tf.Variable) else variable._value
    if isinstance(held, tf.distribute.DistributedValues):
        raise BadInput(
            f"A variable must be on one device to be checked. Received: {variable.name}, a {type(held).__name__}. "
            "Build the model outside of the distribution scope, and give it the weights (set_weights)."
        )
    return held


def value_of(variable: Any) -> Array:
    """A copy of what a variable holds; `numpy()` copies it inside TensorFlow too."""
    found: Array = unwrap_variable(variable).value().numpy()
    return found


def list_tensorflow_variables(value: Any) -> list[tf.Variable]:
    """The TensorFlow variables in an attribute, those in lists and dictionaries included, however deep."""
    if type(value) in ATOMS:
        return []
    return [one for one in walk_everything(value, list_items) if isinstance(one, tf.Variable)]
