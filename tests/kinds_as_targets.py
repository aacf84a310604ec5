"""The kinds of model_kinds.py and loss_kinds.py as targets that a worker opens: right_3, planted_3 make kind 3."""

import keras
import loss_kinds  # noqa: F401 (registers its kinds)
import numpy as np
from model_kinds import KINDS, PLANTED

#: kinds that are about TensorFlow: train steps with a GradientTape, code that looks at values
OF_TENSORFLOW = (
    "a train_step of its own (check_updates)",
    "a train_step with a loss of its own, returned as a metric (check_updates)",
    "only eagerly",
    "a loss object behind two functions of one's own",
    "a learning-rate schedule of one's own (check_updates)",
)
#: those of the two files alone, whatever else has registered kinds in this process: a worker counts the same ones
NAMES = [
    name
    for name, make in KINDS.items()
    if make.__module__ in ("model_kinds", "loss_kinds") and name not in OF_TENSORFLOW
]


def made(name, wrong):
    """A kind of model, made as test_any_model.py makes it."""
    keras.utils.set_random_seed(5)
    return KINDS[name](wrong)


def negated_by_jax():
    """A layer that only JAX runs, with a backward pass of the wrong sign; and a random one."""
    import jax

    @jax.custom_vjp
    def half(x):
        return x / 2

    half.defvjp(lambda x: (half(x), None), lambda _, upstream: (upstream * -0.5,))

    class Half(keras.layers.Layer):
        def call(self, x):
            return half(x)

    layers = [keras.Input((3,)), keras.layers.Dense(2, name="a"), Half(), keras.layers.Dropout(0.5, name="drop")]
    model = keras.Sequential(layers, name="net")
    model.compile(loss="mse")
    return model, np.ones((2, 3)) / 4, np.ones((2, 2)) / 8


def __getattr__(name):
    which, _, number = name.partition("_")
    if which not in ("right", "planted"):
        raise AttributeError(name)
    return lambda: made(NAMES[int(number)], PLANTED if which == "planted" else 0.0).model
