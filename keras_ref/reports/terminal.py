"""What the command line shows: plain text where it is no terminal, a table per report, a progress bar."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from keras_ref.reports.verdict import Report

#: width where output goes to a file or a pipe: no row is cut or folded there
WIDE = 200


def console() -> Console:
    """Where output goes: plain text when it is no terminal, wide enough there that no row is cut."""
    terminal = sys.stdout.isatty()
    return Console(width=None if terminal else WIDE, highlight=False, no_color=not terminal)


def show_progress(out: Console) -> Any:
    """A progress bar on a terminal, nothing elsewhere."""
    if not out.is_terminal:
        return nullcontext(None)
    return Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=out, transient=True)


def ticking(bar: Any, label: str) -> Callable[[int, int, str], None] | None:
    """What a check calls after each variable: it moves the bar."""
    if bar is None:
        return None
    task = bar.add_task(label, total=None)

    def update(done: int, total: int, name: str) -> None:
        bar.update(task, completed=done, total=total, description=f"{label} {name}")

    return update


#: columns of a report's table, and which of them a narrow terminal does without, first to go first
_COLUMNS = ("variable", "oracle", "compared", "worst difference", "allowed", "would see", "verdict")
_DISPENSABLE = ("would see", "allowed", "compared")


def report_table(report: Report, width: int = WIDE) -> Table:
    """A row per variable and oracle: entries compared, worst difference, what was allowed, verdict."""
    rows = [
        (
            v,
            dict(
                zip(
                    _COLUMNS,
                    (v.name, v.oracle, v.coverage, *map(_number, (v.difference, v.allowed, v.visible)), v.verdict),
                    strict=True,
                )
            ),
        )
        for v in report.verdicts
    ]
    lengths = {column: max([len(column), *(len(row[column]) for _, row in rows)]) for column in _COLUMNS}
    shown = list(_COLUMNS)
    for column in _DISPENSABLE:
        if sum(lengths[c] + 2 for c in shown) - 2 > width:
            shown.remove(column)
    table = Table(title=report.subject, title_justify="left", box=None, pad_edge=False)
    for column in shown:
        text = column in ("variable", "oracle", "verdict")
        table.add_column(column, justify="left" if text else "right", no_wrap=column != "variable", overflow="fold")
    for v, row in rows:
        style = "red" if v in report.failures else "yellow" if v.verdict != "match" else ""
        table.add_row(*(row[column] for column in shown), style=style)
    return table


def _number(value: float) -> str:
    """Two digits; a dash where there is nothing to say (a mismatch has no smallest error that would be seen)."""
    return "-" if value != value else f"{value:.1e}"


def print_report(out: Console, report: Report) -> None:
    """The table, six lines for each failure, which oracles disagree, the notes, one line that sums up."""
    if any(v.oracle != "process" for v in report.verdicts):
        out.print(report_table(report, out.width))
    for failure in report.failures:
        out.print("\n" + failure.explain(report.replay), markup=False, soft_wrap=True)
    for line in (*(["", report.oracles] if report.failures else []), *report.notes, report.summary()):
        out.print(line, markup=False, soft_wrap=True)
