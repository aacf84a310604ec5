"""The command `gradtwin`: the recipes and a gallery; or any model of yours. Exit status 0 fine, 1 a finding, 2 could not run."""

from __future__ import annotations

import shlex
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from keras_ref.files import writable, write
from keras_ref.lesson.cli import lesson, recipe
from keras_ref.options import OPTIONS, CouldNotRun

app = typer.Typer(add_completion=False, no_args_is_help=False, pretty_exceptions_enable=False, help=__doc__)
FINDING, COULD_NOT = 1, 2


def _option(name: str, *flags: str) -> Any:
    option = OPTIONS[name]
    return typer.Option(*(flags or (f"--{name}",)), help=option.help)


Seed = Annotated[int, _option("seed")]
Effort = Annotated[str, _option("effort")]
Variables = Annotated[str, _option("variables")]
Training = Annotated[bool, _option("training")]
Mode = Annotated[str, _option("mode")]
Json = Annotated[str, _option("json")]
Html = Annotated[str, _option("html")]
DataFile = Annotated[str, typer.Option("--data", help="An .npz file with x and y (x0, x1, … for several inputs); drawn with the seed otherwise.")]
Imports = Annotated[list[str], typer.Option("--import", help="A module to import first: one that registers a file's custom classes.")]
TargetName = Annotated[str, typer.Argument(metavar="TARGET", help="package.module:factory, or a saved .keras file.")]


def console() -> Console:
    """Where output goes: plain text when it is no terminal, wide enough there that no row is cut."""
    terminal = sys.stdout.isatty()
    return Console(width=None if terminal else 132, highlight=False, no_color=not terminal)


def _show_progress(out: Console) -> Any:
    """A progress bar on a terminal, nothing elsewhere."""
    if not out.is_terminal:
        return nullcontext(None)
    return Progress(TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"), console=out, transient=True)


def _callback(bar: Any, label: str) -> Any:
    if bar is None:
        return None
    task = bar.add_task(label, total=None)

    def update(done: int, total: int, name: str) -> None:
        bar.update(task, completed=done, total=total, description=f"{label} {name}")

    return update


def report_table(report: Any) -> Table:
    """A row per variable and oracle: entries compared, worst difference, what was allowed, verdict."""
    table = Table(title=report.subject, title_justify="left", box=None, pad_edge=False)
    for column, justify in (("variable", "left"), ("oracle", "left"), ("compared", "right"), ("worst difference", "right"), ("allowed", "right"), ("would see", "right"), ("verdict", "left")):
        table.add_column(column, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for v in report.verdicts:
        style = "red" if v.failed else "yellow" if v.verdict != "match" else ""
        table.add_row(v.name, v.oracle, f"{v.compared} of {v.total}", f"{v.difference:.1e}", f"{v.allowed:.1e}", f"{v.visible:.1e}", v.verdict, style=style)
    return table


@app.callback(invoke_without_command=True)
def overview(context: typer.Context, seed: Seed = 0) -> None:
    """Both recipes of the book beside Keras, then a gallery of small models on real data."""
    from keras_ref.target import import_quietly

    import_quietly()
    if context.invoked_subcommand is not None:
        return
    out = console()
    from keras_ref.checks import check_gradients, check_updates
    from keras_ref.gallery import exhibits
    from keras_ref.recipes import RECIPES, rows

    for name, (weights, note) in RECIPES.items():
        _print_recipe(out, name, note, rows(weights))
    reports = []
    with _show_progress(out) as bar:
        for exhibit in exhibits():
            common = {"loss": exhibit.loss, "weights": exhibit.weights, "seed": seed, "progress": _callback(bar, exhibit.name)}
            for check, more in ((check_gradients, {}), (check_updates, {"optimizer": exhibit.optimizer})):
                report = check(exhibit.model, exhibit.x, exhibit.y, **common, **more)  # type: ignore[operator]
                titled = _titled(report, f"iris, {exhibit.name}" + (f", 3 steps of {type(exhibit.optimizer).__name__}" if more else ""))
                reports.append(titled)
                out.print(report_table(titled))
                out.print()
    failed = [r for r in reports if not r.ok]
    for report in failed:
        out.print(report.explain(), markup=False)
    variables, entries = sum(len(r.verdicts) for r in reports), sum(v.compared for r in reports for v in r.verdicts)
    out.print(
        f"{len(reports) - len(failed)} of {len(reports)} checks match: {variables} verdicts on {entries} entries, seed {seed}. "
        + ("Two implementations that share nothing but their weights agree." if not failed else "See the six lines of each mismatch above.")
    )
    raise typer.Exit(FINDING if failed else 0)


def _titled(report: Any, subject: str) -> Any:
    from dataclasses import replace

    return replace(report, subject=subject)


def _print_recipe(out: Console, name: str, note: str, found: Any, epochs: int = 1) -> None:
    once = epochs == 1
    table = Table(title=f"{name}, {epochs} epoch{'s' if epochs > 1 else ''}: {note}", title_justify="left", box=None, pad_edge=False)
    for column in ("weight", "start", "nudged (NumPy)", "back-propagated (Keras)", "difference", *(["explained by h/2·f''"] if once else [])):
        table.add_column(column, justify="left" if column == "weight" else "right", no_wrap=True)
    for row in found:
        table.add_row(row.name, f"{row.start:.8f}", f"{row.nudged:.12f}", f"{row.keras:.12f}", f"{row.difference:+.3e}", *([f"{row.explained:+.3e}"] if once else []))
    out.print(table)
    if name == "recipe1" and once:
        error = -found[0].explained / 0.01
        out.print(f"The forward difference errs by h·mean(x²) = {error:.2e} in the slope of the weight, hence by {error * 0.01:.2e} in the weight.")
    out.print()


@app.command()
def check(
    target: TargetName, data: DataFile = "", effort: Effort = "auto", variables: Variables = "*", training: Training = False,
    mode: Mode = "eager", seed: Seed = 0, json: Json = "", html: Html = "", imports: Imports = [],  # noqa: B006 (Typer's way)
) -> None:  # fmt: skip
    """Compare every gradient of a model with slopes that need no calculus."""
    from keras_ref.checks import check_gradients

    writable("--html", html)
    model, x, y, weight = _subject(target, data, seed, imports)
    out = console()
    with _show_progress(out) as bar:
        report = check_gradients(
            model, x, y, sample_weight=weight, effort=effort, variables=variables, training=training,
            modes=tuple(mode.split(",")), seed=seed, replay=_replay(), progress=_callback(bar, target),
        )  # fmt: skip
    if html:
        from keras_ref.html_report import report_html

        write("--html", html, report_html(report))
    _finish(out, report, json, "" if data else f"Data drawn with seed {seed}.")


@app.command()
def updates(
    target: TargetName, data: DataFile = "", steps: Annotated[int, typer.Option(help="Training steps to compare.")] = 3,
    batch_size: Annotated[int, typer.Option(help="Samples a step takes, in order; 0 for all.")] = 0, seed: Seed = 0, json: Json = "",
    imports: Imports = [],  # noqa: B006
) -> None:  # fmt: skip
    """Compare the weights after Keras's own training steps with numeric gradient and optimizer twin."""
    from keras_ref.checks import check_updates

    model, x, y, weight = _subject(target, data, seed, imports)
    out = console()
    with _show_progress(out) as bar:
        report = check_updates(
            model, x, y, sample_weight=weight, steps=steps, batch_size=batch_size or None, seed=seed, replay=_replay(), progress=_callback(bar, target)
        )
    _finish(out, report, json, "" if data else f"Data drawn with seed {seed}.")


@app.command()
def coverage(run: Annotated[bool, typer.Option(help="Compare one small example of every twin with Keras, each in turn.")] = False) -> None:
    """What the installed Keras exports, what has a twin, what is compared, and the known departures."""
    from keras_ref.coverage import print_coverage

    raise typer.Exit(0 if print_coverage(console(), run=run) else FINDING)


app.command()(lesson)
app.command()(recipe)


def _subject(target: str, data: str, seed: int, imports: list[str]) -> tuple[Any, Any, Any, Any]:
    from keras_ref import data as data_module
    from keras_ref.target import imported, load, load_data

    for module in imports:
        imported(module)
    model = load(target)
    if data:
        return (model, *load_data(data))
    x = data_module.draw_inputs(model, seed=seed)
    compiled = getattr(model, "_compile_loss", None) is not None
    y = data_module.draw_targets(model, data_module.outputs_of(model, x), seed=seed) if compiled else None
    return model, x, y, None


def _finish(out: Console, report: Any, json: str, drawn: str) -> None:
    out.print(report_table(report))
    for failure in report.failures:
        out.print("\n" + failure.explain(report.replay), markup=False, soft_wrap=True)
    for line in (*([report.oracles] if report.failures else []), *report.notes, *([drawn] if drawn else []), report.summary()):
        out.print(line, markup=False, soft_wrap=True)
    if json:
        try:
            Path(json).write_text(report.to_json() + "\n", encoding="utf-8")
        except OSError as error:
            raise CouldNotRun(f"--json must name a file that can be written. Received: {json}: {error.strerror}. Choose another path.") from error
    raise typer.Exit(0 if report.ok else FINDING)


def _replay() -> str:
    return shlex.join(["gradtwin", *sys.argv[1:]])


def main() -> None:
    """Entry point: run the command; what cannot be done is one line on stderr and exit status 2."""
    from keras_ref.target import quiet_tensorflow

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
        _fail(f"{error.format_message()} See gradtwin --help.")


def _fail(sentence: str) -> None:
    print("gradtwin: " + " ".join(sentence.split()), file=sys.stderr)
    sys.exit(COULD_NOT)


if __name__ == "__main__":
    main()
