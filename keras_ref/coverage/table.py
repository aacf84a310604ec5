"""What the installed Keras exports, what of it has a twin, and what is compared: `gradtwin coverage [--run]`.

Names that are known are data (inventory.toml); names that Keras exports are read from Keras. `--run` compares one small
example of every twin with Keras in a process of its own: one that dies is reported, and the run goes on behind it.
"""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from scratch import registry

#: what a run compares, in the order of the columns
COMPARED = ("values", "float32", "weights", "inputs", "updates", "graph", "compiled")
_GRADIENTS = "eagerly, as a graph and compiled"
#: the same in words, by kind
COMPARES = {
    "layer": f"values in float64 and float32; gradients of weights and of inputs, {_GRADIENTS}",
    "activation": f"values in float64 and float32; gradients of inputs, {_GRADIENTS}",
    "loss": f"values in float64; gradients of predictions, {_GRADIENTS}",
    "optimizer": "weights after each of three training steps, numeric gradient and law against model.fit's own step",
    "schedule": "rates at the steps 0, 1, 2, 5 and 11",
    "regularizer": "the penalty of a weight, in float64",
    "constraint": "what becomes of a weight, in float64",
}


@dataclass(frozen=True)
class Row:
    """One name: whether Keras exports it, whether it has a twin, what is compared, and what is known of it.

    `status`   "twin", "missing" (no twin), "unknown" (in Keras, not in the inventory), "gone" (in the inventory, not in
               Keras), "optional" (no twin, and none owed), "excluded" (with the reason)
    `compared` {column: result} after a run: "match", or what it came to
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
        """Names with a twin, of those that are owed one."""
        return sum(row.status == "twin" and row.family not in ("", "optional") for row in self.rows)

    @property
    def owed(self) -> int:
        """Names that are owed a twin."""
        return sum(
            row.status == "unknown" or (row.family not in ("", "optional") and row.status != "gone")
            for row in self.rows
        )


@cache
def inventory() -> dict[str, Any]:
    """The known names: {kind: {family: names}}, "optional", and "excluded" {kind: {name: reason}}."""
    with open(Path(__file__).with_name("inventory.toml"), "rb") as file:
        return tomllib.load(file)


def exported(kind: str) -> dict[str, tuple[str, ...]]:
    """{name: its other names} of everything of a kind that the installed Keras exports."""
    import keras

    if kind == "activation":
        return {name: () for name, thing in sorted(vars(keras.activations).items()) if inspect.isfunction(thing)}
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
    for name, thing in vars(HOMES[kind]).items():
        if inspect.isclass(thing) and issubclass(thing, bases[kind]):
            names.setdefault(thing, []).append(name)
    known = _families(kind)
    result = {}
    for thing, own in names.items():
        # the name by which it is known, else that of the class
        first = next((n for n in own if n in known), thing.__name__ if thing.__name__ in own else own[0])
        result[first] = tuple(sorted(set(own) - {first}))
    return dict(sorted(result.items()))


def _families(kind: str) -> dict[str, str]:
    """{name: family} of the inventory, optional names included."""
    tables = {family: names for family, names in inventory().get(kind, {}).items()}
    found = {name: family for family, names in tables.items() for name in names}
    if kind == "layer":
        found |= {name: "optional" for names in inventory()["optional"].values() for name in names}
    return found


def coverage_of(kind: str, present: Mapping[str, tuple[str, ...]] | None = None) -> Coverage:
    """The rows of a kind; `present` stands for what Keras exports (read from Keras when left out)."""
    from keras_ref.translation import departures

    present = exported(kind) if present is None else present
    twins, families, excluded = registry.names(kind), _families(kind), inventory()["excluded"].get(kind, {})
    rows = []
    for name in [*families, *sorted(set(present) - set(families))]:
        names = (name, *present.get(name, ()))
        twin = next((n for n in names if n in twins), None)
        reason = next((excluded[n] for n in names if n in excluded), "")
        family = families.get(name, "")
        status = (
            "gone"
            if name not in present
            else "twin"
            if twin is not None
            else "excluded"
            if reason
            else "optional"
            if family == "optional"
            else "missing"
            if family
            else "unknown"
        )
        reason = reason if status == "excluded" else ""
        touching = tuple(d.id for d in departures.load_departures() if any(_named(c, kind, twin) for c in d.applies))
        rows.append(Row(kind, family, name, status, reason, present.get(name, ()), touching))
    return Coverage(kind, tuple(rows))


def _named(condition: Any, kind: str, name: str | None) -> bool:
    return name in (condition.activations if kind == "activation" else condition.names)


def coverage_tables(*, run: bool = False, kinds: Iterable[str] = registry.KINDS) -> tuple[Coverage, ...]:
    """One table for each kind; with `run`, what comparing one small example of each twin came to."""
    tables = tuple(coverage_of(kind) for kind in kinds)
    if not run:
        return tables
    wanted = [(row.kind, row.name) for table in tables for row in table.rows if row.status == "twin"]
    found = dict(measured(wanted))
    return tuple(
        replace(t, rows=tuple(replace(r, compared=found.get((r.kind, r.name), {})) for r in t.rows)) for t in tables
    )


def beyond(kind: str) -> tuple[str, ...]:
    """Names with a twin that the inventory does not hold: Keras's unexported ones, and parts of graphs."""
    aliases = {alias for names in exported(kind).values() for alias in names}
    return tuple(
        name
        for name in registry.names(kind)
        if name not in _families(kind) and name not in exported(kind) and name not in aliases
    )


# Running one example of each, in another process ---------------------------------------------------------------------


def measured(
    wanted: Iterable[tuple[str, str]], command: Callable[[list[str]], list[str]] | None = None, patience: float = 120.0
) -> Iterator[tuple[tuple[str, str], dict[str, str]]]:
    """((kind, name), {column: result}) for each; a process that dies, or is silent for `patience` seconds, costs the
    example it was at, and another one takes the rest."""
    left = list(wanted)
    command = command or (lambda names: [sys.executable, "-m", "keras_ref.coverage.table", *names])
    while left:
        process = subprocess.Popen(
            command([f"{kind}:{name}" for kind, name in left]),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for line in _lines(process, patience):
            if line.startswith("{"):
                told = json.loads(line)
                left.remove((told["kind"], told["name"]))
                yield (told["kind"], told["name"]), told["compared"]
        status = process.wait()
        if left:
            ended = f"killed the process (signal {-status})" if status < 0 else f"ended the process (status {status})"
            yield left.pop(0), {"values": ended}


def _lines(process: subprocess.Popen[str], patience: float) -> Iterator[str]:
    """Lines of a process; after so many silent seconds it is killed."""
    import threading

    assert process.stdout is not None
    watch: threading.Timer | None = None
    try:
        while True:
            watch = threading.Timer(patience, process.kill)
            watch.start()
            line = process.stdout.readline()
            watch.cancel()
            if not line:
                return
            yield line
    finally:
        if watch is not None:
            watch.cancel()
        process.stdout.close()


def _examples(arguments: list[str]) -> None:
    """Compare the named things one after another, one JSON line each."""
    from keras_ref.inputs.targets import quiet_tensorflow

    quiet_tensorflow()
    from keras_ref.coverage import examples as example_runs

    for argument in arguments:
        kind, _, name = argument.partition(":")
        print(json.dumps({"kind": kind, "name": name, "compared": example_runs.compared(kind, name)}), flush=True)


# Printing ------------------------------------------------------------------------------------------------------------


def print_coverage(console: Any, *, run: bool = False) -> bool:
    """Print all tables, what is missing, and the departures. Returns whether nothing is missing or differs."""
    import keras
    import tensorflow as tf
    from rich.table import Table

    from keras_ref.translation import departures

    tables = coverage_tables(run=run)
    console.print(
        f"What Keras {keras.__version__} exports, on TensorFlow {tf.__version__}", markup=False, highlight=False
    )
    for coverage in tables:
        table = Table(
            title=f"{coverage.kind}: {coverage.covered} of {coverage.owed} have a twin",
            title_justify="left",
            box=None,
            pad_edge=False,
        )
        for column in ("family", "name", "status", *(COMPARED if run else ()), "departures"):
            table.add_column(column, no_wrap=column != "departures")
        for row in coverage.rows:
            if row.status != "excluded":
                style = "red" if row.status in ("missing", "unknown", "gone") else ""
                results = [_short(row.compared.get(c, "")) for c in COMPARED] if run else []
                table.add_row(
                    row.family,
                    " = ".join((row.name, *row.aliases)),
                    row.status,
                    *results,
                    ", ".join(row.departures),
                    style=style,
                )
        console.print(table)
        console.print(f"compared{'' if run else ' with --run'}: {COMPARES[coverage.kind]}", markup=False)
        excluded = [row for row in coverage.rows if row.status == "excluded"]
        for reason in sorted({row.reason for row in excluded}):
            console.print(
                f"no twin, on purpose: {', '.join(r.name for r in excluded if r.reason == reason)}: {reason}",
                markup=False,
            )
        if beyond(coverage.kind):
            console.print(f"beyond what Keras exports: {', '.join(beyond(coverage.kind))}", markup=False)
        console.print()
    table = Table(
        title=f"{len(departures.load_departures())} known departures of Keras from the definition",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    for column in ("id", "reading", "reason"):
        table.add_column(column, no_wrap=column != "reason")
    for departure in departures.load_departures():
        table.add_row(departure.id, departure.reading, departure.reason)
    console.print(table)
    open_rows = [row for t in tables for row in t.rows if row.status in ("missing", "unknown", "gone")]
    wrong = [row for t in tables for row in t.rows if any(map(_open, row.compared.values()))]
    console.print()
    for row in open_rows:
        meaning = {
            "missing": "has no twin",
            "unknown": "is new in Keras: write its twin, or exclude it in inventory.toml",
            "gone": "is not in this Keras",
        }
        console.print(f"{row.kind} {row.name} {meaning[row.status]}.", markup=False)
    for row in wrong:
        console.print(
            f"{row.kind} {row.name}: {', '.join(f'{c} {v}' for c, v in row.compared.items() if _open(v))}", markup=False
        )
    console.print(", ".join(f"{t.kind} {t.covered}/{t.owed}" for t in tables), markup=False)
    return not open_rows and not wrong


def _short(result: str) -> str:
    """A result in one word; what does not fit is said at the end."""
    return (
        result
        if result in ("match", "departure", "-", "")
        else result.split(":")[0].split(" (")[0]
        if len(result) < 24
        else result.split(":")[0][:20]
    )


def _open(result: str) -> bool:
    """Whether a result of a run has to be looked at; that XLA refuses an operation is Keras's business."""
    return result not in ("match", "departure", "-") and not result.startswith("refused")


if __name__ == "__main__":
    _examples(sys.argv[1:])
