"""Models and layers of Keras 2 (tf_keras): their losses, checked as those of Keras 3 are."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from keras_ref.checks.check import check
from keras_ref.checks.checked_loss import CheckedLoss, draw_cotangents, project_outputs
from keras_ref.checks.twins import build_twin, called_in_model
from keras_ref.checks.used_rows import leave_unused_rows_out
from keras_ref.comparison.sources.oracles import TwinOracle
from keras_ref.comparison.sources.settings import Settings
from keras_ref.errors import BadInput, errors_as_bad_input, running_user_code
from keras_ref.evaluation.changed_state.keras_2 import as_losses, losses_in, losses_of, unwrap_variable
from keras_ref.evaluation.changed_state.restoration import restore_variables
from keras_ref.evaluation.loss_function import Data, LossFunction
from keras_ref.inputs.call_arguments import CallArguments
from keras_ref.reports.verdict import Report
from keras_ref.translation.keras_2_models import Translation, convert_model


def check_keras_2_model(model: Any, data: Data, *, loss: Any, training: bool, settings: Settings) -> Report:
    """Compare autodiff's gradients of the loss of a model of Keras 2 with slopes; options as check_gradients has them.

    Raises: BadInput for targets without a loss.
    """
    if data.y is not None and loss is None and getattr(model, "compiled_loss", None) is None:
        raise BadInput(
            f"A model must have a loss when targets are given. Received: {model.name!r}, not compiled, and loss=None. "
            "Compile it with a loss, or pass loss=."
        )

    given_losses = None if loss is None else as_losses(loss, model)

    def minimised(given: Data) -> Any:
        outputs = model(given.x, training=training)
        if given_losses is not None:
            return given_losses(given.y, outputs, given.sample_weight, regularization_losses=model.losses)
        return model.compute_loss(x=given.x, y=given.y, y_pred=outputs, sample_weight=given.sample_weight)

    def twin(at: LossFunction, drawn: Data) -> TwinOracle:
        projection = data.y is None
        found = convert_model(model, with_loss=not projection, loss=loss)
        return build_twin(
            found.model,
            at,
            data=drawn,
            projection=projection,
            training=training,
            stands_for={one: unwrap_variable(v) for one, v in found.variables.items()},
        )

    return _check(
        model,
        data,
        call=lambda x: model(x, training=training),
        loss=None if data.y is None else minimised,
        twin=twin,
        more=(*losses_of(model), *losses_in(loss)),
        settings=settings,
    )


def check_keras_2_layer(layer: Any, arguments: CallArguments, *, settings: Settings) -> Report:
    """Compare autodiff's gradients of a layer of Keras 2 with slopes; options as check_layer has them."""
    if not layer.built:
        with errors_as_bad_input(), running_user_code():
            # Keras 2 casts the first argument alone to the precision of the layer
            arguments.call(layer, Data(arguments.x).tensors(layer.compute_dtype).x)
    training = bool(arguments.fixed.get("training"))

    def twin(at: LossFunction, drawn: Data) -> TwinOracle:
        translation = Translation()
        other = translation.build_layer(layer)
        with called_in_model(other, arguments, at.data.x) as model:
            translation.pair(layer, other)
            own = {one: unwrap_variable(v) for one, v in translation.variables.items()}
            return build_twin(model, at, data=drawn, projection=True, training=training, stands_for=own)

    return _check(
        layer, Data(arguments.x), call=lambda x: arguments.call(layer, x), loss=None, twin=twin, settings=settings
    )


def _check(
    owner: Any,
    data: Data,
    *,
    call: Callable[[Any], Any],
    loss: Callable[[Data], Any] | None,
    twin: Callable[[LossFunction, Data], TwinOracle],
    settings: Settings,
    more: Any = (),
) -> Report:
    """Check a loss of data over a layer or model; without one every output meets a random cotangent."""

    def prepare_on(data: Data, dtype: str | None) -> CheckedLoss:
        with restore_variables(owner.variables), running_user_code():
            outputs = call(data.tensors(dtype).x)
        drawn = data if loss is not None else Data(data.x, draw_cotangents(outputs, owner.name, settings.seed))
        trained = [unwrap_variable(v) for v in owner.trainable_variables] if settings.watch_weights else []
        every = [unwrap_variable(v) for v in owner.variables]
        return CheckedLoss(
            name=owner.name,
            data=drawn,
            loss=loss or (lambda given: project_outputs(call(given.x), given.y, extra=owner.losses)),
            trained=trained,
            state=[v for v in every if all(v is not other for other in trained)],
            twin=lambda at: twin(at, drawn),
        )

    keras_objects = (owner, *more)
    with leave_unused_rows_out(keras_objects, data, prepare_on) as (used, on_all_rows):
        return on_all_rows(check(keras_objects, partial(prepare_on, used), settings))
