"""What a check is about: a model's loss as a function of data, the oracles that difference it, the twin where there is one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ref.checks import precision
from keras_ref.comparison.oracles import ForwardOracle, TwinOracle
from keras_ref.errors import BadInput, running_user_code
from keras_ref.evaluation.directional_loss import DirectionalLoss
from keras_ref.evaluation.float64 import DTYPE, states_of
from keras_ref.evaluation.graph import kinks
from keras_ref.evaluation.loss_function import Data, LossFunction, named_leaves
from keras_ref.translation.from_keras import NoTwin, reflect_with_variables, reflected
from keras_ref.translation.random_draws import predict_model_draws
from keras_ref.translation.to_keras import mirrored
from scratch.arrays import Array
from scratch.differences import UNIT
from scratch.gradient import Nudges
from scratch.losses.base import Loss, Projection
from scratch.model import Model
from scratch.naming import snake_case
from scratch.objective import Objective
from scratch.registry import every, get


def distinct(variables: list[Any]) -> list[Any]:
    return list({id(v): v for v in variables}.values())


def untrained(thing: Any, trained: list[Any]) -> list[Any]:
    """Everything that a layer or model keeps and a call may write: moving averages, seeds, states; frozen weights too."""
    state = [v for v in thing.variables if all(v is not other for other in trained)]
    return distinct([*state, *getattr(thing, "metrics_variables", ()), *states_of(thing)])


def loss_scale(model: Any) -> float:
    """What training multiplies the loss with so that its gradient survives a low precision."""
    optimizer = getattr(model, "optimizer", None)
    return 1.0 if optimizer is None else float(np.asarray(optimizer.scale_loss(1.0)))


def loss_objects(loss: Any) -> list[Any]:
    return [one for one in tf.nest.flatten(loss) if isinstance(one, keras.losses.Loss)]


def mirrored_losses(loss: Any) -> Any:
    """Losses given as objects or names of scratch, as Keras's."""
    flat = list(loss) if isinstance(loss, (list, tuple)) else [loss]
    flat = [get("loss", one)() if isinstance(one, str) and one in every("loss") else one for one in flat]
    flat = [mirrored(one, dtype="float64") if isinstance(one, Loss) else one for one in flat]
    return flat[0] if len(flat) == 1 else flat


def subject_of(
    model: Any, data: Data, loss: Any, training: bool, seed: int, notes: list[str], dtype: str | None = DTYPE
) -> tuple[Data, Callable[[Data], Any], bool]:
    """The loss as a function of data: compiled, given, or random cotangents on every float output."""
    if loss is not None:
        give_loss(model, loss)
    compiled = getattr(model, "_compile_loss", None) is not None
    if data.y is None:
        with (
            keras.StatelessScope(),
            running_user_code(),
        ):  # a call writes states and seeds, and this one must leave no trace
            outputs = keras.tree.flatten(_call(model, data.tensors(dtype).x, False))
        if compiled:
            notes.append("No targets were given: every output meets a random cotangent in place of the compiled loss.")
        cotangents = drawn_cotangents(outputs, model.name, seed)

        def projected(data: Data) -> Any:
            return projection_of(_call(model, data.x, training), data.y, model.losses)

        return Data(data.x, cotangents, None), projected, True
    if not compiled and not model.losses and type(model).compute_loss is keras.Model.compute_loss:
        raise BadInput(
            f"A model must have a loss when targets are given. Received: {model.name!r}, not compiled, and loss=None. "
            "Compile it with a loss, or pass loss=."
        )

    def compiled_loss(data: Data) -> Any:
        y_pred = _call(model, data.x, training)
        return model._compute_loss(
            x=data.x, y=data.y, y_pred=y_pred, sample_weight=data.sample_weight, training=training
        )

    return data, compiled_loss, False


def drawn_cotangents(outputs: Any, name: str, seed: int) -> list[Array]:
    """A random cotangent for every output, of its shape. Raises: BadInput where no output has a gradient."""
    flat = [tf.convert_to_tensor(output) for output in keras.tree.flatten(outputs) if output is not None]
    if not any(output.dtype.is_floating or output.dtype.is_complex for output in flat):
        received = ", ".join(output.dtype.name for output in flat) or "nothing"
        raise BadInput(
            f"An output must be a float for a gradient to reach it. Received: {received} from {name!r}. Check a function whose result is a float."
        )
    generator = np.random.default_rng(seed + 2)
    drawn = [generator.normal(size=tuple(output.shape)) for output in flat]
    return [
        c + 1j * generator.normal(size=c.shape) if output.dtype.is_complex else c
        for c, output in zip(drawn, flat, strict=True)
    ]


def projection_of(outputs: Any, cotangents: Any, extra: Any = ()) -> Any:
    """Σ output · cotangent over all float outputs, plus the losses that layers add: a scalar that sees every output.

    Of a complex output it is the real part of output · conjugate of a complex cotangent.
    """
    parts = []
    flat = [output for output in keras.tree.flatten(outputs) if output is not None]
    for output, cotangent in zip(map(tf.convert_to_tensor, flat), cotangents, strict=True):
        if output.dtype.is_complex:
            parts.append(tf.math.real(tf.cast(output, cotangent.dtype) * tf.math.conj(cotangent)))
        elif output.dtype.is_floating:
            parts.append(tf.cast(output, DTYPE) * tf.cast(cotangent, DTYPE))
    return tf.add_n([*(tf.reduce_sum(part) for part in parts), *(tf.cast(loss, DTYPE) for loss in extra)])


def _call(model: Any, x: Any, training: bool) -> Any:
    return model(x, training=training) if getattr(model, "_call_has_training_arg", True) else model(x)


def give_loss(model: Any, loss: Any) -> None:
    """Give the model a loss for the time of the check (in_float64 puts the old one back)."""
    model.compile(optimizer=None, loss=loss, run_eagerly=True)


@dataclass(frozen=True)
class Subject:
    """What a check differences: a loss of data over trained variables, what else a call may write, and the twin.

    `twin` builds the twin's oracle for a probe and raises NoTwin where there is none; `scale` is what training multiplies
    the loss with before it takes a gradient in low precision; `otherwise` makes the loss with the other value of
    `training`, where it has one.
    """

    name: str
    data: Data
    loss: Callable[[Data], Any]
    trained: list[Any]
    state: list[Any]
    twin: Callable[[LossFunction], TwinOracle]
    scale: float = 1.0
    otherwise: Callable[[], Callable[[Data], Any]] | None = None
    training: bool = False

    def probe(self, **options: Any) -> LossFunction:
        """The loss as a function of every float; options as LossFunction has them."""
        return LossFunction(self.loss, self.trained, self.state, self.data, **options)


def oracles_of(
    name: str,
    probe: LossFunction,
    twin: Callable[[LossFunction], TwinOracle],
    seed: int,
    notes: list[str],
    wanted: Sequence[str] = ("forward", "twin"),
) -> list[Any]:
    """The oracles that are wanted and possible. Raises: NoTwin where the twin alone is wanted and there is none."""
    found: list[Any] = []
    if "forward" in wanted:
        found.append(ForwardOracle.at(probe, probe.values, seed=seed))
        _finite(found[0], name)
        found[0] = precision.judged(probe, found[0], name, notes, seed)
    if "twin" in wanted:
        try:
            found.append(twin(probe))
        except NoTwin as reason:
            if not found:
                raise
            notes.append(f"No twin: {reason}")
        else:
            _finite(found[-1], name)
    bends = bool(kinks(probe.graph))
    found = [replace(oracle, kinks=bends) for oracle in found]
    if len(found) == 2:
        found[0] = replace(found[0], second=found[1])
    return found


def oracle_along(name: str, probe: LossFunction, notes: list[str]) -> ForwardOracle:
    """The forward oracle for directions that move everything at once; its noise is measured when there is a doubt."""
    lines: Any = DirectionalLoss(probe)
    base = float(lines.directional({}, np.zeros(1))[0])
    oracle = ForwardOracle(lines, probe.values, base, UNIT * abs(base))
    _finite(oracle, name)
    return precision.judged(lines, oracle, name, notes)


def _finite(oracle: Any, name: str) -> None:
    if not np.isfinite(oracle.base):
        raise BadInput(
            f"The loss must be finite before its gradient can be checked. Received: {oracle.base} from the forward pass of "
            f"{name!r}. Look at the forward pass, the data and the weights first."
        )
    if not np.isfinite(oracle.noise):
        raise BadInput(
            f"The loss of {name!r} must be finite near the point. Received: values that are not. Move the weights."
        )


def twin_of(
    model: Any, probe: LossFunction, data: Data, projection: bool, training: bool, seed: int, executor: Any
) -> TwinOracle:
    twin, variables = reflect_with_variables(model)
    if any(np.any(state.numpy()) for state in states_of(model)):
        raise NoTwin(
            "A stateful layer must be in its initial state to have a twin, which starts from zeros. Call reset_states() first."
        )
    if projection:
        objective = Objective.of(twin, tuple(Projection() for _ in twin.outputs))
        targets: Any = [np.asarray(c) for c in data.y]
    else:
        if type(model).compute_loss not in (keras.Model.compute_loss, keras.Sequential.compute_loss):
            raise NoTwin(
                f"The loss of a twin must be a compiled one. Received: {type(model).__name__}, which computes its own."
            )
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
        return Nudges(
            objective,
            own,
            x,
            targets,
            sample_weight=None if share is None else np.asarray(share),
            training=training,
            draws=draws,
            executor=executor,
        )

    specifications = (*twin.layers.values(), *objective.losses)
    return replace(TwinOracle.at(make, names, probe.values, seed=seed), specifications=specifications)


def _draws(model: Any, twin: Model, training: bool, weights: Mapping[str, Array], x: Mapping[str, Array]) -> Any:
    """In training, the random arrays that Keras will draw from the present state of its seeds."""
    if not training or not any("draw" in layer.accepts for layer in twin.layers.values()):
        return None
    shapes = {name: tensor.shape for name, tensor in twin.run(weights, x).tensors.items()}
    return predict_model_draws(
        twin, {name: keras_layer(model, name) for name, layer in twin.layers.items() if "draw" in layer.accepts}, shapes
    )


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
