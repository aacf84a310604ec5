"""The command `gradtwin`, with Typer. Exit status: 0 all match, 1 a finding, 2 the command could not run."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from rich.console import Console

from keras_ref.errors import CouldNotRun
from keras_ref.frontends.compare_cli import compare
from keras_ref.frontends.homework_cli import homework
from keras_ref.frontends.invocation import Invocation, Recorded, compare_verdicts, make_document, read_recorded
from keras_ref.frontends.isolation import run_isolated
from keras_ref.lesson.cli import lesson, recipe
from keras_ref.options import OPTIONS
from keras_ref.reports import github
from keras_ref.reports.files import refuse_unwritable, write
from keras_ref.reports.terminal import console, print_report, show_progress, ticking
from keras_ref.reports.verdict import Report, json_text

app = typer.Typer(add_completion=False, no_args_is_help=False, pretty_exceptions_enable=False)
FINDING, COULD_NOT = 1, 2


def _option(name: str) -> Any:
    return typer.Option(f"--{name}", help=OPTIONS[name].help)


Seed = Annotated[int, _option("seed")]
Effort = Annotated[str, _option("effort")]
Budget = Annotated[str, _option("budget")]
Variables = Annotated[str, _option("variables")]
Training = Annotated[bool, _option("training")]
Mode = Annotated[str, _option("mode")]
Expect = Annotated[list[str], _option("expect")]
Allow = Annotated[list[str], _option("allow")]
Steps = Annotated[int, _option("steps")]
BatchSize = Annotated[int, _option("batch-size")]
Imports = Annotated[list[str], _option("import")]
Unsafe = Annotated[bool, _option("unsafe")]
Json = Annotated[str, _option("json")]
Html = Annotated[str, _option("html")]
Isolate = Annotated[bool, _option("isolate")]
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


@app.callback(invoke_without_command=True)
def overview(
    context: typer.Context,
    seed: Seed = 0,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show every weight and every variable.")] = False,
) -> None:
    """Check that gradients are right: every weight is nudged, and the change of the loss is compared with autodiff.

    Without a command: compare the book's two recipes with Keras, and check a gallery of small models on real data.

    Exit status: 0 all match, 1 a finding, 2 the command could not run.
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
    training: Training = False,
    mode: Mode = "eager",
    expect: Expect = [],
    allow: Allow = [],
    seed: Seed = 0,
    json: Json = "",
    html: Html = "",
    isolate: Isolate = False,
    imports: Imports = [],
    unsafe: Unsafe = False,
) -> None:
    """Check the gradients of a model: autodiff against the change of the loss when each weight is nudged."""
    invocation = Invocation.of(
        "check",
        targets=targets,
        data=data,
        effort=effort,
        budget=budget,
        variables=variables,
        training=training,
        mode=mode,
        expect=expect,
        allow=allow,
        seed=seed,
        isolate=isolate,
        imports=imports,
        unsafe=unsafe,
    )
    _run(invocation, json=json, html=html)


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
    imports: Imports = [],
    unsafe: Unsafe = False,
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
        imports=imports,
        unsafe=unsafe,
    )
    _run(invocation, json=json, html=html)


@app.command()
def locate(
    targets: Targets,
    data: DataFile = "",
    budget: Budget = "",
    variables: Variables = "*",
    training: Training = False,
    mode: Mode = "eager",
    expect: Expect = [],
    allow: Allow = [],
    seed: Seed = 0,
    json: Json = "",
    html: Html = "",
    isolate: Isolate = False,
    imports: Imports = [],
    unsafe: Unsafe = False,
) -> None:
    """Find a wrong gradient in a large model: a few random directions, bisected down to the weight."""
    invocation = Invocation.of(
        "locate",
        targets=targets,
        data=data,
        budget=budget,
        variables=variables,
        training=training,
        mode=mode,
        expect=expect,
        allow=allow,
        seed=seed,
        isolate=isolate,
        imports=imports,
        unsafe=unsafe,
    )
    _run(invocation, json=json, html=html)


@app.command()
def replay(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A report that --json wrote.")],
    json: Json = "",
    html: Html = "",
) -> None:
    """Run a recorded check again, and compare its verdicts with the recorded ones."""
    recorded = read_recorded(file)
    _run(recorded.invocation, json=json, html=html, recorded=recorded)


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
app.command()(homework)
app.command()(lesson)
app.command()(recipe)


def _run(invocation: Invocation, *, json: str, html: str, recorded: Recorded | None = None) -> None:
    """Run a command for each of its targets; print, annotate and write what it found.

    json, html   paths to write to, "" for none;   recorded   reports to compare the verdicts with

    Raises: typer.Exit with the exit status.
    """
    refuse_unwritable("--json", json)
    refuse_unwritable("--html", html)
    if html and len(invocation.targets) > 1:
        raise CouldNotRun(
            f"--html must have one target. Received: {len(invocation.targets)}. Run the command for each, or write "
            "--json."
        )
    out, found, refused = console(), dict[str, Report](), list[str]()
    for target in invocation.targets:
        try:
            report = _run_target(out, invocation, target)
        except (CouldNotRun, ValueError) as error:
            refused.append(str(error))
            complain(str(error))
            continue
        if found:
            out.print()
        found[target] = report
        print_report(out, report)
        if github.active():
            for line in github.annotate(target, report):
                out.print(line, markup=False, soft_wrap=True)
            github.append_summary(target, report)
    if found:  # else there is nothing to write
        _write(invocation, found, refused, json=json, html=html)
    same = recorded is None or _print_comparison(out, recorded, found)
    raise typer.Exit(COULD_NOT if refused else 0 if same and all(report.ok for report in found.values()) else FINDING)


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
    """Run the command. An error that a user can mend is one line on stderr, and exit status 2."""
    from keras_ref.inputs.targets import quiet_tensorflow

    try:
        quiet_tensorflow()
        status = app(standalone_mode=False)
        sys.exit(status or 0)
    except typer.Exit as exit_:
        sys.exit(exit_.exit_code)
    except (CouldNotRun, ValueError) as error:
        _fail(str(error))
    except (KeyboardInterrupt, typer.Abort):
        _fail("Interrupted; the model is what it was.")
    except Exception as error:
        # Click's own errors (an unknown command, a missing argument) have a message for the user; others are bugs
        if not hasattr(error, "format_message"):
            raise
        message = error.format_message()
        _fail(f"{message}{'' if message.endswith(('.', '?')) else '.'} See gradtwin --help.")


def complain(sentence: str) -> None:
    """Print one line on stderr, and an annotation in GitHub Actions."""
    line = " ".join(sentence.split())
    print(f"gradtwin: {line}", file=sys.stderr)
    if github.active():
        print(github.annotation("gradtwin could not run", line))


def _fail(sentence: str) -> None:
    complain(sentence)
    sys.exit(COULD_NOT)


if __name__ == "__main__":
    main()
