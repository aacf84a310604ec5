"""Smooth activations, made of exponentials of numbers that are not positive, so that they do not overflow."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np

from scratch.activations.special import erf
from scratch.arrays import Array
from scratch.fields import Above, AtLeast
from scratch.registry import activation

#: the constants for which scale · elu(x, alpha) keeps mean 0 and variance 1 (Klambauer et al. 2017)
SELU_ALPHA, SELU_SCALE = 1.6732632423543772848, 1.0507009873554804934


def falling(x: Array) -> Array:
    """-|x|"""
    return np.where(x.real > 0, -x, x)


@activation
def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)). Source: keras.io/api/layers/activations"""
    decay = np.exp(falling(x))
    return np.where(x.real > 0, 1 / (1 + decay), decay / (1 + decay))


@activation
def tanh(x: Array) -> Array:
    """(exp(x) - exp(-x)) / (exp(x) + exp(-x)). Source: keras.io/api/layers/activations"""
    return np.tanh(x)


@activation
def exponential(x: Array) -> Array:
    """exp(x). Source: keras.io/api/layers/activations"""
    return np.exp(x)


@activation
def softplus(x: Array) -> Array:
    """log(1 + exp(x)). Source: keras.io/api/layers/activations"""
    return np.where(x.real > 0, x, 0) + np.log1p(np.exp(falling(x)))


@activation
def log_sigmoid(x: Array) -> Array:
    """log(1 / (1 + exp(-x))). Source: keras.io/api/layers/activations"""
    return -softplus(-x)


@activation
def softsign(x: Array) -> Array:
    """x / (1 + |x|). Source: keras.io/api/layers/activations"""
    y: Array = x / (1 - falling(x))
    return y


@activation
def silu(x: Array) -> Array:
    """x · sigmoid(x). Source: Ramachandran et al. 2017"""
    return x * sigmoid(x)


@activation
def swish(x: Array) -> Array:
    """x · sigmoid(x): another name of silu. Source: Ramachandran et al. 2017"""
    return silu(x)


@activation
def mish(x: Array) -> Array:
    """x · tanh(softplus(x)). Source: Misra 2019"""
    return x * np.tanh(softplus(x))


@activation
def tanh_shrink(x: Array) -> Array:
    """x - tanh(x). Source: keras.io/api/layers/activations"""
    return x - np.tanh(x)


@activation
def squareplus(x: Array, *, b: Annotated[float, AtLeast(0.0, small=(0.5, 4.0))] = 4) -> Array:
    """(x + √(x² + b)) / 2. Source: Barron 2021"""
    return (x + np.sqrt(x * x + b)) / 2


@activation
def gelu(x: Array, *, approximate: bool = False) -> Array:
    """x · Φ(x), where Φ(x) = (1 + erf(x / √2)) / 2 is the distribution function of the normal distribution.

    approximate: Φ(x) ≈ (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2. Source: Hendrycks, Gimpel 2016
    """
    inner = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)) if approximate else erf(x / math.sqrt(2))
    y: Array = x * (1 + inner) / 2
    return y


@activation
def elu(x: Array, *, alpha: Annotated[float, AtLeast(0.0, small=(0.25, 2.0))] = 1.0) -> Array:
    """x above 0, alpha (exp(x) - 1) below: a kink unless alpha is 1. Source: Clevert et al. 2016"""
    return np.where(x.real > 0, x, alpha * np.expm1(np.where(x.real > 0, 0, x)))


@activation
def selu(x: Array) -> Array:
    """scale · elu(x, alpha), with two constants. Source: Klambauer et al. 2017"""
    return SELU_SCALE * elu(x, alpha=SELU_ALPHA)


@activation
def celu(x: Array, *, alpha: Annotated[float, Above(0.0, small=(0.25, 2.0))] = 1.0) -> Array:
    """x above 0, alpha (exp(x / alpha) - 1) below: smooth for every alpha. Source: Barron 2017"""
    return np.where(x.real > 0, x, alpha * np.expm1(np.where(x.real > 0, 0, x) / alpha))
