"""The command `gradtwin`: the recipes and a gallery; or any model of yours. Exit status 0 fine, 1 a finding, 2 could not run."""

# ruff: noqa: B006 (an empty list as default is Typer's way)
from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from keras_ref.errors import CouldNotRun
from keras_ref.frontends.invocation import Recorded, Run, differing, document, recorded_in
from keras_ref.frontends.isolation import isolated
from keras_ref.lesson.cli import lesson, recipe
from keras_ref.options import OPTIONS
from keras_ref.reports import github
from keras_ref.reports.files import writable, write
from keras_ref.reports.terminal import console, print_report, report_table, show_progress, ticking
from keras_ref.reports.verdict import Report, json_text

app = typer.Typer(add_completion=False, no_args_is_help=False, pretty_exceptions_enable=False, help=__doc__)
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
        help="An .npz file with x and y (x0, x1, … for several inputs), and sample_weight; drawn with the seed otherwise.",
    ),
]
Targets = Annotated[
    list[str],
    typer.Argument(
        metavar="TARGET",
        help="package.module:factory (it returns a model, or a model and its data), or a saved .keras file.",
    ),
]


@app.callback(invoke_without_command=True)
def overview(context: typer.Context, seed: Seed = 0) -> None:
    """Both recipes of the book beside Keras, then a gallery of small models on real data."""
    from keras_ref.inputs.targets import import_quietly

    import_quietly()
    if context.invoked_subcommand is not None:
        return
    out = console()
    from keras_ref.checks.gradients import check_gradients
    from keras_ref.checks.updates import check_updates
    from keras_ref.frontends.gallery import exhibits
    from keras_ref.lesson.recipe_table import RECIPES, rows

    for name, (weights, note) in RECIPES.items():
        _print_recipe(out, name, note, rows(weights))
    reports = []
    with show_progress(out) as bar:
        for exhibit in exhibits():
            common = {
                "loss": exhibit.loss,
                "weights": exhibit.weights,
                "seed": seed,
                "progress": ticking(bar, exhibit.name),
            }
            for check, more in ((check_gradients, {}), (check_updates, {"optimizer": exhibit.optimizer})):
                report = check(exhibit.model, exhibit.x, exhibit.y, **common, **more)  # type: ignore[operator]
                titled = _titled(
                    report,
                    f"iris, {exhibit.name}" + (f", 3 steps of {type(exhibit.optimizer).__name__}" if more else ""),
                )
                reports.append(titled)
                out.print(report_table(titled, out.width))
                out.print()
    failed = [r for r in reports if not r.ok]
    for report in failed:
        out.print(report.explain(), markup=False)
    variables, entries = sum(len(r.verdicts) for r in reports), sum(v.compared for r in reports for v in r.verdicts)
    out.print(
        f"{len(reports) - len(failed)} of {len(reports)} checks match: {variables} verdicts on {entries} entries, seed {seed}. "
        + (
            "Two implementations that share nothing but their weights agree."
            if not failed
            else "See the six lines of each mismatch above."
        )
    )
    raise typer.Exit(FINDING if failed else 0)


def _titled(report: Any, subject: str) -> Any:
    from dataclasses import replace

    return replace(report, subject=subject)


def _print_recipe(out: Console, name: str, note: str, found: Any, epochs: int = 1) -> None:
    once = epochs == 1
    table = Table(
        title=f"{name}, {epochs} epoch{'s' if epochs > 1 else ''}: {note}",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    for column in (
        "weight",
        "start",
        "nudged (NumPy)",
        "back-propagated (Keras)",
        "difference",
        *(["explained by h/2·f''"] if once else []),
    ):
        table.add_column(column, justify="left" if column == "weight" else "right", no_wrap=True)
    for row in found:
        table.add_row(
            row.name,
            f"{row.start:.8f}",
            f"{row.nudged:.12f}",
            f"{row.keras:.12f}",
            f"{row.difference:+.3e}",
            *([f"{row.explained:+.3e}"] if once else []),
        )
    out.print(table)
    if name == "recipe1" and once:
        error = -found[0].explained / 0.01
        out.print(
            f"The forward difference errs by h·mean(x²) = {error:.2e} in the slope of the weight, hence by {error * 0.01:.2e} in the weight."
        )
    out.print()


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
    """Compare every gradient of a model with slopes that need no calculus."""
    _carry_out(Run.of("check", **_without(locals(), "json", "html")), json, html)


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
    """Compare the weights after Keras's own training steps with numeric gradient and optimizer twin."""
    _carry_out(Run.of("updates", **_without(locals(), "json", "html")), json, html)


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
    """Is any gradient of a large model wrong, and which weight? A few random directions, bisected where they disagree."""
    _carry_out(Run.of("locate", **_without(locals(), "json", "html")), json, html)


@app.command()
def replay(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A report that --json wrote.")],
    json: Json = "",
    html: Html = "",
) -> None:
    """Run the check again that a JSON report records, and say whether the verdicts are the same."""
    recorded = recorded_in(file)
    _carry_out(recorded.run, json, html, recorded)


@app.command()
def coverage(
    run: Annotated[
        bool, typer.Option(help="Compare one small example of every twin with Keras, each in turn.")
    ] = False,
) -> None:
    """What the installed Keras exports, what has a twin, what is compared, and the known departures."""
    from keras_ref.coverage.table import print_coverage

    raise typer.Exit(0 if print_coverage(console(), run=run) else FINDING)


app.command()(lesson)
app.command()(recipe)


def _without(given: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name not in names}


def _carry_out(run: Run, json: str, html: str, recorded: Recorded | None = None) -> None:
    """Run it for each target, show, write and annotate what it found; exit 1 with a finding, 2 where one could not be run."""
    writable("--json", json)
    writable("--html", html)
    if html and len(run.targets) > 1:
        raise CouldNotRun(
            f"--html must have one target. Received: {len(run.targets)}. Run the command for each, or write --json."
        )
    out, found, refused = console(), dict[str, Report](), list[str]()
    for target in run.targets:
        try:
            with show_progress(out) as bar:
                tick = ticking(bar, target)
                report = isolated(run, target) if run.value("isolate") else run.report(target, tick)
        except (CouldNotRun, ValueError) as error:
            refused.append(str(error))
            complain(str(error))
            continue
        if found:
            out.print()
        found[target] = report
        print_report(out, report)
        if github.active():
            for line in github.findings(target, report):
                out.print(line, markup=False, soft_wrap=True)
            github.summarize(target, report)
    if json and found:  # where nothing ran there is nothing to write
        write("--json", json, json_text(document(run, found, refused)) + "\n")
    if html and found:
        from keras_ref.reports.html import report_html

        write("--html", html, report_html(next(iter(found.values()))))
    same = recorded is None or _compared_with(out, recorded, found)
    raise typer.Exit(COULD_NOT if refused else 0 if same and all(report.ok for report in found.values()) else FINDING)


def _compared_with(out: Console, recorded: Recorded, found: dict[str, Any]) -> bool:
    """Say whether the verdicts are those that were recorded."""
    changes = [line for target, report in found.items() for line in differing(recorded.reports[target], report)]
    total = sum(len(report.verdicts) for report in found.values())
    for line in (*recorded.changed, *changes):
        out.print(line, markup=False, soft_wrap=True)
    out.print(
        f"{len(changes)} verdicts are not those recorded." if changes else f"The same {total} verdicts as recorded.",
        soft_wrap=True,
    )
    return not changes


def main() -> None:
    """Entry point: run the command; what cannot be done is one line on stderr and exit status 2."""
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
        # the command line's own complaints (an unknown command, a missing argument) know how to say themselves
        if not hasattr(error, "format_message"):
            raise
        said = error.format_message()
        _fail(f"{said}{'' if said.endswith(('.', '?')) else '.'} See gradtwin --help.")


def complain(sentence: str) -> None:
    """One line on stderr, and an annotation in GitHub Actions."""
    line = " ".join(sentence.split())
    print(f"gradtwin: {line}", file=sys.stderr)
    if github.active():
        print(github.annotation("gradtwin could not run", line))


def _fail(sentence: str) -> None:
    complain(sentence)
    sys.exit(COULD_NOT)


if __name__ == "__main__":
    main()
