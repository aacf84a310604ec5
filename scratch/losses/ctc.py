"""Connectionist temporal classification: the probability of a sequence of labels, over all their timings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scratch.activations.normalizing import log_softmax
from scratch.arrays import Array
from scratch.fields import Domain, Real, Shape, Size
from scratch.losses.base import Loss, log_sum_exp
from scratch.losses.probabilistic import of_label
from scratch.registry import loss


def later(x: Array, steps: int) -> Array:
    """x (batch, states) shifted to later states by `steps`, filled with -∞."""
    return np.concatenate([np.full_like(x[:, :steps], -np.inf), x[:, : x.shape[1] - steps]], axis=1)


@dataclass(frozen=True)
class Labels(Domain):
    """Classes from 1 up to but not including `below`, then zeros: 0 is the blank, and pads labels at the end."""

    below: int

    def sample(self, shape: tuple[int, ...], generator: np.random.Generator) -> Array:
        """Random rows of labels of different lengths."""
        length = generator.integers(0, shape[-1] + 1, size=(*shape[:-1], 1))
        return np.where(np.arange(shape[-1]) < length, generator.integers(1, self.below, size=shape), 0)


@loss
class CTC(Loss):
    """-log of the total probability of all paths (a class per frame, p = softmax of the logits) that give the labels
    when repetitions are merged and blanks, class 0, removed. The states of a path are blank, label 1, blank, label 2,
    …, blank; from frame to frame the state stays, advances by one, or skips a blank between two different labels.

    Shapes  y_true (batch, labels), padded with 0 at the end   y_pred (batch, frames, classes)   →   (batch,)
    Keras   CTC, in which all frames count
    Source  Graves et al. 2006, equations 6 to 8
    """

    def per_sample(self, y_true: Array, y_pred: Array) -> Array:
        label = np.asarray(y_true).astype(int)
        length = (label != 0).sum(axis=1)
        batch, width = label.shape
        states = np.zeros((batch, 2 * width + 1), int)
        states[:, 1::2] = label
        skips = np.zeros(states.shape, bool)
        skips[:, 3::2] = label[:, 1:] != label[:, :-1]
        log_p = log_softmax(y_pred)
        reach = np.full(states.shape, -np.inf, y_pred.dtype)
        reach[:, :2] = self._emitted(log_p, 0, states)[:, :2]
        for frame in range(1, y_pred.shape[1]):
            ways = np.stack([reach, later(reach, 1), np.where(skips, later(reach, 2), -np.inf)])
            reach = log_sum_exp(ways, axis=0) + self._emitted(log_p, frame, states)
        ends = of_label(reach, 2 * length)
        before = of_label(reach, np.maximum(2 * length - 1, 0))
        return -np.where(length > 0, log_sum_exp(np.stack([ends, before]), axis=0), ends)

    @staticmethod
    def _emitted(log_p: Array, frame: int, states: Array) -> Array:
        """log p of the class of each state in a frame, (batch, states)."""
        return np.take_along_axis(log_p[:, frame], states, axis=1)

    def shapes(self, size: Size) -> tuple[Shape, Shape]:
        batch, width = size(1, 3), size(1, 3)
        return (batch, width), (batch, 2 * width + 1 + size(0, 2), size(3, 5))

    def domains(self) -> tuple[Domain, Domain]:
        return Labels(3), Real()
