"""Which layer is at fault where gradients are wrong: each is checked by itself, on what the model gives it.

A wrong backward pass makes the gradients of everything before it wrong, and leaves those behind it right. So the layers
between the last wrong variable and the first right one are checked first, those that are not Keras's own before others.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras

from keras_ref.checks.layers_and_functions import check_layer
from keras_ref.comparison.sources.settings import Settings
from keras_ref.errors import BadInput
from keras_ref.evaluation.changed_state.float64 import in_precision
from keras_ref.evaluation.changed_state.restoration import Restoration
from keras_ref.evaluation.keras_objects.keras_parts import list_layers
from keras_ref.evaluation.keras_objects.naming import find_path
from keras_ref.evaluation.loss_function import Data
from keras_ref.reports.culprit import Culprit
from keras_ref.reports.verdict import Kind, Report

#: layers that are checked, at most: each takes a trace of its own
MOST = 12
#: verdicts that say that a backward pass is not the derivative of the forward pass
WRONG = frozenset((Kind.MISMATCH, Kind.NAN))


@dataclass(frozen=True)
class LayerCall:
    """A layer and what it was called with."""

    layer: Any
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]

    @property
    def variables(self) -> frozenset[str]:
        """The paths of its own trained variables, without those of the layers that it holds."""
        inner = {id(v) for layer in list_layers(self.layer)[1:] for v in layer.trainable_variables}
        return frozenset(find_path(v) for v in self.layer.trainable_variables if id(v) not in inner)


def name_culprit(report: Report, model: Any, data: Data, *, training: bool, settings: Settings) -> Report:
    """A report with the layer at fault, or with a note where every layer by itself is right. Nothing is changed.

    Of several layers at fault one is named: the check after its correction names the next.
    """
    wrong = {v.name for v in report.failures if v.oracle == "forward" and v.verdict in WRONG}
    if not wrong:
        return report
    right = {v.name for v in report.verdicts if v.oracle == "forward" and v.verdict is Kind.MATCH}
    calls = order_suspects(record_calls(model, data, training=training), wrong=wrong, right=right)
    is_right: list[bool | None] = [len(calls) <= MOST and bool(calls)]
    for call in calls[:MOST]:
        is_right.append(_has_right_gradient(call, settings, report.subject))
        if is_right[-1] is False:
            return replace(report, culprit=describe_layer(call.layer))
    if not all(is_right):
        return report
    note = "Every layer by itself has the right gradient: look at the loss, and at what is computed between the layers."
    return replace(report, notes=(*report.notes, note))


def record_calls(model: Any, data: Data, *, training: bool) -> list[LayerCall]:
    """The calls of a model's layers on the data, in the order in which they end: a layer comes behind those that it
    holds. [] where the model does not run eagerly."""
    # a function that was traced before writes its variables past any scope
    with in_precision(None, model), _recorded(list_layers(model)[1:]) as calls, keras.StatelessScope():
        try:
            model(data.tensors(None).x, training=training)
        except Exception:  # noqa: BLE001 (the model's own; the report says already what is wrong with it)
            return []
    return calls


@contextmanager
def _recorded(layers: Iterable[Any]) -> Iterator[list[LayerCall]]:
    """While the block runs, the calls of these layers are appended to the list."""
    found: list[LayerCall] = []

    def watching(layer: Any, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **keywords: Any) -> Any:
            outputs = call(*arguments, **keywords)
            found.append(LayerCall(layer, arguments, keywords))
            return outputs

        return watched

    with Restoration() as restoration:
        for layer in layers:
            restoration.set_attribute(layer, "call", watching(layer, layer.call))
        yield found


def order_suspects(calls: list[LayerCall], *, wrong: set[str], right: set[str]) -> list[LayerCall]:
    """The calls in the order in which they are to be looked at; of a layer that is called several times the first."""
    last = max((i for i, call in enumerate(calls) if call.variables & wrong), default=0)
    behind = (i for i, call in enumerate(calls) if i > last and call.variables and call.variables <= right)
    first = next(behind, len(calls))

    def rank(place: int) -> tuple[bool, bool, int]:
        between = last <= place <= first
        return not between, type(calls[place].layer).__module__.startswith("keras."), place

    ordered = [calls[place] for place in sorted(range(len(calls)), key=rank)]
    seen: dict[int, LayerCall] = {}
    for call in ordered:
        seen.setdefault(id(call.layer), call)
    return list(seen.values())


def _has_right_gradient(call: LayerCall, settings: Settings, subject: str) -> bool | None:
    """Whether a layer by itself has the right gradient, or one that is meant to differ; None where that is open."""
    keywords = {name: value for name, value in call.keywords.items() if value is not None}
    try:
        found = check_layer(call.layer, *call.arguments, effort="fast", oracles=("forward",), **keywords)
    except BadInput:
        return None
    unexpected = [v for v in found.failures if settings.expectation(v.name, subject) is None]
    if any(v.verdict in WRONG for v in unexpected):
        return False
    return None if unexpected else True


def describe_layer(layer: Any) -> Culprit:
    """A layer with the file and the line of its class, the file from the working directory if it lies below that."""
    kind = type(layer)
    try:
        path, (lines, first) = Path(inspect.getsourcefile(kind) or ""), inspect.getsourcelines(kind)
    except (OSError, TypeError):
        return Culprit(layer=layer.name, kind=kind.__name__)
    line = first + next(
        i for i, text in enumerate(lines) if text.lstrip().startswith("class ")
    )  # decorators come first
    here = Path.cwd()
    shown = path.relative_to(here) if path.is_relative_to(here) else path
    return Culprit(layer=layer.name, kind=kind.__name__, file=str(shown), line=line)
