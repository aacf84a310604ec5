"""What is checked: a loss as a function of data, over the variables that train, and the twin where there is one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ref.comparison.sources.oracles import TwinOracle
from keras_ref.errors import BadInput, join_names, running_user_code
from keras_ref.evaluation.changed_state.float64 import DTYPE
from keras_ref.evaluation.keras_objects.keras_parts import list_layers, list_states, list_strayed_weights
from keras_ref.evaluation.keras_objects.naming import values_of
from keras_ref.evaluation.loss_function import Data, LossFunction
from keras_ref.translation.to_keras import mirror_object
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
    own_dtype   what floats of the data are cast to where the subject computes in its own precision; None: nothing
    executor    whose workers evaluate the loss beside this process; None: nobody
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
    own_dtype: str | None = "float32"
    executor: Any = None

    def function(self, **options: Any) -> LossFunction:
        """The loss as a function of every float; options as LossFunction has them."""
        found = LossFunction(self.loss, variables=self.trained, state=self.state, data=self.data, **options)
        found.executor = self.executor
        return found


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


def make_model_loss(
    model: Any, data: Data, *, loss: Any = None, training: bool = False, seed: int = 0, dtype: str | None = DTYPE
) -> ModelLoss:
    """The loss that training a model on data minimises: compiled or given, what layers add, or what the model computes.

    Where there is none, or a compiled one and no y, every float output meets a random cotangent.
    Raises: BadInput for targets without a loss.
    """
    if loss is not None:
        give_loss(model, loss)

    def minimised(data: Data) -> Any:
        y_pred = _call(model, data.x, training=training)
        return model._compute_loss(  # noqa: SLF001 (what train_step itself calls)
            x=data.x, y=data.y, y_pred=y_pred, sample_weight=data.sample_weight, training=training
        )

    own = (*_own_train_step_notes(model), *_note_strayed_weights(model))
    has_compiled = getattr(model, "_compile_loss", None) is not None
    computes_own = type(model).compute_loss is not keras.Model.compute_loss
    if data.y is not None and (has_compiled or computes_own):
        return ModelLoss(data=data, loss=minimised, is_projection=False, notes=own)
    if data.y is None and computes_own and model.compiled and not has_compiled:
        return ModelLoss(data=data, loss=minimised, is_projection=False, notes=own)
    if has_own_train_step(model) and type(model).call is keras.Model.call:
        raise BadInput(
            f"A model must have a `call` for its gradients to be compared. Received: {model.name!r}, which has none, "
            f"and a train_step of its own. {INSTEAD}."
        )
    called = _call_once(model, data.tensors(dtype).x, training=training)
    if not has_compiled and (called.adds_losses or (called.has_losses and (data.y is not None or model.compiled))):
        note = note_on_added_losses(model.name, has_targets=data.y is not None)
        return ModelLoss(data=data, loss=minimised, is_projection=False, notes=(note, *own))
    if data.y is not None:
        raise BadInput(_explain_refusal(model))
    return ModelLoss(
        data=Data(data.x, draw_cotangents(called.outputs, model.name, seed), None),
        loss=lambda d: project_outputs(_call(model, d.x, training=training), d.y, extra=model.losses),
        is_projection=True,
        notes=(*((NOTE_ON_COTANGENTS,) if has_compiled else ()), *own),
    )


#: what checks a model whose loss is computed by its train_step
INSTEAD = "Check its steps with check_updates, or the function that computes its loss with check_function"
#: where a compiled loss stands aside
NOTE_ON_COTANGENTS = "No targets were given: every output meets a random cotangent in place of the compiled loss."


def _note_strayed_weights(model: Any) -> tuple[str, ...]:
    strayed = [f"{name!r} has {taken} in place of {given}" for name, taken, given in list_strayed_weights(model)]
    if not strayed:
        return ()
    what = "Keras gives loss weights by name to the losses in a list in the order of their sorted names"
    return (f"{what}: {join_names(strayed)}. Pass the losses by name, too.",)


def note_on_added_losses(name: str, *, has_targets: bool) -> str:
    """The note on a model whose loss is what its layers add."""
    return (
        f"No loss was compiled: what was checked is the sum of the losses that {name} adds (add_loss, "
        "regularizers), which is all that training minimises" + ("; the targets are not used." if has_targets else ".")
    )


@dataclass(frozen=True)
class Called:
    """What one call of a model gave.

    outputs       as a flat list
    adds_losses   whether a layer added a loss by add_loss, activity regularizers left out
    has_losses    whether there is any loss that a layer adds, regularizers included
    """

    outputs: list[Any]
    adds_losses: bool
    has_losses: bool


def _call_once(model: Any, x: Any, *, training: bool) -> Called:
    """Call a model once; what the call writes (states, seeds, losses) leaves no trace."""
    values = [(variable, variable.value) for variable in model.variables]  # Keras regularizes no others in a scope
    with keras.StatelessScope(state_mapping=values, collect_losses=True), running_user_code():
        outputs = keras.tree.flatten(_call(model, x, training=training))
        adding = [layer for layer in list_layers(model) if layer._get_own_losses()]  # noqa: SLF001 (`losses` has all)
        return Called(
            outputs=outputs,
            adds_losses=any(getattr(layer, "activity_regularizer", None) is None for layer in adding),
            has_losses=bool(model.losses),
        )


def has_own_train_step(model: Any) -> bool:
    """Whether a model trains by a train_step of its own."""
    return type(model).train_step is not keras.Model.train_step or "train_step" in vars(model)


def _own_train_step_notes(model: Any) -> tuple[str, ...]:
    if not has_own_train_step(model):
        return ()
    note = (
        f"{type(model).__name__} has a train_step of its own: a loss that is computed there, and nowhere else, was not "
        "checked. check_updates checks what the train step does, check_function the function that computes the loss."
    )
    return (note,)


def _explain_refusal(model: Any) -> str:
    """Why there is nothing to do with targets, in three parts."""
    rule = "A model must have a loss when targets are given."
    if has_own_train_step(model):
        return (
            f"{rule} Received: {model.name!r}, which has a train_step of its own and no compiled loss, and loss=None. "
            f"{INSTEAD}; or pass loss=."
        )
    state = "compiled without a loss" if model.compiled else "not compiled"
    return f"{rule} Received: {model.name!r}, {state}, and loss=None. Compile it with a loss, or pass loss=."


def draw_cotangents(outputs: Any, name: str, seed: int) -> list[Array]:
    """A random cotangent for every output, of its shape. Raises: BadInput where no output has a number, or a float."""
    flat = [tf.convert_to_tensor(values_of(output)) for output in keras.tree.flatten(outputs) if output is not None]
    if not any(output.dtype.is_floating or output.dtype.is_complex for output in flat):
        received = ", ".join(output.dtype.name for output in flat) or "nothing"
        raise BadInput(
            f"An output must be a float for a gradient to reach it. Received: {received} from {name!r}. "
            "Check a function whose result is a float."
        )
    if not any(output.shape.num_elements() for output in flat):
        raise BadInput(
            f"An output must hold at least one number to be differenced. Received: "
            f"{' and '.join(f'shape {tuple(output.shape)}' for output in flat)} from {name!r}. Pass data."
        )
    generator = np.random.default_rng(seed + 2)
    drawn = [generator.normal(size=tuple(output.shape)) for output in flat]
    return [
        c + 1j * generator.normal(size=c.shape) if output.dtype.is_complex else c
        for c, output in zip(drawn, flat, strict=True)
    ]


def project_outputs(outputs: Any, cotangents: Any, *, extra: Any = ()) -> Any:
    """Σ output · cotangent over all float outputs, plus the losses that layers add: a scalar that sees every output.

    Of a complex output it is the real part of output · conjugate of a complex cotangent.
    """
    parts = []
    flat = [values_of(output) for output in keras.tree.flatten(outputs) if output is not None]
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


def list_untrained(owner: Any, trained: list[Any]) -> list[Any]:
    """Everything that a layer or model keeps and a call may write: moving averages, seeds, states, frozen weights."""
    state = [v for v in owner.variables if all(v is not other for other in trained)]
    state += [*getattr(owner, "metrics_variables", ()), *list_states(owner)]
    return list({id(v): v for v in state}.values())


def loss_scale(model: Any) -> float:
    """What training multiplies the loss with so that its gradient survives a low precision."""
    optimizer = getattr(model, "optimizer", None)
    return 1.0 if optimizer is None else float(np.asarray(optimizer.scale_loss(1.0)))


def find_loss_objects(loss: Any) -> list[Any]:
    """The Keras loss objects among given losses."""
    return [one for one in tf.nest.flatten(loss) if isinstance(one, keras.losses.Loss)]


def mirror_losses(loss: Any) -> Any:
    """Losses given as objects or names of scratch, as Keras's."""
    flat = list(loss) if isinstance(loss, (list, tuple)) else [loss]
    flat = [get("loss", one)() if isinstance(one, str) and one in every("loss") else one for one in flat]
    flat = [mirror_object(one, dtype="float64") if isinstance(one, Loss) else one for one in flat]
    return flat[0] if len(flat) == 1 else flat
