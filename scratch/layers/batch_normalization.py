"""Batch normalization and renormalization: moments of the batch in training, moving moments in inference."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np

from scratch.arrays import EPSILON, Array
from scratch.fields import Between, Domain, HashableDict, Positive, Shape, Size, is_real
from scratch.layers.base import Layer, Response, Weights, shift_response
from scratch.layers.normalization import (
    Axis,
    Epsilon,
    centred,
    channel_response,
    shape_with,
    spread,
)
from scratch.registry import layer

Momentum = Annotated[float, Between(0.0, 1.0)]


@dataclass(frozen=True)
class Clipping(Domain):
    """Bounds of batch renormalization: some of rmin, rmax, dmax, none negative, rmin ≤ rmax."""

    examples: ClassVar[tuple[Any, ...]] = ({}, {"rmax": 1.25}, {"rmin": 0.5, "rmax": 2.0, "dmax": 0.25})

    @property
    def rule(self) -> str:
        return "must map some of 'rmin', 'rmax', 'dmax' to numbers from 0 on, rmin not above rmax"

    def holds(self, value: Any) -> bool:
        if not isinstance(value, Mapping) or not set(value) <= {"rmin", "rmax", "dmax"}:
            return False
        numbers = [v for v in value.values() if v is not None]
        if not all(is_real(v) and v >= 0 for v in numbers):
            return False
        rmin, rmax = value.get("rmin"), value.get("rmax")
        return rmin is None or rmax is None or rmin <= rmax

    def normalise(self, value: Any) -> Any:
        return HashableDict((name, v) for name, v in value.items() if v is not None)


@layer
class BatchNormalization(Layer):
    """y = (x - mean) / √(variance + ε) · gamma + beta: in training with the moments of the batch over all axes but
    `axis` (of the entries that `mask` keeps), else with the moving moments, which a training step updates:
    moving ← momentum · moving + (1 - momentum) · batch.

    `renorm`: in training y = ((x - mean) / s · r + d) · gamma + beta with s = √(variance + ε), r = s / renorm_stddev,
    d = (mean - renorm_mean) / renorm_stddev, which counts as √ε at least; r and d are clipped, and constant under
    differentiation (`stopped`). There moving_stddev follows s, and moving_variance is max(moving_stddev² - ε, 0).
    Shapes  x (batch, …)   all weights (channels,)   →   y as x
    Keras   BatchNormalization; where not trainable it is in inference; under a mask the count is count + 1e-7; all
            variances are biased; `synchronized` changes nothing on one device
    Source  Ioffe & Szegedy 2015, algorithms 1 and 2; Ioffe 2017, algorithm 1
    """

    axis: Axis = -1
    momentum: Momentum = 0.99
    epsilon: Epsilon = 1e-3
    center: bool = True
    scale: bool = True
    renorm: bool = False
    renorm_clipping: Annotated[dict[str, Any], Clipping()] | None = None
    renorm_momentum: Momentum = 0.99
    synchronized: bool = False
    trainable: bool = True

    _MOVING: ClassVar[tuple[str, ...]] = ("moving_mean", "moving_variance")
    _RENORM: ClassVar[tuple[str, ...]] = ("moving_stddev", "renorm_mean", "renorm_stddev")

    def weight_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        trained = [name for name, used in (("gamma", self.scale), ("beta", self.center)) if used]
        names = (*trained, *self._MOVING, *(self._RENORM if self.renorm else ()))
        return dict.fromkeys(names, (inputs[0][self.axis],))

    @property
    def state(self) -> tuple[str, ...]:
        names = self._MOVING + (self._RENORM if self.renorm else ())
        return names if self.trainable else ("gamma",) * self.scale + ("beta",) * self.center + names

    def couples_batch(self, *, training: bool) -> bool:
        return training and self.trainable

    def moments(self, x: Array, mask: Array | None) -> tuple[Array, Array]:
        """Mean and biased variance of the batch, one number for each channel, with the other axes of size 1.

        mask   (batch, …), one axis less than x (ValueError for another shape); None where every entry counts
        """
        axes = tuple(a for a in range(x.ndim) if a != self.axis % x.ndim)
        if mask is None:
            return x.mean(axis=axes, keepdims=True), centred(x, axes)[1]
        if mask.ndim != x.ndim - 1:
            raise ValueError(
                f"The mask of a BatchNormalization must have one axis less than its input. Received: mask of shape "
                f"{mask.shape}, input of shape {x.shape}. Reshape the mask."
            )
        keep = np.broadcast_to(mask[..., None].astype(bool), x.shape)
        count = keep.sum(axis=axes, keepdims=True).astype(x.real.dtype) + EPSILON
        mean = np.where(keep, x, 0.0).astype(x.dtype).sum(axis=axes, keepdims=True) / count
        difference = np.where(keep, x - mean, 0.0).astype(x.dtype)
        return mean, (difference * difference).sum(axis=axes, keepdims=True) / count

    def stopped(self, weights: Weights, *inputs: Array, **call: Any) -> dict[str, Array]:
        """r and d, computed from real parts, so that a complex step does not change them."""
        if not (self.renorm and call.get("training") and self.trainable):
            return {}
        x = inputs[0].real
        mean, variance = self.moments(x, call.get("mask"))
        old = spread(weights["renorm_stddev"].real, self.axis, x.ndim)
        old = np.maximum(old, math.sqrt(self.epsilon))
        bounds = {"rmin": 0.0, "rmax": math.inf, "dmax": math.inf} | (self.renorm_clipping or {})
        r = np.sqrt(variance + self.epsilon) / old
        d = (mean - spread(weights["renorm_mean"].real, self.axis, x.ndim)) / old
        return {"r": np.clip(r, bounds["rmin"], bounds["rmax"]), "d": np.clip(d, -bounds["dmax"], bounds["dmax"])}

    def forward(
        self,
        weights: Weights,
        *inputs: Array,
        training: bool = False,
        mask: Array | None = None,
        stopped: Mapping[str, Array] | None = None,
    ) -> Array:
        (x,) = inputs
        along = {name: spread(weight, self.axis, x.ndim) for name, weight in weights.items()}
        batch = training and self.trainable
        mean, variance = self.moments(x, mask) if batch else (along["moving_mean"], along["moving_variance"])
        y = (x - mean) / np.sqrt(variance + self.epsilon)
        if batch and self.renorm:
            fixed = stopped or self.stopped(weights, x, training=training, mask=mask)
            y = y * fixed["r"] + fixed["d"]
        y = y * along["gamma"] if self.scale else y
        return y + along["beta"] if self.center else y

    def updates(self, weights: Weights, *inputs: Array, **call: Any) -> dict[str, Array]:
        (x,) = inputs
        if not (call.get("training", True) and self.trainable):
            return {}
        mean, variance = (m.reshape(-1) for m in self.moments(x, call.get("mask")))

        def moved(name: str, value: Array, momentum: float) -> Array:
            return weights[name] * momentum + value * (1.0 - momentum)

        new = {"moving_mean": moved("moving_mean", mean, self.momentum)}
        if not self.renorm:
            return new | {"moving_variance": moved("moving_variance", variance, self.momentum)}
        stddev = np.sqrt(variance + self.epsilon)
        moving = moved("moving_stddev", stddev, self.momentum)
        square = moving * moving - self.epsilon
        return new | {
            "moving_variance": np.where(square.real > 0, square, 0.0).astype(square.dtype),
            "moving_stddev": moving,
            "renorm_mean": moved("renorm_mean", mean, self.renorm_momentum),
            "renorm_stddev": moved("renorm_stddev", stddev, self.renorm_momentum),
        }

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        return (shape_with(self.axis, size),)

    def weight_domains(self) -> Mapping[str, Domain]:
        return dict.fromkeys(("moving_variance", "moving_stddev", "renorm_stddev"), Positive())

    def responses(self, weights: Weights, name: str, *inputs: Array) -> Response | None:
        # Used only for calls in inference and without a mask.
        (x,) = inputs
        if self.axis % x.ndim != x.ndim - 1 or name not in ("gamma", "beta"):
            return None
        if name == "beta":
            return shift_response(x.shape)
        return channel_response((x - weights["moving_mean"]) / np.sqrt(weights["moving_variance"] + self.epsilon))
