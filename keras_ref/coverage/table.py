"""What the installed Keras exports, and what of it has a NumPy twin.

The names that are known are data (inventory.toml); the names that Keras exports are read from Keras itself, so that a
new release shows what it added.
"""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from keras_ref.own_modules import registry

#: statuses of a row that somebody has to look at, each with its meaning
OPEN = {
    "missing": "has no twin",
    "unknown": "is new in Keras: write its twin, or exclude it in inventory.toml",
    "gone": "is not in this Keras",
}


@dataclass(frozen=True)
class Row:
    """One name: whether Keras exports it, whether it has a twin, and what is known of it.

    status     "twin"; "missing" (no twin); "unknown" (in Keras, not in the inventory); "gone" (in the inventory, not in
               Keras); "optional" (no twin, and none needed); "excluded" (with the reason)
    aliases    other names of the same object in Keras;   departures  ids of its known departures
    compared   {column: result} where examples were run: "match", or what else they gave
    """

    kind: str
    family: str
    name: str
    status: str
    reason: str = ""
    aliases: tuple[str, ...] = ()
    departures: tuple[str, ...] = ()
    compared: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Coverage:
    """The rows of one kind."""

    kind: str
    rows: tuple[Row, ...]

    @property
    def covered(self) -> int:
        """How many of the names that need a twin have one."""
        return sum(row.status == "twin" and row.family not in ("", "optional") for row in self.rows)

    @property
    def owed(self) -> int:
        """How many names need a twin."""
        return sum(
            row.status == "unknown" or (row.family not in ("", "optional") and row.status != "gone")
            for row in self.rows
        )


@cache
def read_inventory() -> dict[str, Any]:
    """The known names: {kind: {family: names}}, "optional", and "excluded" {kind: {name: reason}}."""
    return tomllib.loads(Path(__file__).with_name("inventory.toml").read_text(encoding="utf-8"))


def list_exports(kind: str) -> dict[str, tuple[str, ...]]:
    """{name: its aliases} of everything of a kind that the installed Keras exports."""
    import keras

    if kind == "activation":
        return {name: () for name, member in sorted(vars(keras.activations).items()) if inspect.isfunction(member)}
    from keras_ref.translation.keras_homes import HOMES

    bases = {
        "layer": keras.layers.Layer,
        "loss": keras.losses.Loss,
        "optimizer": keras.optimizers.Optimizer,
        "schedule": keras.optimizers.schedules.LearningRateSchedule,
        "regularizer": keras.regularizers.Regularizer,
        "constraint": keras.constraints.Constraint,
    }
    names: dict[type, list[str]] = {}
    for name, member in vars(HOMES[kind]).items():
        if inspect.isclass(member) and issubclass(member, bases[kind]):
            names.setdefault(member, []).append(name)
    known = _list_families(kind)
    result = {}
    for cls, own in names.items():
        # the name in the inventory comes first, else the name of the class
        first = next((n for n in own if n in known), cls.__name__ if cls.__name__ in own else own[0])
        result[first] = tuple(sorted(set(own) - {first}))
    return dict(sorted(result.items()))


def _list_families(kind: str) -> dict[str, str]:
    """{name: family} of the inventory, optional names included."""
    found = {name: family for family, names in read_inventory().get(kind, {}).items() for name in names}
    if kind == "layer":
        found |= {name: "optional" for names in read_inventory()["optional"].values() for name in names}
    return found


def cover(kind: str, exports: Mapping[str, tuple[str, ...]] | None = None) -> Coverage:
    """The rows of a kind. `exports` stands for what Keras exports, {name: aliases}; if None it is read from Keras."""
    from keras_ref.translation import departures

    exports = list_exports(kind) if exports is None else exports
    twins, families, excluded = registry.names(kind), _list_families(kind), read_inventory()["excluded"].get(kind, {})
    rows = []
    for name in [*families, *sorted(set(exports) - set(families))]:
        aliases, family = exports.get(name, ()), families.get(name, "")
        twin = next((n for n in (name, *aliases) if n in twins), None)
        reason = next((excluded[n] for n in (name, *aliases) if n in excluded), "")
        status = _describe_status(exported=name in exports, twin=twin is not None, excluded=bool(reason), family=family)
        rows.append(
            Row(
                kind=kind,
                family=family,
                name=name,
                status=status,
                reason=reason if status == "excluded" else "",
                aliases=aliases,
                departures=tuple(
                    d.id for d in departures.load_departures() if any(_names(c, kind, twin) for c in d.applies)
                ),
            )
        )
    return Coverage(kind, tuple(rows))


def _describe_status(*, exported: bool, twin: bool, excluded: bool, family: str) -> str:
    if not exported:
        return "gone"
    if twin:
        return "twin"
    if excluded:
        return "excluded"
    return {"optional": "optional", "": "unknown"}.get(family, "missing")


def _names(condition: Any, kind: str, name: str | None) -> bool:
    """Whether the condition of a departure names this definition."""
    return name in (condition.activations if kind == "activation" else condition.names)


def list_unexported(kind: str) -> tuple[str, ...]:
    """Names with a twin that Keras does not export and the inventory does not hold, such as parts of graphs."""
    exports = list_exports(kind)
    known = {*_list_families(kind), *exports, *(alias for names in exports.values() for alias in names)}
    return tuple(name for name in registry.names(kind) if name not in known)
