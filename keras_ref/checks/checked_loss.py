"""What is checked: a loss as a function of data, over the variables that train, and the twin where there is one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ref.comparison.oracles import TwinOracle
from keras_ref.errors import BadInput, running_user_code
from keras_ref.evaluation.float64 import DTYPE
from keras_ref.evaluation.keras_parts import states_of
from keras_ref.evaluation.loss_function import Data, LossFunction
from keras_ref.translation.to_keras import mirrored
from scratch.arrays import Array
from scratch.losses.base import Loss
from scratch.registry import every, get


@dataclass(frozen=True, kw_only=True)
class CheckedLoss:
    """What a check differences: a loss of data over trained variables, what else a call may write, and the twin.

    twin        builds the twin's oracle at the point of a loss function; raises NoTwin where there is none
    scale       what training multiplies the loss with before it takes a gradient in low precision
    otherwise   makes the loss with the other value of `training`, where it has one
    notes       what is worth saying of the loss itself
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
    notes: tuple[str, ...] = ()

    def function(self, **options: Any) -> LossFunction:
        """The loss as a function of every float; options as LossFunction has them."""
        return LossFunction(self.loss, variables=self.trained, state=self.state, data=self.data, **options)


#: builds what is checked, its data in a given precision (None: as they are), while its objects compute in that
Prepare = Callable[[str | None], CheckedLoss]


@dataclass(frozen=True, kw_only=True)
class ModelLoss:
    """A model's loss as a function of data.

    `is_projection`: every output meets a random cotangent, which the data hold in the place of targets.
    """

    data: Data
    loss: Callable[[Data], Any]
    is_projection: bool
    notes: tuple[str, ...] = ()


def model_loss(
    model: Any, data: Data, *, loss: Any = None, training: bool = False, seed: int = 0, dtype: str | None = DTYPE
) -> ModelLoss:
    """The loss of a model on data: compiled, given, or random cotangents on every float output where there is no y.

    Raises: BadInput for targets without a loss.
    """
    if loss is not None:
        give_loss(model, loss)
    compiled = getattr(model, "_compile_loss", None) is not None
    if data.y is None:
        with (
            keras.StatelessScope(),
            running_user_code(),
        ):  # a call writes states and seeds, and this one must leave no trace
            outputs = keras.tree.flatten(_call(model, data.tensors(dtype).x, training=False))
        note = "No targets were given: every output meets a random cotangent in place of the compiled loss."
        return ModelLoss(
            data=Data(data.x, drawn_cotangents(outputs, model.name, seed), None),
            loss=lambda d: projection_of(_call(model, d.x, training=training), d.y, extra=model.losses),
            is_projection=True,
            notes=(note,) if compiled else (),
        )
    if not compiled and not model.losses and type(model).compute_loss is keras.Model.compute_loss:
        raise BadInput(
            f"A model must have a loss when targets are given. Received: {model.name!r}, not compiled, and loss=None. "
            "Compile it with a loss, or pass loss=."
        )

    def compiled_loss(data: Data) -> Any:
        y_pred = _call(model, data.x, training=training)
        return model._compute_loss(  # noqa: SLF001 (what train_step itself calls)
            x=data.x, y=data.y, y_pred=y_pred, sample_weight=data.sample_weight, training=training
        )

    return ModelLoss(data=data, loss=compiled_loss, is_projection=False)


def drawn_cotangents(outputs: Any, name: str, seed: int) -> list[Array]:
    """A random cotangent for every output, of its shape. Raises: BadInput where no output has a gradient."""
    flat = [tf.convert_to_tensor(output) for output in keras.tree.flatten(outputs) if output is not None]
    if not any(output.dtype.is_floating or output.dtype.is_complex for output in flat):
        received = ", ".join(output.dtype.name for output in flat) or "nothing"
        raise BadInput(
            f"An output must be a float for a gradient to reach it. Received: {received} from {name!r}. "
            "Check a function whose result is a float."
        )
    generator = np.random.default_rng(seed + 2)
    drawn = [generator.normal(size=tuple(output.shape)) for output in flat]
    return [
        c + 1j * generator.normal(size=c.shape) if output.dtype.is_complex else c
        for c, output in zip(drawn, flat, strict=True)
    ]


def projection_of(outputs: Any, cotangents: Any, *, extra: Any = ()) -> Any:
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


def _call(model: Any, x: Any, *, training: bool) -> Any:
    return model(x, training=training) if getattr(model, "_call_has_training_arg", True) else model(x)


def give_loss(model: Any, loss: Any) -> None:
    """Give the model a loss for the time of the check (in_float64 puts the old one back)."""
    model.compile(optimizer=None, loss=loss, run_eagerly=True)


def untrained(owner: Any, trained: list[Any]) -> list[Any]:
    """Everything that a layer or model keeps and a call may write: moving averages, seeds, states, frozen weights."""
    state = [v for v in owner.variables if all(v is not other for other in trained)]
    state += [*getattr(owner, "metrics_variables", ()), *states_of(owner)]
    return list({id(v): v for v in state}.values())


def loss_scale(model: Any) -> float:
    """What training multiplies the loss with so that its gradient survives a low precision."""
    optimizer = getattr(model, "optimizer", None)
    return 1.0 if optimizer is None else float(np.asarray(optimizer.scale_loss(1.0)))


def loss_objects(loss: Any) -> list[Any]:
    """The Keras loss objects among given losses."""
    return [one for one in tf.nest.flatten(loss) if isinstance(one, keras.losses.Loss)]


def mirrored_losses(loss: Any) -> Any:
    """Losses given as objects or names of scratch, as Keras's."""
    flat = list(loss) if isinstance(loss, (list, tuple)) else [loss]
    flat = [get("loss", one)() if isinstance(one, str) and one in every("loss") else one for one in flat]
    flat = [mirrored(one, dtype="float64") if isinstance(one, Loss) else one for one in flat]
    return flat[0] if len(flat) == 1 else flat
