"""One loss of an objective at the point that is nudged: its value, and how it moves with the values of the samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from scratch.arrays import Array
from scratch.losses.base import Loss
from scratch.model import Run


@dataclass(frozen=True, kw_only=True)
class LossTerm:
    """One loss of the objective, `scale` times `function`, of the output `tensor` against `target`.

    At the point its value is `loss`, and `values` are the values per sample. `linear` says that, while the masks stay
    as they are, the loss is a linear function of `values`; where it is not, the loss is computed for each nudge.
    """

    tensor: str
    function: Loss
    target: Array
    share: Any
    mask: Array | None
    scale: float
    loss: Any
    values: Array
    valid: Array | None
    linear: bool

    @classmethod
    def of(cls, run: Run, *, tensor: str, function: Loss, target: Array, share: Any, scale: float) -> LossTerm:
        """The term at the point of a forward pass; `share` are the sample weights."""
        prediction, mask = run.tensors[tensor], run.masks[tensor]
        values = np.asarray(function.per_sample(target, prediction))
        default = type(function).__call__ is Loss.__call__ and type(function).reduce is Loss.reduce
        led_by_batch = values.ndim > 0 and len(values) == len(prediction) == len(target)
        return cls(
            tensor=tensor,
            function=function,
            target=target,
            share=share,
            mask=mask,
            scale=scale,
            loss=function(target, prediction, sample_weight=share, mask=mask)[()],
            values=values,
            valid=function.valid(target, prediction),
            linear=default and led_by_batch and not function.couples_batch,
        )

    @property
    def is_per_sample(self) -> bool:
        """Whether what a sample adds to the loss depends on the prediction for that sample only."""
        return self.linear and self.mask is None and self.valid is None

    def change(self, differences: Array) -> Array:
        """The change of the loss, (stack,), for differences of `values`, (stack, *values.shape)."""
        masks = [mask for mask in (self.mask, self.valid) if mask is not None]
        mask = np.logical_and.reduce(masks) if masks else None
        return self.function.reduce(differences, sample_weight=self.share, mask=mask, stacked=True)
