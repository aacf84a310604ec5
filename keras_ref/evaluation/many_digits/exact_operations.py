"""The operations of TensorFlow in many digits: what each computes, by its definition."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import tensorflow as tf

from keras_ref.evaluation.many_digits.exact_numbers import (
    ONE,
    ZERO,
    Missing,
    bounded,
    each,
    eagerly,
    exact,
    mean,
    zeros,
)


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + mpmath.exp(-x))


def _softplus(x: Any) -> Any:
    return mpmath.log1p(mpmath.exp(x)) if x < 0 else x + mpmath.log1p(mpmath.exp(-x))


def _is_complex(x: Any) -> bool:
    return isinstance(x, mpmath.mpc)


def _log(x: Any) -> Any:
    if _is_complex(x):
        return mpmath.log(x)
    return mpmath.log(x) if x > 0 else (mpmath.ninf if x == 0 else mpmath.nan)


def _expm1(x: Any) -> Any:
    return mpmath.expm1(x)


#: as TensorFlow's kernel has them, in the precision of float64
SELU = mpmath.mpf(1.0507009873554804934193349852946), mpmath.mpf(1.7580993408473768599402175208123)

UNARY: dict[str, Callable[[Any], Any]] = {
    "Exp": mpmath.exp,
    "Log": _log,
    "Log1p": mpmath.log1p,
    "Expm1": _expm1,
    "Tanh": mpmath.tanh,
    "Sigmoid": _sigmoid,
    "Sin": mpmath.sin,
    "Cos": mpmath.cos,
    "Tan": mpmath.tan,
    "Asin": mpmath.asin,
    "Acos": mpmath.acos,
    "Atan": mpmath.atan,
    "Sinh": mpmath.sinh,
    "Cosh": mpmath.cosh,
    "Asinh": mpmath.asinh,
    "Acosh": mpmath.acosh,
    "Atanh": mpmath.atanh,
    "Erf": mpmath.erf,
    "Erfc": mpmath.erfc,
    "Lgamma": lambda x: mpmath.re(mpmath.loggamma(x)),
    "Digamma": mpmath.digamma,
    "Sqrt": lambda x: mpmath.sqrt(x) if _is_complex(x) or x >= 0 else mpmath.nan,
    "Rsqrt": lambda x: 1 / mpmath.sqrt(x) if _is_complex(x) or x > 0 else (mpmath.nan if x else mpmath.inf),
    "Square": lambda x: x * x,
    "Reciprocal": lambda x: 1 / x if x else mpmath.inf,
    "Inv": lambda x: 1 / x if x else mpmath.inf,
    "Neg": lambda x: -x,
    "Abs": abs,
    "Sign": mpmath.sign,
    "Floor": mpmath.floor,
    "Ceil": mpmath.ceil,
    "Rint": mpmath.nint,
    "Round": mpmath.nint,
    "Relu": lambda x: max(x, ZERO),
    "Relu6": lambda x: min(max(x, ZERO), mpmath.mpf(6)),
    "Elu": lambda x: x if x >= 0 else _expm1(x),
    "Selu": lambda x: SELU[0] * x if x >= 0 else SELU[1] * _expm1(x),
    "Softplus": _softplus,
    "Softsign": lambda x: x / (1 + abs(x)),
}


def _divided(a: Any, b: Any) -> Any:
    return a / b if b else (mpmath.nan if a == 0 else mpmath.inf * mpmath.sign(a))


def _xlogy(a: Any, b: Any) -> Any:
    return ZERO if a == 0 else a * mpmath.log(b)


BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "AddV2": lambda a, b: a + b,
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "RealDiv": _divided,
    "Div": _divided,
    "DivNoNan": lambda a, b: a / b if b else ZERO,
    "MulNoNan": lambda a, b: a * b if b else ZERO,
    "Maximum": max,
    "Minimum": min,
    "Pow": mpmath.power,
    "SquaredDifference": lambda a, b: (a - b) * mpmath.conj(a - b),  # TensorFlow takes the absolute value
    "Atan2": mpmath.atan2,
    "Xlogy": _xlogy,
    "Xlog1py": lambda a, b: ZERO if a == 0 else a * mpmath.log1p(b),
    "Xdivy": lambda a, b: ZERO if a == 0 else _divided(a, b),
    "FloorMod": lambda a, b: a - b * mpmath.floor(a / b),
    # gradients: of y and dy, or of dy and what the operation was given; some take the conjugate of y by themselves
    "TanhGrad": lambda y, dy: dy * (1 - y * y),
    "SigmoidGrad": lambda y, dy: dy * y * (1 - y),
    "SqrtGrad": lambda y, dy: dy / (2 * mpmath.conj(y)),
    "RsqrtGrad": lambda y, dy: -dy * mpmath.conj(y) ** 3 / 2,
    "ReciprocalGrad": lambda y, dy: -dy * mpmath.conj(y * y),
    "InvGrad": lambda y, dy: -dy * mpmath.conj(y * y),
    "ReluGrad": lambda dy, x: dy if x > 0 else ZERO,
    "Relu6Grad": lambda dy, x: dy if 0 < x < 6 else ZERO,
    "EluGrad": lambda dy, y: dy if y >= 0 else dy * (y + 1),
    "SeluGrad": lambda dy, y: dy * SELU[0] if y >= 0 else dy * (y + SELU[1]),
    "SoftplusGrad": lambda dy, x: dy * _sigmoid(x),
    "SoftsignGrad": lambda dy, x: dy / (1 + abs(x)) ** 2,
}
COMPARED: dict[str, Callable[[Any, Any], Any]] = {
    "Greater": lambda a, b: a > b,
    "GreaterEqual": lambda a, b: a >= b,
    "Less": lambda a, b: a < b,
    "LessEqual": lambda a, b: a <= b,
    "Equal": lambda a, b: a == b,
    "NotEqual": lambda a, b: a != b,
}


def _reduced(operation: Any, x: Any, axes: Any, function: Callable[..., Any]) -> Any:
    axes = tuple(int(a) % x.ndim for a in np.ravel(axes)) if x.ndim else ()
    keep = operation.get_attr("keep_dims")
    if not axes:
        return x
    rest = [i for i in range(x.ndim) if i not in axes]
    flat = np.transpose(x, [*rest, *axes]).reshape(*(x.shape[i] for i in rest), -1)
    found = np.empty(flat.shape[:-1], object)
    for index in np.ndindex(found.shape):
        found[index] = function(list(flat[index]))
    return np.expand_dims(found, axes) if keep else found


REDUCED = {
    "Sum": mpmath.fsum,
    "Mean": mean,
    "Max": max,
    "Min": min,
    "Prod": mpmath.fprod,
    "EuclideanNorm": lambda terms: mpmath.sqrt(mpmath.fsum(t * t for t in terms)),
}


def _matmul(operation: Any, a: Any, b: Any) -> Any:
    names = ("transpose_a", "transpose_b") if operation.type == "MatMul" else ("adj_x", "adj_y")
    first, second = (bool(operation.get_attr(name)) for name in names)
    bounded(a.size * b.shape[-2 if second else -1])
    a = np.swapaxes(a, -1, -2) if first else a
    b = np.swapaxes(b, -1, -2) if second else b
    return (
        np.sum(a[..., :, :, None] * b[..., None, :, :], axis=-2) if a.shape[-1] else zeros((*a.shape[:-1], b.shape[-1]))
    )


def _cumulated(operation: Any, x: Any, axis: Any, function: Callable[[Any, Any], Any]) -> Any:
    axis, exclusive, reverse = int(axis), operation.get_attr("exclusive"), operation.get_attr("reverse")
    x = np.flip(x, axis) if reverse else x
    found = np.array(list(itertools.accumulate(np.moveaxis(x, axis, 0), function)), object)
    if exclusive:
        first = found[:1] * 0 + (0 if function(ONE, ONE) == 2 else 1)
        found = np.concatenate([first, found[:-1]])
    found = np.moveaxis(found, 0, axis)
    return np.flip(found, axis) if reverse else found


def _softmax(x: Any) -> Any:
    e = each(mpmath.exp)(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _log_softmax(x: Any) -> Any:
    x = x - x.max(axis=-1, keepdims=True)
    return x - each(mpmath.log)(each(mpmath.exp)(x).sum(axis=-1, keepdims=True))


def _crossentropy(x: Any, labels: Any) -> list[Any]:
    if labels.dtype != object:
        labels = exact(np.eye(x.shape[-1])[labels])
    terms = np.where(labels == 0, ZERO, labels * _log_softmax(x))
    return [-terms.sum(axis=-1), _softmax(x) - labels]


def _convolved(o: Any, x: Any, kernel: Any) -> Any:
    """A convolution as a product of patches and a matrix."""
    names = ("strides", "dilations", "padding", "data_format")
    strides, rates, padding, form = (o.get_attr(name) for name in names)
    if form != b"NHWC" or padding not in (b"SAME", b"VALID") or x.shape[-1] != kernel.shape[2]:
        raise Missing(f"{o.type} {form.decode()} {padding.decode()}")
    places = np.arange(1, x.size + 1).reshape(x.shape)
    sizes = [1, *kernel.shape[:2], 1]
    patches = tf.image.extract_patches(places, sizes, list(strides), list(rates), padding.decode()).numpy()
    numbers = np.array([ZERO, *x.ravel()], object)[patches]
    matrix = kernel.reshape(-1, kernel.shape[-1])
    bounded(numbers.size * kernel.shape[-1])
    return np.sum(numbers[..., :, None] * matrix, axis=-2)


def _scattered(data: Any, indices: Any, count: Any) -> Any:
    found = zeros((int(count), *data.shape[indices.ndim :]))
    for index, row in zip(np.ravel(indices), data.reshape(-1, *data.shape[indices.ndim :]), strict=True):
        if index >= 0:
            found[int(index)] = found[int(index)] + row
    return found


def _cast(o: Any, x: Any) -> list[Any]:
    result = o.outputs[0].dtype
    if o.inputs[0].dtype.is_complex and not result.is_complex:  # TensorFlow drops imaginary parts
        x = each(mpmath.re)(x)
    return [x if result.is_floating or result.is_complex else x.astype(float).astype(result.as_numpy_dtype)]


def _leaky(o: Any) -> Any:
    return mpmath.mpf(o.get_attr("alpha"))


def _hot(o: Any, places: Any, depth: Any, on: Any, off: Any) -> list[Any]:
    axis = o.get_attr("axis")
    hot = np.where(np.asarray(places)[..., None] == np.arange(int(depth)), on, off)
    return [hot if axis == -1 else np.moveaxis(hot, -1, axis)]


def _top(o: Any, x: Any, count: Any) -> list[Any]:
    order = np.argsort(-x.astype(float), axis=-1, kind="stable")[..., : int(count)]
    return [np.take_along_axis(x, order, -1), order.astype(o.outputs[1].dtype.as_numpy_dtype)]


def _tested(name: str) -> Callable[..., Any]:
    return lambda o, x: [np.asarray(np.frompyfunc(getattr(mpmath, name), 1, 1)(x), bool)]


def _decided(o: Any, *inputs: Any) -> list[Any]:
    """An operation that chooses, as TensorFlow runs it on the nearest floats."""
    return eagerly(o, [i.astype(float) if i.dtype == object else i for i in inputs])


#: functions of one number or two
ELEMENTWISE: dict[str, Callable[..., Any]] = {**UNARY, **BINARY}
#: functions that are complex at real numbers outside of their domain, where TensorFlow's are NaN
COMPLEX_OUTSIDE = frozenset(("Acos", "Acosh", "Asin", "Atanh", "Log1p", "Pow", "Xlog1py", "Xlogy"))


def _real(kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of real numbers as one whose value is NaN where it is not real."""
    if kind not in COMPLEX_OUTSIDE:
        return function

    def real(*numbers: Any) -> Any:
        found = function(*numbers)
        return mpmath.nan if _is_complex(found) and not any(map(_is_complex, numbers)) else found

    return real


def _elementwise(function: Callable[..., Any]) -> Callable[..., list[Any]]:
    """A function of numbers as an operation on arrays."""
    of_arrays = each(function)
    return lambda o, *arrays: [of_arrays(*arrays)]


def _strided(o: Any, x: Any, begin: Any, end: Any, strides: Any) -> list[Any]:
    """A slice of an array, as tf.strided_slice describes it."""
    masks = {n: o.get_attr(f"{n}_mask") for n in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")}
    index: list[Any] = []
    for k, (first, last, step) in enumerate(zip(begin, end, strides, strict=True)):
        bit = 1 << k
        if masks["ellipsis"] & bit:
            index.append(Ellipsis)
        elif masks["new_axis"] & bit:
            index.append(None)
        elif masks["shrink_axis"] & bit:
            index.append(int(first))
        else:
            start = None if masks["begin"] & bit else int(first)
            index.append(slice(start, None if masks["end"] & bit else int(last), int(step)))
    return [np.asarray(x[tuple(index)], object)]


#: operations that move numbers, as NumPy does it in much less time than TensorFlow moves their places
MOVED: dict[str, Callable[..., list[Any]]] = {
    "Reshape": lambda o, x, shape: [x.reshape([int(n) for n in np.ravel(shape)])],
    "BroadcastTo": lambda o, x, shape: [np.broadcast_to(x, [int(n) for n in np.ravel(shape)])],
    "ExpandDims": lambda o, x, axis: [np.expand_dims(x, int(axis))],
    "Transpose": lambda o, x, order: [np.transpose(x, [int(n) for n in np.ravel(order)])],
    "ConjugateTranspose": lambda o, x, order: [np.conj(np.transpose(x, [int(n) for n in np.ravel(order)]))],
    "Pack": lambda o, *x: [np.stack(x, o.get_attr("axis"))],
    "Unpack": lambda o, x: [np.asarray(part, object) for part in np.moveaxis(x, o.get_attr("axis"), 0)],
    "ConcatV2": lambda o, *x: [np.concatenate(x[:-1], int(x[-1]))],
    "StridedSlice": _strided,
}

#: operations on floats that are none of one or two numbers each: (operation, *inputs) → outputs
OTHERS: dict[str, Callable[..., list[Any]]] = {
    "Cast": _cast,
    **MOVED,
    **dict.fromkeys(("MatMul", "BatchMatMul", "BatchMatMulV2"), lambda o, a, b: [_matmul(o, a, b)]),
    **dict.fromkeys(("SelectV2", "Select"), lambda o, which, a, b: [np.where(which, a, b)]),
    **dict.fromkeys(("ArgMax", "ArgMin", "InTopKV2"), _decided),
    "Einsum": lambda o, *x: [np.asarray(np.einsum(o.get_attr("equation").decode(), *x), object)],
    "AddN": lambda o, *x: [sum(x[1:], x[0])],
    "BiasAdd": lambda o, x, bias: [x + bias],
    "BiasAddGrad": lambda o, x: [x.reshape(-1, x.shape[-1]).sum(axis=0)],
    "L2Loss": lambda o, x: [mpmath.fsum(v * v for v in x.ravel()) / 2],
    "Cumsum": lambda o, x, axis: [_cumulated(o, x, axis, lambda a, b: a + b)],
    "Cumprod": lambda o, x, axis: [_cumulated(o, x, axis, lambda a, b: a * b)],
    "LeakyRelu": lambda o, x: [each(lambda v: v if v > 0 else _leaky(o) * v)(x)],
    "LeakyReluGrad": lambda o, dy, x: [each(lambda d, v: d if v > 0 else _leaky(o) * d)(dy, x)],
    "ClipByValue": lambda o, *x: [each(lambda v, low, high: min(max(v, low), high))(*x)],
    "Softmax": lambda o, x: [_softmax(x)],
    "LogSoftmax": lambda o, x: [_log_softmax(x)],
    "SparseSoftmaxCrossEntropyWithLogits": lambda o, x, labels: _crossentropy(x, labels),
    "SoftmaxCrossEntropyWithLogits": lambda o, x, labels: _crossentropy(x, labels),
    "UnsortedSegmentSum": lambda o, *x: [_scattered(*x)],
    "OneHot": _hot,
    "ZerosLike": lambda o, x: [zeros(x.shape)],
    "OnesLike": lambda o, x: [zeros(x.shape) + 1],
    "Fill": lambda o, shape, value: [zeros(shape) + value],
    "IsFinite": _tested("isfinite"),
    "IsNan": _tested("isnan"),
    "IsInf": _tested("isinf"),
    "TopKV2": _top,
    "Conv2D": lambda o, x, kernel: [_convolved(o, x, kernel)],
    **{kind: _elementwise(_real(kind, f)) for kind, f in ELEMENTWISE.items()},
    **{kind: (lambda o, a, b, f=f: [np.asarray(np.frompyfunc(f, 2, 1)(a, b), bool)]) for kind, f in COMPARED.items()},
    **{kind: (lambda o, x, axes, f=f: [_reduced(o, x, axes, f)]) for kind, f in REDUCED.items()},
}
