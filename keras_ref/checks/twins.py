"""The NumPy twin of a Keras model as an oracle: its definition, its losses, its random draws."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ref.comparison.sources.differenced_loss import DifferencedLoss
from keras_ref.comparison.sources.oracles import TwinOracle
from keras_ref.evaluation.changed_state.restoration import restore_attributes
from keras_ref.evaluation.keras_objects.keras_parts import list_by_output, list_states, loss_weights_of, pair_inputs
from keras_ref.evaluation.keras_objects.leaves import name_leaves
from keras_ref.evaluation.keras_objects.naming import values_of
from keras_ref.evaluation.loss_function import Data
from keras_ref.inputs.call_arguments import CallArguments
from keras_ref.translation.compiled_losses import build_twin_losses
from keras_ref.translation.from_keras import NoTwin, reflect_with_variables
from keras_ref.translation.random_draws import predict_model_draws
from keras_ref.translation.weights import read_values
from scratch.arrays import Array
from scratch.gradient import Nudges
from scratch.losses.base import Projection
from scratch.model import Model
from scratch.objective import Objective


def build_twin(
    model: Any,
    loss: DifferencedLoss,
    *,
    data: Data,
    projection: bool,
    training: bool,
    executor: Any = None,
    stands_for: Mapping[int, Any] | None = None,
) -> TwinOracle:
    """The twin's oracle at the point of a model's loss function.

    `data` holds targets, or random cotangents where the loss is a projection of the outputs. A model that only stands
    for the one under test has its variables in `stands_for`, by the identity of its own. Raises: NoTwin.
    """
    twin, variables = reflect_with_variables(model)
    if stands_for is not None:
        variables = {name: stands_for[id(v)] for name, v in variables.items()}
        if training and any("draw" in layer.accepts for layer in twin.layers.values()):
            raise NoTwin(
                "A random layer must draw as Keras 3 does to have a twin in training. Received: one of Keras 2."
            )
    if any(np.any(state.numpy()) for state in list_states(model)):
        raise NoTwin(
            "A stateful layer must be in its initial state to have a twin, which starts from zeros. Received: another "
            "state. Call reset_states() first."
        )
    objective, targets = _make_objective(model, twin, data, projection=projection)
    shares = _list_shares(model, data, len(twin.outputs))
    paths = {id(v): path for path, v in loss.variables.items()}
    names = {paths[id(v)]: name for name, v in variables.items() if id(v) in paths}
    leaves = name_leaves(loss.data.x)
    if any(values_of(leaf) is not leaf for leaf in leaves.values()):
        raise NoTwin("A twin takes dense inputs. Received: a sparse or ragged one.")
    if any(tf.as_dtype(values_of(leaf).dtype).is_complex for leaf in leaves.values()):
        raise NoTwin("A twin takes real inputs. Received: a complex one.")
    inputs = pair_inputs(model, loss.data.x)
    names |= {n: f"input:{inputs[n]}" for n in loss.inputs if n in inputs}
    fixed = read_values(variables)
    integers = {name: np.asarray(leaves[n]) for n, name in inputs.items()}
    draws = _predict_draws(model, twin, fixed, integers) if training else None

    def make(values: Mapping[str, Array]) -> Nudges:
        moved = {name: values[path] for path, name in names.items() if path in values}
        own = fixed | {n: v for n, v in moved.items() if not n.startswith("input:")}
        x = integers | {n.removeprefix("input:"): v for n, v in moved.items() if n.startswith("input:")}
        return Nudges(
            objective,
            own,
            x,
            targets,
            sample_weight=shares,
            training=training,
            draws=draws,
            executor=executor,
        )

    specifications = (*twin.layers.values(), *objective.losses)
    return TwinOracle.at(make, names=names, values=loss.values, specifications=specifications)


def _make_objective(model: Any, twin: Model, data: Data, *, projection: bool) -> tuple[Objective, Any]:
    """The twin with its losses, and the targets as it takes them. Raises: NoTwin."""
    count = len(twin.outputs)
    if projection:
        return Objective.of(twin, tuple(Projection() for _ in twin.outputs)), [np.asarray(c) for c in data.y]
    if type(model).compute_loss not in (keras.Model.compute_loss, keras.Sequential.compute_loss):
        raise NoTwin(
            f"The loss of a twin must be a compiled one. Received: {type(model).__name__}, which computes its own."
        )
    targets = list_by_output(model, data.y, count)
    objective = Objective.of(twin, build_twin_losses(model, count), loss_weights_of(model, count))
    return objective, targets if count > 1 else np.asarray(targets[0])


def _list_shares(model: Any, data: Data, count: int) -> Any:
    """The sample weights as an objective takes them: an array of a single output, else one for each."""
    if data.sample_weight is None:
        return None
    given = list_by_output(model, data.sample_weight, count)
    shares = tuple(None if share is None else np.asarray(share) for share in given)
    return shares[0] if count == 1 else shares


def _predict_draws(model: Any, twin: Model, weights: Mapping[str, Array], x: Mapping[str, Array]) -> Any:
    """The random arrays that Keras will draw in training from the present state of its seeds; None where none are."""
    drawing = [name for name, layer in twin.layers.items() if "draw" in layer.accepts]
    if not drawing:
        return None
    shapes = {name: tensor.shape for name, tensor in twin.run(weights, x).tensors.items()}
    return predict_model_draws(twin, {name: find_keras_layer(model, name) for name in drawing}, shapes)


def find_keras_layer(model: Any, name: str) -> Any:
    """The layer of a Keras model that the twin calls `name`: nested models are in front, divided by strokes."""
    for part in name.split("/"):
        model = model.get_layer(part)
    return model


@contextmanager
def called_in_model(layer: Any, arguments: CallArguments, x: Any) -> Iterator[Any]:
    """A functional model of one call of the layer, which a twin can be made of; the layer keeps nothing of the call.

    Raises: NoTwin where it cannot be called on symbolic tensors.
    """

    def symbolic(tensor: Any) -> Any:
        shape = tuple(tensor.shape)
        return keras.Input(batch_shape=(None, *shape[1:]) if shape else (), dtype=tensor.dtype.name)

    with restore_attributes(layer):
        tensors = tf.nest.map_structure(symbolic, x)
        try:
            outputs = arguments.call(layer, tensors)
            model = keras.Model(tf.nest.flatten(tensors), outputs)
        except (AttributeError, NotImplementedError, TypeError, ValueError) as error:
            raise NoTwin(
                f"A call must be possible on symbolic tensors to have a twin. Received: {layer.name!r}, {error}"
            ) from error
        yield model
