"""What the public verbs are given, validated before anything is done: a wrong type is one sentence that names the
argument, and no error from inside.

A rule says of a parameter, in whatever verb it occurs, what its value must be. None is legal where it is the default.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import keras
import numpy as np
import tensorflow as tf

from keras_ref.errors import BadInput
from keras_ref.evaluation.changed_state.keras_2 import is_model
from keras_ref.reports.verdict import Report
from scratch.fields import is_integer
from scratch.model import Model

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

#: what arguments may be nested in, and how deep
CONTAINERS, LEVELS = (Mapping, list, tuple, deque), 100


@dataclass(frozen=True)
class Rule:
    """What a value must be in words, whether it is, and what to do."""

    must: str
    holds: Callable[[Any], bool]
    advice: str

    def require(self, name: str, value: Any) -> None:
        """Raises: BadInput for a value that is not what it must be."""
        if not self.holds(value):
            raise BadInput(f"`{name}` must {self.must}. Received: {describe_value(value)}. {self.advice}")


def describe_value(value: Any) -> str:
    """A value in a message: short, and told from others that look like it."""
    kind = type(value).__name__
    words: tuple[tuple[bool, Callable[[], str]], ...] = (
        (value is None, lambda: "None"),
        (isinstance(value, type), lambda: f"the class {value.__name__}"),
        (isinstance(value, str), lambda: f"the text {value[:40]!r}"),
        (isinstance(value, (bool, int, float, complex, np.generic)), lambda: f"{value!r} ({kind})"),
        (inspect.isroutine(value), lambda: f"the function {getattr(value, '__name__', kind)}"),
        (isinstance(value, (list, tuple)), lambda: f"a {kind} of {_describe_kinds(value) or 'nothing'}"),
    )
    return next((say() for fits, say in words if fits), f"a {kind}")


def _describe_kinds(values: Sequence[Any]) -> str:
    return ", ".join(dict.fromkeys(type(one).__name__ for one in values))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_texts(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(one, str) for one in value)


def _are_some_texts(value: Any) -> bool:
    return _are_texts(value) and len(value) > 0


def _takes_progress(value: Any) -> bool:
    """Whether a value is a function of three arguments by position, as far as its signature says."""
    if not callable(value) or isinstance(value, (type, keras.layers.Layer)):
        return False
    try:
        inspect.signature(value).bind(0, 1, "")
    except TypeError:
        return False
    except ValueError:  # it has no signature
        return True
    return True


def _is_table_of_numbers(value: Any) -> bool:
    return _has_text_keys(value) and all(holds_arrays(one) or _holds_numbers(one) for one in value.values())


def _holds_numbers(value: Any) -> bool:
    """Whether a value is a number, or lists of numbers that make an array."""
    if not isinstance(value, (list, tuple)):
        return _is_number(value)
    shapes = {np.shape(one) if not isinstance(one, (list, tuple)) else _shape(one) for one in value}
    return len(shapes) == 1 and all(map(_holds_numbers, value))


def _shape(value: Any) -> tuple[int, ...]:
    return (len(value), *(_shape(value[0]) if value else ())) if isinstance(value, (list, tuple)) else ()


def _is_too_deep(value: Any) -> bool:
    """Whether containers lie deeper in a value than Python's recursion goes, as those do that contain themselves."""
    level = [value]
    for _ in range(LEVELS):
        inside = [part for one in level for part in _list_parts(one) if isinstance(part, CONTAINERS)]
        level = list({id(part): part for part in inside}.values())
        if not level:
            return False
    return True


def _list_parts(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, CONTAINERS) else ()


def _are_inputs(values: tuple[Any, ...]) -> bool:
    """Whether no input is an empty list, or lists of numbers that make no array."""

    def has_numbers_alone(value: Any) -> bool:
        return all(map(has_numbers_alone, value)) if isinstance(value, (list, tuple)) else _is_number(value)

    return len(values) > 0 and all(
        value != [] and (not has_numbers_alone(value) or _holds_numbers(value))
        for value in values
        if isinstance(value, (list, tuple))
    )


def _has_text_keys(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)


def _is_loss(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_loss, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_is_loss, value))
    # losses of scratch are definitions, which are not called
    return value is None or isinstance(value, str) or callable(value) or type(value).__module__.startswith("scratch.")


def holds_arrays(value: Any) -> bool:
    """Whether all leaves of a nesting are arrays, tensors, frames, or nothing."""
    if isinstance(value, Mapping):
        return all(map(holds_arrays, value.values()))
    if isinstance(value, (list, tuple)):
        return bool(value) and all(map(holds_arrays, value))
    if value is None:
        return True
    if isinstance(value, (type, keras.KerasTensor)):
        return False
    return isinstance(value, (tf.SparseTensor, tf.RaggedTensor)) or any(
        hasattr(value, name) for name in ("__array__", "to_numpy", "detach")
    )


WHOLE = "be a whole number"
BOOL = Rule("be True or False", lambda value: isinstance(value, (bool, np.bool_)), "Pass one of them.")
TEXT = Rule("be a text", _is_text, "Pass one, in quotation marks.")
TEXTS = Rule("be a list or tuple of texts", _are_texts, "Pass a tuple, also for a single one: ('weights',), say.")
POSITIVE = Rule(f"{WHOLE}, 1 or more", lambda value: is_integer(value) and value >= 1, "Pass 1, say.")
NATURAL = Rule(f"{WHOLE}, 0 or more", lambda value: is_integer(value) and value >= 0, "Pass 0, say.")
SECONDS = Rule("be a number of seconds above 0", lambda value: _is_number(value) and value > 0, "Pass 60, say.")
ARRAYS = Rule(
    "hold arrays, tensors or frames, nested in lists, tuples or dictionaries if need be",
    holds_arrays,
    "Convert it with numpy.array(…).",
)
#: {parameter: rule}, for all verbs
RULES: Mapping[str, Rule] = {
    "backend": TEXT,
    "batch_size": POSITIVE,
    "batches": POSITIVE,
    "budget": Rule(
        "be a time such as 60s, 5m or 1h",
        lambda value: isinstance(value, str) or _is_number(value),
        "Pass seconds, or a number with s, m or h.",
    ),
    "class_weight": Rule(
        "be a dictionary of numbers by class",
        lambda value: isinstance(value, Mapping) and all(map(_is_number, (*value, *value.values()))),
        "Pass {0: 1.0, 1: 2.0}, say.",
    ),
    "digits": BOOL,
    "dtype": TEXT,
    "effort": TEXT,
    "executor": Rule(
        "be an executor, as those of concurrent.futures",
        lambda value: callable(getattr(value, "submit", None)) and not isinstance(value, type),
        "Pass ThreadPoolExecutor(2), say.",
    ),
    "expect": Rule("be a dictionary of patterns", _has_text_keys, "Pass {'quant*/kernel': 'surrogate'}, say."),
    "forward_mode": BOOL,
    "loss": Rule(
        "be a loss: a name, a function or a loss object, or a list or dictionary of them, one for each output",
        _is_loss,
        "Pass 'mse', say.",
    ),
    "inputs": Rule("be arrays, or lists of numbers that make an array", _are_inputs, "Pass numpy.array(…)."),
    "map": Rule(
        "be a dictionary of names",
        lambda value: _has_text_keys(value) and all(map(_is_text, value.values())),
        "Pass {name in a: name in b}.",
    ),
    "modes": Rule("be a list or tuple of execution modes, one at least", _are_some_texts, "Pass ('eager',), say."),
    "most": POSITIVE,
    "only": TEXT,
    "oracles": Rule("be a list or tuple of oracles, one at least", _are_some_texts, "Pass ('forward',), say."),
    "order": Rule(WHOLE, is_integer, "Pass 1 or 2."),
    "precision": Rule(
        "be float64 or float32",
        lambda value: isinstance(value, str) and value in ("float64", "float32"),
        "Pass 'float64'.",
    ),
    "progress": Rule("be a function of (done, total, what)", _takes_progress, "Pass a function of the three."),
    "replay": TEXT,
    "sample_weight": ARRAYS,
    "report": Rule("be a Report", lambda value: isinstance(value, Report), "Pass what a check returned."),
    "scheme": Rule(
        "be a scheme of scratch.differences",
        lambda value: callable(value) and not isinstance(value, type),
        "Pass Central(), say.",
    ),
    "seconds": SECONDS,
    "seed": NATURAL,
    "steps": Rule(WHOLE, is_integer, "Pass 3, say."),
    "time_limit": SECONDS,
    "training": BOOL,
    "updates": BOOL,
    "variables": TEXT,
    "weights": Rule("be a dictionary of arrays by name", _is_table_of_numbers, "Pass {name: array}."),
    "wrt": TEXTS,
    "y": ARRAYS,
}


#: what a model is for the verbs that check one; in a process of its own, the target of one
MODEL = Rule(
    "be a keras.Model or a scratch.Model",
    lambda value: isinstance(value, (keras.Model, Model, str)) or is_model(value),
    "Pass a model: call the class or the function that makes it.",
)
LOADED_MODEL = replace(MODEL, holds=lambda value: not isinstance(value, str) and MODEL.holds(value))


def takes(**own: Rule) -> Callable[[Callable[Parameters, Result]], Callable[Parameters, Result]]:
    """Decorator of a verb whose arguments obey the rules; `own` are rules of this verb alone."""

    def decorate(verb: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        signature = inspect.signature(verb)
        rules = {name: own.get(name, RULES.get(name)) for name in signature.parameters}
        defaults = {name: parameter.default for name, parameter in signature.parameters.items()}

        @wraps(verb)
        def validating(*arguments: Parameters.args, **options: Parameters.kwargs) -> Result:
            try:
                given = signature.bind(*arguments, **options).arguments
            except TypeError:  # a parameter that there is not: Python says so, of the verb itself
                return verb(*arguments, **options)
            for name, value in given.items():
                if _is_too_deep(value):
                    raise BadInput(
                        f"`{name}` must not contain itself, nor lists and dictionaries nested more than {LEVELS} deep. "
                        f"Received: {describe_value(value)}. Pass arrays, nested as the model takes them."
                    )
                rule = rules[name]
                if rule is not None and value is not defaults[name]:
                    rule.require(name, value)
            return verb(*arguments, **options)

        return validating

    return decorate
