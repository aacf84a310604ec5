"""The findings: every known departure of Keras and every known fault of TensorFlow's derivatives, in one form."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from keras_ref.campaign.folders import read_folder
from keras_ref.campaign.scripts import write_derivative_script, write_example_script
from keras_ref.translation.departures import Departure, load_departures, load_examples
from keras_ref.translation.departures.conditions import Condition

#: what a finding may be, and what that means
KINDS = {
    "wrong value": "a number that is not the one defined",
    "wrong gradient": "a derivative that is not the one of the computed value",
    "missing gradient": "no derivative, or zero, where there is one",
    "lost digits": "a rounding to float32 inside float64, or a derivative that has lost most of its own digits",
    "mode": "eager, graph and compiled execution differ",
    "refusal": "an exception where the documentation promises a value",
    "crash": "the process ends",
    "documentation": "two answers are possible, and the documentation or the paper names the other one",
}
#: the kind of an entry that names none, by its reading
KIND_OF_READING = {
    "fault": "wrong value",
    "precision": "lost digits",
    "refusal": "refusal",
    "convention": "documentation",
}
#: the releases in which an entry was found that names none
FOUND_IN = {"keras": "3.15.1", "tensorflow": "2.21.0"}
#: what stands for the thread of a fault that nobody has reported, as far as a search finds
UNREPORTED = "unreported"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong in a release of Keras or TensorFlow.

    what       a sentence; `where` names the API, `affects` the uses that meet it
    kind       one of KINDS
    found_in   {package: release} in which it was found; fixed_in: in which it is corrected, empty until it is
    seen_in    older releases of Keras, on the same TensorFlow, in which the script was run and finds it too
    upstream   the address of a thread, or "unreported"
    kernels    "plain" for what shows without the kernels of oneDNN only, which TensorFlow takes by itself
    source     the closed form, the paper or the page of documentation that says what is right
    script     a program without gradtwin that exits with 1 while the fault is there, and with 0 when it is not
    """

    id: str
    kind: str
    where: str
    what: str
    source: str
    script: str
    affects: str
    found_in: dict[str, str]
    seen_in: tuple[str, ...]
    fixed_in: dict[str, str]
    kernels: str = ""
    upstream: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


@cache
def load_findings() -> tuple[Finding, ...]:
    """All findings, those of Keras first. Raises: ValueError for an id used twice or an unknown kind."""
    examples = load_examples()
    found = [
        _of_departure(d, write_example_script(d.id, d.source, examples[d.id], kernels=d.kernels))
        for d in load_departures()
    ]
    found += [_of_fault(entry) for entry in _read_faults()]
    if len({f.id for f in found}) != len(found) or not {f.kind for f in found} <= set(KINDS):
        raise ValueError(
            f"A finding must have an id of its own and a kind of {', '.join(KINDS)}. Received: "
            f"{[(f.id, f.kind) for f in found]}. Correct the entry."
        )
    return tuple(found)


def select_findings(ids: tuple[str, ...] | list[str]) -> tuple[Finding, ...]:
    """Those with these ids; all without any. Raises: ValueError for an id that there is not."""
    found = load_findings()
    unknown = sorted(set(ids) - {f.id for f in found})
    if unknown:
        raise ValueError(
            f"A finding must be one of the ledger. Received: {', '.join(unknown)}. `gradtwin findings --list` has the "
            "ids."
        )
    return tuple(f for f in found if not ids or f.id in ids)


def _of_departure(departure: Departure, script: str) -> Finding:
    names = [name for condition in departure.applies for name in _list_names(condition)]
    kind = departure.kind or ("crash" if departure.own_process else KIND_OF_READING[departure.reading])
    where = ", ".join(dict.fromkeys(names)) or _name_entry(departure.id)
    return Finding(
        id=departure.id,
        kind=kind,
        where=where,
        what=departure.reason,
        source=departure.source,
        script=script,
        affects=", ".join(dict.fromkeys(map(_describe, departure.applies))) or "depends on the data",
        found_in=dict(FOUND_IN),
        seen_in=_read_seen_in(departure.id),
        fixed_in=dict(departure.fixed_in),
        kernels=departure.kernels,
        upstream=departure.upstream or UNREPORTED,
    )


def _of_fault(entry: dict[str, Any]) -> Finding:
    return Finding(
        id=entry["id"],
        kind=entry.get("kind", "wrong gradient"),
        where=entry["where"],
        what=entry["reason"],
        source=entry["source"],
        script=write_derivative_script(entry),
        affects=entry.get("affects", entry["where"]),
        found_in=dict(FOUND_IN),
        seen_in=_read_seen_in(entry["id"]),
        fixed_in=dict(entry.get("fixed_in", {})),
        upstream=entry.get("upstream", UNREPORTED),
    )


def _read_seen_in(finding_id: str) -> tuple[str, ...]:
    if finding_id in load_untried():
        return ()
    return tuple(r["keras"] for r in load_releases() if finding_id not in (*r["right"], *r["cannot"]))


@cache
def load_releases() -> tuple[dict[str, Any], ...]:
    """The releases in which the scripts were run beside those in which the findings were found, the oldest first."""
    return tuple(_read_releases()["release"])


@cache
def load_untried() -> frozenset[str]:
    """The findings whose scripts were not run in those releases."""
    return frozenset(_read_releases()["untried"])


def _read_releases() -> dict[str, Any]:
    with Path(__file__).with_name("releases.toml").open("rb") as file:
        return tomllib.load(file)


def _read_faults() -> list[dict[str, Any]]:
    """The faults of derivatives in the files of faults/, as tables.

    where       the function;   kind, upstream, affects, fixed_in  as Finding has them
    function    an expression of the tensors x[0], x[1], …, behind the lines of `setup`
    arguments   these tensors, in float64
    truth       the true slopes by all of them, one after another, by the closed form in `source`
    order       2: the slopes are those of the sum of the first derivatives by the first argument
    mode        "forward": the slopes are those along ones, by tf.autodiff.ForwardAccumulator; nested, with order = 2
    got         what is compared, in the place of `function` and `arguments`
    """
    return [fault for table in read_folder("faults") for fault in table["fault"]]


def _list_names(condition: Condition) -> list[str]:
    return [*condition.names, *(f"activation {name}" for name in condition.activations)]


def _name_entry(departure_id: str) -> str:
    """What an entry without conditions is about: its id in words."""
    return departure_id.replace("-", " ")


def _describe(condition: Condition) -> str:
    """A condition in words: the names, the fields with their values, and the predicates."""
    fields = [f"{key}={' or '.join(map(repr, values))}" for key, values in condition.fields.items()]
    asked = [p.__name__.replace("_", " ") for p in (condition.where, condition.shapes) if p is not None]
    told = [*fields, *asked]
    names = " or ".join(_list_names(condition)) or "any layer"
    return f"{names} ({'; '.join(told)})" if told else names
