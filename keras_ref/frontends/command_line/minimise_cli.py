"""gradtwin minimise: from a target that fails, or from its report, to a script of a few lines that shows why.

Exit status: 0 nothing fails, 1 a script was written, 2 it could not run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keras_ref.errors import BadInput, CouldNotRun, target_stays
from keras_ref.frontends.endings.exit_status import FINDING
from keras_ref.options import FILE, OPTIONS, parse_time_limit
from keras_ref.reports.files import Output, find_sources, refuse_outputs, write
from keras_ref.reports.terminal import make_console, make_ticker, show_progress
from keras_ref.supervision.supervise import WATCHED, describe_end
from keras_ref.undoing import staying_here

if TYPE_CHECKING:
    from keras_ref.frontends.invocations.invocation import Invocation
    from keras_ref.minimisation.minimise import Minimised
    from keras_ref.reports.verdict import Report


def minimise(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="package.module:factory, which returns a model, (model, x, y), (layer, *inputs) or (function, "
            "*inputs); a .keras file; an operation such as tensorflow.math.xlogy; or a report that --json wrote.",
        ),
    ],
    against: Annotated[
        str, typer.Argument(metavar="[B]", help="A second program: make the place small where both part.")
    ] = "",
    updates: Annotated[
        bool, typer.Option("--updates", help="Training steps instead of gradients, as gradtwin updates checks them.")
    ] = False,
    data: Annotated[
        str, typer.Option("--data", metavar=FILE, help="An .npz file with x and y, as of gradtwin check.")
    ] = "",
    training: Annotated[bool, typer.Option("--training", help=OPTIONS["training"].help)] = False,
    mode: Annotated[str, typer.Option("--mode", help=OPTIONS["mode"].help)] = "eager",
    seed: Annotated[int, typer.Option("--seed", help=OPTIONS["seed"].help)] = 0,
    script: Annotated[str, typer.Option("--script", metavar=FILE, help="Write the script to this file, too.")] = "",
    time: Annotated[
        str, typer.Option("--time", help="Time that the search may take, as 60s or 5m; the smallest so far is written.")
    ] = "60s",
    imports: Annotated[list[str], typer.Option("--import", help=OPTIONS["import"].help)] = [],
    unsafe: Annotated[bool, typer.Option("--unsafe", help=OPTIONS["unsafe"].help)] = False,
    force: Annotated[bool, typer.Option("--force", help=OPTIONS["force"].help)] = False,
    isolate: Annotated[
        bool, typer.Option("--isolate", help="Run it in a process of its own, which the target may end.")
    ] = False,
) -> None:
    """Make a failure small as long as the same finding stays, and write it as a script that runs without gradtwin.

    The script prints both values, and exits with 1 while the fault is there, 0 when it is not, 2 when it could not run.
    """
    output = Output(option="--script", path=script, kind="script", command="minimise")
    refuse_outputs([output], inputs=[*find_sources([target, against]), data], force="" if force else "--force")
    if isolate:
        raise typer.Exit(run_isolated(target, script))
    asked = Asked(
        data=data,
        updates=updates,
        options={"training": training, "modes": tuple(mode.split(",")), "seed": seed},
        imports=tuple(imports),
        unsafe=unsafe,
    )
    seconds = parse_time_limit(time, "--time")
    from keras_ref.minimisation.minimise import NothingToMinimise

    try:
        found = with_progress(target, lambda progress: open_subject(target, against, asked)(seconds, progress))
    except NothingToMinimise as nothing:
        if script and WATCHED in os.environ:  # what isolates this process believes no exit status by itself
            write("--script", script, f"# gradtwin: {' '.join(str(nothing).split())}\n")
        say(str(nothing))
        raise typer.Exit(0) from nothing
    show_script(found, script)
    raise typer.Exit(FINDING)


def run_isolated(target: str, script: str) -> int:
    """Run the command as it was given in a process of its own, print what it found, and return its exit status.

    Raises: CouldNotRun where the process ends otherwise than by itself, or with the sentence that it wrote.
    """
    from keras_ref.frontends.invocations.isolation import raise_refusal
    from keras_ref.own_modules import own_command
    from keras_ref.supervision.processes import OUTPUT, default_memory, making_folder, read_written, run_limited
    from keras_ref.supervision.supervise import Limits

    with making_folder() as folder:
        file = Path(folder, "script.py")
        given = [word for word in sys.argv[1:] if word != "--isolate"]
        command = own_command("keras_ref", *given, "--script", str(file))
        end = run_limited(command, Limits(seconds=ISOLATED, bytes=default_memory(), output=OUTPUT), waiting=folder)
        found = read_written(file)
    raise_refusal(end, folder)
    if end.limit or end.status not in (0, FINDING) or not found:
        how = end.limit or describe_end(end.status)
        raise CouldNotRun(
            f"A target must leave the process running to be made small. Received: {target}, whose process "
            f"{'was ' * (not how.startswith('ended'))}{how}. Take layers out by hand, with gradtwin check --isolate."
        )
    try:
        if script and end.status == FINDING:
            write("--script", script, found)
    finally:  # whether a file could be written or not; and last, for nobody may read this
        say(found.rstrip("\n").removeprefix("# gradtwin: " * (end.status == 0)))
    return end.status


#: seconds that a process of its own may take
ISOLATED = 3600.0
#: seconds that a search takes that `check --minimise` begins
SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the command line asks beside the target."""

    data: str = ""
    updates: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    imports: tuple[str, ...] = ()
    unsafe: bool = False


#: minimises in so many seconds, with a progress callback
Work = Callable[[float, Any], "Minimised"]


def open_subject(target: str, against: str, asked: Asked) -> Work:
    """What minimises a target. Raises: CouldNotRun for a target that cannot be opened."""
    from keras_ref.inputs.model_files import is_model_file
    from keras_ref.inputs.targets import import_module

    for module in asked.imports:
        import_module(module)
    if target.endswith(".json"):
        return _of_report(target, asked)
    if against:
        return _of_programs(target, against, asked)
    if ":" not in target and not is_model_file(target):
        return _of_operation(target, asked)
    return _of_target(target, asked)


def _of_target(target: str, asked: Asked, report: Report | None = None) -> Work:
    """A model, a layer or a function of a factory, or a saved model."""
    from keras_ref.minimisation.expressions import Call, Expression, Imported, Item
    from keras_ref.minimisation.minimise import minimise as run

    subject, *given = load_subject(target, unsafe=asked.unsafe)
    inputs, weight = complete(subject, given, asked)
    options = {} if weight is None else {"sample_weight": weight}
    module, _, name = target.partition(":")
    written_as: Expression = None
    if name:
        made = Call(Imported(module, name))
        written_as = Item(made, 0) if given else made
    return lambda seconds, progress: run(
        subject,
        *inputs,
        report=report,
        seconds=seconds,
        progress=progress,
        written_as=written_as,
        updates=asked.updates,
        **options,
        **select_options(subject, asked.options),
    )


def load_subject(target: str, *, unsafe: bool = False) -> tuple[Any, ...]:
    """(subject, *inputs) of a target: as load_target, and layers and functions too. Raises: CouldNotRun."""
    import keras

    from keras_ref.inputs.targets import import_module, load_target

    module, _, name = target.partition(":")
    found = getattr(import_module(module), name, None) if name else None
    if name and callable(found) and not isinstance(found, (keras.Model, type)):
        made: Any = None
        with target_stays(target), suppress(Exception):  # load_target says what is wrong with a factory
            made = found()
        first, *inputs = made if isinstance(made, tuple) and made else (made,)
        if isinstance(first, keras.Model) or (callable(first) and inputs):
            return first, *inputs
    return tuple(part for i, part in enumerate(load_target(target, unsafe=unsafe)) if i == 0 or part is not None)


def complete(subject: Any, given: list[Any], asked: Asked) -> tuple[tuple[Any, ...], Any]:
    """The inputs of a subject and the weights of its samples: of the data file, or drawn where a model has none."""
    import keras

    from keras_ref.inputs.tables import load_data_of
    from keras_ref.inputs.targets import complete_data

    if asked.data:
        x, y, weight = load_data_of(subject, asked.data)
        return (x, y), weight
    if isinstance(subject, keras.Model):
        (_, x, y, weight), _ = complete_data(subject, *given, seed=asked.options.get("seed", 0))
        return (x, y), weight
    return tuple(given), None


def select_options(subject: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given, as far as the subject's check takes them."""
    import keras

    usual = {"training": False, "modes": ("eager",), "seed": 0, "steps": 3, "batch_size": None}
    takes_training = isinstance(subject, keras.layers.Layer)
    return {
        name: value
        for name, value in options.items()
        if value != usual.get(name) and (name != "training" or takes_training)
    }


def _of_report(path: str, asked: Asked) -> Work:
    """The first target of a report that fails."""
    from keras_ref.frontends.command_line.compare_cli import is_comparison, read_run
    from keras_ref.frontends.invocations.recorded import permit, read_json, read_recorded

    data = read_json(path)
    if is_comparison(data):
        run = read_run(path, data)
        return _of_programs(run.a, run.b, replace(asked, data=run.data))
    recorded = permit(read_recorded(path), imports=asked.imports, unsafe=asked.unsafe)
    failing = [target for target, report in recorded.reports.items() if not report.ok]
    target = next(iter(failing), next(iter(recorded.reports)))
    return of_invocation(recorded.invocation, target, recorded.reports[target])


def of_invocation(invocation: Invocation, target: str, report: Report) -> Work:
    """A target of a command that was run, with its report."""
    value = invocation.value
    is_step = invocation.command == "updates"
    options = {"seed": value("seed")}
    if is_step:
        options |= {"steps": value("steps"), "batch_size": value("batch-size") or None}
    else:
        options |= {"training": value("training"), "modes": tuple(value("mode").split(","))}
    asked = Asked(data=invocation.data, updates=is_step, options=options, unsafe=value("unsafe"))
    return _of_target(target, asked, report)


def show_minimised(invocation: Invocation, target: str, report: Report) -> None:
    """Minimise what a check has just found, and print the script, or in one sentence why there is none."""
    try:
        found = with_progress(target, lambda progress: of_invocation(invocation, target, report)(SECONDS, progress))
    except (CouldNotRun, BadInput) as error:
        say(f"Not minimised: {error}")
    else:
        show_script(found)


def _of_programs(a: str, b: str, asked: Asked) -> Work:
    from keras_ref.minimisation.programs import minimise_programs

    return lambda seconds, progress: minimise_programs(
        a, b, data=asked.data, seconds=seconds, progress=progress, seed=asked.options.get("seed", 0)
    )


def _of_operation(name: str, asked: Asked) -> Work:
    """An operation of Keras or TensorFlow, at the first point at which the campaign accuses it."""
    from keras_ref.campaign.subjects import list_names
    from keras_ref.minimisation.operations import minimise_operation

    if name not in list_names():
        raise CouldNotRun(
            f"A target must be package.module:factory, a .keras file, a report or an operation. Received: {name!r}. "
            "`gradtwin campaign --list` has the operations."
        )
    return lambda seconds, progress: minimise_operation(
        name, seed=asked.options.get("seed", 0), seconds=seconds, progress=progress
    )


def with_progress(label: str, work: Callable[[Any], Minimised]) -> Minimised:
    """Minimise with a progress bar on a terminal. Raises: CouldNotRun for what the verb refuses."""
    from keras_ref.minimisation.minimise import NothingToMinimise

    with show_progress(make_console()) as bar, staying_here():
        try:
            return work(make_ticker(bar, label))
        except NothingToMinimise:
            raise
        except BadInput as error:
            raise CouldNotRun(str(error)) from error


def show_script(found: Minimised, path: str = "") -> None:
    """Write a script, and print it."""
    try:
        if path:
            write("--script", path, found.script)
    finally:  # whether a file could be written or not; and last, for nobody may read this
        say(found.script.rstrip("\n"))
        for note in found.notes:
            say(f"# {note}")
        say(
            f"# {found.lines} lines, the same finding as of the whole ({found.finding}); {found.tried} candidates in "
            f"{found.seconds:.0f} s"
        )


def say(text: str) -> None:
    """Print a line as it is."""
    make_console().print(text, markup=False, highlight=False, soft_wrap=True)
