"""The process of another backend: values and gradients of functions of keras.ops, by jax.grad.

`KERAS_BACKEND=jax python -m keras_ref.campaign.backend_worker` answers requests until its input ends; it loads no
TensorFlow.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np

from keras_ref.campaign.cotangents import draw_cotangent
from keras_ref.programs import wire
from keras_ref.programs.keras_backends import keep_float64


def differentiate(request: dict[str, Any]) -> dict[str, Any]:
    """The value and the gradients by all float arguments of the sum that a campaign differentiates.

    target      the function, as in "keras.ops.exp"
    arguments   its arguments in order; `places` are those of the arguments that are differentiated
    options     its keywords;   seed   that of the factors that the outputs are summed with
    """
    import jax
    import keras

    function = getattr(keras.ops, request["target"].removeprefix("keras.ops."))
    arguments, places = request["arguments"], request["places"]

    def loss(floats: list[Any]) -> Any:
        given = list(arguments)
        for place, value in zip(places, floats, strict=True):
            given[place] = value
        terms = [jax.numpy.zeros(())]
        for k, output in enumerate(keras.tree.flatten(function(*given, **request["options"]))):
            if hasattr(output, "dtype") and jax.numpy.issubdtype(output.dtype, jax.numpy.inexact):
                whole = jax.numpy.iscomplexobj(output)
                parts = jax.numpy.stack([output.real, output.imag], -1) if whole else output
                terms.append(jax.numpy.sum(parts * draw_cotangent(parts.shape, seed=request["seed"] + k)))
        return sum(terms)

    value, gradients = jax.value_and_grad(loss)(
        jax.tree_util.tree_map(jax.numpy.asarray, [arguments[i] for i in places])
    )
    return {
        "value": float(value),
        "gradients": [_differentiate_by_parts(g) for g in jax.tree_util.tree_leaves(gradients)],
    }


def _differentiate_by_parts(gradient: Any) -> Any:
    """A gradient by real numbers; by complex ones along both parts, of which JAX gives the conjugate."""
    found = np.asarray(gradient)
    return np.stack([found.real, -found.imag], axis=-1) if np.iscomplexobj(found) else found


def main() -> None:
    """Answer the parent's requests; what functions print goes to the error stream."""
    keep_float64()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    while True:
        try:
            request = wire.receive(sys.stdin.buffer)
        except EOFError:
            return
        try:
            found: dict[str, Any] = {"answer": differentiate(request)}
        except Exception as error:  # noqa: BLE001 (whatever a backend says of arguments that it does not take)
            found = {"refused": f"{type(error).__name__}: {str(error).strip()[:200]}"}
        wire.send(answers, found)


if __name__ == "__main__":
    main()
