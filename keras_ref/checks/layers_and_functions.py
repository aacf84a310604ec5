"""The public verbs check_layer and check_function: one layer, or any TensorFlow function.

Every float output meets a random cotangent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from inspect import signature
from typing import Any

import keras

from keras_ref.checks.check import check
from keras_ref.checks.checked_loss import CheckedLoss, draw_cotangents, list_untrained, project_outputs
from keras_ref.checks.keras_2 import check_keras_2_layer
from keras_ref.checks.twins import build_twin, called_in_model
from keras_ref.checks.unchecked_training import note_unchecked_training
from keras_ref.checks.used_rows import leave_unused_rows_out
from keras_ref.comparison.sources.oracles import TwinOracle
from keras_ref.comparison.sources.settings import Approximation, Settings
from keras_ref.errors import BadInput, errors_as_bad_input, running_user_code
from keras_ref.evaluation.arguments import Rule, takes
from keras_ref.evaluation.changed_state.guard import leaves_no_trace
from keras_ref.evaluation.changed_state.keras_2 import is_layer
from keras_ref.evaluation.changed_state.restoration import restore_variables
from keras_ref.evaluation.loss_function import Data, LossFunction
from keras_ref.inputs import data as data_module
from keras_ref.inputs.building import build_layer, is_built
from keras_ref.inputs.call_arguments import CallArguments, find_keras_objects
from keras_ref.reports.verdict import Report
from keras_ref.translation.from_keras import NoTwin, find_functional, reflect_object
from scratch.differences import Scheme
from scratch.progress import Progress

#: what a subject is called in that does not run in float64
LOWER = "float32"


@takes()
@leaves_no_trace
def check_layer(
    layer: Any,
    *inputs: Any,
    wrt: Sequence[str] = ("weights", "inputs"),
    effort: str = "auto",
    variables: str = "*",
    modes: Sequence[str] = ("eager",),
    expect: Mapping[str, str | Approximation] | None = None,
    oracles: Sequence[str] = ("forward", "twin"),
    scheme: Scheme | None = None,
    most: int | None = None,
    order: int = 1,
    forward_mode: bool = False,
    digits: bool = False,
    seed: int = 0,
    executor: Any = None,
    progress: Progress | None = None,
    replay: str = "",
    **call_arguments: Any,
) -> Report:
    """Compare autodiff's gradients of one layer with slopes that need no calculus.

    layer            any Keras layer; one that is not built yet is built by a call on the inputs
    inputs           what its `call` takes, in order, nested as it takes them; floats in any precision, integers as they
                     are
    call_arguments   whatever else `call` takes: training=, mask=, initial_state=, …; arrays among them are inputs too

    The other options, and the units of the report, are those of check_gradients. Every float output meets a random
    cotangent, and losses that the layer adds are added. Nothing but the building of an unbuilt layer is changed.
    Raises: BadInput (a ValueError) for what cannot be checked; NoTwin (a LookupError) where only the twin is wanted and
    there is none; MemoryError where memory does not suffice.
    """
    settings = Settings(
        wrt=wrt,
        effort=effort,
        variables=variables,
        modes=modes,
        expect=expect,
        oracles=oracles,
        scheme=scheme,
        most=most,
        order=order,
        forward_mode=forward_mode,
        digits=digits,
        seed=seed,
        progress=progress,
        replay=replay,
    )
    if is_layer(layer):
        arguments = CallArguments.of(layer.call, inputs, call_arguments)
        data_module.require_finite_numbers("inputs", arguments.x)
        report = check_keras_2_layer(layer, arguments, settings=settings)
        return note_unchecked_training(report, layer, training=_is_mode_chosen(layer, call_arguments))
    if not isinstance(layer, keras.layers.Layer):
        raise BadInput(
            f"`layer` must be a Keras layer. Received: {type(layer).__name__}. Pass a layer, or a function to "
            "check_function."
        )
    arguments = CallArguments.of(layer.call, inputs, call_arguments)
    data_module.require_finite_numbers("inputs", arguments.x)
    if not is_built(layer):
        with errors_as_bad_input(), running_user_code():
            build_layer(layer, arguments)
    data_module.require_finite_variables(layer.variables)
    training = bool(call_arguments.get("training"))

    def loss(data: Data, **more: Any) -> Any:
        return project_outputs(arguments.call(layer, data.x, **more), data.y, extra=layer.losses)

    def prepare_on(given: Data, dtype: str | None) -> CheckedLoss:
        with (
            keras.StatelessScope(),
            running_user_code(),
        ):  # a call writes states and seeds, and this one must leave no trace
            outputs = arguments.call(layer, given.tensors(dtype).x)
        data = Data(given.x, draw_cotangents(outputs, layer.name, seed))
        trained = list(layer.trainable_variables) if settings.watch_weights else []

        def twin(loss: LossFunction) -> TwinOracle:
            find_functional(layer) if isinstance(layer, keras.Model) else reflect_object(layer, "layer")
            with called_in_model(layer, arguments, loss.data.x) as model:
                return build_twin(model, loss, data=data, projection=True, training=training, executor=executor)

        has_training = getattr(layer, "_call_has_training_arg", False)
        return CheckedLoss(
            name=layer.name,
            data=data,
            loss=loss,
            trained=trained,
            state=list_untrained(layer, trained),
            twin=twin,
            otherwise=(lambda: lambda data: loss(data, training=not training)) if has_training else None,
            training=training,
            executor=executor,
        )

    with leave_unused_rows_out((layer,), Data(arguments.x), prepare_on) as (used, on_all_rows):
        report = on_all_rows(check((layer,), partial(prepare_on, used), settings))
    return note_unchecked_training(report, layer, training=_is_mode_chosen(layer, call_arguments))


@takes(
    variables=Rule(
        "be a list of variables",
        lambda value: isinstance(value, Sequence) and all(hasattr(one, "assign") for one in value),
        "Pass [variable].",
    )
)
@leaves_no_trace
def check_function(
    function: Callable[..., Any],
    *inputs: Any,
    variables: Sequence[Any] = (),
    wrt: Sequence[str] = ("weights", "inputs"),
    effort: str = "auto",
    only: str = "*",
    modes: Sequence[str] = ("eager",),
    expect: Mapping[str, str | Approximation] | None = None,
    scheme: Scheme | None = None,
    most: int | None = None,
    order: int = 1,
    forward_mode: bool = False,
    digits: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
    replay: str = "",
    **call_arguments: Any,
) -> Report:
    """Compare autodiff's gradients of a TensorFlow function with slopes that need no calculus.

    function         of tensors, tf.custom_gradient included; its outputs may be nested
    inputs           its arguments, in order, nested as it takes them; float64 reaches it, integers as they are
    variables        tf.Variables or Keras variables that it reads: checked too
    only             a glob over inputs and variables
    call_arguments   keywords of the function; arrays among them are inputs too

    The other options, and the units of the report, are those of check_gradients. Every float output meets a random
    cotangent. Where the function casts to a lower precision the report says so. Nothing is changed.
    Raises: BadInput (a ValueError) for what cannot be checked; MemoryError where memory does not suffice.
    """
    settings = Settings(
        wrt=wrt,
        effort=effort,
        variables=only,
        modes=modes,
        expect=expect,
        oracles=("forward",),
        scheme=scheme,
        most=most,
        order=order,
        forward_mode=forward_mode,
        digits=digits,
        seed=seed,
        progress=progress,
        replay=replay,
    )
    if not callable(function):
        raise BadInput(f"`function` must be callable. Received: {type(function).__name__}. Pass a function of tensors.")
    arguments = CallArguments.of(function, inputs, call_arguments, may_lack_data=bool(variables))
    data_module.require_finite_numbers("inputs", arguments.x)
    data_module.require_finite_variables(variables)
    name = getattr(function, "__name__", type(function).__name__)
    found = find_keras_objects(function)
    touched, own = arguments.find_touched(function, found)
    lower = own or (LOWER if arguments.has_float64 else None)
    keras_objects = [*variables, *found, *touched]

    def prepare_on(given: Data, dtype: str | None) -> CheckedLoss:
        x = given.tensors(lower if dtype == LOWER else dtype or own).x
        with restore_variables(keras_objects), running_user_code():
            outputs = arguments.call(function, x)
        return CheckedLoss(
            name=name,
            data=Data(x, draw_cotangents(outputs, name, seed)),
            loss=lambda data: project_outputs(arguments.call(function, data.x), data.y),
            trained=list(variables) if settings.watch_weights else [],
            state=[],
            twin=_refuse_twin,
            own_dtype=lower,
        )

    with leave_unused_rows_out(keras_objects, Data(arguments.x), prepare_on) as (used, on_all_rows):
        return on_all_rows(check(keras_objects, partial(prepare_on, used), settings))


def _is_mode_chosen(layer: Any, call_arguments: Mapping[str, Any]) -> bool:
    """Whether a call says `training` itself, or its layer is in training where nothing is said."""
    asked = signature(layer.call).parameters.get("training")
    return "training" in call_arguments or (asked is not None and asked.default is True)


def _refuse_twin(_: LossFunction) -> TwinOracle:
    """Raises: NoTwin: a function is its own only definition."""
    raise NoTwin("A function has no definition in scratch.")
