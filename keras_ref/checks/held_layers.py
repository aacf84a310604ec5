"""What lies before and behind layers whose gradient is no derivative on purpose, compared all the same.

No difference of the loss tells whether the backward pass before a staircase is right: the loss does not move with it,
or jumps. So each call y = q(z) of such a layer is held at the point. Its own backward pass, which turns ∂L/∂y into a
cotangent g for z, is used without being checked. The loss

    L'(θ, δ) = L with y + δ in the place of each q(z)  +  Σ ⟨g, z⟩  +  Σ ⟨g_w, w⟩  (w the weights of the layer itself)

has at δ = 0 the gradient of L by the chain rule, and its forward pass is no staircase. Its slopes in θ decide what lies
before the layers, those in δ what lies behind them: were ∂L/∂y wrong, so would be g.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ref.checks.checked_loss import CheckedLoss
from keras_ref.checks.disconnected import GradientPaths
from keras_ref.checks.surrogates import calling_instead
from keras_ref.comparison.efforts import choose_effort
from keras_ref.comparison.sources.autodiff import Autodiff, run_autodiff
from keras_ref.comparison.sources.evidence import Evidence
from keras_ref.comparison.sources.oracles import DirectionalOracle, ForwardOracle
from keras_ref.errors import BadInput, UserCodeFailed, running_user_code
from keras_ref.evaluation.backward_errors import running_backward_pass
from keras_ref.evaluation.graphs.traced_losses import Way
from keras_ref.evaluation.keras_objects.keras_parts import unwrap_variable
from keras_ref.evaluation.loss_function import Data, LossFunction
from keras_ref.reports.verdict import Kind, Verdict
from scratch.arrays import Array

#: what the outputs of layers that are held are called among the variables of L'
HELD = "held_output"
#: kinds of verdict on L' that take the place of a surrogate
DECISIVE = frozenset((Kind.MISMATCH, Kind.NAN, Kind.UNDECIDED))


class NotHeld(Exception):
    """The calls of a layer cannot be held: they lie inside a loop, or differ from one evaluation to the next."""


@dataclass(frozen=True, kw_only=True)
class HeldCall:
    """One call of a layer at the point, the outermost of such layers: arrays, None for what is no float.

    outputs      what it returned, as a flat list, and `structure` as the layer nests it
    upstream     ∂L/∂y of each output
    cotangents   g for each of its arguments, as a flat list; None where there is no gradient
    weights      g_w by the names of the variables of the loss
    """

    layer: Any
    structure: Any
    outputs: tuple[Array, ...]
    upstream: tuple[Array | None, ...]
    cotangents: tuple[Array | None, ...]
    weights: Mapping[str, Array]


@dataclass(frozen=True, kw_only=True)
class Beside:
    """What comparing L' says: a verdict on each name, and on all outputs of layers that are not right."""

    names: tuple[str, ...]
    verdicts: Mapping[str, Verdict]
    wrong_behind: tuple[tuple[Any, Verdict], ...]
    refusal: str = ""

    def of(self, name: str, paths: GradientPaths) -> Verdict | None:
        """The verdict that a variable or input gets in the place of a surrogate; None where it stays one."""
        if name not in self.names:
            return None
        own = self.verdicts.get(name)
        if own is not None and own.verdict in DECISIVE:
            return own
        behind = [verdict for layer, verdict in self.wrong_behind if paths.reaches(name, [layer])]
        return replace(behind[0], name=name) if behind else None


def compare_beside_layers(names: Sequence[str], *, evidence: Evidence, paths: GradientPaths) -> Beside:
    """The comparison of what lies before and behind the surrogate and quantizing layers of a check, by names."""
    layers = [*paths.surrogates, *paths.quantizing]
    names = [name for name in names if evidence.autodiff.gradient[name] is not None]
    nothing = Beside(names=(), verdicts={}, wrong_behind=())
    if not layers or not names or paths.subject is None:
        return nothing
    try:
        calls = _record_calls(paths.loss, layers)
        return _compare(names, calls, evidence=evidence, subject=paths.subject, loss=paths.loss)
    except (NotHeld, UserCodeFailed, BadInput) as failed:
        return replace(nothing, refusal=str(failed))


def _compare(
    names: Sequence[str], calls: Sequence[HeldCall], *, evidence: Evidence, subject: CheckedLoss, loss: LossFunction
) -> Beside:
    moves = [
        {i: _zeros(f"{HELD}_{k}_{i}", y) for i, y in enumerate(call.outputs) if call.upstream[i] is not None}
        for k, call in enumerate(calls)
    ]
    held = replace(
        subject,
        loss=_hold_layers(subject.loss, loss, calls, moves),
        trained=[*loss.variables.values(), *(move for some in moves for move in some.values())],
    ).function(watch_inputs=bool(loss.inputs), dtype=loss.dtype)
    held.unit = loss.unit
    if evidence.settings.along_directions:
        oracle: ForwardOracle = DirectionalOracle.of(held)
    else:
        oracle = ForwardOracle.at(held, held.values, seed=evidence.settings.seed, inputs=frozenset(held.inputs))
    upstream = {
        move.path: (call.layer, np.asarray(call.upstream[i], float))
        for call, some in zip(calls, moves, strict=True)
        for i, move in some.items()
    }
    own = {name: gradient for name, (_, gradient) in upstream.items()}
    autodiff = _as_in_loss(run_autodiff(held, held.values, mode=evidence.autodiff.how), evidence.autodiff, own)
    inside = replace(
        evidence,
        loss=held,
        oracles=(oracle,),
        autodiff=autodiff,
        names=(*names, *upstream),
        surrogates=frozenset(),
        preparation=None,
    )
    found = {v.name: v for v in choose_effort(inside).compare(inside).verdicts}
    wrong = [(upstream[name][0], v) for name, v in found.items() if name in upstream and v.verdict in DECISIVE]
    return Beside(names=tuple(names), verdicts=found, wrong_behind=tuple(wrong))


def _zeros(name: str, like: Array) -> Any:
    return keras.Variable(np.zeros_like(like), dtype=like.dtype.name, name=name)


def _as_in_loss(held: Autodiff, whole: Autodiff, upstream: Mapping[str, Array]) -> Autodiff:
    """Autodiff of L', with the values that it has in L at the point: they are what is to be judged."""
    gradient = {**held.gradient, **{n: g for n, g in whole.gradient.items() if n in held.gradient}, **upstream}

    def measure() -> Mapping[str, Array]:
        own, other = held.rounding, whole.rounding
        return {name: error + other[name] if name in other else 2 * error for name, error in own.items()}

    return replace(held, gradient=gradient, measure_rounding=measure)


def _hold_layers(
    loss: Callable[[Data], Any], point: LossFunction, calls: Sequence[HeldCall], moves: Sequence[Mapping[int, Any]]
) -> Callable[[Data], Any]:
    """L' as a function of data; `moves` are the variables δ by call and output."""

    def held(data: Data) -> Any:
        terms, number = list[Any](), iter(range(len(calls)))

        def instead(layer: Any, _: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
            k = next(number, -1)
            if k < 0 or calls[k].layer is not layer:
                raise NotHeld(f"{layer.name} is not called in the same order again")
            leaves = keras.tree.flatten((arguments, keywords))
            terms.extend(_product(g, z) for g, z in zip(calls[k].cotangents, leaves, strict=True) if g is not None)
            outputs = [
                tf.constant(y) + tf.convert_to_tensor(moves[k][i]) if i in moves[k] else tf.constant(y)
                for i, y in enumerate(calls[k].outputs)
            ]
            return keras.tree.pack_sequence_as(calls[k].structure, outputs)

        with calling_instead(_drop_repeated(calls), instead):
            whole = loss(data)
        for call in calls:
            terms.extend(_product(g, tf.convert_to_tensor(point.variables[n])) for n, g in call.weights.items())
        return tf.add_n([whole, *(tf.cast(term, whole.dtype) for term in terms)])

    return held


def _drop_repeated(calls: Sequence[HeldCall]) -> list[Any]:
    return list({id(call.layer): call.layer for call in calls}.values())


def _product(cotangent: Array, tensor: Any) -> Any:
    tensor = tf.convert_to_tensor(tensor)
    return tf.reduce_sum(tf.constant(cotangent, tensor.dtype) * tensor)


@dataclass(frozen=True, kw_only=True)
class _Recorded:
    """One call while the loss runs under a tape: its arguments and results as flat lists.

    `raw` are results as the layer's own tape has them, `outputs` the same as what follows sees them.
    """

    layer: Any
    structure: Any
    arguments: list[Any]
    raw: list[Any]
    outputs: list[Any]
    weights: Mapping[str, Any]
    tape: Any

    def cotangents(self, upstream: Sequence[Any]) -> list[Any]:
        """What the layer's own backward pass makes of ∂L/∂y: for float arguments first, and weights."""
        at = [i for i, one in enumerate(upstream) if one is not None]
        sources = [*filter(_is_float, self.arguments), *self.weights.values()]
        if not at or not sources:
            return [None] * len(sources)
        given = [upstream[i] for i in at]
        return list(self.tape.gradient([self.raw[i] for i in at], sources, output_gradients=given))

    def hold(self, *, outputs: Sequence[Any], upstream: Sequence[Any], cotangents: Sequence[Any]) -> HeldCall:
        """The call with what it returned at the point."""
        found = iter(cotangents)
        of_arguments = tuple(_densify(next(found)) if _is_float(one) else None for one in self.arguments)
        of_weights = {name: _densify(next(found)) for name in self.weights}
        return HeldCall(
            layer=self.layer,
            structure=self.structure,
            outputs=tuple(map(np.asarray, outputs)),
            upstream=tuple(map(_densify, upstream)),
            cotangents=of_arguments,
            weights={name: g for name, g in of_weights.items() if g is not None},
        )


def _record_calls(loss: LossFunction, layers: list[Any]) -> list[HeldCall]:
    """The calls of these layers at the loss's point, in order. Raises: NotHeld; UserCodeFailed."""
    made: list[_Recorded] = []

    def evaluate(inputs: list[Any], held: list[Any]) -> Any:
        made.clear()
        with (
            tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape,
            _recording(layers, loss, tape, made),
        ):
            value = loss.loss_at(inputs, held)
        graph = getattr(value, "graph", None)
        if any(getattr(y, "graph", None) is not graph for call in made for y in call.raw):
            raise NotHeld("it is called inside a loop or a branch")
        with running_backward_pass():
            upstream = [_gradients(tape, value, call.outputs) for call in made]
            cotangents = [call.cotangents(one) for call, one in zip(made, upstream, strict=True)]
        return [call.outputs for call in made], upstream, cotangents

    run = evaluate if loss.way is Way.EAGER else tf.function(evaluate, autograph=False)
    try:
        with running_user_code():
            found = run(*loss.prepare_arguments())
    finally:
        loss.restore_values()
    return [
        call.hold(outputs=outputs, upstream=upstream, cotangents=cotangents)
        for call, outputs, upstream, cotangents in zip(made, *found, strict=True)
    ]


def _gradients(tape: Any, value: Any, outputs: Sequence[Any]) -> list[Any]:
    """∂L/∂y of each output; None of what is no float."""
    found = iter(tape.gradient(value, [y for y in outputs if _is_float(y)]))
    return [next(found) if _is_float(y) else None for y in outputs]


@contextmanager
def _recording(layers: list[Any], loss: LossFunction, tape: Any, made: list[_Recorded]) -> Iterator[None]:
    """While the block runs, the outermost calls of these layers are added to `made`."""
    depth = 0

    def instead(layer: Any, call: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        nonlocal depth
        if depth:
            return call(*arguments, **keywords)
        given = [tf.identity(one) if _is_float(one) else one for one in keras.tree.flatten((arguments, keywords))]
        positional, named = keras.tree.pack_sequence_as((arguments, keywords), given)
        own = {id(unwrap_variable(w)) for w in layer.trainable_variables}
        weights = {n: v for n, w in loss.variables.items() if id(v := unwrap_variable(w)) in own}
        depth += 1
        try:
            with tf.GradientTape(watch_accessed_variables=False) as inner:
                inner.watch([*filter(_is_float, given), *weights.values()])
                result = call(*positional, **named)
        finally:
            depth -= 1
        raw = keras.tree.flatten(result)
        outputs = [tf.identity(y) for y in raw]
        tape.watch([*filter(_is_float, outputs)])
        made.append(
            _Recorded(
                layer=layer,
                structure=result,
                arguments=given,
                raw=raw,
                outputs=outputs,
                weights=weights,
                tape=inner,
            )
        )
        return keras.tree.pack_sequence_as(result, outputs)

    with calling_instead(layers, instead):
        yield


def _is_float(one: Any) -> bool:
    return bool(tf.is_tensor(one) and one.dtype.is_floating)


def _densify(gradient: Any) -> Array | None:
    return None if gradient is None else np.asarray(tf.convert_to_tensor(gradient))
