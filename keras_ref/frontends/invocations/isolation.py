"""Check a target in a process of its own: its crash is a verdict, and the other targets are still checked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from keras_ref.errors import CouldNotRun, refuse_temporary_files
from keras_ref.frontends.invocations import variable_names
from keras_ref.frontends.invocations.invocation import Invocation
from keras_ref.frontends.invocations.recorded import read_written_report
from keras_ref.options import parse_memory_limit, parse_time_limit
from keras_ref.own_modules import own_command
from keras_ref.reports.verdict import Kind, Reason, Report, Verdict
from keras_ref.supervision.processes import OUTPUT, default_memory, making_folder, read_document, run_limited
from keras_ref.supervision.supervise import End, Limits, describe_end

#: what the command's own sentences begin with
PREFIX = "gradtwin: "


def run_isolated(invocation: Invocation, target: str) -> Report:
    """Run a command for one target in a process of its own, within its limits. If that ends otherwise than with a
    report (killed, at a limit, by itself), the report has the one verdict `crash`.

    Raises: CouldNotRun with the child's own sentence; RuntimeError for an error of gradtwin's own there.
    """
    alone = invocation.for_target(target)
    with making_folder() as folder:
        path = Path(folder) / "report.json"
        argv = [*alone.without_isolation().argv(), "--json", str(path)]
        end = run_limited(own_command("keras_ref", *argv), choose_limits(alone), waiting=folder)
        written = read_document(path) if not end.limit and end.status in (0, 1) else None
    report = read_written_report(written, target)
    if report is not None:
        return replace(report, replay=alone.replay())
    raise_refusal(end, folder)
    return report_crash(target, end, alone.replay())


def read_isolated_names(invocation: Invocation, target: str) -> list[str] | Report:
    """The names of a target's variables, loaded in a process of its own; a report of a crash where that ends so.

    Raises: CouldNotRun with the child's own sentence.
    """
    alone = invocation.for_target(target)
    with making_folder() as folder:
        path = Path(folder) / "names.json"
        command = own_command(variable_names.__name__, target, str(alone.value("seed")), str(path))
        end = run_limited(command, choose_limits(alone), waiting=folder)
        names = read_document(path) if not end.limit and end.status == 0 else None
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        return names
    raise_refusal(end)
    return report_crash(target, end, alone.replay())


def choose_limits(invocation: Invocation) -> Limits:
    """The limits that a command gives its isolated targets."""
    return Limits(
        seconds=parse_time_limit(invocation.value("time-limit")),
        bytes=parse_memory_limit(invocation.value("memory-limit")) or default_memory(),
        output=OUTPUT,
    )


def raise_refusal(end: End, folder: str = "") -> None:
    """Raises: CouldNotRun where the child has said what it needs; RuntimeError for an error of gradtwin's own.

    folder   where it was asked to write: that it could not is a lack of space for temporary files
    """
    last = next((line.strip() for line in reversed(end.stderr.splitlines()) if line.strip()), "")
    if end.limit or not last.startswith(PREFIX):
        return
    if end.status == 2 and folder and folder in last:
        raise refuse_temporary_files(last.partition("Received: ")[2].partition(". Choose")[0])
    if end.status == 2:
        raise CouldNotRun(last.removeprefix(PREFIX))
    if end.status == 3:
        raise RuntimeError(f"in the isolated process, {last.removeprefix(PREFIX)}")


def report_crash(target: str, end: End, replay: str) -> Report:
    """A report of one crash, with the first fatal line that the process wrote."""
    fatal = [
        line.strip()
        for line in end.stderr.splitlines()
        if "F external" in line or "Check failed" in line or line.startswith("Fatal")
    ]
    found = Verdict(target, "process", Kind.CRASH)
    how = end.limit or describe_end(end.status)
    verdict = found.because(Reason.PROCESS_DIED, how + (f": {fatal[0]}" if fatal else ""))
    return Report(target, (verdict,), notes=(), seed=0, replay=replay)
