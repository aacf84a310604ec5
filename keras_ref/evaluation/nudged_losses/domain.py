"""Losses at points that may lie outside the domain of what is checked: where an operation raises they are NaN."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_ref.errors import UserCodeFailed, describe_error
from scratch.arrays import Array

#: what operations raise, in a graph and in code that runs eagerly
RAISED = (tf.errors.OpError, UserCodeFailed)


def losses_in_domain(evaluate: Callable[[Array], Array], indices: Array, *, given: Array) -> Array:
    """The losses of points by their indices, NaN where an operation raises (an assertion, a factorization).

    Points that raise are found by halves.

    evaluate   the losses of some points, which raises where any of them does
    given      whether a point is the one that the check is given, which must not raise
    Raises: UserCodeFailed at a given point; tf.errors.ResourceExhaustedError.
    """
    try:
        return evaluate(indices)
    except tf.errors.ResourceExhaustedError:
        raise
    except RAISED as error:
        if len(indices) == 1 and given[indices[0]]:
            raise error if isinstance(error, UserCodeFailed) else UserCodeFailed(describe_error(error)) from error
        if len(indices) == 1:
            return np.full(1, np.nan)
    halves = np.array_split(indices, 2)
    return np.concatenate([losses_in_domain(evaluate, half, given=given) for half in halves])
