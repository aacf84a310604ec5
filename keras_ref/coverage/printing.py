"""`gradtwin coverage [--run]`: what Keras exports, what has a twin, what is compared, and the known departures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import keras
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from keras_ref.coverage.processes import compare_examples
from keras_ref.coverage.table import OPEN, Coverage, cover, list_unexported
from keras_ref.own_modules import registry
from keras_ref.reports.terminal import make_ticker, show_progress
from keras_ref.translation import departures
from scratch.progress import Progress

#: what --run compares, in the order of the columns
COLUMNS = ("values", "float32", "weights", "inputs", "updates", "graph", "compiled")
_MODES = "eagerly, as a graph and compiled"
#: what is compared of each kind, in words
COMPARES = {
    "layer": f"values in float64 and float32; gradients of weights and of inputs, {_MODES}",
    "activation": f"values in float64 and float32; gradients of inputs, {_MODES}",
    "loss": f"values in float64; gradients of predictions, {_MODES}",
    "optimizer": "weights after each of three training steps; numeric gradient and optimizer twin against Keras's step",
    "schedule": "rates at the steps 0, 1, 2, 5 and 11",
    "regularizer": "the penalty of a weight, in float64",
    "constraint": "the weight after the constraint, in float64",
}


def collect_coverage(
    *, run: bool = False, kinds: Iterable[str] = registry.KINDS, progress: Progress | None = None
) -> tuple[Coverage, ...]:
    """The rows of each kind; with `run`, each twin's row with the results of one small example."""
    tables = tuple(map(cover, kinds))
    if not run:
        return tables
    wanted = [(row.kind, row.name) for table in tables for row in table.rows if row.status == "twin"]
    found = {}
    for result in compare_examples(wanted):
        found[result.kind, result.name] = result.compared
        if progress is not None:
            progress(len(found), len(wanted), result.name)
    return tuple(
        replace(t, rows=tuple(replace(r, compared=found.get((r.kind, r.name), {})) for r in t.rows)) for t in tables
    )


def print_coverage(console: Console, *, run: bool = False) -> bool:
    """Print all tables, the departures, and last what is missing. Returns whether nothing is missing or differs."""
    with show_progress(console) as bar:
        tables = collect_coverage(run=run, progress=make_ticker(bar, "coverage"))
    console.print(
        f"What Keras {keras.__version__} exports, on TensorFlow {tf.__version__}", markup=False, highlight=False
    )
    for coverage in tables:
        _print_kind(console, coverage, run=run)
    _print_departures(console)
    console.print()
    complete = _print_findings(console, tables)
    console.print(", ".join(f"{t.kind} {t.covered}/{t.owed}" for t in tables), markup=False)
    return complete


def _print_kind(console: Console, coverage: Coverage, *, run: bool) -> None:
    table = Table(
        title=f"{coverage.kind}: {coverage.covered} of {coverage.owed} have a twin",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    for column in ("family", "name", "status", *(COLUMNS if run else ()), "departures"):
        table.add_column(column, no_wrap=column != "departures")
    for row in coverage.rows:
        if row.status != "excluded":
            names, results = " = ".join((row.name, *row.aliases)), [_shorten(row.compared.get(c, "")) for c in COLUMNS]
            style = "red" if row.status in OPEN else ""
            cells = (row.family, names, row.status, *(results if run else ()), ", ".join(row.departures))
            table.add_row(*cells, style=style)
    console.print(table)
    console.print(f"compared{'' if run else ' with --run'}: {COMPARES[coverage.kind]}", markup=False)
    excluded = [row for row in coverage.rows if row.status == "excluded"]
    for reason in sorted({row.reason for row in excluded}):
        names = ", ".join(r.name for r in excluded if r.reason == reason)
        console.print(f"no twin, on purpose: {names}: {reason}", markup=False)
    unexported = list_unexported(coverage.kind)
    if unexported:
        console.print(f"has a twin, not exported by Keras: {', '.join(unexported)}", markup=False)
    console.print()


def _print_departures(console: Console) -> None:
    known = departures.load_departures()
    table = Table(
        title=f"{len(known)} known departures of Keras from the definition",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    for column in ("id", "reading", "reason"):
        table.add_column(column, no_wrap=column != "reason")
    for departure in known:
        table.add_row(departure.id, departure.reading, departure.reason)
    console.print(table)


def _print_findings(console: Console, tables: Sequence[Coverage]) -> bool:
    """Print what is missing and what differs. Returns whether there is nothing."""
    rows = [row for table in tables for row in table.rows]
    missing = [row for row in rows if row.status in OPEN]
    wrong = [row for row in rows if any(map(_is_finding, row.compared.values()))]
    for row in missing:
        console.print(f"{row.kind} {row.name} {OPEN[row.status]}.", markup=False)
    for row in wrong:
        results = ", ".join(f"{column} {result}" for column, result in row.compared.items() if _is_finding(result))
        console.print(f"{row.kind} {row.name}: {results}", markup=False)
    return not missing and not wrong


def _shorten(result: str) -> str:
    """A result that fits into a column; _print_findings shows it in full."""
    if result in ("match", "departure", "-", ""):
        return result
    head = result.split(":", maxsplit=1)[0]
    return head.split(" (")[0] if len(result) < 24 else head[:20]


def _is_finding(result: str) -> bool:
    """Whether a result has to be looked at. Where XLA refuses an operation, that is Keras's own limit."""
    return result not in ("match", "departure", "-") and not result.startswith("refused")
