"""The command `gradtwin`, with Typer.

Exit status: 0 all match, 1 a finding, 2 the command could not run, 3 an internal error, 130 interrupted by Ctrl-C, 141
nobody reads what it prints.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.console import Console

from keras_ref.errors import BadInput, CouldNotRun, NobodyReads, short
from keras_ref.frontends import exit_status
from keras_ref.frontends.campaign_cli import campaign
from keras_ref.frontends.compare_cli import compare, is_comparison, replay_comparison
from keras_ref.frontends.exit_status import COULD_NOT, FINDING, complain, complain_of_own
from keras_ref.frontends.findings_cli import findings
from keras_ref.frontends.homework_cli import homework
from keras_ref.frontends.invocation import Invocation, make_document, read_versions
from keras_ref.frontends.isolation import run_isolated
from keras_ref.frontends.recorded import Recorded, compare_verdicts, permit, read_json, read_recorded
from keras_ref.lesson.cli import lesson, recipe
from keras_ref.options import OPTIONS
from keras_ref.reports import github
from keras_ref.reports.files import Output, refuse_outputs, sources_of, write
from keras_ref.reports.terminal import console, print_report, show_progress, ticking
from keras_ref.reports.verdict import Kind, Report, json_text

app = typer.Typer(
    add_completion=True,
    no_args_is_help=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _option(name: str) -> Any:
    return typer.Option(f"--{name}", help=OPTIONS[name].help)


Seed = Annotated[int, _option("seed")]
Effort = Annotated[str, _option("effort")]
Budget = Annotated[str, _option("budget")]
Variables = Annotated[str, _option("variables")]
Wrt = Annotated[list[str], _option("wrt")]
Batches = Annotated[int, _option("batches")]
Training = Annotated[bool, _option("training")]
Mode = Annotated[str, _option("mode")]
Digits = Annotated[bool, _option("digits")]
Backend = Annotated[str, _option("backend")]
Expect = Annotated[list[str], _option("expect")]
Allow = Annotated[list[str], _option("allow")]
Steps = Annotated[int, _option("steps")]
BatchSize = Annotated[int, _option("batch-size")]
Imports = Annotated[list[str], _option("import")]
Unsafe = Annotated[bool, _option("unsafe")]
Json = Annotated[str, _option("json")]
Html = Annotated[str, _option("html")]
Isolate = Annotated[bool, _option("isolate")]
TimeLimit = Annotated[str, typer.Option("--time-limit", "--timeout", help=OPTIONS["time-limit"].help)]
MemoryLimit = Annotated[str, _option("memory-limit")]
Force = Annotated[bool, _option("force")]
DataFile = Annotated[
    str,
    typer.Option(
        "--data",
        help="An .npz file with x and y (x0, x1, … for several inputs), and sample_weight if there is one. Without it, "
        "data are drawn with the seed.",
    ),
]
Targets = Annotated[
    list[str],
    typer.Argument(
        metavar="TARGET",
        help="package.module:factory, a function that returns a model or (model, x, y); or a saved .keras file.",
    ),
]


def _print_version(asked: bool) -> None:  # noqa: FBT001 (Typer calls it)
    """Print the versions of gradtwin and of what a verdict depends on, and exit; nothing of them is imported."""
    if asked:
        print(", ".join(f"{name} {version}" for name, version in read_versions().items()))
        raise typer.Exit


@app.callback(invoke_without_command=True)
def overview(
    context: typer.Context,
    seed: Seed = 0,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show every weight and every variable.")] = False,
    version: Annotated[  # noqa: ARG001 (printed by its callback)
        bool, typer.Option("--version", help="Show the versions.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Check that gradients are right: every weight is nudged, and the change of the loss is compared with autodiff.

    Without a command: compare the book's two recipes with Keras, and check a gallery of small models on real data.

    Exit status: 0 all match, 1 a finding, 2 the command could not run, 3 an internal error, 130 interrupted.
    """
    from keras_ref.inputs.targets import import_quietly

    import_quietly()
    if context.invoked_subcommand is not None:
        return
    from keras_ref.frontends.overview import show_overview

    raise typer.Exit(0 if show_overview(console(), seed=seed, verbose=verbose) else FINDING)


@app.command()
def check(
    targets: Targets,
    data: DataFile = "",
    effort: Effort = "auto",
    budget: Budget = "",
    variables: Variables = "*",
    wrt: Wrt = [],
    batches: Batches = 1,
    training: Training = False,
    mode: Mode = "eager",
    digits: Digits = False,
    backend: Backend = "tensorflow",
    expect: Expect = [],
    allow: Allow = [],
    seed: Seed = 0,
    json: Json = "",
    html: Html = "",
    isolate: Isolate = False,
    time_limit: TimeLimit = OPTIONS["time-limit"].default,
    memory_limit: MemoryLimit = "",
    imports: Imports = [],
    unsafe: Unsafe = False,
    force: Force = False,
) -> None:
    """Check the gradients of a model: autodiff against the change of the loss when each weight is nudged."""
    invocation = Invocation.of(
        "check",
        targets=targets,
        data=data,
        effort=effort,
        budget=budget,
        variables=variables,
        wrt=wrt,
        batches=batches,
        training=training,
        mode=mode,
        digits=digits,
        backend=backend,
        expect=expect,
        allow=allow,
        seed=seed,
        isolate=isolate,
        time_limit=time_limit,
        memory_limit=memory_limit,
        imports=imports,
        unsafe=unsafe,
    )
    _run(invocation, json=json, html=html, force=force)


@app.command()
def updates(
    targets: Targets,
    data: DataFile = "",
    steps: Steps = 3,
    batch_size: BatchSize = 0,
    allow: Allow = [],
    seed: Seed = 0,
    json: Json = "",
    html: Html = "",
    isolate: Isolate = False,
    time_limit: TimeLimit = OPTIONS["time-limit"].default,
    memory_limit: MemoryLimit = "",
    imports: Imports = [],
    unsafe: Unsafe = False,
    force: Force = False,
) -> None:
    """Check training steps: the weights after Keras's own steps against numeric gradients and a NumPy optimizer."""
    invocation = Invocation.of(
        "updates",
        targets=targets,
        data=data,
        steps=steps,
        batch_size=batch_size,
        allow=allow,
        seed=seed,
        isolate=isolate,
        time_limit=time_limit,
        memory_limit=memory_limit,
        imports=imports,
        unsafe=unsafe,
    )
    _run(invocation, json=json, html=html, force=force)


@app.command()
def locate(
    targets: Targets,
    data: DataFile = "",
    budget: Budget = "",
    variables: Variables = "*",
    wrt: Wrt = [],
    batches: Batches = 1,
    training: Training = False,
    mode: Mode = "eager",
    backend: Backend = "tensorflow",
    expect: Expect = [],
    allow: Allow = [],
    seed: Seed = 0,
    json: Json = "",
    html: Html = "",
    isolate: Isolate = False,
    time_limit: TimeLimit = OPTIONS["time-limit"].default,
    memory_limit: MemoryLimit = "",
    imports: Imports = [],
    unsafe: Unsafe = False,
    force: Force = False,
) -> None:
    """Find a wrong gradient in a large model: a few random directions, bisected down to the weight."""
    invocation = Invocation.of(
        "locate",
        targets=targets,
        data=data,
        budget=budget,
        variables=variables,
        wrt=wrt,
        batches=batches,
        training=training,
        mode=mode,
        backend=backend,
        expect=expect,
        allow=allow,
        seed=seed,
        isolate=isolate,
        time_limit=time_limit,
        memory_limit=memory_limit,
        imports=imports,
        unsafe=unsafe,
    )
    _run(invocation, json=json, html=html, force=force)


@app.command()
def replay(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A report that --json wrote.")],
    json: Json = "",
    html: Html = "",
    imports: Imports = [],
    unsafe: Unsafe = False,
    force: Force = False,
) -> None:
    """Run a recorded check again, and compare its verdicts with the recorded ones.

    The report says what is run. What it may run beside the target, --import and --unsafe say, here and not there.
    """
    if is_comparison(data := read_json(file)):
        replay_comparison(file, data, json=json, html=html, force=force)
    recorded = permit(read_recorded(file), imports=imports, unsafe=unsafe)
    console().print(f"replaying: {recorded.invocation.replay()}", markup=False, soft_wrap=True)
    _run(recorded.invocation, json=json, html=html, force=force, recorded=recorded)


@app.command()
def coverage(
    run: Annotated[
        bool, typer.Option("--run", help="Compare a small example of every definition with Keras (minutes).")
    ] = False,
) -> None:
    """List what Keras exports, what has a NumPy twin, what is compared, and the known departures."""
    from keras_ref.coverage.printing import print_coverage

    raise typer.Exit(0 if print_coverage(console(), run=run) else FINDING)


app.command()(compare)
app.command()(campaign)
app.command()(findings)
app.command()(homework)
app.command()(lesson)
app.command()(recipe)


def _run(
    invocation: Invocation, *, json: str, html: str, force: bool = False, recorded: Recorded | None = None
) -> None:
    """Run a command for each of its targets; print, annotate and write what it found.

    json, html   paths to write to, "" for none;   force   whether files of other kinds may be overwritten
    recorded     reports to compare the verdicts with

    Raises: typer.Exit with the exit status; OSError or NobodyReads where the output cannot be printed, after all files
    are written.
    """
    refuse_outputs(
        (Output(option="--json", path=json, kind="report"), Output(option="--html", path=html, kind="page")),
        inputs=(*sources_of(invocation.targets), invocation.data, recorded.path if recorded else ""),
        force="" if force else "--force",
    )
    if html and len(invocation.targets) > 1:
        raise CouldNotRun(
            f"--html must have one target. Received: {len(invocation.targets)}. Run the command for each, or write "
            "--json."
        )
    out, found, refused, worst = Printer(console()), dict[str, Report](), list[str](), 0
    for target in invocation.targets:
        try:
            report = _run_target(out.console, invocation, target)
        except (CouldNotRun, BadInput) as error:
            refused.append(str(error))
            complain(error)
            worst = max(worst, COULD_NOT)
            continue
        except (OSError, NobodyReads):
            raise
        except Exception as error:  # noqa: BLE001 (of gradtwin's own; the other targets go on)
            refused.append(f"{target}: {type(error).__name__}: {short(error)}")
            worst = max(worst, complain_of_own(error))
            continue
        out.show(target, report, first=not found)
        found[target] = report
    if found:  # else there is nothing to write
        _write(invocation, found, refused, json=json, html=html)
    out.raise_if_failed()
    same = recorded is None or refused or _print_comparison(out.console, recorded, found)
    ends = (0 if same else FINDING, *map(_status_of_report, found.values()))
    raise typer.Exit(max(worst, *ends))


def _status_of_report(report: Report) -> int:
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
            if not github.active():
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


def _run_target(out: Console, invocation: Invocation, target: str) -> Report:
    with show_progress(out) as bar:
        progress = ticking(bar, target)
        return run_isolated(invocation, target) if invocation.value("isolate") else invocation.run(target, progress)


def _write(invocation: Invocation, found: dict[str, Report], refused: list[str], *, json: str, html: str) -> None:
    if json:
        write("--json", json, json_text(make_document(invocation, found, refused)) + "\n")
    if html:
        from keras_ref.reports.html import report_html

        write("--html", html, report_html(next(iter(found.values()))))


def _print_comparison(out: Console, recorded: Recorded, found: dict[str, Report]) -> bool:
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


def main() -> None:
    """Run the command, and exit with its status."""
    sys.exit(exit_status.status_of(app))


if __name__ == "__main__":
    main()
