"""A traced computation in 50 digits: every operation of its graph, inner functions included, carried out with mpmath.

Floats become object arrays of mpmath numbers; everything else (shapes, indices, decisions) stays what TensorFlow makes of
it. Operations that only move numbers are run by TensorFlow on the numbers of their places.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context, execute

from keras_ref.evaluation.graph import function_of
from keras_ref.evaluation.operation_rounding import EXACT

DIGITS = 50
ZERO, ONE = mpmath.mpf(0), mpmath.mpf(1)


def exact(value: Any) -> Any:
    """Floats as an object array of mpmath numbers, exactly; anything else as a NumPy array."""
    array = np.asarray(value)
    if array.dtype.kind != "f" and str(array.dtype) != "bfloat16":
        return array
    return each(mpmath.mpf)(array.astype(float))


def as_array(value: Any) -> Any:
    """A number that NumPy took out of an array of objects, as an array again."""
    return np.asarray(value, object) if isinstance(value, mpmath.mpf) else value


def each(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of numbers as one of arrays."""
    return lambda *arrays: np.asarray(
        np.frompyfunc(lambda *numbers: function(*numbers), len(arrays), 1)(*arrays), object
    )


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + mpmath.exp(-x))


def _softplus(x: Any) -> Any:
    return mpmath.log1p(mpmath.exp(x)) if x < 0 else x + mpmath.log1p(mpmath.exp(-x))


def _expm1(x: Any) -> Any:
    return mpmath.expm1(x)


UNARY: dict[str, Callable[[Any], Any]] = {
    "Exp": mpmath.exp,
    "Log": lambda x: mpmath.log(x) if x > 0 else (mpmath.ninf if x == 0 else mpmath.nan),
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
    "Lgamma": lambda x: mpmath.log(abs(mpmath.gamma(x))),
    "Digamma": mpmath.digamma,
    "Sqrt": lambda x: mpmath.sqrt(x) if x >= 0 else mpmath.nan,
    "Rsqrt": lambda x: 1 / mpmath.sqrt(x) if x > 0 else mpmath.inf,
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
#: as TensorFlow's kernel has them, in the precision of float64
SELU = mpmath.mpf(1.0507009873554804934193349852946), mpmath.mpf(1.7580993408473768599402175208123)


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
    "Maximum": lambda a, b: max(a, b),
    "Minimum": lambda a, b: min(a, b),
    "Pow": lambda a, b: mpmath.power(a, b),
    "SquaredDifference": lambda a, b: (a - b) ** 2,
    "Atan2": lambda a, b: mpmath.atan2(a, b),
    "Xlogy": _xlogy,
    "Xlog1py": lambda a, b: ZERO if a == 0 else a * mpmath.log1p(b),
    "Xdivy": lambda a, b: ZERO if a == 0 else a / b,
    "FloorMod": lambda a, b: a - b * mpmath.floor(a / b),
    # gradients: of y and dy, or of dy and what the operation was given
    "TanhGrad": lambda y, dy: dy * (1 - y * y),
    "SigmoidGrad": lambda y, dy: dy * y * (1 - y),
    "SqrtGrad": lambda y, dy: dy / (2 * y),
    "RsqrtGrad": lambda y, dy: -dy * y**3 / 2,
    "ReciprocalGrad": lambda y, dy: -dy * y * y,
    "InvGrad": lambda y, dy: -dy * y * y,
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


def _mean(terms: list[Any]) -> Any:
    return mpmath.fsum(terms) / len(terms)


REDUCED = {
    "Sum": mpmath.fsum,
    "Mean": _mean,
    "Max": max,
    "Min": min,
    "Prod": mpmath.fprod,
    "EuclideanNorm": lambda terms: mpmath.sqrt(mpmath.fsum(t * t for t in terms)),
}


def _matmul(operation: Any, a: Any, b: Any) -> Any:
    names = ("transpose_a", "transpose_b") if operation.type == "MatMul" else ("adj_x", "adj_y")
    first, second = (bool(operation.get_attr(name)) for name in names)
    a = np.swapaxes(a, -1, -2) if first else a
    b = np.swapaxes(b, -1, -2) if second else b
    return (
        np.sum(a[..., :, :, None] * b[..., None, :, :], axis=-2)
        if a.shape[-1]
        else _zeros((*a.shape[:-1], b.shape[-1]))
    )


def _zeros(shape: Any) -> Any:
    found = np.empty(tuple(shape), object)
    found.fill(ZERO)
    return found


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
    return np.sum(numbers[..., :, None] * matrix, axis=-2)


def _scattered(data: Any, indices: Any, count: Any) -> Any:
    found = _zeros((int(count), *data.shape[indices.ndim :]))
    for index, row in zip(np.ravel(indices), data.reshape(-1, *data.shape[indices.ndim :]), strict=True):
        if index >= 0:
            found[int(index)] = found[int(index)] + row
    return found


class Missing(Exception):
    """An operation that is not carried out in many digits here."""


class Graph:
    """A concrete function in DIGITS digits: called with flat arguments as NumPy arrays."""

    def __init__(self, function: Any) -> None:
        self.graph, self.captured = (
            function.graph,
            [np.asarray(c.numpy()) if c.dtype != tf.resource else c for c in function.captured_inputs],
        )
        self.outputs = [t for t in function.outputs]

    def __call__(self, *arguments: Any) -> list[Any]:
        with mpmath.workdps(DIGITS):
            return self._run(
                self.graph,
                [*map(exact, arguments), *(c if isinstance(c, tf.Tensor) else exact(c) for c in self.captured)],
                self.outputs,
            )

    def _run(self, graph: Any, arguments: list[Any], outputs: list[Any]) -> list[Any]:
        known = {id(t): a for t, a in zip(graph.inputs, arguments, strict=True)}
        needed = _needed(outputs)
        for operation in graph.get_operations():
            if operation not in needed or operation.type == "Placeholder":
                continue
            inputs = [known[id(t)] for t in operation.inputs]
            found = [as_array(one) for one in self._operation(graph, operation, inputs)]
            known.update({id(t): v for t, v in zip(operation.outputs, found, strict=True)})
        return [known[id(t)] for t in outputs]

    def _operation(self, graph: Any, o: Any, inputs: list[Any]) -> list[Any]:
        kind = o.type
        if kind in ("PartitionedCall", "StatefulPartitionedCall"):
            inner = function_of(graph, o.get_attr("f").name)
            return self._run(inner, inputs, inner.outputs)
        if kind in ("StatelessIf", "If"):
            inner = function_of(graph, o.get_attr("then_branch" if bool(inputs[0]) else "else_branch").name)
            return self._run(inner, inputs[1:], inner.outputs)
        if kind in ("StatelessWhile", "While"):
            cond, body = (function_of(graph, o.get_attr(name).name) for name in ("cond", "body"))
            while bool(self._run(cond, inputs, cond.outputs)[0]):
                inputs = self._run(body, inputs, body.outputs)
            return inputs
        if kind == "Const":
            return [exact(tf.make_ndarray(o.get_attr("value")))]
        if kind == "ReadVariableOp":
            return [exact(_eagerly(o, inputs)[0])]
        if kind in ("Identity", "StopGradient", "PreventGradient", "Snapshot", "EnsureShape", "CheckNumerics"):
            return inputs[:1]
        if kind == "IdentityN":
            return inputs
        if kind.startswith(("TensorList", "EmptyTensorList")):
            return self._list(kind, inputs, o)
        if kind in ("Shape", "ShapeN", "Size", "Rank"):
            dtype = o.outputs[0].dtype.as_numpy_dtype
            shapes = [np.asarray(i.shape, dtype) for i in inputs]
            numbers = {"Size": [np.asarray(inputs[0].size, dtype)], "Rank": [np.asarray(inputs[0].ndim, dtype)]}
            return numbers.get(kind, shapes)
        if (
            not any(isinstance(i, np.ndarray) and i.dtype == object for i in inputs)
            and kind != "Cast"
            and not o.outputs[0].dtype.is_floating
        ):
            return _eagerly(o, inputs)
        return self._floats(kind, o, inputs)

    def _floats(self, kind: str, o: Any, inputs: list[Any]) -> list[Any]:
        x = inputs[0]
        if kind == "Cast":
            source, result = o.inputs[0].dtype, o.outputs[0].dtype
            if result.is_floating:
                if source.is_floating or source.is_integer or source.is_bool:
                    return [x if x.dtype == object else exact(x.astype(float))]
            return [np.asarray(x.astype(float) if x.dtype == object else x).astype(result.as_numpy_dtype)]
        if kind in UNARY:
            return [each(UNARY[kind])(x)]
        if kind in BINARY:
            return [each(BINARY[kind])(*inputs)]
        if kind in COMPARED:
            return [np.asarray(np.frompyfunc(COMPARED[kind], 2, 1)(*inputs), dtype=bool)]
        if kind in REDUCED:
            return [_reduced(o, x, inputs[1], REDUCED[kind])]
        if kind in ("MatMul", "BatchMatMul", "BatchMatMulV2"):
            return [_matmul(o, *inputs)]
        if kind == "Einsum":
            return [np.asarray(np.einsum(o.get_attr("equation").decode(), *inputs), object)]
        if kind == "AddN":
            return [sum(inputs[1:], inputs[0])]
        if kind == "BiasAdd":
            return [x + inputs[1]]
        if kind == "BiasAddGrad":
            return [x.reshape(-1, x.shape[-1]).sum(axis=0)]
        if kind == "L2Loss":
            return [np.asarray(mpmath.fsum(v * v for v in x.ravel()) / 2, object)]
        if kind == "Cumsum":
            return [_cumulated(o, x, inputs[1], lambda a, b: a + b)]
        if kind == "Cumprod":
            return [_cumulated(o, x, inputs[1], lambda a, b: a * b)]
        if kind == "LeakyRelu":
            alpha = mpmath.mpf(o.get_attr("alpha"))
            return [each(lambda v: v if v > 0 else alpha * v)(x)]
        if kind == "LeakyReluGrad":
            alpha = mpmath.mpf(o.get_attr("alpha"))
            return [each(lambda dy, v: dy if v > 0 else alpha * dy)(*inputs)]
        if kind in ("SelectV2", "Select"):
            return [np.where(*inputs)]
        if kind == "ClipByValue":
            return [each(lambda v, low, high: min(max(v, low), high))(*inputs)]
        if kind == "Softmax":
            return [_softmax(x)]
        if kind == "LogSoftmax":
            return [_log_softmax(x)]
        if kind in ("SparseSoftmaxCrossEntropyWithLogits", "SoftmaxCrossEntropyWithLogits"):
            return _crossentropy(*inputs)
        if kind == "UnsortedSegmentSum":
            return [_scattered(*inputs)]
        if kind == "OneHot":
            axis, places = o.get_attr("axis"), np.arange(int(inputs[1]))
            hot = np.where(np.asarray(x)[..., None] == places, inputs[2], inputs[3])
            return [hot if axis == -1 else np.moveaxis(hot, -1, axis)]
        if kind in ("ZerosLike", "OnesLike"):
            return [_zeros(x.shape) + (kind == "OnesLike")]
        if kind == "Fill":
            return [_zeros(x) + inputs[1]]
        if kind == "IsFinite":
            return [np.asarray(np.frompyfunc(mpmath.isfinite, 1, 1)(x), bool)]
        if kind in ("IsNan", "IsInf"):
            return [np.asarray(np.frompyfunc(getattr(mpmath, kind.lower()), 1, 1)(x), bool)]
        if kind == "Range":
            return [exact(_eagerly(o, [np.asarray(i, float) for i in inputs])[0])]
        if kind in ("ArgMax", "ArgMin", "InTopKV2"):
            return _eagerly(o, [i.astype(float) if i.dtype == object else i for i in inputs])
        if kind == "TopKV2":
            order = np.argsort(-x.astype(float), axis=-1, kind="stable")[..., : int(inputs[1])]
            return [np.take_along_axis(x, order, -1), order.astype(np.int32)]
        if kind == "Conv2D":
            return [_convolved(o, *inputs)]
        if kind in EXACT:
            return _moved(o, inputs)
        raise Missing(kind)

    @staticmethod
    def _list(kind: str, inputs: list[Any], o: Any) -> list[Any]:
        if kind in ("TensorListReserve", "EmptyTensorList"):
            count = int(inputs[1]) if kind == "TensorListReserve" else 0
            return [[None] * count]
        if kind == "TensorListSetItem":
            here = list(inputs[0])
            here[int(inputs[1])] = inputs[2]
            return [here]
        if kind == "TensorListGetItem":
            found = inputs[0][int(inputs[1])]
            return [_zeros(inputs[2]) if found is None else found]
        if kind == "TensorListPushBack":
            return [[*inputs[0], inputs[1]]]
        if kind == "TensorListPopBack":
            return [inputs[0][:-1], inputs[0][-1]]
        if kind == "TensorListFromTensor":
            return [list(inputs[0])]
        if kind == "TensorListStack":
            return [np.stack([np.asarray(i) for i in inputs[0]])]
        if kind == "TensorListLength":
            return [np.asarray(len(inputs[0]), np.int32)]
        if kind == "TensorListElementShape":
            return [np.asarray(inputs[0][0].shape, np.int32)]
        raise Missing(kind)


def _needed(outputs: list[Any]) -> set[Any]:
    found: set[Any] = set()
    queue = [t.op for t in outputs]
    while queue:
        operation = queue.pop()
        if operation not in found:
            found.add(operation)
            queue += [t.op for t in operation.inputs]
    return found


def _attributes(o: Any, replaced: dict[str, Any]) -> list[Any]:
    flat: list[Any] = []
    for name in o.op_def.attr:
        value = replaced.get(name.name, o.get_attr(name.name))
        if isinstance(value, tf.DType):
            value = value.as_datatype_enum
        elif isinstance(value, tf.TensorShape):
            value = value.as_proto()
        elif isinstance(value, list) and value and isinstance(value[0], tf.DType):
            value = [v.as_datatype_enum for v in value]
        flat += [name.name, value]
    return flat


def _eagerly(o: Any, inputs: list[Any]) -> list[Any]:
    """An operation as TensorFlow runs it."""
    tensors = [
        i if isinstance(i, tf.Tensor) else tf.constant(i, t.dtype) for i, t in zip(inputs, o.inputs, strict=True)
    ]
    found = execute.execute(o.type.encode(), len(o.outputs), tensors, tuple(_attributes(o, {})), context.context())
    return [f if f.dtype == tf.resource else f.numpy() for f in found]


def _moved(o: Any, inputs: list[Any]) -> list[Any]:
    """An operation that only moves numbers: TensorFlow moves their places, 0 being what it fills in."""
    numbers: list[Any] = [ZERO]
    replaced: dict[str, Any] = {}
    tensors = []
    for value, tensor, argument in zip(inputs, o.inputs, _arguments(o), strict=True):
        if isinstance(value, np.ndarray) and value.dtype == object:
            tensors.append(
                tf.constant(np.arange(len(numbers), len(numbers) + value.size).reshape(value.shape), tf.int64)
            )
            numbers += list(value.ravel())
            replaced[argument.type_attr] = tf.int64
        else:
            tensors.append(tf.constant(value, tensor.dtype))
    found = execute.execute(
        o.type.encode(), len(o.outputs), tensors, tuple(_attributes(o, replaced)), context.context()
    )
    table = np.array([*numbers, None], object)[:-1]
    return [
        table[f.numpy()] if f.dtype == tf.int64 and t.dtype.is_floating else f.numpy()
        for f, t in zip(found, o.outputs, strict=True)
    ]


def _arguments(o: Any) -> list[Any]:
    found: list[Any] = []
    for argument in o.op_def.input_arg:
        if argument.number_attr:
            found += [argument] * int(o.get_attr(argument.number_attr))
        elif argument.type_list_attr:
            found += [argument] * len(o.get_attr(argument.type_list_attr))
        else:
            found.append(argument)
    return found
