"""A report in a terminal: a progress bar, a table, the failures. Plain text where the output is no terminal."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from typing import IO

from rich import progress as rich_progress
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from keras_ref.errors import NobodyReads
from keras_ref.reports.escaping import make_printable
from keras_ref.reports.progress_lines import ProgressLines
from keras_ref.reports.verdict import NUMERIC_BY, Report, Verdict
from keras_ref.reports.words import ALLOWED, LEGEND, SEEN, WORST
from scratch.progress import Progress

#: width where the output goes to a file or a pipe: no row is cut or folded there
WIDE = 200


class WholeConsole(Console):
    """A console that leaves a broken pipe to the command, whose exit status it decides."""

    def on_broken_pipe(self) -> None:
        """Rich would exit with status 1, which says that there is a finding."""
        raise NobodyReads

    @property
    def file(self) -> IO[str]:
        """The output that it began with; that of now where a target has closed that one."""
        if self._file is not None and self._file.closed:
            self._file = None
        return super().file

    @file.setter
    def file(self, new: IO[str]) -> None:
        self._file = new


def make_console() -> Console:
    """Where output goes: the terminal as it is, NO_COLOR obeyed; elsewhere plain text, so wide that no row is cut.

    It keeps the output of now: where a block catches what is printed, a progress bar goes on, and is not caught.
    """
    terminal = sys.stdout.isatty()
    return WholeConsole(
        file=sys.stdout,
        width=None if terminal else WIDE,
        highlight=False,
        no_color=None if terminal else True,
        emoji=False,
    )


def show_progress(out: Console) -> AbstractContextManager[rich_progress.Progress | ProgressLines]:
    """A progress bar on a terminal, a line each minute elsewhere. Its seconds go on, from a thread, in whatever reports
    nothing."""
    if not out.is_terminal:
        return ProgressLines()
    return rich_progress.Progress(
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeElapsedColumn(),
        console=out,
        transient=True,
    )


def make_ticker(shown: rich_progress.Progress | ProgressLines, label: str) -> Progress:
    """A progress callback that moves the bar, or says what the next line is about."""
    if isinstance(shown, ProgressLines):
        shown.begin(label)
        return shown.update
    label = escape(make_printable(label))
    task = shown.add_task(label, total=None)

    def update(done: int, total: int, what: str) -> None:
        shown.update(task, completed=done, total=total, description=f"{label} {escape(make_printable(what))}")

    return update


#: columns of a report's table, and those that a narrow terminal does without, first to go first
_COMPARED = "entries\ncompared"
_WORST, _ALLOWED, _SEEN = (
    name.replace(f" {end}", f"\n{end}") for name, end in ((WORST, "at the"), (ALLOWED, "diff"), (SEEN, "it"))
)
_COLUMNS = ("variable", "oracle", _COMPARED, _WORST, _ALLOWED, _SEEN, "verdict")
_DISPENSABLE = (_SEEN, _ALLOWED, _COMPARED)


def report_table(report: Report, width: int = WIDE) -> Table:
    """A row per variable and oracle, matches first and failures last, where a terminal stops."""
    rows = [(v, dict(zip(_COLUMNS, _format_cells(v), strict=True))) for v in report.worst_last]
    lengths = {c: max([*map(len, c.split("\n")), *(len(row[c]) for _, row in rows)]) for c in _COLUMNS}
    shown = list(_COLUMNS)
    for column in _DISPENSABLE:
        if sum(lengths[c] + 2 for c in shown) - 2 > width:
            shown.remove(column)
    table = Table(title=Text(report.subject), title_justify="left", box=None, pad_edge=False)
    for column in shown:
        text = column in ("variable", "oracle", "verdict")
        table.add_column(
            column,
            justify="left" if text else "right",
            no_wrap=column != "variable",
            overflow="fold",
            vertical="bottom",
        )
    for v, row in rows:
        style = "red" if report.fails(v) else "yellow" if v.verdict != "match" else ""
        table.add_row(*(Text(row[column]) for column in shown), style=style)
    return table


def _format_cells(v: Verdict) -> tuple[str, ...]:
    return v.name, v.oracle, v.coverage, *map(format_number, (v.difference, v.allowed, v.visible)), v.verdict


def format_number(value: float) -> str:
    """Two digits; a dash where there is none (a mismatch has no smallest error that it would have seen)."""
    return "-" if value != value else f"{value:.1e}"


def describe_oracles(report: Report) -> str:
    """What the oracles of a report are, in one line."""
    names = dict.fromkeys(v.oracle for v in report.verdicts)
    return "oracles: " + "; ".join(f"{name}: {NUMERIC_BY[name]}" if name in NUMERIC_BY else name for name in names)


def print_report(out: Console, report: Report) -> None:
    """The table, the notes, the failures with the worst last, and one line that sums up."""
    if any(v.oracle != "process" for v in report.verdicts):
        out.print(report_table(report, out.width))
        out.print(describe_oracles(report), markup=False, soft_wrap=True)
        out.print(LEGEND, markup=False, soft_wrap=True)
    for note in report.notes:
        out.print(note, markup=False, soft_wrap=True)
    for failure in filter(report.fails, report.worst_last):
        out.print("\n" + failure.explain(report.replay), markup=False, soft_wrap=True)
    for line in (*(["", report.oracles] if report.failures else []), report.summary()):
        out.print(line, markup=False, soft_wrap=True)
