"""What Keras computes in the place of losses. Entries: losses.toml."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np

from keras_ref.translation.departures.laws.registry import altered, instead, instead_in_model, rounded
from scratch.arrays import Array
from scratch.layers.activations import Softmax
from scratch.layers.core import Activation
from scratch.losses.base import Loss, aligned
from scratch.losses.focal import BinaryFocalCrossentropy, CategoricalFocalCrossentropy
from scratch.losses.probabilistic import BinaryCrossentropy, CategoricalCrossentropy, SparseCategoricalCrossentropy
from scratch.losses.segmentation import Tversky
from scratch.objective import Objective, find_tagged_activation


@instead
def tversky_swaps_alpha_and_beta(loss: Tversky) -> Tversky:
    return replace(loss, alpha=loss.beta, beta=loss.alpha)


class SmoothedByTheLastAxis(Loss):
    """Label smoothing by the number of entries along the last axis."""

    def per_sample(self, y_true: Array, y_pred: Array) -> Array:
        own: Any = self
        if not own.label_smoothing:
            return super().per_sample(y_true, y_pred)
        t, p = aligned(y_true, y_pred)
        t = t * (1 - own.label_smoothing) + own.label_smoothing / p.shape[-1]
        unsmoothed: Loss = replace(own, label_smoothing=0.0)
        return unsmoothed.per_sample(t, p)


@instead
def smoothing_counts_the_last_axis(loss: Any) -> Any:
    return altered(loss, SmoothedByTheLastAxis)


class AlphasAlongTheLastAxis(Loss):
    """Alphas that go with the entries of the last axis, and a sum along the axis of the classes."""

    def per_sample(self, y_true: Array, y_pred: Array) -> Array:
        own: Any = self
        if not isinstance(own.alpha, tuple):
            return super().per_sample(y_true, y_pred)
        # linear in the smoothed target: that times alpha is a target for the law with alpha 1
        t, p = aligned(y_true, y_pred)
        t = t * (1 - own.label_smoothing) + own.label_smoothing / p.shape[own.axis]
        alike: Loss = replace(own, alpha=1.0, label_smoothing=0.0)
        return alike.per_sample(t * np.asarray(own.alpha), p)


@instead
def focal_alphas_lie_on_the_last_axis(loss: CategoricalFocalCrossentropy) -> Any:
    return altered(loss, AlphasAlongTheLastAxis)


@instead
def focal_alphas_are_float32(loss: CategoricalFocalCrossentropy) -> CategoricalFocalCrossentropy:
    return replace(loss, alpha=rounded(loss.alpha))


class UndividedSingleValue(Loss):
    """mean_with_sample_weight that does not divide where the weighted values have no axis."""

    def reduce(
        self,
        values: Array,
        *,
        sample_weight: Array | None = None,
        mask: Array | None = None,
        stacked: bool = False,
    ) -> Array:
        weights = () if sample_weight is None else np.shape(sample_weight)
        single = np.ndim(values) == stacked and weights in ((), (1,)) and mask is None
        law: Any = replace(self, reduction="sum") if single and self.reduction == "mean_with_sample_weight" else super()
        reduced: Array = law.reduce(values, sample_weight=sample_weight, mask=mask, stacked=stacked)
        return reduced


@instead
def weighted_mean_of_one_value_does_not_divide(loss: Any) -> Any:
    return altered(loss, UndividedSingleValue)


TAKE_LOGITS = (
    BinaryCrossentropy,
    BinaryFocalCrossentropy,
    CategoricalCrossentropy,
    SparseCategoricalCrossentropy,
)


@instead_in_model
def logits_of_another_activation(objective: Objective) -> Objective:
    """Losses of logits, on what goes into the activation that ends the model, whichever of the two that is."""
    layers, losses = dict(objective.model.layers), list(objective.losses)
    for i, (output, loss) in enumerate(zip(objective.model.outputs, losses, strict=True)):
        name = next((call.layer for call in objective.model.calls if output in call.outputs), None)
        if name is None or not isinstance(loss, TAKE_LOGITS) or loss.from_logits:
            continue
        last = layers[name]
        if isinstance(last, Softmax):
            layers[name] = Activation("linear")
        elif find_tagged_activation(last) is not None:
            layers[name] = cast("Any", replace)(last, activation="linear")
        else:
            continue
        losses[i] = replace(loss, from_logits=True)
    return replace(objective, model=replace(objective.model, layers=layers), losses=tuple(losses))
