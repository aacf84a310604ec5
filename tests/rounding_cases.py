"""Losses on which the stated rounding error is compared with the true one: operations and their compositions.

A `Subject` is a traced loss and points at which it is evaluated. The truth is the same graph in 50 digits
(keras_ref/evaluation/many_digits/exact_graph.py).

What is stated at a point is stated of every loss that a difference takes there, from the point out to its longest step
(scratch/one_sided.py:slopes). So it is compared with the error at the point and with those at points beside it, within
those steps: a point whose operations happen to be exact (zeros, equal entries, eighths, a loss that rounds to its very
value by luck) has none, and the losses that are differenced have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import mpmath
import numpy as np
import tensorflow as tf

from keras_ref.evaluation.many_digits.exact_graph import DIGITS, Graph
from keras_ref.evaluation.rounding_errors.rounding import Rounded
from scratch.arrays import Array
from scratch.differences import UNIT, scale_of
from scratch.noise import ROLLS

#: more than this many times the true error is an exaggeration, and counted
EXAGGERATED = 1000.0
SHAPE = (3, 4)


#: how far beside a point the loss is computed too, in units of each array's size: some of the steps of LADDER
BESIDE = tuple(2.0**-k for k in (20, 24, 28, 32, 36, 40))


@dataclass(frozen=True)
class Case:
    """A loss at one point: its value, how far it is from the true one, and what is stated of that.

    `beside` holds the same at points beside it, of which the same is stated, and a unit of the loss there.
    """

    value: float
    error: float
    stated: float
    beside: tuple[Case, ...] = ()

    @property
    def covered(self) -> bool:
        """Whether the stated error covers the true one."""
        return self.error <= self.stated

    @property
    def covered_beside(self) -> bool:
        """Whether it covers the true ones beside the point, too."""
        return all(near.covered for near in self.beside)

    def _exceeds(self, errors: Iterable[float]) -> bool:
        return self.stated > EXAGGERATED * max(*errors, UNIT * abs(self.value), np.finfo(float).tiny)

    @property
    def exaggerated(self) -> bool:
        """Whether it exceeds the true one, or a unit in the last place of the loss if that is more, too far."""
        return self._exceeds([self.error])

    @property
    def exaggerated_beside(self) -> bool:
        """Whether it exceeds the largest of the true ones at the point and beside it too far."""
        return self._exceeds([self.error, *(near.error for near in self.beside)])


#: losses, and the truth of each
Losses = tuple[Array, Array]


def _errors(values: Array, truth: Array) -> list[float]:
    with mpmath.workdps(DIGITS):
        return [float(abs(mpmath.mpf(float(v)) - t)) for v, t in zip(values, truth, strict=True)]


def compared(values: Array, stated: Array, truth: Array, beside: Iterable[Losses] = ()) -> Iterator[Case]:
    """A case for each value; those of which nothing is stated, or nothing is true, are passed over.

    `beside` are the same losses at points beside it: the first is looked at, the others where one is exaggerated.
    """
    errors = _errors(values, truth)
    cases = [Case(float(v), e, float(own)) for v, e, own in zip(values, errors, stated, strict=True)]
    for losses, exact in beside:
        near = [
            Case(float(v), e, float(own + UNIT * abs(v)))
            for v, e, own in zip(losses, _errors(losses, exact), stated, strict=True)
        ]
        cases = [
            replace(case, beside=(*case.beside, one)) if np.isfinite(one.error) else case
            for case, one in zip(cases, near, strict=True)
        ]
        if not any(case.exaggerated_beside for case in cases):
            break
    yield from (case for case in cases if np.isfinite(case.error) and np.isfinite(case.stated))


def moved(array: Array, distance: float, generator: np.random.Generator) -> Array:
    """An array of floats whose entries have moved at random, by up to a share of its size; another one as it is."""
    if array.dtype.kind != "f":
        return array
    size = scale_of(array.ravel()).reshape(array.shape)
    return np.asarray(array + distance * size * generator.uniform(-1, 1, array.shape))


@dataclass(frozen=True)
class Subject:
    """A loss of float64 arrays as TensorFlow code, and what its points are drawn by."""

    name: str
    function: Callable[..., Any]
    draw: Callable[[np.random.Generator], list[Array]]

    @property
    def gradient(self) -> Subject:
        """Its gradient by its last array, of which every entry is a case."""

        def slope(*arrays: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(arrays[-1])
                loss = self.function(*arrays)
            found = tape.gradient(loss, arrays[-1])
            return tf.zeros_like(arrays[-1]) if found is None else found

        return Subject(f"gradient of {self.name}", slope, self.draw)

    @cached_property
    def traced(self) -> Any:
        """The loss as a graph."""
        specs = [tf.TensorSpec(a.shape, a.dtype) for a in self.draw(np.random.default_rng(0))]
        return tf.function(self.function, autograph=False).get_concrete_function(*specs)

    @cached_property
    def rounded(self) -> Rounded:
        """The loss with its rounding measured."""
        return Rounded(self.traced)

    @cached_property
    def exact(self) -> Graph:
        """The loss in many digits."""
        return Graph(self.traced)

    def _values(self, arrays: list[Array]) -> Array:
        return np.ravel(self.traced(*map(tf.constant, arrays)).numpy())

    def _beside(self, arrays: list[Array], generator: np.random.Generator) -> Iterator[Losses]:
        for distance in generator.permutation(BESIDE):
            there = [moved(array, distance, generator) for array in arrays]
            values = self._values(there)
            if np.isfinite(values).all():
                yield values, np.ravel(self.exact(*there)[0])

    def cases(self, generator: np.random.Generator, count: int, *, beside: bool = False) -> Iterator[Case]:
        """So many points; those where the loss is not finite are passed over."""
        for _ in range(count):
            arrays = self.draw(generator)
            values, tensors = self._values(arrays), [*map(tf.constant, arrays)]
            if not np.isfinite(values).all():
                continue
            if len(values) == 1:
                stated = np.array([self.rounded.noise(tensors, calls=ROLLS)])
            else:
                stated = np.ravel(self.rounded.errors(tensors, calls=ROLLS)[0])
            near = self._beside(arrays, generator) if beside else ()
            yield from compared(values, stated, np.ravel(self.exact(*arrays)[0]), near)


# What points are drawn from ------------------------------------------------------------------------------------------


def anywhere(*shape: int, low: float = -6, high: float = 1) -> Callable[[np.random.Generator], Array]:
    """Numbers of all sizes from 10^low to 10^high, of one size in most arrays, some rows zero, some entries equal."""

    def draw(generator: np.random.Generator) -> Array:
        size = 10.0 ** generator.uniform(low, high, () if generator.random() < 0.7 else shape)
        found = size * generator.normal(size=shape)
        if generator.random() < 0.1 and len(shape) > 1:
            found[generator.integers(shape[0])] = 0.0
        if generator.random() < 0.1:
            found[...] = np.round(found * 8) / 8 if generator.random() < 0.5 else found.flat[0]
        return np.asarray(found)

    return draw


def positive(*shape: int, low: float = -6, high: float = 2) -> Callable[[np.random.Generator], Array]:
    """Positive numbers of all sizes."""
    return lambda generator: np.asarray(10.0 ** generator.uniform(low, high, shape))


def within(low: float, high: float, *shape: int) -> Callable[[np.random.Generator], Array]:
    """Numbers of an interval."""
    return lambda generator: generator.uniform(low, high, shape)


def together(*draws: Callable[[np.random.Generator], Array]) -> Callable[[np.random.Generator], list[Array]]:
    """Several arrays."""
    return lambda generator: [draw(generator) for draw in draws]


# Operations ----------------------------------------------------------------------------------------------------------

_ANY, _POSITIVE = anywhere(*SHAPE), positive(*SHAPE)
ONE: dict[str, tuple[Any, Any]] = {
    **{
        name: (getattr(tf.math, name), _ANY)
        for name in """
        abs asinh atan cos cosh erf erfc exp expm1 negative sigmoid sin sinh softplus softsign square tan tanh
        """.split()  # noqa: SIM905 (a hundred quoted words are no easier to read)
    },
    **{
        name: (getattr(tf.math, name), _POSITIVE)
        for name in ("log", "log1p", "sqrt", "rsqrt", "reciprocal", "digamma", "lgamma")
    },
    **{name: (getattr(tf.math, name), within(-1, 1, *SHAPE)) for name in ("asin", "acos", "atanh")},
    "acosh": (tf.math.acosh, lambda g: 1 + positive(*SHAPE)(g)),
    "elu": (tf.nn.elu, _ANY),
    "selu": (tf.nn.selu, _ANY),
    "relu": (tf.nn.relu, _ANY),
    "leaky_relu": (tf.nn.leaky_relu, _ANY),
    "softmax": (tf.nn.softmax, anywhere(*SHAPE, high=3)),
    "log_softmax": (tf.nn.log_softmax, anywhere(*SHAPE, high=3)),
    "logsumexp": (lambda x: tf.reduce_logsumexp(x, -1), anywhere(*SHAPE, high=3)),
    "logsumexp - max": (lambda x: tf.reduce_logsumexp(x, -1) - tf.reduce_max(x, -1), anywhere(*SHAPE, high=2)),
    "log(1 + exp)": (lambda x: tf.math.log(1 + tf.exp(x)), anywhere(*SHAPE, high=2)),
    "1 - sigmoid": (lambda x: 1 - tf.sigmoid(x), anywhere(*SHAPE, high=1.5)),
    "1 - tanh²": (lambda x: 1 - tf.tanh(x) ** 2, _ANY),
    "1 - cos": (lambda x: 1 - tf.cos(x), _ANY),
    "moments": (lambda x: tf.nn.moments(x, -1)[1], _ANY),
    "E x² - (E x)²": (lambda x: tf.reduce_mean(x * x, -1) - tf.reduce_mean(x, -1) ** 2, _ANY),
    "normalize": (
        lambda x: (
            (x - tf.reduce_mean(x, -1, keepdims=True)) / tf.sqrt(tf.math.reduce_variance(x, -1, keepdims=True) + 1e-12)
        ),
        _ANY,
    ),
    "l2_normalize": (lambda x: tf.nn.l2_normalize(x, -1), _ANY),
    "cumsum": (lambda x: tf.cumsum(x, -1), _ANY),
    "cumprod": (lambda x: tf.math.cumprod(x, -1), _ANY),
    "reduce_prod": (lambda x: tf.reduce_prod(x, -1), _ANY),
    "reduce_mean": (lambda x: tf.reduce_mean(x, -1), _ANY),
    "reduce_max": (lambda x: tf.reduce_max(x, -1), _ANY),
    "reduce_euclidean_norm": (lambda x: tf.math.reduce_euclidean_norm(x, -1), _ANY),
    "x^3.3": (lambda x: x**3.3, _POSITIVE),
    "length 1e-6": (lambda x: 1e-6 / (tf.reduce_sum(x * x, -1) + 1e-6), _ANY),
    "length 1e-12": (lambda x: x / tf.sqrt(x * x + 1e-12), _ANY),
}
TWO: dict[str, tuple[Any, Any, Any]] = {
    **{
        name: (getattr(tf.math, name), _ANY, _ANY)
        for name in ("add", "subtract", "multiply", "maximum", "minimum", "squared_difference")
    },
    "atan2": (tf.math.atan2, _ANY, _POSITIVE),
    "divide": (tf.divide, _ANY, _POSITIVE),
    "pow": (tf.pow, _POSITIVE, within(-3, 3, *SHAPE)),
    "xlogy": (tf.math.xlogy, _ANY, _POSITIVE),
    "matmul": (lambda a, b: a @ tf.transpose(b), _ANY, _ANY),
    "einsum": (lambda a, b: tf.einsum("ij,ij->i", a, b), _ANY, _ANY),
    "(a + b) - a": (lambda a, b: (a + b) - a, _ANY, _ANY),
    "softmax_cross_entropy": (
        lambda z, t: tf.nn.softmax_cross_entropy_with_logits(tf.nn.softmax(t), z),
        anywhere(*SHAPE, high=2),
        _ANY,
    ),
    "sigmoid_cross_entropy": (
        lambda z, t: tf.nn.sigmoid_cross_entropy_with_logits(tf.sigmoid(t), z),
        anywhere(*SHAPE, high=2),
        _ANY,
    ),
    "cosine": (lambda a, b: 1 - tf.reduce_sum(tf.nn.l2_normalize(a, -1) * tf.nn.l2_normalize(b, -1), -1), _ANY, _ANY),
}


def weighted(outputs: Any) -> Any:
    """A loss of outputs: a sum with fixed weights, so that nothing is equal to nothing else."""
    count = tf.size(outputs, out_type=tf.int64)
    weights = tf.cos(tf.cast(tf.range(count), tf.float64) + 0.5)
    return tf.reduce_sum(tf.reshape(outputs, [-1]) * weights)


def summed(function: Callable[..., Any], total: Callable[[Any], Any] = tf.reduce_sum) -> Callable[..., Any]:
    return lambda *arrays: total(tf.cast(function(*arrays), tf.float64))


def operations() -> list[Subject]:
    """Losses of one operation each, plain and weighted sums of its results."""
    found = []
    for name, (function, draw) in ONE.items():
        found.append(Subject(f"{name}", summed(function), together(draw)))
        found.append(Subject(f"{name}, weighted", summed(function, weighted), together(draw)))
    for name, (function, first, second) in TWO.items():
        found.append(Subject(name, summed(function, weighted), together(first, second)))
    found.append(
        Subject(
            "sparse_softmax_cross_entropy",
            lambda z: tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits([0, 3, 1], z)),
            together(anywhere(*SHAPE, high=2)),
        )
    )
    return found


# Compositions --------------------------------------------------------------------------------------------------------


def _shifted(x: Any, by: Any) -> Any:
    return (x + by) - by  # by a number that the graph cannot fold away


STEPS: dict[str, Callable[[Any, Array], Any]] = {
    "tanh": lambda x, w: tf.tanh(x),
    "sigmoid": lambda x, w: tf.sigmoid(x),
    "relu": lambda x, w: tf.nn.relu(x),
    "elu": lambda x, w: tf.nn.elu(x),
    "selu": lambda x, w: tf.nn.selu(x),
    "gelu": lambda x, w: tf.nn.gelu(x),
    "softplus": lambda x, w: tf.nn.softplus(x),
    "softmax": lambda x, w: tf.nn.softmax(x),
    "log_softmax": lambda x, w: tf.nn.log_softmax(x),
    "exp": lambda x, w: tf.exp(tf.clip_by_value(x, -50.0, 50.0)),
    "log": lambda x, w: tf.math.log(1 + x * x),
    "sqrt": lambda x, w: tf.sqrt(x * x + 1e-3),
    "short": lambda x, w: x / tf.sqrt(x * x + 1e-12),
    "dense": lambda x, w: x @ w,
    "bias": lambda x, w: x + w[0],
    "gate": lambda x, w: (1 - tf.sigmoid(x @ w)) * x,
    "residual": lambda x, w: x + 0.1 * tf.tanh(x @ w),
    "normalize": lambda x, w: (
        (x - tf.reduce_mean(x, -1, keepdims=True)) / tf.sqrt(tf.math.reduce_variance(x, -1, keepdims=True) + 1e-6)
    ),
    "attention": lambda x, w: tf.nn.softmax(x @ tf.transpose(x @ w) / 2) @ x,
    "cumsum": lambda x, w: tf.cumsum(x, 0),
    "product": lambda x, w: x * tf.roll(x, 1, -1),
    "shift": lambda x, w: _shifted(x, 100 * tf.reduce_max(tf.abs(x))),
    "square": lambda x, w: x * x,
    "quotient": lambda x, w: x / (1 + tf.abs(x)),
    "large": lambda x, w: 1e3 * x,
    "small": lambda x, w: 1e-3 * x,
    "loop": lambda x, w: tf.while_loop(lambda i, v: i < 3, lambda i, v: (i + 1, tf.tanh(v @ w)), (0, x))[1],
}
ENDS: dict[str, Callable[[Any], Any]] = {
    "sum": weighted,
    "mean": tf.reduce_mean,
    "mse": lambda x: tf.reduce_mean((x - 0.25) ** 2),
    "crossentropy": lambda x: tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits([0, 1, 2], x)),
    "logsumexp": lambda x: tf.reduce_logsumexp(x) - tf.reduce_max(x),
    "length": lambda x: 1e-6 / (tf.reduce_sum(x * x) + 1e-6),
}


def compositions(count: int, *, start: int = 0) -> Iterator[Subject]:
    """Chains of two to eight steps and an end, drawn at random."""
    generator = np.random.default_rng(start)
    for _ in range(count):
        steps = [str(s) for s in generator.choice(list(STEPS), generator.integers(2, 9))]
        end = str(generator.choice(list(ENDS)))
        weights = [generator.normal(size=(SHAPE[1], SHAPE[1])) for _ in steps]

        yield Subject(
            " → ".join([*steps, end]), _chain(steps, weights, end), together(anywhere(*SHAPE, low=-3, high=1))
        )


def _chain(steps: list[str], weights: list[Array], end: str) -> Callable[[Any], Any]:
    def function(x: Any) -> Any:
        for step, w in zip(steps, weights, strict=True):
            x = STEPS[step](x, w)
        return ENDS[end](x)

    return function
