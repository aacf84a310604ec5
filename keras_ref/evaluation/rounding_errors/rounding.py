"""The rounding error of a traced computation, by Monte Carlo arithmetic (the model is stated in scratch/noise.py).

Every operation is computed twice: as it is, and beside it off by units in the last place of the dtype that it computes
in, up or down at random. Both take the same decisions (comparisons, indices, loop counts), those of the first, so that
the difference of the two is rounding alone. There is no kink in it, no tie that breaks, no jump, and nothing that
depends on how steep the function is.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2
from tensorflow.python.eager import context

from keras_ref.errors import shorten_error
from keras_ref.evaluation.graphs.function_definitions import Definition, collect_definitions
from keras_ref.evaluation.graphs.graph import walk_operations
from keras_ref.evaluation.graphs.stacked_calls import has_order
from keras_ref.evaluation.rounding_errors.rounded_graph import COPIED, convert
from keras_ref.evaluation.rounding_errors.rounded_nodes import BY_THEMSELVES, IN_COMMON, NOT_OFF
from scratch.arrays import Array
from scratch.differences import SAFETY
from scratch.noise import errors_of, noise_of

#: the attribute of what XLA has to compile
COMPILED = "_XlaMustCompile"


class ConversionFailed(Exception):
    """A converted function does not compute what the function computes: a fault of the conversion."""


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
    them is no part of an error. `compute` gives the function's outputs for flat arguments where something else has
    called it already: the first call of a function costs a hundred others.
    """

    def __init__(
        self,
        function: Any,
        *,
        moves_point: bool = False,
        moving: Collection[int] | None = None,
        compute: Callable[[list[Any]], list[Any]] | None = None,
    ) -> None:
        definitions = collect_definitions(function)
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
        self._compute = compute or self._call
        self._is_confirmed = False
        #: whether XLA compiles parts, which the conversion runs as they are: some operations have no kernel for that
        self._is_compiled = any(map(_is_compiled, definitions))
        for definition in library.values():
            here.add_function_def(definition)
        weakref.finalize(self, _forget, here, list(library))

    def noise(self, arguments: list[Any], *, calls: int) -> float:
        """The absolute error of the only output, one loss or several at the same point; nan where rounding makes half
        of the evaluations raise, as it does where a matrix lies close to a singular one.

        Raises: ConversionFailed.
        """
        base, deviations = math.nan, list[float]()
        for k in range(calls):
            try:
                roll = self.roll(arguments, how=_choose_pattern(k))
            except tf.errors.OpError:
                self._confirm(arguments, [math.nan])
                deviations.append(math.nan)
                continue
            base = float(np.ravel(roll.exact[0])[0])
            deviations += np.ravel(_deviation(roll, 0)).tolist()
        spread = np.fmax.reduce(deviations) - np.fmin.reduce(deviations)
        self._confirm(arguments, [spread])
        return noise_of(deviations, base)

    def errors(self, arguments: list[Any], *, calls: int) -> list[Array]:
        """The absolute error of every entry of every output. One evaluation is held at a time: outputs may be large.

        Raises: ConversionFailed; OpError where rounding makes half of the evaluations raise.
        """
        exact, lowest, highest, raised = list[Array](), list[Array](), list[Array](), 0
        for k in range(calls):
            try:
                roll = self.roll(arguments, how=_choose_pattern(k))
            except tf.errors.OpError:
                self._confirm(arguments, [math.nan] * len(self._outputs))
                raised += 1
                if 2 * raised > calls:
                    raise
                continue
            found = [_deviation(roll, i) for i in range(len(roll.exact))]
            exact = exact or [np.asarray(one, float) for one in roll.exact]
            lowest = [np.fmin(*pair) for pair in zip(lowest or found, found, strict=True)]
            highest = [np.fmax(*pair) for pair in zip(highest or found, found, strict=True)]
            del roll, found
        with np.errstate(invalid="ignore"):
            spreads = [np.max(high - low, initial=0.0) for low, high in zip(lowest, highest, strict=True)]
        self._confirm(arguments, spreads)
        return [errors_of((low, high), one) for low, high, one in zip(lowest, highest, exact, strict=True)]

    def _confirm(self, arguments: list[Any], spreads: Sequence[float]) -> None:
        """Once for each conversion: not off, the copies are what the function computes.

        Operations that are computed as a composition of others round otherwise: by no more than `spreads`, how far the
        evaluations that are off lie from each other in each output, nan where that is not known. What draws random
        numbers, or has an order otherwise, is not the same twice.
        Raises: ConversionFailed.
        """
        if self._is_confirmed:
            return
        repeats = not any(map(has_order, walk_operations(self._function.graph)))
        try:
            originals = self._compute(arguments) if repeats else self._call(arguments)
        except tf.errors.OpError:  # the function itself raises, and so may its conversion
            return
        try:
            conversion = self.roll(arguments, how=NOT_OFF)
        except tf.errors.OpError as error:
            if self._is_compiled:
                return
            raise ConversionFailed(shorten_error(error)) from error
        for i, spread in enumerate(spreads):
            apart = [_deviation(conversion, i)]
            if repeats:
                apart.append(_deviation(Roll(conversion.exact, originals), i))
            if max(_find_largest(one) for one in apart) > SAFETY * spread:
                raise ConversionFailed(f"output {i} is off by more than rounding")
        self._is_confirmed = True

    def _call(self, arguments: list[Any]) -> list[Any]:
        """The outputs of the function itself."""
        found = tf.raw_ops.StatefulPartitionedCall(
            args=[*arguments, *self._function.captured_inputs],
            Tout=self._outputs,
            f=self._function.function_def.signature.name,
            config_proto=self._settings,
        )
        return list(found)

    def roll(self, arguments: list[Any], *, how: int, copies: list[Any] | None = None) -> Roll:
        """One evaluation for flat arguments; `how` entries are off: BY_THEMSELVES, IN_COMMON or NOT_OFF.

        `copies` are the arguments of the copy, where they are others: it takes the decisions of the first all the same.
        """
        captured = self._function.captured_inputs
        given = [*arguments, *captured]
        moved = [*(arguments if copies is None else copies), *captured]
        copies = [a for a, t in zip(moved, self._dtypes, strict=True) if t in COPIED]
        found = tf.raw_ops.StatefulPartitionedCall(
            args=[*given, *copies, tf.constant(how)],
            Tout=self._results,
            f=self._name,
            config_proto=self._settings,
        )
        rest = iter(found[len(self._outputs) :])
        return Roll(list(found[: len(self._outputs)]), [next(rest) if t in COPIED else None for t in self._outputs])


def _is_compiled(definition: Definition) -> bool:
    """Whether a function, or one that an operation in it calls, has to be compiled by XLA."""
    return any(COMPILED in attributes for attributes in (definition.attr, *(node.attr for node in definition.node_def)))


def _choose_pattern(k: int) -> int:
    """How entries are off in repetition `k`: in every second one all of a tensor in one direction."""
    return IN_COMMON if k % 2 else BY_THEMSELVES


def _deviation(roll: Roll, i: int) -> Array:
    """How far rounding moved output `i`, from the value that the same evaluation has without it: a seed may advance."""
    with np.errstate(invalid="ignore"):
        deviation: Array = np.asarray(roll.rolled[i], float) - np.asarray(roll.exact[i], float)
    return deviation


def _find_largest(deviation: Array) -> float:
    return float(np.max(np.abs(deviation), initial=0.0, where=np.isfinite(deviation)))


def _forget(here: Any, names: list[str]) -> None:
    """Take functions out of TensorFlow's library."""
    for name in names:
        here.remove_function(name)
