"""The command `gradtwin`, with Typer.

Exit status: 0 all match, 1 a finding, 2 the command could not run, 3 an internal error, 130 interrupted by Ctrl-C, 141
nobody reads what it prints.
"""

from __future__ import annotations

import gc
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_ref.frontends.command_line.campaign_cli import campaign
from keras_ref.frontends.command_line.compare_cli import compare, is_comparison, replay_comparison
from keras_ref.frontends.command_line.findings_cli import findings
from keras_ref.frontends.command_line.homework_cli import homework
from keras_ref.frontends.command_line.minimise_cli import minimise as minimise_command
from keras_ref.frontends.command_line.path_command import PathCommand
from keras_ref.frontends.command_line.running import Outputs, run_command
from keras_ref.frontends.command_line.starting import start_tensorflow
from keras_ref.frontends.endings import exit_status
from keras_ref.frontends.endings.exit_status import FINDING
from keras_ref.frontends.invocations.invocation import TAKES, Invocation, build_default_map, read_versions
from keras_ref.frontends.invocations.recorded import permit, read_json, read_recorded
from keras_ref.lesson.cli import lesson, recipe
from keras_ref.options import FILE, OPTIONS, read_settings
from keras_ref.reports.terminal import make_console
from keras_ref.supervision.supervise import WATCHED

app = typer.Typer(
    add_completion=True,
    no_args_is_help=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _make_option(name: str) -> Any:
    option = OPTIONS[name]
    # a flag that pyproject.toml may set can be taken back
    flags = f"--{name}/--no-{name}" if option.is_flag_of_settings else f"--{name}"
    return typer.Option(flags, help=option.help, metavar=option.metavar)


Seed = Annotated[int, _make_option("seed")]
Effort = Annotated[str, _make_option("effort")]
Budget = Annotated[str, _make_option("budget")]
Variables = Annotated[str, _make_option("variables")]
Wrt = Annotated[list[str], _make_option("wrt")]
Batches = Annotated[int, _make_option("batches")]
Training = Annotated[bool, _make_option("training")]
Mode = Annotated[str, _make_option("mode")]
Digits = Annotated[bool, _make_option("digits")]
Backend = Annotated[str, _make_option("backend")]
Expect = Annotated[list[str], _make_option("expect")]
Allow = Annotated[list[str], _make_option("allow")]
Steps = Annotated[int, _make_option("steps")]
BatchSize = Annotated[int, _make_option("batch-size")]
Imports = Annotated[list[str], _make_option("import")]
Unsafe = Annotated[bool, _make_option("unsafe")]
Json = Annotated[str, _make_option("json")]
Html = Annotated[str, _make_option("html")]
Junit = Annotated[str, _make_option("junit")]
Isolate = Annotated[bool, _make_option("isolate")]
Minimise = Annotated[bool, _make_option("minimise")]
TimeLimit = Annotated[str, typer.Option("--time-limit", "--timeout", help=OPTIONS["time-limit"].help)]
MemoryLimit = Annotated[str, _make_option("memory-limit")]
Workers = Annotated[int, _make_option("workers")]
Cluster = Annotated[str, _make_option("cluster")]
Force = Annotated[bool, _make_option("force")]
DataFile = Annotated[
    str,
    typer.Option(
        "--data",
        metavar=FILE,
        help="An .npz file with x and y (x0, x1, … for several inputs), and sample_weight if there is one; or a table, "
        ".csv or .parquet, with these or the model's own names above its columns. Without it, data are drawn with the "
        "seed.",
    ),
]
Targets = Annotated[
    list[str],
    typer.Argument(
        metavar="TARGET",
        help="package.module:factory, a function that returns a model or (model, x, y); or a saved .keras or .h5 file.",
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
    context.default_map = build_default_map(_read_settings())
    if context.invoked_subcommand in (*TAKES, "replay"):  # which import TensorFlow where their targets run
        return
    start_tensorflow()
    if context.invoked_subcommand is not None:
        return
    from keras_ref.frontends.command_line.overview import show_overview

    raise typer.Exit(0 if show_overview(make_console(), seed=seed, verbose=verbose) else FINDING)


@app.command(cls=PathCommand)
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
    junit: Junit = "",
    isolate: Isolate = False,
    time_limit: TimeLimit = OPTIONS["time-limit"].default,
    memory_limit: MemoryLimit = "",
    workers: Workers = 0,
    cluster: Cluster = "",
    imports: Imports = [],
    unsafe: Unsafe = False,
    force: Force = False,
    minimise: Minimise = False,
) -> None:
    """Check the gradients of a model: autodiff against the change of the loss when each weight is nudged."""
    invocation = _make_invocation(
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
        workers=workers,
        cluster=cluster,
        imports=imports,
        unsafe=unsafe,
    )
    run_command(invocation, Outputs(json=json, html=html, junit=junit, force=force), minimise=minimise)


@app.command(cls=PathCommand)
def updates(
    targets: Targets,
    data: DataFile = "",
    steps: Steps = 3,
    batch_size: BatchSize = 0,
    allow: Allow = [],
    seed: Seed = 0,
    json: Json = "",
    html: Html = "",
    junit: Junit = "",
    isolate: Isolate = False,
    time_limit: TimeLimit = OPTIONS["time-limit"].default,
    memory_limit: MemoryLimit = "",
    workers: Workers = 0,
    cluster: Cluster = "",
    imports: Imports = [],
    unsafe: Unsafe = False,
    force: Force = False,
    minimise: Minimise = False,
) -> None:
    """Check training steps: the weights after Keras's own steps against numeric gradients and a NumPy optimizer."""
    invocation = _make_invocation(
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
        workers=workers,
        cluster=cluster,
        imports=imports,
        unsafe=unsafe,
    )
    run_command(invocation, Outputs(json=json, html=html, junit=junit, force=force), minimise=minimise)


@app.command(cls=PathCommand)
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
    junit: Junit = "",
    isolate: Isolate = False,
    time_limit: TimeLimit = OPTIONS["time-limit"].default,
    memory_limit: MemoryLimit = "",
    workers: Workers = 0,
    cluster: Cluster = "",
    imports: Imports = [],
    unsafe: Unsafe = False,
    force: Force = False,
) -> None:
    """Find a wrong gradient in a large model: a few random directions, bisected down to the weight."""
    invocation = _make_invocation(
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
        workers=workers,
        cluster=cluster,
        imports=imports,
        unsafe=unsafe,
    )
    run_command(invocation, Outputs(json=json, html=html, junit=junit, force=force))


@app.command(cls=PathCommand)
def replay(
    file: Annotated[str, typer.Argument(metavar=FILE, help="A report that --json wrote.")],
    json: Json = "",
    html: Html = "",
    junit: Junit = "",
    imports: Imports = [],
    unsafe: Unsafe = False,
    force: Force = False,
) -> None:
    """Run a recorded check again, and compare its verdicts with the recorded ones.

    The report names the target and the check. --import and --unsafe are not taken from it: pass them here if needed.
    """
    if is_comparison(data := read_json(file)):
        start_tensorflow()
        replay_comparison(file, data, json=json, html=html, junit=junit, force=force)
    recorded = permit(read_recorded(file), imports=imports, unsafe=unsafe)
    make_console().print(f"replaying: {recorded.invocation.replay()}", markup=False, soft_wrap=True)
    run_command(recorded.invocation, Outputs(json=json, html=html, junit=junit, force=force), recorded)


@app.command(cls=PathCommand)
def coverage(
    run: Annotated[
        bool, typer.Option("--run", help="Compare a small example of every definition with Keras (minutes).")
    ] = False,
) -> None:
    """List what Keras exports, what has a NumPy twin, what is compared, and the known departures."""
    from keras_ref.coverage.printing import print_coverage

    raise typer.Exit(0 if print_coverage(make_console(), run=run) else FINDING)


app.command(cls=PathCommand)(compare)
app.command(cls=PathCommand)(campaign)
app.command(cls=PathCommand)(findings)
app.command("minimise", cls=PathCommand)(minimise_command)
app.command(cls=PathCommand)(homework)
app.command(cls=PathCommand)(lesson)
app.command(cls=PathCommand)(recipe)


def _read_settings() -> dict[str, Any]:
    """The settings of the project; none where the process that watches this one has read them."""
    return {} if WATCHED in os.environ else read_settings(Path.cwd())


def _make_invocation(command: str, **given: Any) -> Invocation:
    return Invocation.of(command, project=_read_settings(), **given)


def main() -> None:
    """Run the command, and exit with its status."""
    with warnings.catch_warnings():
        status = exit_status.run_application(app)
    gc.freeze()  # or Python looks through all that TensorFlow has made once more, which takes a second
    sys.exit(status)


if __name__ == "__main__":
    main()
