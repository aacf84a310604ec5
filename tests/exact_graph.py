"""A traced computation in 50 digits: every operation of its graph, inner functions included, carried out with mpmath.

Floats become object arrays of mpmath numbers; everything else (shapes, indices, decisions) stays what TensorFlow makes
of it. Operations that only move numbers are run by TensorFlow on the numbers of their places.
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
    if isinstance(value, mpmath.mpf):
        return np.asarray(value, object)
    return np.asarray(value) if isinstance(value, np.generic) else value


def each(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of numbers as one of arrays."""
    return lambda *arrays: np.asarray(np.frompyfunc(function, len(arrays), 1)(*arrays), object)


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
    "Maximum": max,
    "Minimum": min,
    "Pow": mpmath.power,
    "SquaredDifference": lambda a, b: (a - b) ** 2,
    "Atan2": mpmath.atan2,
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


def _cast(o: Any, x: Any) -> list[Any]:
    result = o.outputs[0].dtype
    return [x if result.is_floating else x.astype(float).astype(result.as_numpy_dtype)]


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
    return _eagerly(o, [i.astype(float) if i.dtype == object else i for i in inputs])


#: operations on floats that are none of one or two numbers each: (operation, *inputs) → outputs
OTHERS: dict[str, Callable[..., list[Any]]] = {
    "Cast": _cast,
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
    "ZerosLike": lambda o, x: [_zeros(x.shape)],
    "OnesLike": lambda o, x: [_zeros(x.shape) + 1],
    "Fill": lambda o, shape, value: [_zeros(shape) + value],
    "IsFinite": _tested("isfinite"),
    "IsNan": _tested("isnan"),
    "IsInf": _tested("isinf"),
    "TopKV2": _top,
    "Conv2D": lambda o, x, kernel: [_convolved(o, x, kernel)],
    **{kind: (lambda o, x, f=f: [each(f)(x)]) for kind, f in UNARY.items()},
    **{kind: (lambda o, a, b, f=f: [each(f)(a, b)]) for kind, f in BINARY.items()},
    **{kind: (lambda o, a, b, f=f: [np.asarray(np.frompyfunc(f, 2, 1)(a, b), bool)]) for kind, f in COMPARED.items()},
    **{kind: (lambda o, x, axes, f=f: [_reduced(o, x, axes, f)]) for kind, f in REDUCED.items()},
}
PASSED = ("Identity", "IdentityN", "StopGradient", "PreventGradient", "Snapshot", "EnsureShape", "CheckNumerics")

#: lists of tensors, as loops keep them: (operation, *inputs) → outputs
LISTS: dict[str, Callable[..., list[Any]]] = {
    "TensorListReserve": lambda o, shape, count: [[None] * int(count)],
    "EmptyTensorList": lambda o, shape, count: [[]],
    "TensorListSetItem": lambda o, here, i, item: [[item if k == int(i) else old for k, old in enumerate(here)]],
    "TensorListGetItem": lambda o, here, i, shape: [_zeros(shape) if here[int(i)] is None else here[int(i)]],
    "TensorListPushBack": lambda o, here, item: [[*here, item]],
    "TensorListPopBack": lambda o, here, shape: [here[:-1], here[-1]],
    "TensorListFromTensor": lambda o, x, shape: [list(x)],
    "TensorListStack": lambda o, here, shape: [_stacked(here)],
    "TensorListLength": lambda o, here: [np.asarray(len(here), np.int32)],
    "TensorListElementShape": lambda o, here: [np.asarray(here[0].shape, np.int32)],
}


def _stacked(items: list[Any]) -> Any:
    arrays = [np.asarray(item) for item in items]
    return np.stack([exact(a) for a in arrays] if any(a.dtype == object for a in arrays) else arrays)


def is_exact(value: Any) -> bool:
    """Whether a value holds numbers of many digits."""
    if isinstance(value, list):
        return any(map(is_exact, value))
    return isinstance(value, np.ndarray) and value.dtype == object


class Graph:
    """A concrete function in DIGITS digits: called with flat arguments as NumPy arrays.

    What depends on no argument and no variable is computed as TensorFlow computes it: constants are what they are.
    """

    def __init__(self, function: Any) -> None:
        self.graph, self.outputs = function.graph, list(function.outputs)
        self.captured = [c if c.dtype == tf.resource else np.asarray(c.numpy()) for c in function.captured_inputs]

    def __call__(self, *arguments: Any) -> list[Any]:
        with mpmath.workdps(DIGITS):
            return self._run(self.graph, [*map(exact, arguments), *self.captured], self.outputs)

    def _run(self, graph: Any, arguments: list[Any], outputs: list[Any]) -> list[Any]:
        known = {id(t): a for t, a in zip(graph.inputs, arguments, strict=True)}
        for operation in _needed(outputs):
            if operation.type != "Placeholder":
                found = self._operation(graph, operation, [known[id(t)] for t in operation.inputs])
                known.update({id(t): as_array(v) for t, v in zip(operation.outputs, found, strict=True)})
        return [known[id(t)] for t in outputs]

    def _operation(self, graph: Any, o: Any, inputs: list[Any]) -> list[Any]:  # noqa: C901, PLR0911 (one answer a kind)
        called = self._called(graph, o, inputs)
        if called is not None:
            return called
        if o.type == "Const":
            return [np.asarray(tf.make_ndarray(o.get_attr("value")))]
        if o.type == "ReadVariableOp":
            return [exact(_eagerly(o, inputs)[0])]
        if o.type in LISTS:
            return LISTS[o.type](o, *inputs)
        if o.type in PASSED:
            return inputs
        if not any(map(is_exact, inputs)):
            return _eagerly(o, inputs)
        if o.type in ("Shape", "ShapeN"):
            return [np.asarray(i.shape, o.outputs[0].dtype.as_numpy_dtype) for i in inputs]
        if o.type in ("Size", "Rank"):
            count = inputs[0].size if o.type == "Size" else inputs[0].ndim
            return [np.asarray(count, o.outputs[0].dtype.as_numpy_dtype)]
        inputs = [exact(i) if isinstance(i, np.ndarray) and i.dtype != object else i for i in inputs]
        if o.type in OTHERS:
            return OTHERS[o.type](o, *inputs)
        if o.type in EXACT and not any(name in o.type for name in ("Max", "Min", "TopK")):
            return _moved(o, inputs)
        raise Missing(o.type)

    def _called(self, graph: Any, o: Any, inputs: list[Any]) -> list[Any] | None:
        """The outputs of an operation that calls functions; None for any other."""
        if o.type in ("PartitionedCall", "StatefulPartitionedCall"):
            inner = _inner(graph, o.get_attr("f").name)
            return self._run(inner, inputs, inner.outputs)
        if o.type in ("StatelessIf", "If"):
            inner = _inner(graph, o.get_attr("then_branch" if bool(inputs[0]) else "else_branch").name)
            return self._run(inner, inputs[1:], inner.outputs)
        if o.type in ("StatelessWhile", "While"):
            cond, body = (_inner(graph, o.get_attr(name).name) for name in ("cond", "body"))
            while bool(self._run(cond, inputs, cond.outputs)[0]):
                inputs = self._run(body, inputs, body.outputs)
            return inputs
        return None


def _inner(graph: Any, name: str) -> Any:
    """The graph of a function that is called. Raises: Missing where TensorFlow has kept none."""
    found = function_of(graph, name)
    if found is None:
        raise Missing("a function without a graph")
    return found


def _needed(outputs: list[Any]) -> list[Any]:
    """The operations that outputs depend on, each after those that it depends on: loops are rewritten by gradients."""
    found: dict[Any, None] = {}
    stack = [t.op for t in outputs]
    while stack:
        missing = [t.op for t in stack[-1].inputs if t.op not in found]
        if missing:
            stack += missing
        else:
            found[stack.pop()] = None
    return list(found)


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
