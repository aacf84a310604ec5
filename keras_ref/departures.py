"""Known differences of Keras from the definition, as data: departures.toml beside this file.

An entry has an id, a reading ("fault", "precision" or "convention"), a reason, a source, the smallest example (Python
that sets `keras_value` and `definition`, run by the suite: an entry that no longer differs fails it) and `applies`:
tables of a layer's (loss's, …) name and of field values that say which specifications may show it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Departure:
    """One entry of departures.toml."""

    id: str
    reading: str
    reason: str
    source: str
    example: str
    applies: tuple[Mapping[str, Any], ...] = ()

    def touches(self, spec: Any) -> bool:
        """Whether a specification (or one held in its fields) may show this departure."""
        return any(_fits(part, condition) for part in parts(spec) for condition in self.applies)


def parts(spec: Any) -> Iterator[Any]:
    """A specification and every specification inside its fields."""
    yield spec
    if is_dataclass(spec):
        for field in fields(spec):
            value = getattr(spec, field.name)
            for item in value if isinstance(value, (tuple, list)) else (value,):
                if is_dataclass(item):
                    yield from parts(item)


def _fits(spec: Any, condition: Mapping[str, Any]) -> bool:
    """A condition names the class under "name" and values of fields; under "activation", that of any activation field."""
    wanted = dict(condition)
    name = wanted.pop("name", None)
    if name is not None and type(spec).__name__ not in ([name] if isinstance(name, str) else name):
        return False
    for key, value in wanted.items():
        legal = value if isinstance(value, list) else [value]
        held = [getattr(spec, k, None) for k in ("activation", "recurrent_activation")] if key == "activation" else [getattr(spec, key, None)]
        if not any(h == one for h in held for one in legal):
            return False
    return True


@cache
def every() -> tuple[Departure, ...]:
    """All entries. Raises: ValueError for an id used twice."""
    with open(Path(__file__).with_name("departures.toml"), "rb") as file:
        entries = tomllib.load(file).get("departure", [])
    found = tuple(Departure(**{**entry, "applies": tuple(entry.get("applies", ()))}) for entry in entries)
    if len({d.id for d in found}) != len(found):
        raise ValueError(f"A departure's id must be its own. Received: {sorted(d.id for d in found)}. Rename one.")
    return found


def touching(specs: Iterable[Any]) -> tuple[str, ...]:
    """Ids of the departures that any of the specifications may show."""
    specs = list(specs)
    return tuple(d.id for d in every() if any(d.touches(spec) for spec in specs))
