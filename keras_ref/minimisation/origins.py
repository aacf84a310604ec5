"""Where a search begins: cases of the parts of a subject that may be at fault alone, and of the whole subject last."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ref.checks.culprits import LayerCall, record_calls
from keras_ref.evaluation.loss_function import Data
from keras_ref.minimisation.cases import CallCase
from keras_ref.minimisation.expressions import Call, Expression, Imported, Listing, Table, Values, replace_node, walk
from keras_ref.minimisation.finding import Finding
from keras_ref.minimisation.reading import express
from keras_ref.minimisation.source import NotWritable

#: which derivatives of a layer are tried, in this order
BY = ("inputs", "weights")


@dataclass(frozen=True, kw_only=True)
class Form:
    """A form in which a layer is tried: with the weights that it has or with new ones; with which of its outputs."""

    with_weights: bool = False
    output: str = ""


#: what is tried of everything first, and of everything afterwards
FIRST = (Form(),)
LATER = (Form(with_weights=True), Form(output="*"), Form(with_weights=True, output="*"))


def of_function(
    function: Any, inputs: tuple[Any, ...], keywords: Mapping[str, Any], finding: Finding
) -> Iterator[CallCase]:
    """The cases of a function: of its output, or of all of them put together. Raises: NotWritable."""
    written = CallCase(
        subject=express(function),
        is_layer=False,
        arguments=tuple(map(as_point, map(express, inputs))),
        keywords=Table(tuple((name, express(value)) for name, value in keywords.items())),
        claim=finding.claim,
    )
    for output in ("", "*"):
        yield replace(written, output=output)
    if finding.claim == "definition" and len(written.arguments) == 1:  # which only layers have
        activation = Call(Imported("keras.layers", "Activation"), (written.subject,))
        yield replace(written, subject=activation, is_layer=True)


def of_layer(
    layer: Any,
    inputs: tuple[Any, ...],
    keywords: Mapping[str, Any],
    finding: Finding,
    *,
    subject: Expression = None,
    forms: tuple[Form, ...] = FIRST + LATER,
) -> Iterator[CallCase]:
    """The cases of a layer.

    forms     in which it is tried
    subject   how it is written, where that is known: by the factory that makes it

    Raises: NotWritable.
    """
    seeds = any("seed" in variable.path for variable in layer.non_trainable_variables)
    weights = tuple(Values(np.array(w), held=True) for w in layer.get_weights())
    written = CallCase(
        subject=express(layer) if subject is None else subject,
        is_layer=True,
        arguments=tuple(map(as_point, map(express, inputs))),
        keywords=Table(tuple((name, express(value)) for name, value in keywords.items() if value is not None)),
        claim=finding.claim,
        stateless=seeds,
    )
    for form in forms:
        if form.with_weights and not weights:
            continue
        for by in BY if layer.trainable_variables else BY[:1]:
            kept = Listing(weights) if form.with_weights else None
            yield replace(written, wrt=by, output=form.output, weights=kept)


def of_model(
    model: Any,
    data: Data,
    finding: Finding,
    *,
    loss: Any,
    training: bool,
    culprit: str,
    subject: Expression = None,
) -> Iterator[CallCase]:
    """The cases of a model: the penalties of weights; the layer at fault alone, or the loss alone where none is known;
    each layer alone on what the model gives it; the whole model with and without its loss.

    culprit   the name of the layer that the check found at fault, "" where it found none
    """
    calls = sorted(record_calls(model, data, training=training), key=lambda call: _rank(call, culprit))
    lone = _isolate_loss(model, data, finding, loss=loss, training=training)

    def layers(forms: tuple[Form, ...]) -> Iterator[CallCase]:
        for call in calls:
            keywords = {n: _simplify(v) for n, v in call.keywords.items() if v is not None and (n != "training" or v)}
            arguments = tuple(map(_simplify, call.arguments))
            yield from _select_written(
                lambda c=call, a=arguments, k=keywords: of_layer(c.layer, a, k, finding, forms=forms)
            )

    def whole(forms: tuple[Form, ...]) -> Iterator[CallCase]:
        how = {"training": True} if training else {}
        for case in _select_written(lambda: of_layer(model, (data.x,), how, finding, subject=subject, forms=forms)):
            yield case
            if lone is not None:
                yield replace(case, loss=lone.subject, targets=lone.arguments[0])

    alone = () if lone is None else (lone,)
    parts = (layers(FIRST), alone) if culprit else (alone, layers(FIRST))
    yield from chain(_list_regularizers(calls, finding), *parts, whole(FIRST), layers(LATER), whole(LATER))


def _isolate_loss(model: Any, data: Data, finding: Finding, *, loss: Any, training: bool) -> CallCase | None:
    """The loss of the model's output; None where there are several or none, or where it cannot be written."""
    given = model.loss if loss is None else loss
    if given is None or data.y is None or isinstance(given, (list, tuple, dict)):
        return None
    outputs = np.asarray(model(data.x, training=training), dtype="float64")
    try:
        arguments = (_hold(express(data.y)), Values(outputs))
        return CallCase(subject=_read_loss(given), is_layer=False, arguments=arguments, claim=finding.claim)
    except NotWritable:
        return None


def _list_regularizers(calls: list[LayerCall], finding: Finding) -> Iterator[CallCase]:
    """The penalties of the layers, each at the weight that it penalizes: Keras takes them from the variables."""
    weights = {id(weight): weight for call in calls for weight in getattr(call.layer, "trainable_weights", ())}
    for weight in weights.values():
        penalty = getattr(weight, "regularizer", None)
        if penalty is not None:
            yield from _select_written(lambda p=penalty, w=weight: of_function(p, (np.array(w),), {}, finding))


def _rank(call: LayerCall, culprit: str) -> tuple[bool, bool, bool]:
    kind = type(call.layer).__module__
    holds = bool(call.layer._flatten_layers(include_self=False))  # noqa: SLF001 (no public way to what a layer holds)
    return call.layer.name != culprit, holds, kind.startswith("keras.")


def _select_written(make: Any) -> Iterator[CallCase]:
    """The cases that can be written."""
    try:
        yield from make()
    except NotWritable:
        return


def _read_loss(given: Any) -> Expression:
    return express(keras.losses.get(given) if isinstance(given, str) else given)


def as_point(tree: Expression) -> Expression:
    """An argument with floats as float64; a plain number as an array, which a derivative is taken at."""
    if isinstance(tree, float):
        return Values(np.array(tree))
    for path, node in walk(tree):
        if isinstance(node, Values) and node.array.dtype.kind == "f" and node.array.dtype.name != "float64":
            tree = replace_node(tree, path, Values(_shorten_decimals(node.array), node.held))
    return tree


def _shorten_decimals(array: Any) -> Any:
    """Numbers of a lower precision as float64, by the shortest decimals that they are read from."""
    return np.array([float(str(v)) for v in np.asarray(array, "float32").ravel()]).reshape(array.shape)


def _hold(tree: Expression) -> Expression:
    return (
        Values(_shorten_decimals(tree.array) if tree.array.dtype == np.float32 else tree.array, held=True)
        if isinstance(tree, Values)
        else tree
    )


def _simplify(value: Any) -> Any:
    return tf.nest.map_structure(lambda v: np.array(v) if isinstance(v, (tf.Tensor, tf.Variable)) else v, value)
