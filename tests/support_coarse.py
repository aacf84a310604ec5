"""Whether a function of float64 tensors computes in less."""

import numpy as np
import tensorflow as tf

#: shares by which arguments move: below the digits of float32, and above them
BELOW, ABOVE = 2.0**-30, 2.0**-12
#: what float64 moves by below is this share of what it moves by above, to a quarter: it bends by 2^-12, and rounds by
#: 2^-22 of it
SHARE, QUARTER = BELOW / ABOVE, 0.25


def is_coarse(function, arguments):
    """Whether more than half of what moves with the arguments moves otherwise where float32 would not see them move."""
    there = moves(function, arguments)
    if there is None:
        return False
    above, below = there
    return np.mean(np.abs(below / (SHARE * above) - 1) > QUARTER) > 0.5


def moves(function, arguments):
    """How far the entries of float64 outputs move above and below, those that move at all; None where none does."""
    base, above, below = (
        _floats(function, _moved(arguments, share, np.random.default_rng(0))) for share in (0.0, ABOVE, BELOW)
    )
    if not base.size or not (chosen := (above != base) & np.isfinite(above) & np.isfinite(base)).any():
        return None
    return (above - base)[chosen], (below - base)[chosen]


def as_tensor(argument):
    """An array of float64 as a tensor; whole numbers as they are, which take the dtype that an operation wants."""
    return tf.constant(argument) if isinstance(argument, np.ndarray) and argument.dtype == np.float64 else argument


def _moved(argument, share, generator):
    if isinstance(argument, list | tuple):
        return type(argument)(_moved(one, share, generator) for one in argument)
    if isinstance(argument, np.ndarray) and argument.dtype == np.float64:
        argument = argument * (1 + share * generator.uniform(0.5, 1, argument.shape))
    return argument


def _floats(function, arguments):
    """All float64 numbers that a function gives."""
    outputs = tf.nest.flatten(function(*map(as_tensor, arguments)), expand_composites=True)
    found = [np.ravel(t) for t in outputs if tf.is_tensor(t) and t.dtype == tf.float64]
    return np.concatenate(found) if found else np.zeros(0)
