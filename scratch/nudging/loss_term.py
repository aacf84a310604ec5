"""What each sample adds to the loss at the point, and what a change of it does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from scratch.arrays import Array
from scratch.losses.base import Loss
from scratch.model import Run


@dataclass(frozen=True)
class Term:
    """One loss: of `tensor` against `target`. At the point it is `loss`, and `values` sample by sample.

    `linear`: while masks stay as they are, it is a linear function of `values`, so a change of it is that of a change
    of them. Where that does not hold each nudge's loss has to be taken by itself.
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
    def of(cls, tensor: str, function: Loss, target: Array, share: Any, scale: float, run: Run) -> Term:
        """The term at the point."""
        prediction, mask = run.tensors[tensor], run.masks[tensor]
        loss = function(target, prediction, sample_weight=share, mask=mask)[()]
        values, valid = np.asarray(function.per_sample(target, prediction)), function.valid(target, prediction)
        usual = type(function).__call__ is Loss.__call__ and type(function).reduce is Loss.reduce
        led = values.ndim > 0 and len(values) == len(prediction) == len(target)
        return cls(
            tensor,
            function,
            target,
            share,
            mask,
            scale,
            loss,
            values,
            valid,
            usual and led and not function.couples_batch,
        )

    @property
    def alone(self) -> bool:
        """Whether a sample's part of the loss depends on that sample's prediction only."""
        return self.linear and self.mask is None and self.valid is None

    def change(self, difference: Array) -> Array:
        """What differences of `values` (stack, …) do to the loss, (stack,)."""
        masks = [mask for mask in (self.mask, self.valid) if mask is not None]
        mask = np.logical_and.reduce(masks) if masks else None
        return self.function.reduce(difference, sample_weight=self.share, mask=mask, stacked=True)
