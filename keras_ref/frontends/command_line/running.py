"""Run a command for each of its targets: print, annotate and write what was found, and end with the worst status."""

from __future__ import annotations

import json as json_
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import typer
from rich.console import Console

from keras_ref.errors import BadInput, CouldNotRun, NobodyReads, shorten_error
from keras_ref.frontends.command_line.minimise_cli import show_minimised
from keras_ref.frontends.command_line.starting import start_tensorflow
from keras_ref.frontends.endings.exit_status import (
    COULD_NOT,
    FINDING,
    WatchedEnded,
    complain,
    complain_of_own,
    explain_end,
)
from keras_ref.frontends.invocations.invocation import Invocation, make_document
from keras_ref.frontends.invocations.isolation import run_isolated
from keras_ref.frontends.invocations.recorded import Recorded, compare_verdicts, read_report
from keras_ref.frontends.invocations.watching import Journal, can_watch, watch
from keras_ref.reports import github
from keras_ref.reports.files import Output, find_sources, refuse_outputs, write
from keras_ref.reports.terminal import make_console, make_ticker, print_report, show_progress
from keras_ref.reports.verdict import Kind, Report, write_json_text
from keras_ref.supervision.processes import end_running
from scratch.nudging.blocks import cores


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Paths that a command writes to, "" for none, and whether files of others may be overwritten."""

    json: str = ""
    html: str = ""
    junit: str = ""
    force: bool = False

    def refuse(self, invocation: Invocation, *, inputs: tuple[str, ...] = ()) -> None:
        """Raises: CouldNotRun for a path that cannot or must not be written."""
        kinds = (("--json", self.json, "report"), ("--html", self.html, "page"), ("--junit", self.junit, "junit"))
        refuse_outputs(
            (Output(option=option, path=path, kind=kind, command=invocation.command) for option, path, kind in kinds),
            inputs=(*find_sources(invocation.targets), invocation.data, *inputs),
            force="" if self.force else "--force",
        )

    def write(self, invocation: Invocation, found: Findings) -> None:
        """Write the files; a page only where it has a report to show. Raises: CouldNotRun."""
        if self.json:
            document = make_document(invocation, found.reports, found.refused.values())
            write("--json", self.json, write_json_text(document) + "\n")
        if self.html and found.reports:
            from keras_ref.reports.html import report_html

            write("--html", self.html, report_html(*found.reports.values(), command=invocation.command))
        if self.junit:
            from keras_ref.reports.junit import build_refusal_suite, build_suite, write_junit

            suites = [build_suite(target, report) for target, report in found.reports.items()]
            suites += [build_refusal_suite(target, sentence) for target, sentence in found.refused.items()]
            write("--junit", self.junit, write_junit(invocation.command, suites))


@dataclass
class Findings:
    """What became of the targets: a report, or a sentence for one that could not be run, and the worst exit status."""

    reports: dict[str, Report] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    status: int = 0

    def add(self, target: str, *, report: Report | None = None, refused: str = "", status: int = 0) -> None:
        """Add what became of a target."""
        if report is not None:
            self.reports[target] = report
            status = choose_status(report)
        else:
            self.refused[target] = refused
        self.status = max(self.status, status)

    def include(self, other: Findings) -> None:
        """Add what became of other targets."""
        self.reports |= other.reports
        self.refused |= other.refused
        self.status = max(self.status, other.status)

    def add_recorded(self, target: str, line: Mapping[str, Any]) -> None:
        """Add what a journal says, of a process that another target has ended."""
        report = read_report(json_.loads(line["report"])) if "report" in line else None
        self.add(target, report=report, refused=line.get("refused", ""), status=line.get("status", 0))


def run_command(
    invocation: Invocation, outputs: Outputs, recorded: Recorded | None = None, *, minimise: bool = False
) -> None:
    """Run a command for each of its targets; print, annotate and write what it found.

    recorded   reports to compare the verdicts with
    minimise   whether a script is printed for each target that fails

    Raises: typer.Exit with the exit status; OSError or NobodyReads where the output cannot be printed, after all files
    are written.
    """
    outputs.refuse(invocation, inputs=(recorded.path,) if recorded else ())
    out = Printer(make_console())
    with closing(Journal()) as journal:
        found = _run_targets(invocation, journal, out)
    outputs.write(invocation, found)
    out.raise_if_failed()
    for target, report in found.reports.items() if minimise else ():
        if not report.ok:
            show_minimised(invocation, target, report)
    invocation.require_expected(found.reports.values())
    same = recorded is None or found.refused or _print_comparison(out.console, recorded, found.reports)
    raise typer.Exit(max(found.status, 0 if same else FINDING))


def _run_targets(invocation: Invocation, journal: Journal, out: Printer) -> Findings:
    """Run a command for each of its targets, watched unless each has a process of its own, and print the reports.

    Raises: WatchedEnded in the process that watches.
    """
    if len(set(invocation.targets)) > 1 and (invocation.value("workers") or invocation.value("cluster")):
        return _run_at_once(invocation, out)
    if not invocation.value("isolate"):
        status = watch(journal) if can_watch() else None
        if status is not None:
            raise WatchedEnded(status)
        start_tensorflow()
    before, found = journal.read(), Findings()
    for target in dict.fromkeys(invocation.targets):
        if target in before:
            found.add_recorded(target, before[target])
            continue
        with journal.running(target):
            report = _run_target(out.console, invocation, target, found)
            line = {"report": report.to_json()} if report is not None else {"refused": found.refused[target]}
            journal.write(target, **line, status=found.status)
        if report is not None:
            out.show(target, report, first=not found.reports)
            found.add(target, report=report)
    return found


def _run_at_once(invocation: Invocation, out: Printer) -> Findings:
    """Run a command for its targets in processes of their own, several at once, and print reports as they come."""
    targets, arrived = list(dict.fromkeys(invocation.targets)), dict[str, Findings]()
    together = min(len(targets), cores() if invocation.value("cluster") else invocation.value("workers"))
    shared = invocation.among(together)
    with ThreadPoolExecutor(together) as threads, show_progress(out.console) as bar:
        progress = make_ticker(bar, targets[0])
        running = {threads.submit(_run_apart, shared, target): target for target in targets}
        try:
            for future in as_completed(running):
                target, found = running[future], future.result()
                for report in found.reports.values():
                    out.show(target, report, first=not any(other.reports for other in arrived.values()))
                arrived[target] = found
                progress(len(arrived), len(targets), target)
        except BaseException:  # Ctrl-C does not reach processes that have sessions of their own
            threads.shutdown(wait=False, cancel_futures=True)
            end_running()
            raise
    every = Findings()
    for target in targets:  # whoever was first, files have the order of the command line
        every.include(arrived[target])
    return every


def _run_apart(invocation: Invocation, target: str) -> Findings:
    """What became of a target in a process of its own."""
    found = Findings()
    with _attempting(target, found):
        found.add(target, report=run_isolated(invocation, target))
    return found


def _run_target(out: Console, invocation: Invocation, target: str, found: Findings) -> Report | None:
    """The report on a target; None where it could not be run, which `found` then holds."""
    with _attempting(target, found), show_progress(out) as bar:
        progress = make_ticker(bar, target)
        return run_isolated(invocation, target) if invocation.value("isolate") else invocation.run(target, progress)
    return None


@contextmanager
def _attempting(target: str, found: Findings) -> Iterator[None]:
    """Around the run of a target: that it could not be run is said, and added to what was found."""
    try:
        yield
    except (CouldNotRun, BadInput) as error:
        complain(error)
        found.add(target, refused=str(error), status=COULD_NOT)
    except (OSError, NobodyReads, KeyboardInterrupt, SystemExit):
        raise
    except Exception as error:  # noqa: BLE001 (of gradtwin's own; the other targets go on)
        found.add(
            target, refused=f"{target}: {type(error).__name__}: {shorten_error(error)}", status=complain_of_own(error)
        )
    except BaseException as error:  # noqa: BLE001 (of the target's; the other targets go on)
        refusal = explain_end(target, error)
        complain(refusal)
        found.add(target, refused=str(refusal), status=COULD_NOT)


def choose_status(report: Report) -> int:
    """The exit status of one target: that it could not run where it ended its process."""
    if any(verdict.verdict is Kind.CRASH for verdict in report.verdicts):
        return COULD_NOT
    return 0 if report.ok else FINDING


@dataclass
class Printer:
    """Prints reports; where that fails the command goes on, so that its files are written."""

    console: Console
    failed: OSError | NobodyReads | None = None

    def show(self, target: str, report: Report, *, first: bool) -> None:
        """Print and annotate a report."""
        if self.failed is not None:
            return
        try:
            if not first:
                self.console.print()
            if not github.is_active():
                print_report(self.console, report)
            else:
                with self.console.capture() as shown:
                    print_report(self.console, report)
                lines = [github.without_commands(shown.get().rstrip("\n")), *github.annotate(target, report)]
                for line in lines:
                    self.console.print(line, markup=False, soft_wrap=True)
                github.append_summary(target, report)
            sys.stdout.flush()
        except BrokenPipeError:
            self.failed = NobodyReads()
        except (OSError, NobodyReads) as error:
            self.failed = error

    def raise_if_failed(self) -> None:
        """Raise what kept the reports from being printed."""
        if self.failed is not None:
            raise self.failed


def _print_comparison(out: Console, recorded: Recorded, found: Mapping[str, Report]) -> bool:
    """Print which verdicts are not those recorded. Returns whether all are."""
    changes = [line for target, report in found.items() for line in compare_verdicts(recorded.reports[target], report)]
    total = sum(len(report.verdicts) for report in found.values())
    for line in (*recorded.changed, *changes):
        out.print(line, markup=False, soft_wrap=True)
    out.print(
        f"{len(changes)} verdicts are not those recorded." if changes else f"The same {total} verdicts as recorded.",
        soft_wrap=True,
    )
    return not changes
