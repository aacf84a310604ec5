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
from pathlib import Path
from typing import Any

from keras_ref.reports.escaping import escape_markdown, fence, make_printable
from keras_ref.reports.files import append, find_sources
from keras_ref.reports.verdict import Report
from keras_ref.reports.words import ALLOWED, WORST

#: rows of the table and explained failures that a summary shows of one target; GitHub allows 1 MiB per step
ROWS, FAILURES = 100, 20
#: annotations that GitHub shows of a step; it drops the others without a word
ANNOTATIONS = 10


def is_active() -> bool:
    """Whether this process runs in GitHub Actions."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def format_annotation(title: str, message: str, **where: Any) -> str:
    """A workflow command that shows an error on the run; with `file` and `line` in `where`, beside that line."""
    properties = {**{k: v for k, v in where.items() if v}, "title": title}
    said = ",".join(f"{name}={_escape_property(str(value))}" for name, value in properties.items())
    return f"::error {said}::{_escape_data(message)}"


def without_commands(lines: str) -> str:
    """Lines among which the runner looks for no workflow command: they show names that are somebody else's."""
    token = secrets.token_hex(16)
    return f"::stop-commands::{token}\n{lines}\n::{token}::"


def _escape_data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escape_property(text: str) -> str:
    return _escape_data(text).replace(":", "%3A").replace(",", "%2C")


def annotate(target: str, report: Report) -> list[str]:
    """An annotation for each failure, the worst first, beside the layer at fault or the target's factory; of more than
    GitHub shows, the last one says how many. One where nothing was compared.
    """
    where = find_place_of_culprit(report) or find_place(target)
    if not report.ok and not report.failures:
        return [format_annotation("gradtwin: nothing was compared", report.summary(), **where)]
    failures = [verdict for verdict in reversed(report.worst_last) if report.fails(verdict)]
    shown = failures if len(failures) <= ANNOTATIONS else failures[: ANNOTATIONS - 1]
    at_fault = "" if report.culprit is None else f", in the layer {report.culprit.layer} ({report.culprit.kind})"
    lines = [
        format_annotation(f"gradtwin: {v.verdict} in {v.name}{at_fault}", v.explain(report.replay), **where)
        for v in shown
    ]
    if len(shown) < len(failures):
        more = f"{len(failures) - len(shown)} more failures are in the step's summary and in the log."
        lines.append(format_annotation(f"gradtwin: {more}", report.summary(), **where))
    return lines


def find_place(target: str) -> dict[str, Any]:
    """{file, line} of a target's factory, the file relative to the workspace; {} for a factory outside of it.

    Where another process has loaded the module, its source is read.
    """
    module, _, name = target.partition(":")
    factory = getattr(sys.modules.get(module), name, None)
    if not callable(factory):
        return _find_place_in_source(target, name)
    try:
        file, line = inspect.getsourcefile(inspect.unwrap(factory)), inspect.getsourcelines(inspect.unwrap(factory))[1]
    except (OSError, TypeError):  # a built-in, or not defined in a file
        return {}
    return _find_in_workspace(Path(file or ""), line)


def find_place_of_culprit(report: Report) -> dict[str, Any]:
    """{file, line} of the layer at fault, as find_place gives it; {} where there is none, or none in the workspace."""
    found = report.culprit
    return {} if found is None or not found.file else _find_in_workspace(Path(found.file), found.line)


def _find_place_in_source(target: str, name: str) -> dict[str, Any]:
    for file in find_sources([target]) if name else ():
        with suppress(OSError, ValueError, SyntaxError):
            for node in ast.parse(Path(file).read_text(encoding="utf-8")).body:
                if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == name:
                    return _find_in_workspace(Path(file), node.lineno)
    return {}


def _find_in_workspace(file: Path, line: int) -> dict[str, Any]:
    here, path = Path(os.environ.get("GITHUB_WORKSPACE") or Path.cwd()).resolve(), file.resolve()
    return {"file": path.relative_to(here).as_posix(), "line": line} if path.is_relative_to(here) else {}


def append_summary(target: str, report: Report) -> None:
    """Append a report to the step's summary, if there is one. Raises: CouldNotRun where it cannot be written."""
    _append(write_summary(target, report))


def append_refusal(sentence: str) -> None:
    """Append to the step's summary what could not run. Raises: CouldNotRun where it cannot be written."""
    _append(f"### ❌ gradtwin could not run\n\n{escape_markdown(sentence)}\n\n")


def _append(text: str) -> None:
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if path:
        append("GITHUB_STEP_SUMMARY", path, text)


def write_summary(target: str, report: Report) -> str:
    """A report as Markdown: the line that sums up, a table with the failures first, six lines for each failure."""
    ordered = sorted(report.verdicts, key=lambda v: (not report.fails(v), v.verdict == "match"))
    rows = [
        f"| {_format_cell(v.name)} | {v.oracle} | {f'**{v.verdict}**' if report.fails(v) else v.verdict} | "
        f"{v.coverage} | {v.difference:.1e} | {v.allowed:.1e} |"
        for v in ordered[:ROWS]
    ]
    more = [f"\n{len(ordered) - ROWS} more variables are in the log.\n"] if len(ordered) > ROWS else []
    fences = [f"\n{fence(v.explain(report.replay))}\n" for v in report.failures[:FAILURES]]
    return "\n".join(
        [
            f"### {'✅' if report.ok else '❌'} gradtwin: {_format_code(target)}\n",
            escape_markdown(report.summary()) + "\n",
            *([escape_markdown(report.oracles) + "\n"] if report.failures else []),
            f"| variable | oracle | verdict | entries compared | {WORST} | {ALLOWED} |",
            "|---|---|---|---:|---:|---:|",
            *rows,
            *more,
            *fences,
            "",
            *(f"- {escape_markdown(note)}" for note in report.notes),
            "",
        ]
    )


def _format_cell(text: str) -> str:
    return _format_code(text).replace("|", "\\|")


def _format_code(text: str) -> str:
    """A text as code in a line of Markdown, which has no empty code."""
    shown = make_printable(text).replace("`", "'") or " "
    return f"`{shown}`"
