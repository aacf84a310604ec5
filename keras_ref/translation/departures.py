"""Known differences of Keras from the definition, as data: departures.toml beside this file.

An entry has an id, a reading (see READINGS), a reason, a source, and the smallest example: Python that sets `keras_value`
and `definition`, run by the suite in a fresh namespace; an entry whose example no longer differs fails the suite and has
to go. `applies` says which specifications may show it, as conditions of which one has to hold:

    name         class name, or several        any field   its value, or several      activation   of any activation field
    where        a Python expression of the fields (with `activation`: of the arguments that the function is called with)
    beside       a condition that another specification of the same model fulfils
    shapes       a Python expression of the fields and of `shapes`, those of the inputs, where they are known

`only` says what it takes beside the specification (CIRCUMSTANCES). `says` is what Keras says when it refuses: words of the exception, without which a refusal is not the known one. An entry without `applies` depends on data (weights, masks, targets), not on a specification: it excuses nothing by itself.
"""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

Shape = tuple[int, ...]
Shapes = Sequence[Shape]

#: what an entry may be, and what that means
READINGS = {
    "fault": "a wrong number",
    "precision": "right but for a rounding to float32 inside float64",
    "convention": "two answers are possible, and the documentation or the paper names the other one",
    "refusal": "Keras raises where its documentation promises a value",
}
#: what a departure may change; an entry names the ones that it does
ASPECTS = ("value", "gradient", "update")
#: what an entry may need beside a specification: a call with a mask, one in training, or a point where a law has an edge
#: (zeros, ties, constants), beside which the gradient is right
CIRCUMSTANCES = ("mask", "training", "special points")
#: a difference counts from this many units in the last place of the largest number on
UNITS = 64


@dataclass(frozen=True)
class Departure:
    """One entry of departures.toml."""

    id: str
    reading: str
    reason: str
    source: str
    example: str
    applies: tuple[Mapping[str, Any], ...] = ()
    shows_in: tuple[str, ...] = ASPECTS
    only: tuple[str, ...] = ()
    says: str = ""
    own_process: bool = False

    def applies_to(self, spec: Any, among: Iterable[Any] = (), shapes: Shapes | None = None) -> bool:
        """Whether a specification (or one held in its fields) may show this departure in a model with those `among`, on
        inputs of these shapes, if they are known."""
        return meets_any(spec, self.applies, among, shapes)


def meets_any(
    spec: Any, conditions: Iterable[Mapping[str, Any]], among: Iterable[Any] = (), shapes: Shapes | None = None
) -> bool:
    """Whether a specification (or one held in its fields) meets one of the conditions, in a model with those `among`."""
    others = [part for other in among for part in parts(other)]
    return any(_fits(part, condition, others, shapes) for part in parts(spec) for condition in conditions)


def parts(spec: Any) -> Iterator[Any]:
    """A specification and every specification inside its fields."""
    yield spec
    if is_dataclass(spec):
        for field in fields(spec):
            value = getattr(spec, field.name)
            for item in _flat(value):
                if is_dataclass(item):
                    yield from parts(item)


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, (tuple, list)):
        for item in value:
            yield from _flat(item)
    else:
        yield value


def _fits(spec: Any, condition: Mapping[str, Any], others: list[Any], shapes: Shapes | None = None) -> bool:
    wanted = dict(condition)
    name, where, beside, on = (wanted.pop(key, None) for key in ("name", "where", "beside", "shapes"))
    if name is not None and type(spec).__name__ not in _several(name):
        return False
    held = [own for key in ("activation", "recurrent_activation") if (own := getattr(spec, key, None)) is not None]
    scopes = [_fields(spec)]
    if "activation" in wanted:
        legal = _several(wanted.pop("activation"))
        scopes = [_called_with(spec, own) for own in held if own in legal]
    if not scopes or any(getattr(spec, key, None) not in _several(value) for key, value in wanted.items()):
        return False
    if where is not None and not any(eval(where, {"float32": _float32, **scope}) for scope in scopes):
        return False
    if (
        on is not None
        and shapes is not None
        and not eval(on, {"np": np, "astray": _astray, "shapes": shapes, **_fields(spec)})
    ):
        return False
    return beside is None or any(_fits(other, beside, []) for other in others if other is not spec)


def _several(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _fields(spec: Any) -> dict[str, Any]:
    return {field.name: getattr(spec, field.name) for field in fields(spec)} if is_dataclass(spec) else {}


def _called_with(spec: Any, activation: str) -> dict[str, Any]:
    """The arguments of an activation: the specification's own `arguments` if it has such a field, and the defaults."""
    from scratch import registry

    parameters = inspect.signature(registry.get("activation", activation)).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty} | dict(getattr(spec, "arguments", {}))


def _float32(value: float) -> float:
    """A number after it has been a float32, for conditions on what does not survive that."""
    return float(np.float32(value))


def _astray(first: Shape, second: Shape) -> bool:
    """Whether keras.ops.add takes the second for a bias of the first, and adds it along another axis than its own."""
    long = [i - len(second) for i, n in enumerate(second) if n > 1]
    if len(long) != 1 or len(first) < 2 or second[long[0]] not in (first[1], first[-1]):
        return False
    return long[0] != (-1 if second[long[0]] == first[-1] else 1 - len(first))


def _entry(entry: Mapping[str, Any]) -> Departure:
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    return Departure(**values)


@cache
def load_departures() -> tuple[Departure, ...]:
    """All entries. Raises: ValueError for an id used twice, or a reading or an aspect that there is not."""
    with open(Path(__file__).with_name("departures.toml"), "rb") as file:
        entries = tomllib.load(file).get("departure", [])
    found = tuple(_entry(entry) for entry in entries)
    if len({d.id for d in found}) != len(found):
        raise ValueError(f"A departure's id must be its own. Received: {sorted(d.id for d in found)}. Rename one.")
    for d in found:
        if d.reading not in READINGS or not set(d.shows_in) <= set(ASPECTS) or not set(d.only) <= set(CIRCUMSTANCES):
            raise ValueError(
                f"A departure must have one of the readings {', '.join(READINGS)}, show in {', '.join(ASPECTS)} and need only "
                f"{', '.join(CIRCUMSTANCES)}. Received: {d.reading!r}, {d.shows_in}, {d.only} of {d.id!r}. Correct the entry."
            )
    return found


def get_departure(id: str) -> Departure:
    """The entry with that id, for what depends on data. Raises: ValueError if it has gone: then its excuse has to go too."""
    for departure in load_departures():
        if departure.id == id:
            return departure
    raise ValueError(
        f"A departure must be in departures.toml. Received: {id!r}. Remove what refers to it, or correct the id."
    )


def find_departures(
    specs: Iterable[Any], shows_in: str | None = None, *, shapes: Shapes | None = None, without: Iterable[str] = ()
) -> tuple[str, ...]:
    """Ids of the departures that any of the specifications may show (in the value, the gradient or the update), on inputs
    of these shapes, if they are known, and `without` what an entry may need beside them (see CIRCUMSTANCES).

    Refusals are left out: where Keras gives no number there is nothing to excuse (see `find_refusals`).
    """
    found = [d for d in _applying(specs, shapes) if d.reading != "refusal" and not set(d.only) & set(without)]
    return tuple(d.id for d in found if shows_in is None or shows_in in d.shows_in)


def find_refusals(specs: Iterable[Any], shows_in: str | None = None, *, saying: str | None = None) -> tuple[str, ...]:
    """Ids of the departures by which Keras may refuse to compute the value (the gradient, …) of these specifications; with
    `saying`, of those whose words (`says`) are in that text."""
    found = [d for d in _applying(specs) if d.reading == "refusal" and (shows_in is None or shows_in in d.shows_in)]
    return tuple(d.id for d in found if saying is None or d.says in saying)


def _applying(specs: Iterable[Any], shapes: Shapes | None = None) -> list[Departure]:
    specs = list(specs)
    return [d for d in load_departures() if any(d.applies_to(spec, specs, shapes) for spec in specs)]


# Examples ------------------------------------------------------------------------------------------------------------


#: what every example finds imported
IMPORTS = "import keras\nimport numpy as np\nimport tensorflow as tf\nfrom keras import ops"


def run_example(departure: Departure) -> tuple[Any, Any]:
    """(keras_value, definition) of the example: numbers, or text where one side raises. Leaves Keras's settings alone.

    An example that a signal ends (`own_process`) has a process of its own, and these answers: "ends its process", "goes on".
    Raises: whatever the example raises. RuntimeError where one with a process of its own raises.
    """
    if departure.own_process:
        # with the kernels that TensorFlow takes by itself: gradtwin asks for others (see quiet_tensorflow)
        ended = subprocess.run(
            [sys.executable, "-c", f"{IMPORTS}\n{departure.example}"],
            capture_output=True,
            text=True,
            env={**os.environ, "TF_ENABLE_ONEDNN_OPTS": "1"},
        )
        if ended.returncode > 0:
            raise RuntimeError(
                f"An example must run to its end or end the process. Received: {ended.stderr[-2000:]} Correct {departure.id!r}."
            )
        return ("ends its process" if ended.returncode else "goes on"), "goes on"
    import keras

    scope: dict[str, Any] = {}
    floatx = keras.config.floatx()
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an example is about numbers: what Keras warns of is not checked here
            exec(f"{IMPORTS}\n{departure.example}", scope)
    finally:
        keras.config.set_floatx(floatx)
    return _plain(scope["keras_value"]), _plain(scope["definition"])


def _plain(value: Any) -> Any:
    return value if isinstance(value, str) or value is None else np.asarray(value, dtype=float)


def differs(keras_value: Any, definition: Any) -> bool:
    """Whether the two are farther apart than rounding: text or None against numbers, shapes, NaN, or by more than UNITS
    units in the last place (float64) of the largest number."""
    if not isinstance(keras_value, np.ndarray) or not isinstance(definition, np.ndarray):
        return type(keras_value) is not type(definition) or keras_value != definition
    if keras_value.shape != definition.shape or (np.isfinite(keras_value) != np.isfinite(definition)).any():
        return True
    finite = np.isfinite(definition)
    if not np.array_equal(keras_value[~finite], definition[~finite], equal_nan=True):
        return True
    largest = max(np.abs(a[finite]).max(initial=0) for a in (keras_value, definition))
    return bool((np.abs(keras_value - definition)[finite] > UNITS * np.finfo(float).eps * largest).any())
