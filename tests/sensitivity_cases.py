"""Points of small networks by class: where losses are confident, lengths short, features badly scaled, rows padded, ….

A class is a function of a random generator that draws a `Case`: one of a few architectures (each is built and traced
once, since weights and data are moved), its weights and its data.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from scratch.arrays import Array
from scratch.calls import Call
from scratch.layers.attention import AdditiveAttention, Attention
from scratch.layers.core import Activation, Dense, Flatten
from scratch.layers.embedding import Embedding
from scratch.layers.masking import Masking
from scratch.layers.merging import Add
from scratch.layers.multi_head_attention import MultiHeadAttention
from scratch.layers.normalization import (
    GroupNormalization,
    LayerNormalization,
    RMSNormalization,
    UnitNormalization,
)
from scratch.layers.pooling import GlobalAveragePooling1D
from scratch.layers.recurrent import GRU, LSTM, SimpleRNN
from scratch.losses.base import Loss
from scratch.losses.metric import CosineSimilarity
from scratch.losses.probabilistic import BinaryCrossentropy, KLDivergence, SparseCategoricalCrossentropy
from scratch.losses.regression import MeanSquaredError
from scratch.losses.segmentation import Dice
from scratch.model import Model

ACTIVATIONS = ("tanh", "sigmoid", "softmax", "relu", "hard_tanh", "hard_sigmoid")
SQUARED = MeanSquaredError()


@dataclass(frozen=True)
class Case:
    """A model or function of its inputs with a loss, at a point.

    subject   the architecture: a model with its loss, or the name of one of FUNCTIONS
    """

    kind: str
    subject: Model | str
    x: Any
    y: Any
    loss: Loss | None = None
    weights: dict[str, Array] | None = None


Draw = Callable[[np.random.Generator], Case]
CLASSES: dict[str, Draw] = {}


def case_class(kind: str) -> Callable[[Callable[[np.random.Generator, str], Case]], Callable[..., Case]]:
    """Register a function of a generator and the name of the class as the class `kind`."""

    def register(draw: Callable[[np.random.Generator, str], Case]) -> Callable[..., Case]:
        CLASSES[kind] = lambda generator: draw(generator, kind)
        return draw

    return register


def one_of(g: np.random.Generator, choices: Any) -> Any:
    """One of a sequence."""
    return choices[int(g.integers(len(choices)))]


def drawn_weights(model: Model, g: np.random.Generator, gain: float = 1.0) -> dict[str, Array]:
    """Generic weights: kernels as large as their inputs' number allows, gains near 1."""
    weights = {}
    for name, shape in model.weight_shapes.items():
        fan_in = shape[0] if len(shape) > 1 else 4
        weights[name] = gain * g.normal(size=shape) / np.sqrt(fan_in)
        if name.endswith("/gamma"):
            weights[name] = 1 + weights[name] / 4
    return weights


def finished(
    g: np.random.Generator,
    kind: str,
    model: Model,
    *,
    x: Array,
    loss: Loss = SQUARED,
    gain: float = 1.0,
    **weights: Any,
) -> Case:
    """A case with generic weights, but for those given as name=array, and targets on the scale of the output."""
    own = drawn_weights(model, g, gain) | {name.replace("__", "/"): value for name, value in weights.items()}
    output = np.asarray(model.forward(own, x))
    return Case(kind, model, x, output + g.normal(size=output.shape), loss, own)


# Dense networks: smooth, beside and on kinks, badly scaled ------------------------------------------------------------


@functools.cache
def network(seed: int) -> Model:
    """One of 84 small networks: two or three dense layers with a mix of activations."""
    g = np.random.default_rng(seed)
    first, second = g.choice(ACTIVATIONS, 2)
    layers = [Dense(int(g.integers(2, 5)), str(first))]
    if g.integers(2):
        layers += [Dense(int(g.integers(2, 4))), Activation(str(second))]
    return Model.chain([*layers, Dense(int(g.integers(1, 3)))], (int(g.integers(1, 4)),))


def _near_a_kink(g: np.random.Generator, weights: dict[str, Array], x: Array) -> None:
    bias = weights["dense/bias"]
    away = 10.0 ** -g.integers(5, 10, bias.shape) * g.choice([-1.0, 1.0], bias.shape)
    bias[:] = -(x[0] @ weights["dense/kernel"]) + away


def _on_a_kink(g: np.random.Generator, weights: dict[str, Array], x: Array) -> None:
    kernel, bias = weights["dense/kernel"], weights["dense/bias"]
    style = g.integers(3)
    if style == 0:
        x[0], bias[:] = 0.0, 0.0
    elif style == 1:
        kernel[:], bias[:] = 0.0, 0.0
    else:
        kernel[:] = np.round(kernel * 8) / 8
        x[:] = np.round(x * 8) / 8
        bias[:] = -(x[0] @ kernel)


def _badly_scaled(g: np.random.Generator, weights: dict[str, Array], x: Array) -> None:
    size = 10.0 ** g.uniform(-4, 4)
    weights["dense/kernel"] *= size
    x /= size
    weights["dense/bias"] *= 10.0 ** g.uniform(-4, 0)


def _features(g: np.random.Generator, weights: dict[str, Array], x: Array) -> None:
    """Every feature in units of its own, 1e-6 to 1e6, with a kernel that makes up for it to within a hundred."""
    size = 10.0 ** g.uniform(-6, 6, x.shape[-1])
    x *= size
    weights["dense/kernel"] /= (size * 10.0 ** g.uniform(-2, 0, size.shape))[:, None]


def dense_class(kind: str, move: Callable[[np.random.Generator, dict[str, Array], Array], None] | None) -> None:
    """Register the class of the 84 networks whose weights and inputs `move` has moved in place."""

    def draw(g: np.random.Generator, kind: str) -> Case:
        model = network(int(g.integers(84)))
        weights, x = drawn_weights(model, g), g.normal(size=(3, *next(iter(model.inputs.values()))[1:]))
        if move is not None:
            move(g, weights, x)
        y = g.normal(size=(3, model.shapes[model.outputs[0]][-1]))
        return Case(kind, model, x, y, SQUARED, weights)

    case_class(kind)(draw)


for _kind, _move in {
    "smooth": None,
    "near a kink": _near_a_kink,
    "on a kink": _on_a_kink,
    "badly scaled": _badly_scaled,
    "features 1e-6 … 1e6": _features,
}.items():
    dense_class(_kind, _move)


# Confident and trained networks ---------------------------------------------------------------------------------------

CLASSIFIERS = tuple(
    (Model.chain([Dense(3, "tanh"), Dense(units, ending)], (2,)), loss)
    for units, ending, loss in (
        (3, "linear", SparseCategoricalCrossentropy(from_logits=True)),
        (3, "softmax", SparseCategoricalCrossentropy()),
        (2, "linear", BinaryCrossentropy(from_logits=True)),
        (2, "sigmoid", BinaryCrossentropy()),
        (2, "sigmoid", SQUARED),
    )
)
REGRESSORS = tuple(Model.chain([Dense(3, activation), Dense(2)], (2,)) for activation in ("tanh", "relu"))


@case_class("confident, loss 1 … 1e-60")
def confident(g: np.random.Generator, kind: str) -> Case:
    """A classifier whose margin is the logarithm of 1 to 1e-60, its labels being what it says."""
    model, loss = one_of(g, CLASSIFIERS)
    weights, x = drawn_weights(model, g), g.normal(size=(3, 2))
    hidden = np.tanh(x @ weights["dense/kernel"] + weights["dense/bias"])
    logits = hidden @ weights["dense_1/kernel"] + weights["dense_1/bias"]
    several = isinstance(loss, SparseCategoricalCrossentropy)
    ranked = np.sort(logits, axis=-1)
    margin = (ranked[:, -1] - ranked[:, -2]).min() if several else np.abs(logits).min()
    scale = g.uniform(0, 60) * np.log(10) / max(margin, 1e-3)
    weights["dense_1/kernel"] *= scale
    weights["dense_1/bias"] *= scale
    y = logits.argmax(axis=-1) if several else (logits > 0).astype(float)
    return Case(kind, model, x, y, loss, weights)


@case_class("trained, loss 1 … 1e-60")
def trained(g: np.random.Generator, kind: str) -> Case:
    """A regression with residuals of 1 to 1e-30: below 1e-16 of the outputs only where those are small themselves."""
    model = one_of(g, REGRESSORS)
    weights, x = drawn_weights(model, g), g.normal(size=(3, 2))
    residual = 10.0 ** -g.uniform(0, 30)
    small = min(1.0, residual * 10.0 ** g.uniform(0, 12))
    for name in ("dense_1/kernel", "dense_1/bias"):
        weights[name] *= small
    output = np.asarray(model.forward(weights, x))
    return Case(kind, model, x, output + residual * g.normal(size=output.shape), SQUARED, weights)


# Short lengths --------------------------------------------------------------------------------------------------------

EPSILONS = (1.0, 1e-3, 1e-6, 1e-9, 1e-12)
NORMALIZED = (
    *(
        (Model.chain([Dense(3), layer, Dense(1)], (2,)), length)
        for length in EPSILONS
        for layer in (LayerNormalization(epsilon=length**2), RMSNormalization(epsilon=length**2))
    ),
    (Model.chain([Dense(3), UnitNormalization(), Dense(1)], (2,)), 1e-12),
)
SHARES = tuple(
    (Model.chain([Dense(2, "sigmoid")], (2,)), loss) for loss in (Dice(), KLDivergence(), CosineSimilarity())
)
#: functions of values s and a length e, which stands for the epsilon of a denominator, by name. A twin of them there
#: is not
FUNCTIONS = ("e/(s²+e)", "s/sqrt(s²+e²)", "s/(|s|+e)", "log(relu(s)+e)", "e/(relu(s)+e)", "tanh(s/e)")


@case_class("lengths 1 … 1e-12")
def lengths(g: np.random.Generator, kind: str) -> Case:
    """A loss that changes over a length of 1 to 1e-12, by an epsilon in a denominator, on values about as large."""
    family = g.integers(3)
    if family == 0:
        model, length = one_of(g, NORMALIZED)
        size = length * 10.0 ** g.uniform(-1, 2)
        kernel, bias = size * g.normal(size=(2, 3)), size * g.normal(size=3)
        return finished(g, kind, model, x=g.normal(size=(3, 2)), dense__kernel=kernel, dense__bias=bias)
    if family == 1:
        model, loss = one_of(g, SHARES)
        bias = -g.uniform(0, 20, 2)  # shares of 1 to 2e-9
        y = g.uniform(size=(3, 2)) * (g.uniform(size=(3, 2)) < 0.5)
        own = finished(g, kind, model, x=g.normal(size=(3, 2)), loss=loss, dense__bias=bias)
        return Case(kind, model, own.x, y, loss, own.weights)
    length = 10.0 ** -g.uniform(0, 12)
    values = g.normal(size=3) * length * 10.0 ** g.uniform(-1, 2, 3)
    return Case(kind, str(one_of(g, FUNCTIONS)), [values, np.array([length])], g.normal(size=3))


# Sequences ------------------------------------------------------------------------------------------------------------


def self_attention(layer: Any, *, residual: bool = False) -> Model:
    """Attention of a sequence (4, 4) to itself, averaged over time and mapped to one number."""
    layers: dict[str, Any] = {"attention": layer, "pool": GlobalAveragePooling1D(), "dense": Dense(1)}
    calls = [Call("attention", ("input", "input"), ("attention",))]
    last = "attention"
    if residual:
        layers |= {"add": Add(), "norm": LayerNormalization(epsilon=1e-6)}
        calls += [Call("add", ("attention", "input"), ("add",)), Call("norm", ("add",), ("norm",))]
        last = "norm"
    calls += [Call("pool", (last,), ("pool",)), Call("dense", ("pool",), ("dense",))]
    return Model({"input": (None, 4, 4)}, layers, tuple(calls), ("dense",))


ATTENTIONS = (
    self_attention(MultiHeadAttention(2, 1)),
    self_attention(MultiHeadAttention(1, 4, use_bias=False)),
    self_attention(MultiHeadAttention(2, 4), residual=True),
    self_attention(Attention(use_scale=True)),
    self_attention(AdditiveAttention()),
)


@case_class("attention")
def attention(g: np.random.Generator, kind: str) -> Case:
    """Attention, from even to nearly one-hot."""
    return finished(g, kind, one_of(g, ATTENTIONS), x=g.normal(size=(2, 4, 4)), gain=10.0 ** g.uniform(-1, 1))


POOLED = (GlobalAveragePooling1D(), Dense(1))
PADDED = (
    *(Model.chain([Masking(), layer, Dense(1)], (4, 4)) for layer in (LSTM(2), GRU(2), SimpleRNN(3))),
    *(Model.chain([LayerNormalization(epsilon=e), *POOLED], (4, 4)) for e in (1e-12, 1e-6, 1e-3)),
    *(Model.chain([Dense(3, a), *POOLED], (4, 4)) for a in ("relu", "tanh")),
    Model.chain([RMSNormalization(epsilon=1e-12), *POOLED], (4, 4)),
    self_attention(MultiHeadAttention(2, 1)),
)


@case_class("padded rows")
def padded(g: np.random.Generator, kind: str) -> Case:
    """Sequences whose last rows are zeros, with biases that are zero as in a fresh network, or not."""
    model = one_of(g, PADDED)
    x = g.normal(size=(2, 4, 4))
    for sample in x:
        sample[int(g.integers(1, 4)) :] = 0.0
    own = finished(g, kind, model, x=x)
    assert own.weights is not None
    fresh = g.integers(2)
    weights = {n: 0 * w if fresh and n.endswith(("bias", "beta")) else w for n, w in own.weights.items()}
    return Case(kind, model, x, own.y, own.loss, weights)


NORMS = (
    *(
        Model.chain([Dense(4, "tanh"), layer, Dense(2, "tanh"), Dense(1)], (3,))
        for layer in (LayerNormalization(), LayerNormalization(epsilon=1e-6, center=False), RMSNormalization())
    ),
    *(
        Model.chain([layer, Flatten(), Dense(1)], (3, 4))
        for layer in (LayerNormalization(epsilon=1e-5), GroupNormalization(2), LayerNormalization(axis=1))
    ),
)


@case_class("LayerNormalization")
def normalizations(g: np.random.Generator, kind: str) -> Case:
    """Normalizations of rows of any size."""
    model = one_of(g, NORMS)
    x = g.normal(size=(3, *next(iter(model.inputs.values()))[1:])) * 10.0 ** g.uniform(-3, 3)
    return finished(g, kind, model, x=x)


DEEP = tuple(Model.chain([*(Dense(4, "relu") for _ in range(depth)), Dense(1)], (3,)) for depth in (6, 9, 12))


@case_class("deep ReLU")
def deep(g: np.random.Generator, kind: str) -> Case:
    """Six to twelve layers of four relus, with weights as He et al. 2015 have them."""
    return finished(g, kind, one_of(g, DEEP), x=g.normal(size=(4, 3)), gain=np.sqrt(2))


EMBEDDED = (
    Model.chain([Embedding(4, 3), Flatten(), Dense(2, "tanh"), Dense(1)], (4,)),
    Model.chain([Embedding(4, 3), GlobalAveragePooling1D(), Dense(3, "softmax")], (4,)),
    Model.chain([Embedding(4, 2, mask_zero=True), LSTM(2), Dense(1)], (4,)),
    Model.chain([Embedding(4, 4), LayerNormalization(epsilon=1e-6), GlobalAveragePooling1D(), Dense(1)], (4,)),
)


@case_class("embeddings")
def embeddings(g: np.random.Generator, kind: str) -> Case:
    """Embeddings of repeated indices, with rows that nothing reads."""
    x = g.integers(0, 4, (3, 4))
    x[:, 0] = 1 + x[:, 0] % 3  # not everything is masked
    return finished(g, kind, one_of(g, EMBEDDED), x=x)
