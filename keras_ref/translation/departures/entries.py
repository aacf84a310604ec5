"""The entries: reading them from the TOML files, and finding those that specifications may show."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from keras_ref.translation.departures import predicates
from keras_ref.translation.departures.conditions import Condition, Predicate, Shapes, any_meets, list_parts, meets_any

#: a TOML file each, in the order in which they are listed
FAMILIES = ("activations", "losses", "layers", "recurrent", "refusals", "optimizers", "documentation")
#: what an entry may be, and what that means
READINGS = {
    "fault": "a wrong number",
    "precision": "right but for a rounding to float32 inside float64",
    "convention": "two answers are possible, and the documentation or the paper names the other one",
    "refusal": "Keras raises where its documentation promises a value",
}
#: what a departure may change; an entry names the ones that it does
ASPECTS = ("value", "gradient", "update")
#: what an entry may need beside a specification: a call with a mask, one in training, or a point where the function is
#: not smooth (zeros, ties, constants), beside which the gradient is right
CIRCUMSTANCES = ("mask", "training", "special points")


@dataclass(frozen=True)
class Departure:
    """One known difference of Keras from the definition; the fields are those of an entry in a TOML file.

    id, reading      its name; one of READINGS
    reason, source   what differs, in a sentence; the documentation or paper that says what is right
    applies          the specifications that may show it: those that meet one of these conditions
    shows_in, only   what differs, of ASPECTS; what that takes beside the specification, of CIRCUMSTANCES
    says             words of the exception, of a refusal
    kernels          "plain": it shows without the kernels of oneDNN only
    own_process      whether its example ends the process that it runs in
    kind, upstream   for the ledger: a kind of finding; the address of the upstream thread
    fixed_in         {package: release} in which it was corrected

    Raises: ValueError for a reading, an aspect or a circumstance that there is not.
    """

    id: str
    reading: str
    reason: str
    source: str
    applies: tuple[Condition, ...] = ()
    shows_in: tuple[str, ...] = ASPECTS
    only: tuple[str, ...] = ()
    says: str = ""
    kind: str = ""
    kernels: str = ""
    upstream: str = ""
    fixed_in: Mapping[str, str] = field(default_factory=dict, hash=False)
    own_process: bool = False

    def __post_init__(self) -> None:
        known = self.reading in READINGS and set(self.shows_in) <= set(ASPECTS) and set(self.only) <= set(CIRCUMSTANCES)
        if not known:
            raise ValueError(
                f"A departure must have one of the readings {', '.join(READINGS)}, show in {', '.join(ASPECTS)} and "
                f"need only {', '.join(CIRCUMSTANCES)}. Received: {self.reading!r}, {self.shows_in}, {self.only} of "
                f"{self.id!r}. Correct the entry."
            )

    def applies_to(self, specification: Any, among: Iterable[Any] = (), shapes: Shapes | None = None) -> bool:
        """Whether a specification (or one held in its fields) may show this departure.

        `among` are the specifications of the same model, `shapes` those of the inputs, if they are known.
        """
        return meets_any(specification, self.applies, among, shapes)


@cache
def load_departures() -> tuple[Departure, ...]:
    """All entries, in the order of the files. Raises: ValueError for an id used twice, or an illegal entry."""
    found: list[Departure] = []
    for family in FAMILIES:
        with Path(__file__).with_name(f"{family}.toml").open("rb") as file:
            found += [_entry(entry) for entry in tomllib.load(file)["departure"]]
    if len({d.id for d in found}) != len(found):
        raise ValueError(f"A departure's id must be its own. Received: {sorted(d.id for d in found)}. Rename one.")
    return tuple(found)


def _entry(entry: Mapping[str, Any]) -> Departure:
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    return Departure(**values | {"applies": tuple(_condition(one) for one in entry.get("applies", ()))})


def _condition(entry: Mapping[str, Any]) -> Condition:
    rest = dict(entry)
    name, activation, beside = (rest.pop(key, None) for key in ("name", "activation", "beside"))
    where, shapes = (_predicate(rest.pop(key, None)) for key in ("where", "shapes"))
    return Condition(
        names=_several(name),
        activations=_several(activation),
        where=where,
        beside=None if beside is None else _condition(beside),
        shapes=shapes,
        fields={key: _several(value) for key, value in rest.items()},
    )


def _several(value: Any) -> tuple[Any, ...]:
    """One value or a list of them, as a tuple; none for None."""
    return tuple(value) if isinstance(value, list) else () if value is None else (value,)


def _predicate(name: str | None) -> Predicate | None:
    if name is not None and name not in predicates.PREDICATES:
        raise ValueError(
            f"A condition must name a predicate of predicates.py. Received: {name!r}. "
            "Write it there, or correct the name."
        )
    return None if name is None else predicates.PREDICATES[name]


def get_departure(departure_id: str) -> Departure:
    """The entry with the id `departure_id`, for what depends on data.

    Raises: ValueError where there is none any more: what it excused is to be removed too.
    """
    for departure in load_departures():
        if departure.id == departure_id:
            return departure
    raise ValueError(
        f"A departure must be an entry of keras_ref/translation/departures. Received: {departure_id!r}. "
        "Remove what refers to it, or correct the id."
    )


def find_departures(
    specifications: Iterable[Any],
    shows_in: str | None = None,
    *,
    shapes: Shapes | None = None,
    without: Iterable[str] = (),
) -> tuple[str, ...]:
    """Ids of the departures that any of the specifications may show.

    shows_in   only those that show in the value, the gradient or the update
    shapes     those of the inputs, if they are known
    without    what is missing of what an entry may need beside the specifications (see CIRCUMSTANCES)

    Refusals are left out: where Keras gives no number there is nothing to excuse (see `find_refusals`).
    """
    found = [d for d in _applying(specifications, shapes) if d.reading != "refusal" and not set(d.only) & set(without)]
    return tuple(d.id for d in found if shows_in is None or shows_in in d.shows_in)


def find_refusals(
    specifications: Iterable[Any], shows_in: str | None = None, *, saying: str | None = None
) -> tuple[str, ...]:
    """Ids of the departures by which Keras may refuse to compute the value (the gradient, …) of these specifications.

    `shows_in` is what is computed: "value", "gradient" or "update" (None: any). With `saying`, the text of an
    exception, only those whose words (`says`) are in it.
    """
    found = [d for d in _applying(specifications) if d.reading == "refusal"]
    found = [d for d in found if shows_in is None or shows_in in d.shows_in]
    return tuple(d.id for d in found if saying is None or d.says in saying)


def _applying(specifications: Iterable[Any], shapes: Shapes | None = None) -> list[Departure]:
    # the parts of a model are listed once, not once for each of several hundred entries
    parts = list_parts(specifications)
    return [d for d in load_departures() if any_meets(parts, d.applies, parts, shapes)]
