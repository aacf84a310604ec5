"""Diagnoses of a backward pass through a chain of dense layers: one step of the textbook taken wrongly."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from keras_ref.comparison.diagnoses.chain import ChainPoint, Slip, is_elementwise, propagate_backward, slope_of
from keras_ref.comparison.diagnoses.table import Gradients, Proposal, diagnosis
from keras_ref.own_modules import registry
from scratch.arrays import Array


def propose_slips(found: Gradients, words: str, slip: Slip) -> Iterator[Proposal]:
    """The gradients of a chain with one slip, where its shapes allow it; and summed over the batch, or negated."""
    if found.chain is None:
        return
    try:
        with np.errstate(all="ignore"):
            values = propagate_backward(found.chain, slip)
    except ValueError:
        return
    yield words, values
    if found.samples > 1:
        yield f"{words}; and it is summed where a mean is due", {n: v * found.samples for n, v in values.items()}


def list_activations(chain: ChainPoint | None) -> list[str]:
    """The activations of a chain that are not linear, each once."""
    return (
        list(dict.fromkeys(layer.activation for layer in chain.layers if layer.activation != "linear")) if chain else []
    )


@diagnosis
def derivative_left_out(found: Gradients) -> Iterator[Proposal]:
    """δ is not multiplied by f'(z)."""
    for name in list_activations(found.chain):
        slip = Slip(lambda n, z, _, own=name: np.ones_like(z) if n == own else slope_of(n, z))  # type: ignore[misc]
        yield from propose_slips(found, f"the derivative of {name} is left out", slip)


@diagnosis
def derivative_at_the_output(found: Gradients) -> Iterator[Proposal]:
    """f'(a) in the place of f'(z): the derivative of what is already activated."""
    for name in list_activations(found.chain):
        words = f"the derivative of {name} is taken at the activation's output, not at its input"
        yield from propose_slips(found, words, Slip(lambda n, z, a, own=name: slope_of(n, a if n == own else z)))  # type: ignore[misc]


#: derivatives that are written in terms of the output a = f(z)
_BY_OUTPUT = {
    "tanh": lambda a: 1 - a**2,
    "sigmoid": lambda a: a * (1 - a),
}


@diagnosis
def derivative_at_the_input(found: Gradients) -> Iterator[Proposal]:
    """1 - z² in the place of 1 - a²: the formula for the output, given the input."""
    for name in list_activations(found.chain):
        formula = _BY_OUTPUT.get(name)
        if formula is not None:
            words = f"the derivative of {name}, written for its output, is taken at the activation's input"
            yield from propose_slips(
                found,
                words,
                Slip(lambda n, z, _, own=name, f=formula: f(z) if n == own else slope_of(n, z)),  # type: ignore[misc]
            )


@diagnosis
def derivative_is_the_activation(found: Gradients) -> Iterator[Proposal]:
    """f(z), or f'(z) squared, in the place of f'(z)."""
    for name in list_activations(found.chain):
        yield from propose_slips(
            found,
            f"{name} itself stands where its derivative should",
            Slip(lambda n, z, a, own=name: a if n == own else slope_of(n, z)),  # type: ignore[misc]
        )
        yield from propose_slips(
            found,
            f"the derivative of {name} is multiplied in twice",
            Slip(lambda n, z, _, own=name: slope_of(n, z) ** (2 if n == own else 1)),  # type: ignore[misc]
        )


@diagnosis
def derivative_of_another(found: Gradients) -> Iterator[Proposal]:
    """The derivative of relu where there is leaky_relu."""
    for name in list_activations(found.chain):
        for other in registry.names("activation"):
            if other not in (name, "linear") and is_elementwise(other) and is_elementwise(name):
                words = f"the derivative of {other} stands where there is {name}"
                yield from propose_slips(
                    found,
                    words,
                    Slip(lambda n, z, _, own=name, o=other: slope_of(o if n == own else n, z)),  # type: ignore[misc]
                )


@diagnosis
def masked_by_delta(found: Gradients) -> Iterator[Proposal]:
    """relu applied to δ: what comes back is cut where it is negative, not where z is."""
    chain = found.chain
    if chain is not None and "relu" in list_activations(chain):
        slip = Slip(
            derivative=lambda n, z, _: np.ones_like(z) if n == "relu" else slope_of(n, z),
            sent=lambda delta, kernel: np.maximum(delta @ kernel.T, 0),
        )
        yield from propose_slips(
            found, "what comes back is cut where it is negative, not where the input of relu is", slip
        )


@diagnosis
def before_its_activation(found: Gradients) -> Iterator[Proposal]:
    """dW from z of the layer below in the place of its activation a."""
    words = "the kernel's gradient is made of the layer below before its activation"
    yield from propose_slips(found, words, Slip(before=lambda _, z: z))


@diagnosis
def kernel_not_transposed(found: Gradients) -> Iterator[Proposal]:
    """δ·W in the place of δ·Wᵀ, of a square kernel."""
    words = "what goes back to the layer below is multiplied by the kernel, not by its transpose"
    yield from propose_slips(found, words, Slip(sent=lambda delta, kernel: delta @ kernel))


@diagnosis
def kernel_left_out(found: Gradients) -> Iterator[Proposal]:
    """The sum of δ over its units goes back, in the place of δ·Wᵀ."""
    words = "what goes back to the layer below is not multiplied by the kernel"
    yield from propose_slips(
        found, words, Slip(sent=lambda d, kernel: np.repeat(d.sum(axis=1, keepdims=True), len(kernel), axis=1))
    )


@diagnosis
def bias_over_the_wrong_axis(found: Gradients) -> Iterator[Proposal]:
    """Σ over the units in the place of Σ over the batch."""
    words = "the bias's gradient is summed over the wrong axis"
    yield from propose_slips(found, words, Slip(bias=lambda delta: delta.sum(axis=1)))
    yield from propose_slips(found, words, Slip(bias=lambda delta: np.full(delta.shape[1], delta.sum())))


@diagnosis
def one_sample(found: Gradients) -> Iterator[Proposal]:
    """The gradient of one sample alone: the others are overwritten, or a loop ends early."""
    chain = found.chain
    if chain is None or found.samples < 2:
        return
    for i, which in ((found.samples - 1, "last"), (0, "first")):
        part = replace(chain, x=chain.x[[i]], y=chain.y[[i]], slope=chain.slope[[i]])
        values = propagate_backward(part, Slip())
        yield f"it is the gradient of the {which} sample alone", {n: v * found.samples for n, v in values.items()}
        yield f"it is the gradient of the {which} sample alone, divided by the batch size", values
        bias = {layer.bias for layer in chain.layers}
        rest = {n: v for n, v in values.items() if n in bias}
        yield f"the bias's gradient is that of the {which} sample alone", rest


@diagnosis
def sign_of_the_error(found: Gradients) -> Iterator[Proposal]:
    """sign(p - y) in the place of p - y: the slope of an absolute error."""
    chain = found.chain
    if chain is not None and not chain.fused:
        size = chain.slope.size
        for factor, rest in (
            (1 / size, ""),
            (2 / size, ""),
            (1 / len(chain.x), ", summed over the outputs"),
            (1.0, ", summed"),
        ):
            slip = Slip(last=lambda delta, c=factor: np.sign(delta) * c)  # type: ignore[misc]
            yield from propose_slips(found, f"the loss is differentiated as an absolute error{rest}", slip)


@diagnosis
def prediction_alone(found: Gradients) -> Iterator[Proposal]:
    """p in the place of p - y, or y: a target that is not subtracted."""
    chain = found.chain
    if chain is None or chain.y.shape != chain.slope.shape:
        return
    _, a = chain.passed
    difference = a[-1] - chain.y
    with np.errstate(all="ignore"):
        factor = np.nanmedian(chain.slope / difference)
    for words, value in (
        ("the target is not subtracted from the prediction", a[-1]),
        ("the target stands where the error should", chain.y),
    ):
        yield from propose_slips(found, words, Slip(last=lambda _, v=value: v * factor))  # type: ignore[misc]


@diagnosis
def output_derivative_again(found: Gradients) -> Iterator[Proposal]:
    """p - y, the slope by the logits of softmax and crossentropy, multiplied by f' once more."""
    chain = found.chain
    if chain is not None and chain.fused:
        name = chain.layers[-1].activation
        slip = Slip(lambda n, z, a: a * (1 - a) if n == name else slope_of(n, z), at_output=True)
        yield from propose_slips(
            found, f"the derivative of {name} is multiplied in once more: p - y has it already", slip
        )


@diagnosis
def before_softmax(found: Gradients) -> Iterator[Proposal]:
    """z - y in the place of p - y: the output before its activation."""
    chain = found.chain
    if chain is not None and chain.fused and chain.y.shape == chain.slope.shape:
        z, _ = chain.passed
        slip = Slip(last=lambda _: (z[-1] - chain.y) / len(chain.x))
        yield from propose_slips(found, f"the error is taken before {chain.layers[-1].activation}", slip)


@diagnosis
def kernel_after_the_step(found: Gradients) -> Iterator[Proposal]:
    """δ·W'ᵀ with the kernel W' that the step has already moved."""
    if found.chain is None:
        return
    for rate in (0.1, 0.01, 0.001, 0.5, 1.0, 0.05, 0.3):
        moved = {n: w - rate * found.right[n] for n, w in found.chain.weights.items() if n in found.right}

        def sent(delta: Array, kernel: Array, moved: dict[str, Array] = moved) -> Array:
            name = next((n for n, w in found.chain.weights.items() if w is kernel), "") if found.chain else ""
            return delta @ moved.get(name, kernel).T

        yield from propose_slips(
            found, f"layers below see the kernel after the step, at learning rate {rate:g}", Slip(sent=sent)
        )


@diagnosis
def bias_left_out(found: Gradients) -> Iterator[Proposal]:
    """A term is missing: the forward pass of the backward pass has no bias."""
    chain = found.chain
    if chain is None:
        return
    zeros = {layer.bias: np.zeros_like(chain.weights[layer.bias]) for layer in chain.layers if layer.bias}
    words = "a term is missing: the one through the bias"
    bare = replace(chain, weights={**chain.weights, **zeros})
    yield words, propagate_backward(bare, Slip())


@diagnosis
def of_inputs(found: Gradients) -> Iterator[Proposal]:
    """dW from the output of the layer itself in the place of its input (square layers)."""
    chain = found.chain
    if chain is None:
        return
    _, a = chain.passed
    own = {id(before): after for before, after in itertools.pairwise(a)}
    try:
        values = propagate_backward(chain, Slip(before=lambda x, _: own.get(id(x), x)))
    except ValueError:
        return
    shapes = {n: v for n, v in values.items() if v.shape == chain.weights[n].shape}
    yield "the kernel's gradient is made of the layer's own output, not of its input", shapes
