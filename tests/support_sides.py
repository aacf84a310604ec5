"""Both sides of a comparison without a verdict, ready for `compare_entries`: for studies of many points, and tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from support_built import computing_in, objects_in_float64

from keras_ref.checks.checked_loss import make_model_loss
from keras_ref.checks.twins import build_twin
from keras_ref.comparison.sources.autodiff import Autodiff, run_autodiff
from keras_ref.comparison.sources.oracles import TwinOracle
from keras_ref.evaluation.changed_state.float64 import in_float64
from keras_ref.evaluation.changed_state.restoration import apart
from keras_ref.evaluation.keras_objects.keras_parts import list_states
from keras_ref.evaluation.loss_function import Data, LossFunction
from keras_ref.translation.to_keras import mirror, mirror_loss
from keras_ref.translation.weights import map_variables
from scratch.arrays import Array
from scratch.gradient import Nudges
from scratch.losses.base import Loss
from scratch.model import Model
from scratch.objective import Objective

_TRACED: dict[Any, tuple[Any, LossFunction, list[str]]] = {}
#: a scope that nobody holds ends
_SCOPES: list[Any] = []


def _traced(model: Model, loss: Loss, shapes: tuple[tuple[int, ...], ...]) -> tuple[Any, LossFunction, list[str]]:
    """A Keras model and its probe for an architecture, built once: weights and data are moved to each point."""
    key = (repr(model), loss, shapes)
    if key in _TRACED:
        return _TRACED[key]
    built = mirror(model)
    built.compile(optimizer=None, loss=mirror_loss(loss), run_eagerly=True)
    scope = objects_in_float64(built)
    with computing_in(keras.config.floatx()):
        with apart():
            scope.__enter__()  # for good: this model is nobody else's
        names = map_variables(built, model)
        found = make_model_loss(built, Data(*(np.zeros(shape) for shape in shapes)))
        state = [v for v in built.variables if all(v is not names[n] for n in model.trainable)]
        probe = LossFunction(
            found.loss,
            variables=[names[n] for n in model.trainable],
            state=state,
            data=found.data,
            watch_inputs=False,
        )
        probe.gradient("function")  # traced here, while Keras is set to float64
    _SCOPES.append(scope)
    return _TRACED.setdefault(key, (built, probe, list(model.trainable)))


def numeric_sides(
    model: Model, weights: Mapping[str, Array], x: Array, y: Array, loss: Loss
) -> tuple[TwinOracle, Autodiff]:
    """Both sides of one comparison, ready for `compare_entries`: the twin as oracle, and Keras's autodiff (as a graph).

    For many points of few architectures: the Keras model of each is built and traced once.
    """
    built, probe, names = _traced(model, loss, (x.shape, y.shape))
    built.set_weights([weights[n] for n in names])
    probe.refresh(Data(x, y))
    paths = dict(zip(probe.variables, names, strict=True))

    def make(values: Mapping[str, Array]) -> Nudges:
        return Nudges(Objective.of(model, loss), {paths[p]: v for p, v in values.items()}, x, y)

    return TwinOracle.at(make, names=paths, values=probe.values), run_autodiff(probe, probe.values, mode="function")


@contextmanager
def twin_sides(
    model: Model, weights: Mapping[str, Array], x: Any, y: Any = None, loss: Loss | None = None, *, seed: int = 0
) -> Iterator[tuple[TwinOracle, Autodiff]]:
    """Both sides for one model, weights and inputs: the twin as oracle, Keras's autodiff; good inside the `with` block.

    Without a loss, under random cotangents; with one, on targets `y`.
    """
    built = mirror(model, weights)
    x = x if len(model.inputs) > 1 else x[0]
    given = None if loss is None else mirror_loss(loss)
    with in_float64(built, *([] if given is None else [given])):
        found = make_model_loss(built, Data(x, y), loss=given, seed=seed)
        trained = list(built.trainable_variables)
        state = [v for v in [*built.variables, *list_states(built)] if all(v is not other for other in trained)]
        probe = LossFunction(found.loss, variables=trained, state=state, data=found.data)
        oracle = build_twin(built, probe, data=found.data, projection=found.is_projection, training=False)
        yield oracle, run_autodiff(probe, probe.values)
