"""40 pairs of programs that were written independently: 20 equal, 20 with one planted difference each.

`python tests/benchmarks/pairs.py [NAME…]`: each planted difference has to be named by layer and stage, and no equal
pair may be accused. Pairs with PyTorch are left out, and counted, where it is not installed.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.path[:0] = [str(HERE.parents[1]), str(HERE)]

import torch_pairs  # noqa: F401, E402 (it fills the table)
from pair_table import PAIRS, Pair, drawn, pair, sequential  # noqa: E402 (as above)

# Keras 2 --------------------------------------------------------------------------------------------------------------


@pair("keras 2: epsilon of Adam", "a/kernel", "update", steps=1)
def _(wrong: bool) -> Any:
    import keras
    import tf_keras

    a = sequential(
        (3,), keras.layers.Dense(4, "tanh", name="a"), keras.layers.Dense(2), optimizer=keras.optimizers.Adam(0.1)
    )
    adam = tf_keras.optimizers.Adam(0.1, epsilon=1e-8 if wrong else 1e-7)
    k = tf_keras.layers
    b = sequential((3,), k.Dense(4, "tanh"), k.Dense(2), optimizer=adam, library=tf_keras)
    return a, b, drawn(5, 3), drawn(5, 2)


@pair("keras 2: momentum of batch normalization", "norm/moving_mean", "update", steps=1)
def _(wrong: bool) -> Any:
    import keras
    import tf_keras

    k = keras.layers
    a = sequential((3,), k.Dense(4, "relu"), k.BatchNormalization(name="norm"), k.Dense(2))
    k = tf_keras.layers
    norm = k.BatchNormalization(momentum=0.9 if wrong else 0.99)
    b = sequential((3,), k.Dense(4, "relu"), norm, k.Dense(2), library=tf_keras)
    return a, b, drawn(5, 3), drawn(5, 2)


@pair("keras 2: epsilon of layer normalization", "norm", "forward", steps=1)
def _(wrong: bool) -> Any:
    import keras
    import tf_keras

    k = keras.layers
    a = sequential((3,), k.Dense(4), k.LayerNormalization(name="norm"), k.Dense(2))
    k = tf_keras.layers
    b = sequential(
        (3,), k.Dense(4), k.LayerNormalization(epsilon=1e-6 if wrong else 1e-3), k.Dense(2), library=tf_keras
    )
    return a, b, drawn(5, 3), drawn(5, 2)


# JAX ------------------------------------------------------------------------------------------------------------------


@pair("jax: a bias that was dropped", "out/bias", "weights")
def _(wrong: bool) -> Any:
    import jax
    import keras

    a = sequential((3,), keras.layers.Dense(4, "tanh"), keras.layers.Dense(2, name="out"), loss=None)
    parameters = {"w1": drawn(3, 4), "c1": drawn(4), "w2": drawn(4, 2), "c2": drawn(2)}
    if wrong:
        del parameters["c2"]

    def forward(p: Any, x: Any) -> Any:
        return jax.numpy.tanh(x @ p["w1"] + p["c1"]) @ p["w2"] + p.get("c2", 0.0)

    return a, {"forward": forward, "parameters": parameters}, drawn(5, 3), None


@pair("jax: initial state of a recurrent layer", "rnn", "forward")
def _(wrong: bool) -> Any:
    import jax
    import jax.numpy as jnp
    import keras

    a = sequential(
        (4, 2), keras.layers.SimpleRNN(3, return_sequences=True, name="rnn"), keras.layers.Dense(2), loss=None
    )
    parameters = {"k": drawn(2, 3), "r": drawn(3, 3), "b": drawn(3), "w": drawn(3, 2), "c": drawn(2)}

    def forward(p: Any, x: Any) -> Any:
        def step(h: Any, x_t: Any) -> Any:
            h = jnp.tanh(x_t @ p["k"] + h @ p["r"] + p["b"])
            return h, h

        start = jnp.full((len(x), 3), 0.25 if wrong else 0.0, x.dtype)
        hidden = jax.lax.scan(step, start, x.transpose(1, 0, 2))[1].transpose(1, 0, 2)
        return hidden @ p["w"] + p["c"], {"hidden": hidden}

    return a, {"forward": forward, "parameters": parameters}, drawn(5, 4, 2), None


@pair("jax: reduction of the loss", "loss", "loss")
def _(wrong: bool) -> Any:
    import jax.numpy as jnp
    import keras

    a = sequential((3,), keras.layers.Dense(4, "relu"), keras.layers.Dense(2), loss="mse")
    parameters = {"w1": drawn(3, 4), "c1": drawn(4), "w2": drawn(4, 2), "c2": drawn(2)}

    def forward(p: Any, x: Any) -> Any:
        return jnp.maximum(x @ p["w1"] + p["c1"], 0) @ p["w2"] + p["c2"]

    def loss(p: Any, x: Any, y: Any) -> Any:
        squares = (forward(p, x) - y) ** 2
        return squares.sum(1).mean() if wrong else squares.mean()

    return a, {"forward": forward, "loss": loss, "parameters": parameters}, drawn(5, 3), drawn(5, 2)


# NumPy ----------------------------------------------------------------------------------------------------------------


class Written:
    """A student's network: relu or leaky relu, rows."""

    def __init__(self, *, slope: float = 0.0, wrong: bool = False) -> None:
        self.weights = {"W1": np.ones((3, 4)), "b1": np.ones(4), "W2": np.ones((4, 2)), "b2": np.ones(2)}
        self.slope, self.wrong = slope, wrong

    def forward(self, x: Any, weights: Any) -> Any:
        z = x @ weights["W1"] + weights["b1"]
        hidden = np.where(z > 0, z, self.slope * z)
        return hidden @ weights["W2"] + weights["b2"], {"z": z, "hidden": hidden}

    def loss(self, output: Any, y: Any) -> Any:
        return np.mean((output - y) ** 2)

    def backward(self, x: Any, y: Any, weights: Any) -> Any:
        output, cache = self.forward(x, weights)
        delta = 2 * (output - y) / y.size
        back = (delta @ weights["W2"].T) * np.where(cache["z"] > 0, 1.0, self.slope)
        if self.wrong:
            back = delta @ weights["W2"].T
        return {"W1": x.T @ back, "b1": back.sum(0), "W2": cache["hidden"].T @ delta, "b2": delta.sum(0)}

    def update_weights(self, weights: Any, gradients: Any, learning_rate: Any) -> Any:
        return {n: w - learning_rate * gradients[n] for n, w in weights.items()}


@pair("numpy: a derivative left out", "a/bias", "gradient", steps=1)
def _(wrong: bool) -> Any:
    import keras

    a = sequential(
        (3,), keras.layers.Dense(4, "relu", name="a"), keras.layers.Dense(2), optimizer=keras.optimizers.SGD(0.1)
    )
    return a, Written(wrong=wrong), drawn(5, 3), drawn(5, 2)


@pair("numpy: slope of leaky relu", "leaky", "forward")
def _(wrong: bool) -> Any:
    import keras

    k = keras.layers
    a = sequential((3,), k.Dense(4), k.LeakyReLU(negative_slope=0.25, name="leaky"), k.Dense(2))
    return a, Written(slope=0.01 if wrong else 0.25), drawn(5, 3), drawn(5, 2)


# scratch --------------------------------------------------------------------------------------------------------------


@pair("scratch: an activation", "a", "forward")
def _(wrong: bool) -> Any:
    import keras

    from scratch.layers.core import Dense
    from scratch.losses.regression import MeanSquaredError
    from scratch.model import Model
    from scratch.objective import Objective

    a = sequential((3,), keras.layers.Dense(4, "tanh", name="a"), keras.layers.Dense(2))
    twin = Model.chain([Dense(4, "softsign" if wrong else "tanh"), Dense(2)], (3,))
    return a, Objective.of(twin, MeanSquaredError()), drawn(5, 3), drawn(5, 2)


# Keras on other backends ----------------------------------------------------------------------------------------------


def images(kind: str = "Max") -> Any:
    import keras

    k = keras.layers
    pool = getattr(k, f"{kind}Pooling2D")(2, name="pool")
    return sequential((6, 6, 2), k.Conv2D(3, 3, activation="relu"), pool, k.Flatten(), k.Dense(2))


def other_images() -> Any:
    return images("Average")


def momentum(*, nesterov: bool = False) -> Any:
    import keras

    k = keras.layers
    sgd = keras.optimizers.SGD(0.1, momentum=0.9, nesterov=nesterov)
    return sequential((3,), k.Dense(4, "softplus", name="a"), k.Dense(2), optimizer=sgd)


def nesterov() -> Any:
    return momentum(nesterov=True)


def attention(epsilon: float = 1e-3) -> Any:
    import keras

    k = keras.layers
    x = keras.Input((4, 6))
    h = k.MultiHeadAttention(2, 3, name="attention")(x, x)
    return keras.Model(x, k.Dense(2)(k.LayerNormalization(epsilon=epsilon, name="norm")(k.Add()([x, h]))))


def other_attention() -> Any:
    return attention(1e-6)


@pair("keras on jax: the kind of a pooling", "pool", "forward", steps=1)
def _(wrong: bool) -> Any:
    return images(), f"keras-jax:pairs:{'other_images' if wrong else 'images'}", drawn(4, 6, 6, 2), drawn(4, 2)


@pair("keras on jax: Nesterov's momentum", "a/kernel", "update", steps=2)
def _(wrong: bool) -> Any:
    return momentum(), f"keras-jax:pairs:{'nesterov' if wrong else 'momentum'}", drawn(5, 3), drawn(5, 2)


@pair("keras on torch: epsilon behind an attention", "norm", "forward", needs="torch")
def _(wrong: bool) -> Any:
    return attention(), f"keras-torch:pairs:{'other_attention' if wrong else 'attention'}", drawn(5, 4, 6), None


# Keras and Keras ------------------------------------------------------------------------------------------------------


@pair("keras: a learning rate", "a/kernel", "update", steps=2)
def _(wrong: bool) -> Any:
    import keras

    def build(rate: float) -> Any:
        k = keras.layers
        return sequential((3,), k.Dense(4, "elu", name="a"), k.Dense(2), optimizer=keras.optimizers.RMSprop(rate))

    return build(0.01), build(0.02 if wrong else 0.01), drawn(5, 3), drawn(5, 2)


@pair("keras: a penalty", "loss", "loss")
def _(wrong: bool) -> Any:
    import keras

    def build(penalty: float) -> Any:
        k, l2 = keras.layers, keras.regularizers.L2
        return sequential((3,), k.Dense(4, "silu", kernel_regularizer=l2(penalty)), k.Dense(2), loss="huber")

    return build(0.01), build(0.02 if wrong else 0.01), drawn(5, 3), drawn(5, 2)


def compared(one: Pair, *, wrong: bool) -> Any:
    from keras_ref import compare

    a, b, x, y = one.make(wrong)
    return compare(a, b, x, y, **{"steps": 1, **one.options})


def is_named(one: Pair, found: Any) -> bool:
    """Whether a comparison names the planted difference by layer and stage."""
    row = found.parting
    return row is not None and row.stage == one.stage and bool({row.a, row.b} & set(one.places))


def available(one: Pair) -> bool:
    return all(importlib.util.find_spec(module) for module in one.needs)


def main() -> int:
    chosen = [one for one in PAIRS if not sys.argv[1:] or any(word in one.name for word in sys.argv[1:])]
    run = [one for one in chosen if available(one)]
    named = accused = 0
    for one in run:
        started = time.perf_counter()
        right, wrong = compared(one, wrong=False), compared(one, wrong=True)
        named += is_named(one, wrong)
        accused += not right.ok
        print(f"{one.name}: {wrong.sentence}  ({time.perf_counter() - started:.0f} s)", flush=True)
        if not right.ok:
            print(f"  ACCUSED: {right.sentence}")
        if not is_named(one, wrong):
            print(f"  NOT NAMED: expected {one.places} ({one.stage})")
    left = f"; {len(chosen) - len(run)} pairs need PyTorch, which is not installed" if len(run) < len(chosen) else ""
    print(
        f"{named} of {len(run)} differences named by layer and stage, {accused} of {len(run)} equal pairs accused{left}"
    )
    return 0 if named == len(run) and not accused else 1


if __name__ == "__main__":
    sys.exit(main())
