"""A gradient in rows, as Keras's optimizers treat it on TensorFlow: what is not linear acts on each row by itself.

Rows of one index belong to one row of the weight (tf.IndexedSlices); their sum is the gradient. Keras squares, clips and
takes absolute values before it sums (departures.toml, sparse-rows-…). The laws of scratch know dense gradients only: an
array of this class is the sum, and says what Keras would make of it where a law asks for a square.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_ref.evaluation.gradient_modes import is_indexed
from keras_ref.evaluation.loss_function import LossFunction
from scratch.arrays import Array

_LINEAR = (np.multiply, np.true_divide)


class SparseGradient(np.ndarray):
    """The sum of rows, with the rows."""

    rows: Array
    indices: Array

    @classmethod
    def of(cls, rows: Array, indices: Array, shape: tuple[int, ...]) -> SparseGradient:
        """Rows (k, …) at indices (k,) of an array of a shape."""
        array = _summed(rows, indices, shape).view(cls)
        array.rows, array.indices = rows, indices
        return array

    def __array_finalize__(self, source: Any) -> None:
        self.rows, self.indices = getattr(source, "rows", None), getattr(source, "indices", None)  # type: ignore[assignment]

    @property
    def repeated(self) -> bool:
        """Whether an index comes twice: otherwise rows and sum are the same."""
        return len(set(self.indices.tolist())) < len(self.indices)

    def moved(self, change: Array) -> SparseGradient:
        """Rows whose sum is moved by `change`, where there are rows."""
        counts = np.bincount(self.indices, minlength=len(change))[self.indices]
        share = change[self.indices] / counts.reshape(-1, *(1,) * (self.rows.ndim - 1))
        return SparseGradient.of(self.rows + share, self.indices, self.shape)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **keywords: Any) -> Any:
        own = [i for i in inputs if isinstance(i, SparseGradient)]
        others = [i for i in inputs if not isinstance(i, SparseGradient)]
        itself = len(own) == len(inputs) and all(i is own[0] for i in own)
        scalars = all(np.ndim(i) == 0 for i in others)
        if method == "__call__" and (itself or scalars) and own[0] is inputs[0]:
            rows = getattr(ufunc, method)(*(i.rows if isinstance(i, SparseGradient) else i for i in inputs), **keywords)
            if ufunc.__name__ == "clip" or (ufunc in _LINEAR and not itself):
                return SparseGradient.of(rows, self.indices, self.shape)
            if ufunc in (np.square, np.absolute, np.multiply, np.power):
                return _summed(rows, self.indices, self.shape)
        if ufunc is np.multiply and scalars and len(own) == 1:
            return SparseGradient.of(own[0].rows * others[0], self.indices, self.shape)
        return getattr(ufunc, method)(
            *(i.view(np.ndarray) if isinstance(i, SparseGradient) else i for i in inputs), **keywords
        )


def _summed(rows: Array, indices: Array, shape: tuple[int, ...]) -> Array:
    total = np.zeros(shape, rows.dtype)
    np.add.at(total, indices, rows)
    return total


def find_sparse_gradients(probe: LossFunction) -> Mapping[str, SparseGradient]:
    """The gradients that autodiff gives in rows, at the probe's point, by name."""

    def part(name: str) -> Mapping[str, Array | None]:
        def taped(inputs: list[Any], held: list[Any]) -> tuple[list[Any], Any]:
            found, loss = probe.indexed(inputs, held)
            return [getattr(g, name) if is_indexed(g) else None for g in found], loss

        return probe.run_in("eager", taped, probe.values, key=name)[0]

    rows, indices = part("values"), part("indices")
    return {
        n: SparseGradient.of(r, np.asarray(indices[n]).astype(int), probe.values[n].shape)
        for n, r in rows.items()
        if r is not None
    }
