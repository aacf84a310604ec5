"""A sparse gradient (tf.IndexedSlices) with Keras's semantics: what is not linear acts on each slice before the sum.

Slices of one index belong to one row of the weight; their sum is the gradient. Keras's optimizers square, clip and take
absolute values of slices before they are summed (departures sparse-rows-…). The laws of scratch know dense gradients
only: an array of this class is the sum, and gives what Keras computes where a law asks for a square.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_ref.evaluation.graphs.gradient_modes import is_indexed
from keras_ref.evaluation.loss_function import LossFunction
from scratch.arrays import Array

_LINEAR = (np.multiply, np.true_divide)


class SparseGradient(np.ndarray):
    """A dense gradient, the sum of slices, that keeps the slices (k, …) and their indices (k,)."""

    slices: Array
    indices: Array

    @classmethod
    def of(cls, slices: Array, indices: Array, shape: tuple[int, ...]) -> SparseGradient:
        """From slices (k, …) at indices (k,) along the first axis of an array of a shape."""
        array = _sum_slices(slices, indices, shape).view(cls)
        array.slices, array.indices = slices, indices
        return array

    def __array_finalize__(self, source: Any) -> None:
        if isinstance(source, SparseGradient):
            self.slices, self.indices = source.slices, source.indices

    @property
    def repeated(self) -> bool:
        """Whether an index comes twice: otherwise slices and sum are the same."""
        return len(set(self.indices.tolist())) < len(self.indices)

    def moved(self, change: Array) -> SparseGradient:
        """A sparse gradient whose sum is moved by a dense `change`, where it has slices."""
        counts = np.bincount(self.indices, minlength=len(change))[self.indices]
        share = change[self.indices] / counts.reshape(-1, *(1,) * (self.slices.ndim - 1))
        return SparseGradient.of(self.slices + share, self.indices, self.shape)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **keywords: Any) -> Any:
        own = [i for i in inputs if isinstance(i, SparseGradient)]
        others = [i for i in inputs if not isinstance(i, SparseGradient)]
        itself = len(own) == len(inputs) and all(i is own[0] for i in own)
        scalars = all(np.ndim(i) == 0 for i in others)
        if method == "__call__" and (itself or scalars) and own[0] is inputs[0]:
            slices = getattr(ufunc, method)(
                *(i.slices if isinstance(i, SparseGradient) else i for i in inputs), **keywords
            )
            if ufunc.__name__ == "clip" or (ufunc in _LINEAR and not itself):
                return SparseGradient.of(slices, self.indices, self.shape)
            if ufunc in (np.square, np.absolute, np.multiply, np.power):
                return _sum_slices(slices, self.indices, self.shape)
        if ufunc is np.multiply and scalars and len(own) == 1:
            return SparseGradient.of(own[0].slices * others[0], self.indices, self.shape)
        return getattr(ufunc, method)(
            *(i.view(np.ndarray) if isinstance(i, SparseGradient) else i for i in inputs), **keywords
        )


def _sum_slices(slices: Array, indices: Array, shape: tuple[int, ...]) -> Array:
    total = np.zeros(shape, slices.dtype)
    np.add.at(total, indices, slices)
    return total


def find_sparse_gradients(function: LossFunction) -> Mapping[str, SparseGradient]:
    """The gradients that autodiff gives as tf.IndexedSlices at the point of a loss function, by name."""

    def take(attribute: str) -> Mapping[str, Array | None]:
        def taped(inputs: list[Any], held: list[Any]) -> tuple[list[Any], Any]:
            found, loss = function.indexed(inputs, held)
            return [getattr(g, attribute) if is_indexed(g) else None for g in found], loss

        return function.run_in("eager", taped, function.values, key=attribute)[0]

    slices, indices = take("values"), take("indices")
    return {
        name: SparseGradient.of(own, np.asarray(indices[name]).astype(int), function.values[name].shape)
        for name, own in slices.items()
        if own is not None
    }
