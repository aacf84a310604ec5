"""What a check is about: a model's loss as a function of data, the oracles that difference it, the twin where there is one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ref.draws import draws_of_model
from keras_ref.lines import Lines
from keras_ref.oracles import ForwardOracle, TwinOracle
from keras_ref.probe import Data, Probe, named_leaves
from keras_ref.reflect import NoTwin, reflect_with_variables, reflected
from scratch.differences import UNIT
from scratch.gradient import Nudges
from scratch.losses.base import Projection
from scratch.model import Model, snake_case
from scratch.objective import Objective

Array = np.ndarray

#: relative noise of a loss from which on float64 rounding alone no longer explains it
SUSPICIOUS = 2.0**-36


def distinct(variables: list[Any]) -> list[Any]:
    return list({id(v): v for v in variables}.values())


def loss_objects(loss: Any) -> list[Any]:
    return [one for one in tf.nest.flatten(loss) if isinstance(one, keras.losses.Loss)]


def subject_of(
    model: Any, data: Data, loss: Any, training: bool, seed: int, notes: list[str]
) -> tuple[Data, Callable[[Data], Any], bool]:
    """The loss as a function of data: compiled, given, or random cotangents on every float output."""
    if loss is not None:
        give_loss(model, loss)
    compiled = getattr(model, "_compile_loss", None) is not None
    if data.y is None:
        with keras.StatelessScope():  # a call writes states and seeds, and this one must leave no trace
            shapes = keras.tree.flatten(_call(model, data.tensors().x, False))
        if compiled:
            notes.append("No targets were given: every output meets a random cotangent in place of the compiled loss.")
        generator = np.random.default_rng(seed + 2)
        cotangents = [generator.normal(size=tuple(t.shape)) for t in shapes]

        def projected(data: Data) -> Any:
            outputs = keras.tree.flatten(_call(model, data.x, training))
            parts = [tf.reduce_sum(tf.cast(o, "float64") * c) for o, c in zip(outputs, data.y, strict=True) if o.dtype.is_floating]
            return tf.add_n([*parts, *(tf.cast(extra, "float64") for extra in model.losses)])

        return Data(data.x, cotangents, None), projected, True
    if not compiled and not model.losses and type(model).compute_loss is keras.Model.compute_loss:
        raise ValueError(
            f"A model must have a loss when targets are given. Received: {model.name!r}, not compiled, and loss=None. "
            "Compile it with a loss, or pass loss=."
        )

    def compiled_loss(data: Data) -> Any:
        y_pred = _call(model, data.x, training)
        return model._compute_loss(x=data.x, y=data.y, y_pred=y_pred, sample_weight=data.sample_weight, training=training)

    return data, compiled_loss, False


def _call(model: Any, x: Any, training: bool) -> Any:
    return model(x, training=training) if getattr(model, "_call_has_training_arg", True) else model(x)


def give_loss(model: Any, loss: Any) -> None:
    """Give the model a loss for the time of the check (in_float64 puts the old one back)."""
    model.compile(optimizer=None, loss=loss, run_eagerly=True)


def oracles_of(
    model: Any, probe: Probe, data: Data, projection: bool, training: bool, seed: int, notes: list[str], executor: Any,
    wanted: Sequence[str] = ("forward", "twin"), *, along: bool = False,
) -> list[Any]:  # fmt: skip
    """The oracles that are wanted and exist. `along` directions only the first of them is asked, and its noise later."""
    if along and "forward" in wanted:
        lines = Lines(probe)
        base = float(lines.directional({}, np.zeros(1))[0])
        found: list[Any] = [ForwardOracle(lines, probe.values, base, UNIT * abs(base))]  # type: ignore[arg-type]
        wanted = ("forward",)
    else:
        found = [ForwardOracle.at(probe, probe.values, seed=seed)] if "forward" in wanted else []
    if "twin" in wanted:
        try:
            found.append(twin_of(model, probe, data, projection, training, seed, executor))
        except NoTwin as reason:
            if not found:
                raise
            notes.append(f"No twin: {reason}")
    for oracle in found:
        _finite(oracle, model.name)
        if oracle.noise > SUSPICIOUS * abs(oracle.base) and oracle.name == "forward":
            notes.append(
                f"float32 inside: the loss of {model.name} has a noise of {oracle.noise:.1e} "
                f"({oracle.noise / max(abs(oracle.base), UNIT):.0e} of its value), more than float64 rounding; steps were widened accordingly."
            )
    return found


def _finite(oracle: Any, name: str) -> None:
    if not np.isfinite(oracle.base):
        raise ValueError(
            f"The loss must be finite before its gradient can be checked. Received: {oracle.base} from the forward pass of "
            f"{name!r}. Look at the forward pass, the data and the weights first."
        )
    if not np.isfinite(oracle.noise):
        raise ValueError(f"The loss of {name!r} must be finite near the point. Received: values that are not. Move the weights.")


def twin_of(model: Any, probe: Probe, data: Data, projection: bool, training: bool, seed: int, executor: Any) -> TwinOracle:
    twin, variables = reflect_with_variables(model)
    if projection:
        objective = Objective.of(twin, tuple(Projection() for _ in twin.outputs))
        targets: Any = [np.asarray(c) for c in data.y]
    else:
        if type(model).compute_loss not in (keras.Model.compute_loss, keras.Sequential.compute_loss):
            raise NoTwin(f"The loss of a twin must be a compiled one. Received: {type(model).__name__}, which computes its own.")
        objective = Objective.of(twin, twin_losses(model, len(twin.outputs)), _loss_weights(model, len(twin.outputs)))
        targets = tf.nest.flatten(data.y) if len(twin.outputs) > 1 else np.asarray(tf.nest.flatten(data.y)[0])
    weights = tf.nest.flatten(data.sample_weight) if data.sample_weight is not None else [None]
    paths = {id(v): path for path, v in probe.variables.items()}
    names = {paths[id(v)]: name for name, v in variables.items() if id(v) in paths}
    leaves = named_leaves(probe.data.x)
    inputs = dict(zip(leaves, twin.inputs, strict=True))
    names |= {n: f"input:{inputs[n]}" for n in probe.inputs}
    fixed = {name: np.asarray(v.numpy()) for name, v in variables.items()}
    integers = {inputs[n]: np.asarray(t) for n, t in leaves.items()}
    draws = _draws(model, twin, training, fixed, integers)

    def make(values: Mapping[str, Array]) -> Nudges:
        moved = {name: values[path] for path, name in names.items() if path in values}
        own = fixed | {n: v for n, v in moved.items() if not n.startswith("input:")}
        x = integers | {n.removeprefix("input:"): v for n, v in moved.items() if n.startswith("input:")}
        share = weights[0] if len(weights) == 1 else weights
        return Nudges(objective, own, x, targets, sample_weight=None if share is None else np.asarray(share), training=training, draws=draws, executor=executor)

    specifications = (*twin.layers.values(), *objective.losses)
    return replace(TwinOracle.at(make, names, probe.values, seed=seed), specifications=specifications)


def _draws(model: Any, twin: Model, training: bool, weights: Mapping[str, Array], x: Mapping[str, Array]) -> Any:
    """In training, the random arrays that Keras will draw from the present state of its seeds."""
    if not training or not any("draw" in layer.accepts for layer in twin.layers.values()):
        return None
    shapes = {name: tensor.shape for name, tensor in twin.run(weights, x).tensors.items()}
    return draws_of_model(twin, {name: keras_layer(model, name) for name, layer in twin.layers.items() if "draw" in layer.accepts}, shapes)


def keras_layer(model: Any, name: str) -> Any:
    """The layer of a Keras model that the twin calls `name`: nested models are in front, divided by strokes."""
    for part in name.split("/"):
        model = model.get_layer(part)
    return model


def twin_losses(model: Any, count: int) -> tuple[Any, ...]:
    given = getattr(model, "loss", None)
    flat = keras.tree.flatten(given) if isinstance(given, (list, tuple, dict)) else [given]
    flat = flat * count if len(flat) == 1 else flat
    losses = [None if one is None else keras.losses.get(one) for one in flat]
    return tuple(None if one is None else twin_loss(one) for one in losses)


def twin_loss(loss: Any) -> Any:
    """The scratch loss of a Keras loss object, or of one of Keras's own loss functions. Raises: NoTwin."""
    if isinstance(loss, keras.losses.Loss):
        return reflected(loss, "loss")
    name = getattr(loss, "__name__", str(loss))
    if getattr(loss, "__module__", "").startswith("keras."):
        for candidate in vars(keras.losses).values():
            if isinstance(candidate, type) and snake_case(candidate.__name__) == name:
                return reflected(candidate(), "loss")
    raise NoTwin(f"A loss must be one of Keras's to have a twin. Received: {name}, a function of its own.")


def _loss_weights(model: Any, count: int) -> tuple[float, ...]:
    given = getattr(getattr(model, "_compile_loss", None), "_user_loss_weights", None)
    if given is None:
        return ()
    flat = [float(w) for w in keras.tree.flatten(given)]
    return tuple(flat * count if len(flat) == 1 else flat)
