"""Diagnoses that need nothing but the right gradients: signs, scales, axes, places."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from keras_ref.comparison.diagnoses.table import Gradients, Proposal, diagnosis
from scratch.arrays import Array

#: a factor from this size on is no count of anything
LARGEST = 4096
#: digits of a factor that are shown, where so many are certain
SHOWN = 9


def change_each(found: Gradients, change: Callable[[Array], Array]) -> dict[str, Array]:
    """Every right gradient, changed in the same way."""
    return {name: change(value) for name, value in found.right.items()}


@diagnosis
def no_gradient(found: Gradients) -> Iterator[Proposal]:
    """0: nothing flows back to the variable."""
    yield "it is 0: no gradient flows back to the variable", change_each(found, np.zeros_like)


@diagnosis
def negated(found: Gradients) -> Iterator[Proposal]:
    """-g: the difference of prediction and target the other way round, say."""
    yield "it is the right gradient, negated", change_each(found, np.negative)


@diagnosis
def scaled(found: Gradients) -> Iterator[Proposal]:
    """c · g, where c has a name: the size of the batch, the number of outputs, the 2 of a square."""
    for factor, words in factors(found):
        yield f"it is the right gradient × {words}", change_each(found, lambda g, c=factor: c * g)  # type: ignore[misc]


def factors(found: Gradients) -> Iterator[tuple[float, str]]:
    """Factors by which people's gradients are off, with their names."""
    n, k = found.samples, found.outputs
    if n > 1:
        yield n, f"{n}, the batch size: it is summed where a mean is due"
        yield 1 / n, f"1/{n}, one over the batch size: a mean is taken twice, or where a sum is due"
    if k > 1:
        yield k, f"{k}, the number of outputs"
        yield 1 / k, f"1/{k}, one over the number of outputs"
    if n > 1 and k > 1:
        yield n * k, f"{n * k}, the number of all outputs of the batch"
        yield 1 / (n * k), f"1/{n * k}, one over the number of all outputs of the batch"
    yield 0.5, "1/2: the 2 of a square is missing"
    yield 2.0, "2: the 2 of a square is there twice, or the gradient is added twice"
    for factor in (-2.0, -0.5, *((-n, -1 / n) if n > 1 else ())):
        yield factor, f"{factor:g}: negated, and of another size"


@diagnosis
def loss_scale(found: Gradients) -> Iterator[Proposal]:
    """2^k · g with k from 5 to 24: the scale of mixed precision is not divided out."""
    for power in range(5, 25):
        yield (
            f"it is the right gradient × {2**power} = 2^{power}: scaled by the loss scale",
            change_each(found, lambda g, c=2.0**power: c * g),  # type: ignore[misc]
        )


@diagnosis
def whole_factor(found: Gradients) -> Iterator[Proposal]:
    """k · g or g / k for a whole number k that has no name: none of the sizes, and no scale of a loss."""
    for name, right in found.right.items():
        largest = float(np.abs(right).max(initial=0)) or 1.0  # squares of what is huge or tiny would not be numbers
        unit, wrong = right / largest, found.wrong.get(name, right) / largest
        ratio = float(np.vdot(wrong, unit)) / (float(np.vdot(unit, unit)) or 1.0)
        inverse = 1 / LARGEST < abs(ratio) < 1
        if not (inverse or 1 <= abs(ratio) < LARGEST):
            return
        k = round(1 / ratio) if inverse else round(ratio)
        if abs(k) > 2:
            words = f"1/{k}" if inverse else f"{k}"
            yield f"it is the right gradient × {words}", change_each(found, lambda g, c=1 / k if inverse else k: c * g)  # type: ignore[misc]
        return


@diagnosis
def transposed(found: Gradients) -> Iterator[Proposal]:
    """gᵀ of a matrix."""
    yield "it is the right gradient, transposed", change_each(found, np.transpose)
    yield "it is the right gradient, transposed and negated", change_each(found, lambda g: -g.T)


@diagnosis
def the_weight_itself(found: Gradients) -> Iterator[Proposal]:
    """W stands where dW should."""
    yield (
        "the weight stands where its gradient should",
        {n: found.weights[n] for n in found.right if n in found.weights},
    )


@diagnosis
def of_another_variable(found: Gradients) -> Iterator[Proposal]:
    """The gradient of another variable of the same shape."""
    for other, value in found.right.items():
        values = {n: value for n, own in found.right.items() if n != other and own.shape == value.shape}
        if values:
            yield f"it is the gradient of `{other}`", values


@diagnosis
def absolute_value(found: Gradients) -> Iterator[Proposal]:
    """|g|, or only its sign."""
    yield "it is the right gradient without its signs", change_each(found, np.abs)
    yield "it is only the sign of the right gradient", change_each(found, np.sign)


@diagnosis
def shifted(found: Gradients) -> Iterator[Proposal]:
    """g with an axis reversed or shifted by one: an index is off."""

    def along(change: Callable[[Array, int], Array], axis: int) -> Mapping[str, Array]:
        return {name: change(g, axis) for name, g in found.right.items() if g.ndim > axis and g.shape[axis] > 1}

    for axis in range(max((g.ndim for g in found.right.values()), default=0)):
        yield f"it is the right gradient, reversed along axis {axis}", along(np.flip, axis)
        for step in (1, -1):
            yield (
                f"it is the right gradient, shifted by {step} along axis {axis}",
                along(lambda g, a, s=step: np.roll(g, s, a), axis),  # type: ignore[misc]
            )


@diagnosis
def averaged_over_an_axis(found: Gradients) -> Iterator[Proposal]:
    """The sum or the mean of g along an axis, in every entry."""
    for axis in range(max((g.ndim for g in found.right.values()), default=0)):
        for words, reduce in (("summed", np.sum), ("averaged", np.mean)):
            values = {
                name: np.broadcast_to(np.asarray(reduce(g, axis=axis, keepdims=True)), g.shape)
                for name, g in found.right.items()
                if g.ndim > axis and g.shape[axis] > 1
            }
            if values:
                yield f"it is {words} over axis {axis}, the wrong one", values


@diagnosis
def decayed(found: Gradients) -> Iterator[Proposal]:
    """g + c·w: the derivative of a penalty c/2 · w² is in it, or is missing."""
    values = {}
    for name, right in found.right.items():
        weight = found.weights.get(name)
        if weight is None or not np.any(weight) or weight.shape != right.shape:
            continue
        difference = found.wrong.get(name, right) - right
        factor = float(np.vdot(difference, weight) / np.vdot(weight, weight))
        values[name] = right + factor * weight
    constants = {
        round(float(np.vdot(v - found.right[n], found.weights[n]) / np.vdot(found.weights[n], found.weights[n])), 12)
        for n, v in values.items()
    }
    for factor in sorted(constants, key=abs, reverse=True)[:1]:
        sign = "has" if factor > 0 else "lacks"
        yield (
            f"it {sign} {abs(factor):.6g} × the weight: the derivative of a penalty on its squares",
            {n: v for n, v in values.items() if v.size > 1},
        )


@diagnosis
def clipped(found: Gradients) -> Iterator[Proposal]:
    """g clipped to [-c, c], c being the largest entry of the wrong one."""
    values, largest = {}, 0.0
    for name, right in found.right.items():
        bound = float(np.max(np.abs(found.wrong.get(name, right)), initial=0.0))
        if right.size > 1:
            values[name], largest = np.clip(right, -bound, bound), max(largest, bound)
    yield f"it is the right gradient, clipped to {largest:.6g}", values


@diagnosis
def rows_counted_once(found: Gradients) -> Iterator[Proposal]:
    """Rows of an embedding that are looked up several times get one of their gradients, or their mean."""
    if found.indices is None:
        return
    indices, counts = np.unique(found.indices.astype(int), return_counts=True)
    values = {}
    for name, right in found.right.items():
        if right.ndim == 2 and len(right) > indices.max(initial=0):
            values[name] = right.copy()
            values[name][indices] /= counts[:, None]
    if values:
        yield "every row of a sparse gradient is counted once: the sum over repeated indices is a mean", values


@diagnosis
def any_factor(found: Gradients) -> Iterator[Proposal]:
    """c · g for a number c without a name. Two entries have to show it: of one, any c would do."""
    for name, right in found.right.items():
        largest = float(np.abs(right).max(initial=0))
        if name not in found.wrong or np.count_nonzero(right) < 2 or not found.allowed[name] < largest < np.inf:
            continue
        unit, wrong = right / largest, found.wrong[name] / largest
        ratio = float(np.vdot(wrong, unit) / np.vdot(unit, unit))
        # the digits that the errors of both gradients leave
        digits = min(SHOWN, math.floor(-math.log10(max(found.allowed[name] / largest, 10.0**-SHOWN))))
        words = f"{ratio:.{max(1, digits)}g}"
        if float(words) not in (0.0, 1.0):
            yield f"it is the right gradient × {words}", change_each(found, lambda g, c=ratio: c * g)  # type: ignore[misc]
