"""The rounding error of a traced computation, by Monte Carlo arithmetic (the model is stated in scratch/noise.py).

Every operation is computed twice: as it is, and beside it off by units in the last place of the dtype that it computes
in, up or down at random. Both take the same decisions (comparisons, indices, loop counts), those of the first, so that
the difference of the two is rounding alone: no kink, no tie that breaks, no jump, and nothing that depends on how steep
the function is.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2
from tensorflow.python.eager import context

from keras_ref.evaluation.function_definitions import definitions_of
from keras_ref.evaluation.rounded_graph import COPIED, convert
from scratch.arrays import Array
from scratch.noise import errors_of, noise_of


@dataclass(frozen=True)
class Roll:
    """The outputs of a function as they are, and off by rounding; None where an output holds no floats."""

    exact: list[Any]
    rolled: list[Any]


class Rounded:
    """A concrete function whose every operation is computed twice, exactly as it is and off by rounding.

    `function` is a concrete function of TensorFlow; it stays what it is. What it does in the scope EXACT_SCOPE is done
    once. The random numbers come from seeds of their own: global ones are not touched, and every instance draws the
    same. `moving` are the places of the arguments that move, where others rest: what is computed without
    them is no part of an error.
    """

    def __init__(self, function: Any, *, moves_point: bool = False, moving: Collection[int] | None = None) -> None:
        definitions = definitions_of(function)
        main = definitions[0]
        self._name, library = convert(definitions, main.signature.name, moves_point=moves_point, moving=moving)
        #: functions that an operation calls without a copy live as long as the one that they belong to
        self._function = function
        self._results = [a.type for a in library[self._name].signature.output_arg]
        self._dtypes = [tf.as_dtype(a.type) for a in main.signature.input_arg]
        self._outputs = [tf.as_dtype(a.type) for a in main.signature.output_arg]
        here = context.context()
        settings = config_pb2.ConfigProto()
        settings.CopyFrom(here.config)
        # what rewriting would save in a few calls is less than it costs
        settings.graph_options.rewrite_options.disable_meta_optimizer = True
        self._settings = settings.SerializeToString()
        for definition in library.values():
            here.add_function_def(definition)
        weakref.finalize(self, _forget, here, list(library))

    def noise(self, arguments: list[Any], *, calls: int) -> float:
        """The absolute error of the only output, one loss or several at the same point; nan where it cannot be told."""
        base, deviations = math.nan, list[float]()
        for k in range(calls):
            try:
                roll = self.roll(arguments, common=k % 2 == 1)
            except tf.errors.OpError:  # a matrix lies so close to a singular one that rounding makes it one
                deviations.append(math.nan)
                continue
            exact, rolled = np.ravel(roll.exact[0]).astype(float), np.ravel(roll.rolled[0]).astype(float)
            base = float(exact[0])
            with np.errstate(invalid="ignore"):
                deviations += (rolled - exact).tolist()
        return noise_of(deviations, base)

    def errors(self, arguments: list[Any], *, calls: int) -> list[Array]:
        """The absolute error of every entry of every output. One evaluation is held at a time: outputs may be large."""
        first = self.roll(arguments, common=False)
        exact = [np.asarray(one, float) for one in first.exact]
        largest = [_deviation(first, i) for i in range(len(exact))]
        del first
        for k in range(1, calls):
            roll = self.roll(arguments, common=k % 2 == 1)
            largest = [np.fmax(found, _deviation(roll, i)) for i, found in enumerate(largest)]
        return [errors_of([found], one) for found, one in zip(largest, exact, strict=True)]

    def roll(self, arguments: list[Any], *, common: bool, copies: list[Any] | None = None) -> Roll:
        """One evaluation for flat arguments; `common`: the entries of a tensor are all off in one direction.

        `copies` are the arguments of the copy, where they are others: it takes the decisions of the first all the same.
        """
        captured = self._function.captured_inputs
        given = [*arguments, *captured]
        moved = [*(arguments if copies is None else copies), *captured]
        copies = [a for a, t in zip(moved, self._dtypes, strict=True) if t in COPIED]
        found = tf.raw_ops.StatefulPartitionedCall(
            args=[*given, *copies, tf.constant(int(common))],
            Tout=self._results,
            f=self._name,
            config_proto=self._settings,
        )
        rest = iter(found[len(self._outputs) :])
        return Roll(list(found[: len(self._outputs)]), [next(rest) if t in COPIED else None for t in self._outputs])


def _deviation(roll: Roll, i: int) -> Array:
    """How far rounding moved output `i`, from the value that the same evaluation has without it: a seed may advance."""
    with np.errstate(invalid="ignore"):
        deviation: Array = np.abs(np.asarray(roll.rolled[i], float) - np.asarray(roll.exact[i], float))
    return deviation


def _forget(here: Any, names: list[str]) -> None:
    """Take functions out of TensorFlow's library."""
    for name in names:
        here.remove_function(name)
