"""GitHub Actions: an annotation for each finding, and a table in the step's summary. Elsewhere nothing is written.

Source: docs.github.com, "Workflow commands for GitHub Actions" (::error …; GITHUB_STEP_SUMMARY).
"""

from __future__ import annotations

import ast
import inspect
import os
import secrets
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_ref.reports.escaping import fenced, markdown, printable
from keras_ref.reports.files import append, sources_of
from keras_ref.reports.verdict import Report

#: rows of the table and explained failures that a summary shows of one target; GitHub allows 1 MiB per step
ROWS, FAILURES = 100, 20
#: annotations that GitHub shows of a step; it drops the others without a word
ANNOTATIONS = 10


@dataclass(frozen=True, kw_only=True)
class Place:
    """A line of a file."""

    file: str
    line: int


def active() -> bool:
    """Whether this process runs in GitHub Actions."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def annotation(title: str, message: str, **where: Any) -> str:
    """A workflow command that shows an error on the run; with `file` and `line` in `where`, beside that line."""
    properties = {**{k: v for k, v in where.items() if v}, "title": title}
    said = ",".join(f"{name}={_property(str(value))}" for name, value in properties.items())
    return f"::error {said}::{_data(message)}"


def without_commands(lines: str) -> str:
    """Lines among which the runner looks for no workflow command: they show names that are somebody's else."""
    token = secrets.token_hex(16)
    return f"::stop-commands::{token}\n{lines}\n::{token}::"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def annotate(target: str, report: Report) -> list[str]:
    """An annotation for each failure, the worst first, beside the layer at fault or the target's factory; of more than
    GitHub shows, the last one says how many. One where nothing was compared.
    """
    where = place_of(target, report)
    if not report.ok and not report.failures:
        return [annotation("gradtwin: nothing was compared", report.summary(), **where)]
    failures = [verdict for verdict in reversed(report.worst_last) if report.fails(verdict)]
    shown = failures if len(failures) <= ANNOTATIONS else failures[: ANNOTATIONS - 1]
    at_fault = "" if report.culprit is None else f", in the layer {report.culprit.layer} ({report.culprit.kind})"
    lines = [
        annotation(f"gradtwin: {v.verdict} in {v.name}{at_fault}", v.explain(report.replay), **where) for v in shown
    ]
    if len(shown) < len(failures):
        more = f"{len(failures) - len(shown)} more failures are in the step's summary and in the log."
        lines.append(annotation(f"gradtwin: {more}", report.summary(), **where))
    return lines


def place_of(target: str, report: Report) -> dict[str, Any]:
    """{file, line} of the layer at fault, else of the target's factory, the file relative to the workspace; {} where
    both lie outside of it, or in no file."""
    culprit = report.culprit
    at_fault = None if culprit is None or not culprit.file else Place(file=culprit.file, line=culprit.line)
    here = Path(os.environ.get("GITHUB_WORKSPACE") or Path.cwd()).resolve()
    for place in filter(None, (at_fault, find_factory(target))):
        path = Path(place.file).resolve()
        if path.is_relative_to(here):
            return {"file": path.relative_to(here).as_posix(), "line": place.line}
    return {}


def find_factory(target: str) -> Place | None:
    """Where a target's factory is defined: as it is loaded, or as its module says, which is then not imported (the
    target was checked in a process of its own). None where that is in no file."""
    module, _, name = target.partition(":")
    factory = getattr(sys.modules.get(module), name, None)
    if callable(factory):
        with suppress(OSError, TypeError):  # a built-in, or not defined in a file
            factory = inspect.unwrap(factory)
            return Place(file=inspect.getsourcefile(factory) or "", line=inspect.getsourcelines(factory)[1])
        return None
    for path in sources_of([target] if name else []):
        with suppress(OSError, SyntaxError, ValueError):
            for node in ast.parse(Path(path).read_bytes()).body:
                if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == name:
                    return Place(file=path, line=node.lineno)
    return None


def append_summary(target: str, report: Report) -> None:
    """Append a report to the step's summary, if there is one. Raises: CouldNotRun where it cannot be written."""
    _append(summary(target, report))


def append_refusal(sentence: str) -> None:
    """Append to the step's summary what could not run. Raises: CouldNotRun where it cannot be written."""
    _append(f"### ❌ gradtwin could not run\n\n{markdown(sentence)}\n\n")


def _append(text: str) -> None:
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if path:
        append("GITHUB_STEP_SUMMARY", path, text)


def summary(target: str, report: Report) -> str:
    """A report as Markdown: the line that sums up, a table with the failures first, six lines for each failure."""
    ordered = sorted(report.verdicts, key=lambda v: (not report.fails(v), v.verdict == "match"))
    rows = [
        f"| {_cell(v.name)} | {v.oracle} | {f'**{v.verdict}**' if report.fails(v) else v.verdict} | {v.coverage} "
        f"| {v.difference:.1e} | {v.allowed:.1e} |"
        for v in ordered[:ROWS]
    ]
    more = [f"\n{len(ordered) - ROWS} more variables are in the log.\n"] if len(ordered) > ROWS else []
    fences = [f"\n{fenced(v.explain(report.replay))}\n" for v in report.failures[:FAILURES]]
    return "\n".join(
        [
            f"### {'✅' if report.ok else '❌'} gradtwin: {_code(target)}\n",
            markdown(report.summary()) + "\n",
            *([markdown(report.oracles) + "\n"] if report.failures else []),
            "| variable | oracle | verdict | compared | worst difference | allowed |",
            "|---|---|---|---:|---:|---:|",
            *rows,
            *more,
            *fences,
            "",
            *(f"- {markdown(note)}" for note in report.notes),
            "",
        ]
    )


def _cell(text: str) -> str:
    return _code(text).replace("|", "\\|")


def _code(text: str) -> str:
    """A text as code in a line of Markdown, which has no empty code."""
    shown = printable(text).replace("`", "'") or " "
    return f"`{shown}`"
