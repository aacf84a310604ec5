"""gradtwin homework: students' NumPy networks beside Keras.

Exit status: 0 all is right, 1 something is not right yet, 2 a submission does not run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from keras_ref.errors import CouldNotRun
from keras_ref.options import FILE, FOLDER, OPTIONS, require_seconds
from keras_ref.reports import junit
from keras_ref.reports.escaping import make_printable
from keras_ref.reports.files import Output, describe_writer, refuse_outputs, write
from keras_ref.reports.terminal import make_console, make_ticker, show_progress
from keras_ref.reports.verdict import write_json_text

if TYPE_CHECKING:
    from keras_ref.homework.grades import Grade, StageResult

#: how a state is said to a student
STATES = {
    "right": "right",
    "wrong": "not yet",
    "missing": "not there",
    "unwritten": "not written yet",
    "raised": "raises an error",
    "waiting": "waits",
}


def homework(
    paths: Annotated[
        list[str], typer.Argument(metavar=f"{FILE}…", help="Submissions: Python files, or folders of them.")
    ] = [],
    new: Annotated[
        str, typer.Option("--new", metavar=FOLDER, help="Write the six exercises into this new folder.")
    ] = "",
    exercise: Annotated[
        str, typer.Option("--exercise", help="The exercise that files belong to which do not name it themselves.")
    ] = "",
    show: Annotated[bool, typer.Option("--show", help="Show the right numbers too.")] = False,
    time_limit: Annotated[float, typer.Option("--time-limit", help="Seconds that a submission may take.")] = 20.0,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the weights.")] = 0,
    json: Annotated[
        str, typer.Option("--json", metavar=FILE, help=OPTIONS["html"].help.replace("one small HTML page", "JSON"))
    ] = "",
    force: Annotated[bool, typer.Option("--force", help=OPTIONS["force"].help)] = False,
    junit_path: Annotated[
        str, typer.Option("--junit", metavar=FILE, help="Write a test for each stage of each submission, as XML.")
    ] = "",
) -> None:
    """Check a NumPy network that a student wrote: forward, loss, backward and update, beside Keras and slopes."""
    out = make_console()
    outputs = [
        Output(option="--json", path=json, kind="report", command="homework"),
        Output(option="--junit", path=junit_path, kind="junit", command="homework"),
    ]
    require_seconds("--time-limit", time_limit)
    refuse_outputs(outputs, inputs=paths, force="" if force else "--force")
    if new:
        from keras_ref.homework.exercises import hand_out

        for name in hand_out(new):
            out.print(make_printable(f"{new}/{name}"), markup=False, soft_wrap=True)
        raise typer.Exit(0)
    if not paths:
        raise CouldNotRun("homework must have a submission, or --new DIR. Received: neither. Name a file.")
    from keras_ref.homework.exercises import find_exercise
    from keras_ref.homework.grades import Grade
    from keras_ref.homework.grading import grade, list_submissions

    grades: list[Grade] = []
    listed = list(list_submissions(paths))
    refuse_outputs(outputs, inputs=listed)
    with show_progress(out) as bar:
        progress = make_ticker(bar, "homework")
        for path in listed:
            progress(len(grades), len(listed), path)
            try:
                grades.append(grade(path, find_exercise(path, exercise), seed=seed, time_limit=time_limit))
            except CouldNotRun as error:
                grades.append(Grade(path, exercise, refused=str(error)))
    try:
        if json:
            graded = {"ok": all(one.ok for one in grades), "submissions": [one.to_dict() for one in grades]}
            write("--json", json, write_json_text({**describe_writer("homework"), **graded}) + "\n")
        if junit_path:
            write("--junit", junit_path, write_junit(grades))
    finally:  # whether a file could be written or not; and last, for nobody may read this
        if listed == paths and len(listed) == 1:
            print_grade(out, grades[0], show=show)
        else:
            print_table(out, grades)
    raise typer.Exit(2 if any(one.refused for one in grades) else 0 if all(one.ok for one in grades) else 1)


def print_grade(out: Console, found: Grade, *, show: bool) -> None:
    """What a student reads: a line a stage, then what is wrong first."""
    exercise = f" ({found.exercise})" if found.exercise else ""
    out.print(f"{found.path}{exercise}", markup=False, soft_wrap=True)
    if found.refused:
        out.print(f"It could not be run. {found.refused}", markup=False, soft_wrap=True)
        return
    for one in found.stages:
        style = "green" if one.state == "right" else "yellow"
        detail = f"  ({one.text})" if one.text and one.state in ("right", "waiting", "missing") else ""
        out.print(f"  {one.stage:<9} {STATES[one.state]}{detail}", style=style, markup=False, soft_wrap=True)
    for note in found.notes:
        out.print(note, markup=False, soft_wrap=True)
    out.print(_summarize(found), markup=False, soft_wrap=True)
    if show and found.first is not None and found.first.shown:
        out.print(found.first.shown, markup=False, soft_wrap=True)


def _summarize(found: Grade) -> str:
    if found.ok:
        return "All of it is right: well done."
    first = found.first
    done = [one.stage for one in found.stages if one.state == "right"]
    if first is None:
        return f"{'What is there is right.' if done else 'Nothing is written yet.'} Go on with what is missing."
    praise = f"{' and '.join(done).capitalize()} {'is' if len(done) == 1 else 'are'} right. " if done else ""
    return f"{praise}Look at the {first.stage} first: {first.text.rstrip('.')}."


def print_table(out: Console, grades: list[Grade]) -> None:
    """What a teacher reads: a row a submission."""
    table = Table(box=None, pad_edge=False)
    for name in ("submission", "exercise", "forward", "loss", "gradient", "update", "first"):
        table.add_column(name, overflow="fold")
    for one in grades:
        states = {stage.stage: stage.state for stage in one.stages}
        cells = [states.get(stage, "") for stage in ("forward", "loss", "gradient", "update")]
        first = one.refused or ("" if one.first is None else one.first.text)
        row = (one.path, one.exercise, *cells, first)
        table.add_row(*map(Text, row), style="" if one.ok else "yellow")
    out.print(table)
    right = sum(one.ok for one in grades)
    out.print(f"{right} of {len(grades)} submissions are right.", markup=False)


def write_junit(grades: list[Grade]) -> str:
    """A test suite a submission, a test a stage."""
    return junit.write_junit("homework", map(_build_suite, grades))


def _build_suite(found: Grade) -> junit.Suite:
    if found.refused:
        return junit.build_refusal_suite(found.path, found.refused)
    return junit.Suite(name=found.path, cases=tuple(map(_build_case, found.stages)))


def _build_case(stage: StageResult) -> junit.Case:
    if stage.state in ("wrong", "raised"):
        return junit.Case(name=stage.stage, ended="failure", message=stage.text, text=stage.shown)
    return junit.Case(name=stage.stage, ended="" if stage.state == "right" else "skipped", message=stage.text)
