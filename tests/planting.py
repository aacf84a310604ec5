"""Models with an honest error in their backward pass: the forward pass is Keras's, a custom gradient scales what is
left.
"""

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend.common.stateless_scope import get_stateless_scope, in_stateless_scope


@tf.custom_gradient
def scaled(value, factor):
    """The value itself, its gradient multiplied by `factor`, entry by entry."""
    return tf.identity(value), lambda upstream: (upstream * factor, None)


def plant(layer, **factors):
    """Let the gradients of a layer's weights, by attribute name, or of its "input", be multiplied by arrays; None takes
    it away.

    The layer's own `call` runs as it is: for its time the variable stands for the value with the custom gradient.
    """
    original = type(layer).call

    def call(x, *arguments, **options):
        replaced = []
        for name, factor in factors.items():
            if name == "input":
                x = scaled(x, tf.cast(factor, x.dtype))
                continue
            variable = getattr(layer, name)
            value = tf.convert_to_tensor(variable)
            replaced.append((variable, scaled(value, tf.cast(factor, value.dtype))))
        with _standing_in(replaced):
            return original(layer, x, *arguments, **options)

    layer.call = call if factors else original.__get__(layer)


class _standing_in:
    """Variables read as tensors inside the block: the innermost stateless scope of Keras, or a new one, says so."""

    def __init__(self, replaced):
        outer = get_stateless_scope() if in_stateless_scope() else None
        mapping = dict(outer.state_mapping) if outer is not None else {}
        self.scope = None
        if replaced:
            self.scope = keras.StatelessScope()
            self.scope.state_mapping.update(mapping | {id(v): value for v, value in replaced})

    def __enter__(self):
        if self.scope is not None:
            self.scope.__enter__()

    def __exit__(self, *error):
        if self.scope is not None:
            self.scope.__exit__(*error)


def factors(shape, entries, factor):
    """Ones, and `factor` at the given entries."""
    array = np.ones(shape)
    for entry in entries:
        array[entry] = factor
    return array


#: how wrong `wrong` makes a gradient, relative
PLANTED = 1e-4


def wrong(function, factor=1 + PLANTED):
    """A function with its right gradient times a factor."""

    @tf.custom_gradient
    def planted(*x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(*x)

        def backward(*upstream):
            found = tape.gradient(y, x, list(upstream) if len(upstream) > 1 else upstream[0])
            return [None if g is None else g * factor for g in found]

        return y, backward

    return planted
