"""Unused rows of embeddings where the training steps are those of a model's own train_step, or of Keras 2.

What the step hands to its optimizers must not depend on them: that is observed while no optimizer acts. What these make
of it, their laws say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ref.checks.used_rows import OWN, Observed, leave_rows_out
from keras_ref.comparison.steps.train_step_losses import find_applying_method, running_functions_eagerly
from keras_ref.errors import BadInput, UserCodeFailed, running_user_code
from keras_ref.evaluation.backward_errors import running_backward_pass
from keras_ref.evaluation.changed_state import keras_2
from keras_ref.evaluation.changed_state.float64 import in_precision
from keras_ref.evaluation.changed_state.restoration import Restoration, has_same_bits
from keras_ref.evaluation.keras_objects.keras_parts import unwrap_variable
from keras_ref.evaluation.loss_function import Data
from keras_ref.reports.verdict import Report
from keras_ref.translation.from_keras import NoTwin, reflect_object
from keras_ref.translation.from_keras_2 import as_keras_3
from scratch.optimizers.base import Optimizer


def leave_unused_rows_of_steps_out(
    keras_objects: Sequence[Any], data: Data, *, optimizers: Sequence[Any], seed: int
) -> AbstractContextManager[tuple[Data, Callable[[Report], Report]]]:
    """`leave_rows_out` of a model's training steps; all rows stay where an optimizer follows no law that is known.

    keras_objects   the model, and what else belongs to its steps
    """
    laws = _list_laws(optimizers)
    if not laws:
        return nullcontext((data, lambda report: report))
    observe = partial(_record_handed, keras_objects, optimizers)
    return leave_rows_out((*keras_objects, *optimizers), data, observe, laws=laws, seed=seed)


def _list_laws(optimizers: Sequence[Any]) -> list[Optimizer]:
    """The laws of optimizers; none where one has no law that is known, or one of Keras 2 has a state already."""
    try:
        return [_find_law(one) for one in optimizers]
    except NoTwin:
        return []


def _find_law(optimizer: Any) -> Optimizer:
    """The law of an optimizer. Raises: NoTwin."""
    if keras_2.is_optimizer(optimizer) and any(
        variable.shape.rank for variable in keras_2.unwrap_optimizer(optimizer).variables
    ):
        raise NoTwin(
            "An optimizer of Keras 2 must not have a state yet for rows to be left out. Received: one that has."
        )
    law: Optimizer = reflect_object(
        as_keras_3(optimizer) if keras_2.is_optimizer(optimizer) else optimizer, "optimizer"
    )
    return law


def _record_handed(keras_objects: Sequence[Any], optimizers: Sequence[Any], data: Data) -> list[Observed] | None:
    """The gradients that a training step hands to its optimizers, none of which acts, and the numbers that it returns.

    None where the step raises, or moves a trained variable by itself.
    """
    model, found = keras_objects[0], list[Observed]()
    given = data.tensors(OWN)
    try:
        with (
            in_precision(None, *optimizers, *keras_objects),
            running_functions_eagerly(),
            Restoration() as restoration,
            running_user_code(),
            running_backward_pass(),
        ):
            for optimizer in optimizers:
                takes = _take_pairs if keras_2.is_optimizer(optimizer) else _take
                restoration.set_attribute(optimizer, find_applying_method(optimizer), partial(takes, found, optimizer))
            model.reset_metrics()
            before = [_value(one) for one in model.trainable_variables]
            logs = model.train_step(keras.utils.pack_x_y_sample_weight(given.x, given.y, given.sample_weight))
            after = [_value(one) for one in model.trainable_variables]
    except (UserCodeFailed, BadInput):  # the check itself says so, or the matrix has another use
        return None
    if not all(map(has_same_bits, before, after)):
        return None
    numbers = [one for one in tf.nest.flatten(logs) if tf.is_tensor(one) or isinstance(one, (float, np.ndarray))]
    return [*found, *(Observed(tf.convert_to_tensor(one)) for one in numbers)]


def _value(variable: Any) -> Any:
    return unwrap_variable(keras_2.unwrap_variable(variable)).value()


def _take(found: list[Observed], optimizer: Any, grads: Any, variables: Any = None) -> None:
    known = optimizer._trainable_variables if variables is None else variables  # noqa: SLF001 (as Keras)
    found += [Observed(g, keras_2.unwrap_variable(v)) for g, v in zip(grads, known, strict=True)]


def _take_pairs(found: list[Observed], optimizer: Any, pairs: Any, *_: Any, **__: Any) -> None:
    """The same of an optimizer of Keras 2, which is given (gradient, variable)."""
    grads, variables = zip(*pairs, strict=True)
    _take(found, optimizer, grads, variables)
