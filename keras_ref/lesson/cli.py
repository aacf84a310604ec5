"""The commands `gradtwin lesson` and `gradtwin recipe`, which keras_ref/frontends/command_line/cli.py registers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from keras_ref.errors import CouldNotRun, shorten_error
from keras_ref.options import FILE, OPTIONS
from keras_ref.reports.escaping import make_printable
from keras_ref.reports.files import Output, find_sources, list_names, refuse_outputs, write, write_unused
from keras_ref.reports.terminal import make_console, make_ticker, show_progress
from keras_ref.undoing import staying_here

if TYPE_CHECKING:  # these import TensorFlow
    from keras_ref.lesson.lesson_model import LessonModel
    from keras_ref.lesson.two_trainings import WeightPath

#: the page of a lesson that is given no name
PAGE = "lesson.html"


def lesson(
    target: Annotated[
        str,
        typer.Argument(
            metavar="recipe1|recipe2|TARGET",
            help="A recipe of the book, package.module:factory, or a saved .keras file.",
        ),
    ] = "recipe1",
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar=FILE,
            help="Where to write the page; lesson.html if left out, lesson-2.html where that is there already.",
        ),
    ] = "",
    notebook: Annotated[
        str, typer.Option("--notebook", metavar=FILE, help="Write a notebook to this file, not a page.")
    ] = "",
    data: Annotated[
        str,
        typer.Option(
            "--data", metavar=FILE, help="An .npz file with x and y. Without it, data are drawn with the seed."
        ),
    ] = "",
    epochs: Annotated[int, typer.Option("--epochs", help="Epochs of both trainings, 1 to 1000.")] = 100,
    seed: Annotated[int, typer.Option("--seed", help="Seed of drawn data and of the order of batches.")] = 0,
    exercise: Annotated[
        bool,
        typer.Option("--exercise", help="Hide the answers until the student has predicted them: twelve questions."),
    ] = False,
    questions: Annotated[
        str, typer.Option("--questions", metavar=FILE, help="A TOML file with questions of your own for --exercise.")
    ] = "",
    language: Annotated[str, typer.Option("--language", help="Language of the page: en or de.")] = "en",
    force: Annotated[bool, typer.Option("--force", help=OPTIONS["force"].help)] = False,
) -> None:
    """Write a page or a notebook that shows nudging and back-propagation side by side, for a recipe or small model."""
    out = make_console()
    if not 1 <= epochs <= 1000:
        raise CouldNotRun(f"--epochs must be from 1 to 1000. Received: {epochs}. Pass 100, say.")
    # without a name for it, a second lesson keeps the first
    unused = not (output or notebook or force)
    page_path = output or (
        "" if notebook else PAGE if force else next(n for n in list_names(PAGE) if not Path(n).exists())
    )
    refuse_outputs(
        (
            Output(option="--output", path=page_path, kind="page", command="lesson"),
            Output(option="--notebook", path=notebook, kind="notebook", command="lesson"),
        ),
        inputs=(*find_sources([target]), data, questions),
        force="" if force else "--force",
    )
    if notebook:
        _write_notebook(out, notebook, target, data, seed=seed, epochs=epochs, language=language)
    if page_path:
        asked = _read_questions(questions) if exercise or questions else []
        made = _make_page(out, target, data, seed=seed, epochs=epochs, language=language, questions=asked)
        if unused:  # whatever has taken the name meanwhile
            page_path = write_unused("--output", PAGE, made.page)
        else:
            write("--output", page_path, made.page)
        for line in (
            made.note,
            made.verdict,
            _describe_written(page_path, "open it in a browser; it needs nothing else."),
        ):
            out.print(line, markup=False, soft_wrap=True)


def _read_questions(path: str) -> list[dict[str, Any]]:
    from keras_ref.lesson.live import read_questions

    return read_questions(path)


def _write_notebook(out: Console, path: str, target: str, data: str, *, seed: int, epochs: int, language: str) -> None:
    import nbformat

    from keras_ref.lesson.lesson import refuse_long
    from keras_ref.lesson.lesson_model import load_lesson_model
    from keras_ref.lesson.notebook import build_notebook

    with show_progress(out) as bar, staying_here():
        make_ticker(bar, "loading")
        # refuses now what the notebook would refuse when it runs
        refuse_long(load_lesson_model(target, data, seed=seed), epochs)
    made = build_notebook(target, data, seed=seed, epochs=epochs, language=language)
    write("--notebook", path, nbformat.writes(made) + "\n")
    out.print(_describe_written(path, "run it from top to bottom."), markup=False, soft_wrap=True)


@dataclass(frozen=True, kw_only=True)
class _Made:
    """A page, and what is said of it."""

    page: str
    note: str
    verdict: str


def _make_page(
    out: Console,
    target: str,
    data: str,
    *,
    seed: int,
    epochs: int,
    language: str,
    questions: Sequence[Mapping[str, Any]],
) -> _Made:
    from keras_ref.lesson.lesson import make
    from keras_ref.lesson.page import build_page
    from keras_ref.lesson.words import read_words

    read_words(language)  # refuses now, not after the trainings
    with show_progress(out) as bar, staying_here():
        made = make(target, data, seed=seed, epochs=epochs, progress=make_ticker(bar, "computing"))
        page = build_page(made, language=language, questions=questions)
    return _Made(page=page, note=str(made.note), verdict=str(made.verdict))


def _describe_written(path: str, advice: str) -> str:
    """The size and the place of a file, and what to do with it; a pipe or a device has neither."""
    place = Path(path).resolve()
    if not place.is_file():
        return make_printable(f"{path}: {advice}")
    size = place.stat().st_size
    number = f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.0f} kB"
    return make_printable(f"{number} {place}: {advice}")


def recipe(
    which: Annotated[str, typer.Argument(metavar="recipe1|recipe2", help="One of the recipes; both if left out.")] = "",
    epochs: Annotated[int, typer.Option("--epochs", help="Epochs of both trainings.")] = 1,
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="Learning rate of both trainings.")] = 0.01,
    step: Annotated[float, typer.Option("--step", help="Size h of the nudge.")] = 1e-4,
    batch_size: Annotated[
        int, typer.Option("--batch-size", help="Samples in a training step, in order; 0 for all.")
    ] = 0,
    weights: Annotated[
        str,
        typer.Option(
            "--weights", help="Other start weights as JSON: \\[kernel, bias, kernel, bias, …], as in scratch/recipe.py."
        ),
    ] = "",
    scheme: Annotated[
        str,
        typer.Option(
            "--scheme", help="How a nudge becomes a slope: forward, backward, central, richardson or complex."
        ),
    ] = "forward",
    explain: Annotated[bool, typer.Option("--explain", help="Explain one weight in sentences.")] = False,
) -> None:
    """Train the book's recipes by nudging and by Keras, and show the weights of both side by side."""
    from keras_ref.lesson.explain import explain_weight
    from keras_ref.lesson.lesson_model import make_recipe_model
    from keras_ref.lesson.recipe_table import RECIPES

    _refuse_numbers(epochs=epochs, batch_size=batch_size, scheme=scheme, step=step)
    out, given = make_console(), _parse_weights(weights)
    for name in [which] if which else ["recipe1"] if given is not None else list(RECIPES):
        lesson_model = make_recipe_model(name, given, learning_rate=learning_rate)
        _show(out, lesson_model, epochs=epochs, scheme=scheme, step=step, batch_size=batch_size or None)
        if explain:
            for sentence in explain_weight(lesson_model, scheme, step):
                out.print(sentence, markup=False, soft_wrap=True)
            out.print()


def _refuse_numbers(*, epochs: int, batch_size: int, scheme: str, step: float) -> None:
    """Raises: CouldNotRun for a value that an option of `gradtwin recipe` does not take."""
    from keras_ref.lesson.explain import SCHEMES

    for name, number, advice in (
        ("epochs", epochs, "10, say"),
        ("batch-size", batch_size, "2, say, or 0 for all samples"),
    ):
        if number < 0:
            raise CouldNotRun(f"--{name} must be at least 0. Received: {number}. Pass {advice}.")
    if scheme not in SCHEMES:
        raise CouldNotRun(f"--scheme must be one of {', '.join(SCHEMES)}. Received: {scheme!r}. Choose one of them.")
    if not 0 < step < float("inf"):
        raise CouldNotRun(f"--step must be a number above 0. Received: {step}. Pass 0.0001, say.")


def _parse_weights(text: str) -> list[Any] | None:
    """The value of --weights; None where it was not given. Raises: CouldNotRun."""
    if not text:
        return None
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CouldNotRun(
            f"--weights must be JSON, [kernel, bias, kernel, bias, …]. Received: {shorten_error(repr(text))[:-1]}: "
            f"{getattr(error, 'msg', 'it is nested too deeply')}. Pass '[[[1.5]], [0.0]]', say."
        ) from error
    return given if isinstance(given, list) else [given]


def _show(
    out: Console, lesson_model: LessonModel, *, epochs: int, scheme: str, step: float, batch_size: int | None
) -> None:
    """Train both, and print the weights after the last epoch and the losses over the epochs."""
    from keras_ref.lesson.explain import SCHEMES
    from keras_ref.lesson.two_trainings import keras_training, train_by_nudging
    from keras_ref.lesson.walkthrough import measure_curvature_error
    from keras_ref.lesson.words import phrase

    with show_progress(out) as bar:
        progress = make_ticker(bar, lesson_model.name)
        with keras_training(lesson_model) as keras_side:
            beside = keras_side.train(epochs, batch_size, progress=progress)
        made = SCHEMES[scheme].make(step)
        nudged = train_by_nudging(lesson_model, epochs=epochs, batch_size=batch_size, scheme=made, progress=progress)
    done = min(len(nudged.weights), len(beside.weights)) - 1
    # after one step of all samples, and only then, the difference is that of the slopes
    once = epochs == 1 and batch_size is None and scheme == "forward"
    errors = measure_curvature_error(lesson_model, step) if once else None
    rate = lesson_model.optimizer.learning_rate  # type: ignore[attr-defined]
    out.print(
        f"{lesson_model.name}, {done} epoch{'' if done == 1 else 's'}: {lesson_model.note}",
        soft_wrap=True,
        markup=False,
    )
    if lesson_model.source is not None:
        out.print(str(lesson_model.source), soft_wrap=True, markup=False, highlight=False)
    start, mine, theirs = map(lesson_model.flatten, (lesson_model.weights, nudged.weights[done], beside.weights[done]))
    table = Table(box=None, pad_edge=False)
    table.add_column("weight", no_wrap=True)
    for column in ("start", "nudged (NumPy)", "back-propagated (Keras)", "difference"):
        table.add_column(column, justify="right", no_wrap=True)
    if errors is not None:
        table.add_column("explained by h/2·f''", justify="right", no_wrap=True)
    for i, label in enumerate(lesson_model.labels):
        # a step along a slope that is too large by the error leaves the weight lower by rate · error
        explained = [f"{-rate * errors[i] + 0.0:+.3e}"] if errors is not None else []
        numbers = (f"{start[i]:.8f}", f"{mine[i]:.12f}", f"{theirs[i]:.12f}", f"{mine[i] - theirs[i]:+.3e}")
        table.add_row(label, *numbers, *explained)
    out.print(table)
    if errors is not None and lesson_model.title == phrase("title_recipe", number="1"):
        out.print(
            f"The forward difference errs by h·mean(x²) = {errors[0]:.2e} in the slope of the weight, hence by "
            f"{rate * errors[0]:.2e} in the weight.",
            soft_wrap=True,
        )
    if epochs > 1:
        out.print(_build_loss_table(nudged, beside, done=done, epochs=epochs))
    away = nudged.diverged or beside.diverged
    if away:
        out.print(
            f"The training diverges: after epoch {away} the loss is more than 10¹² times what it was, and we stop. "
            "Pass a smaller --learning-rate.",
            soft_wrap=True,
        )
    out.print()


def _build_loss_table(nudged: WeightPath, beside: WeightPath, *, done: int, epochs: int) -> Table:
    """The loss of both trainings after 0, 1, 2, 3, 5, 10, 20, 50, … epochs and after the last."""
    marks = {0, 1, 2, 3, *(m * 10**k for k in range(len(str(epochs))) for m in (1, 2, 5)), done}
    table = Table(box=None, pad_edge=False)
    for column in ("after epoch", "loss, nudged", "loss, back-propagated", "difference"):
        table.add_column(column, justify="right", no_wrap=True)
    for at in sorted(marks & set(range(done + 1))):
        mine, theirs = nudged.losses[at], beside.losses[at]
        table.add_row(str(at), f"{mine:.12g}", f"{theirs:.12g}", f"{mine - theirs:+.3e}")
    return table
