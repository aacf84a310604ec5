"""A chain of dense layers and its textbook backward pass, in which one step can be taken wrongly.

    z_l = a_{l-1} · W_l + b_l        a_l = f_l(z_l)        a_0 = x
    δ_L = ∂loss/∂a_L · f_L'(z_L)     δ_l = (δ_{l+1} · W_{l+1}ᵀ) · f_l'(z_l)
    dW_l = a_{l-1}ᵀ · δ_l            db_l = Σ over the batch of δ_l

A mistake is a `Slip`: it replaces one of these expressions, everywhere in the chain. Source: Rumelhart, Hinton &
Williams 1986, equations (4)-(7).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from keras_ref.own_modules import registry
from scratch.arrays import Array

#: the imaginary step by which an activation is differentiated: exact to rounding
STEP = 1e-100


@dataclass(frozen=True)
class ChainLayer:
    """A dense layer: the names of its weights ("" for no bias) and its activation."""

    kernel: str
    bias: str
    activation: str


@dataclass(frozen=True)
class ChainPoint:
    """A chain at a point.

    weights   by name
    slope     the derivative of the loss by the output, (batch, outputs): of the output before its activation where the
              loss takes logits, so that softmax and crossentropy are one expression
    fused     whether `slope` is by the logits
    """

    layers: Sequence[ChainLayer]
    weights: Mapping[str, Array]
    x: Array
    y: Array
    slope: Array
    fused: bool

    @property
    def passed(self) -> tuple[list[Array], list[Array]]:
        """(z, a): before and after each activation; a starts with x."""
        z, a = [], [self.x]
        for layer in self.layers:
            bias = self.weights[layer.bias] if layer.bias else 0.0
            z.append(a[-1] @ self.weights[layer.kernel] + bias)
            a.append(activate(layer.activation, z[-1]))
        return z, a


@dataclass(frozen=True)
class Slip:
    """What is done instead in a backward pass; each takes what the right expression takes.

    derivative   of (activation name, z, a): f'(z)
    before       of (a_{l-1}, z_{l-1} or x): what the kernel's gradient is made of
    sent         of (δ, W): what goes to the layer below, δ·Wᵀ
    last         of δ_L: the slope that the backward pass starts with
    bias         of δ: Σ over the batch
    """

    derivative: Callable[[str, Array, Array], Array] = field(default=lambda name, z, _: slope_of(name, z))
    before: Callable[[Array, Array], Array] = field(default=lambda a, _: a)
    sent: Callable[[Array, Array], Array] = field(default=lambda delta, kernel: delta @ kernel.T)
    last: Callable[[Array], Array] = field(default=lambda delta: delta)
    bias: Callable[[Array], Array] = field(default=lambda delta: delta.sum(axis=0))
    at_output: bool = False


def activate(name: str, z: Array) -> Array:
    """The registered activation of z."""
    found: Array = registry.get("activation", name)(z)
    return found


def slope_of(name: str, z: Array) -> Array:
    """f'(z) of an elementwise activation, by a complex step."""
    with np.errstate(all="ignore"):
        return np.imag(activate(name, z + 1j * STEP)) / STEP


def is_elementwise(name: str) -> bool:
    """Whether an activation acts on each entry by itself, with no argument but its input."""
    function = registry.get("activation", name)
    _first, *more = inspect.signature(function).parameters.values()
    return bool(function.elementwise) and all(one.default is not one.empty for one in more)


def propagate_backward(chain: ChainPoint, slip: Slip) -> dict[str, Array]:
    """The gradient of every weight by the textbook's backward pass, with one slip in it.

    Raises: ValueError where a slip makes shapes that do not fit.
    """
    z, a = chain.passed
    found: dict[str, Array] = {}
    delta = slip.last(chain.slope)
    for i in reversed(range(len(chain.layers))):
        layer = chain.layers[i]
        is_last = i == len(chain.layers) - 1
        if not (is_last and chain.fused and not slip.at_output):
            own = slip if not is_last or slip.at_output or not chain.fused else Slip()
            if is_elementwise(layer.activation):
                delta = delta * own.derivative(layer.activation, z[i], a[i + 1])
            elif slip.at_output:
                delta = delta * a[i + 1] * (1 - a[i + 1])
        found[layer.kernel] = slip.before(a[i], z[i - 1] if i else a[0]).T @ delta
        if layer.bias:
            found[layer.bias] = slip.bias(delta)
        if i:
            delta = slip.sent(delta, chain.weights[layer.kernel])
    return found
