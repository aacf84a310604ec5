"""The commands `gradtwin lesson` and `gradtwin recipe`: functions for Typer, wired in keras_ref/cli.py."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from keras_ref.errors import CouldNotRun
from keras_ref.reports.files import writable, write

SCHEMES = ("forward", "backward", "central", "richardson", "complex")


def _console() -> Console:
    terminal = sys.stdout.isatty()
    return Console(width=None if terminal else 132, highlight=False, no_color=not terminal)


def lesson(
    target: Annotated[
        str,
        typer.Argument(
            metavar="recipe1|recipe2|TARGET",
            help="A recipe of the book, package.module:factory, or a saved .keras file.",
        ),
    ] = "recipe1",
    output: Annotated[str, typer.Option("--output", "-o", help="The page to write; lesson.html by default.")] = "",
    notebook: Annotated[str, typer.Option("--notebook", help="The notebook to write, instead of a page.")] = "",
    data: Annotated[str, typer.Option("--data", help="An .npz file with x and y; drawn with the seed otherwise.")] = "",
    epochs: Annotated[int, typer.Option("--epochs", help="Epochs of both sides, 1 to 1000.")] = 100,
    seed: Annotated[int, typer.Option("--seed", help="Seed of drawn data and of the batches' order.")] = 0,
) -> None:
    """Write a page (or a notebook) that teaches one recipe or one small model, number by number."""
    out = _console()
    if not 1 <= epochs <= 1000:
        raise CouldNotRun(f"--epochs must be from 1 to 1000. Received: {epochs}. Pass 100, say.")
    page_path = output or ("" if notebook else "lesson.html")
    for name, path in (("--output", page_path), ("--notebook", notebook)):
        writable(name, path)
    from keras_ref.lesson.lesson import make

    if notebook:
        from keras_ref.lesson.lesson_model import subject_of
        from keras_ref.lesson.notebook import notebook as build

        subject_of(target, data, seed=seed)  # what cannot be taught from is refused now, not when the notebook runs
        import nbformat

        write("--notebook", notebook, nbformat.writes(build(target, data, seed=seed, epochs=epochs)) + "\n")
        out.print(
            f"{_size(notebook)} {Path(notebook).resolve()}: run it from top to bottom.", markup=False, soft_wrap=True
        )
    if page_path:
        from keras_ref.lesson.page import page

        with _status(out) as tell:
            made = make(target, data, seed=seed, epochs=epochs, progress=tell)
        write("--output", page_path, page(made))
        for line in (
            made.note,
            made.verdict,
            f"{_size(page_path)} {Path(page_path).resolve()}: open it in a browser; it needs nothing else.",
        ):
            out.print(line, markup=False, soft_wrap=True)


class _status:
    """A spinner that says what is being computed, on a terminal."""

    def __init__(self, out: Console) -> None:
        self.status = out.status("computing") if out.is_terminal else None

    def __enter__(self) -> Callable[[str], None]:
        if self.status is not None:
            self.status.start()
        return lambda what: self.status.update(f"computing {what}") if self.status is not None else None

    def __exit__(self, *_: Any) -> None:
        if self.status is not None:
            self.status.stop()


def _size(path: str) -> str:
    size = Path(path).stat().st_size
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.0f} kB"


def recipe(
    which: Annotated[
        str, typer.Argument(metavar="[recipe1|recipe2]", help="One of the recipes; both by default.")
    ] = "",
    epochs: Annotated[int, typer.Option("--epochs", help="Epochs of both sides.")] = 1,
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="Learning rate of both sides.")] = 0.01,
    step: Annotated[float, typer.Option("--step", help="The nudge h.")] = 1e-4,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Samples a step takes, in order; 0 for all.")] = 0,
    weights: Annotated[
        str,
        typer.Option(
            "--weights", help="Other start weights as JSON: [kernel, bias, kernel, bias, …], as in scratch/recipe.py."
        ),
    ] = "",
    scheme: Annotated[str, typer.Option("--scheme", help="How to difference: " + ", ".join(SCHEMES) + ".")] = "forward",
    explain: Annotated[bool, typer.Option("--explain", help="Walk one weight in sentences.")] = False,
) -> None:
    """The book's recipes beside Keras, epoch by epoch."""
    from keras_ref.lesson.lesson_model import recipe_subject
    from keras_ref.lesson.recipe_table import RECIPES

    for name, number, advice in (
        ("epochs", epochs, "10, say"),
        ("batch-size", batch_size, "2, say, or 0 for all samples"),
    ):
        if number < 0:
            raise CouldNotRun(f"--{name} must be at least 0. Received: {number}. Pass {advice}.")
    out, differencing = _console(), scheme_of(scheme, step)
    given = _weights(weights)
    for name in [which] if which else ["recipe1"] if given is not None else list(RECIPES):
        subject = recipe_subject(name, given, learning_rate=learning_rate)
        _show(out, subject, epochs=epochs, scheme=differencing, batch_size=batch_size or None)
        if explain:
            _explain(out, subject, differencing)


def scheme_of(name: str, step: float) -> Any:
    """The scheme that a word names, with its nudge. Raises: CouldNotRun."""
    from scratch.differences import Backward, Central, ComplexStep, Forward, Richardson

    if name not in SCHEMES:
        raise CouldNotRun(f"--scheme must be one of {', '.join(SCHEMES)}. Received: {name!r}. Choose one of them.")
    if not 0 < step < float("inf"):
        raise CouldNotRun(f"--step must be a number above 0. Received: {step}. Pass 0.0001, say.")
    kinds: dict[str, Any] = {"forward": Forward, "backward": Backward, "central": Central, "complex": ComplexStep}
    return Richardson(start=step) if name == "richardson" else kinds[name](step=step)


def _weights(text: str) -> Any:
    if not text:
        return None
    try:
        given = json.loads(text)
    except json.JSONDecodeError as error:
        raise CouldNotRun(
            f"--weights must be JSON, [kernel, bias, kernel, bias, …]. Received: {text!r}: {error.msg}. Pass '[[[1.5]], [0.0]]', say."
        ) from error
    return given if isinstance(given, list) else [given]


def _show(out: Console, subject: Any, *, epochs: int, scheme: Any, batch_size: int | None) -> None:
    """The weights of both sides after the last epoch, and the loss of both over the epochs."""
    from keras_ref.lesson.two_trainings import flat, keras_side, nudged_path

    with keras_side(subject) as side:
        beside = side.path(epochs, batch_size)
    nudged = nudged_path(subject, epochs=epochs, batch_size=batch_size, scheme=scheme)
    done = min(len(nudged.weights), len(beside.weights)) - 1
    start, mine, theirs = (
        flat(subject, subject.weights),
        flat(subject, nudged.weights[done]),
        flat(subject, beside.weights[done]),
    )
    once = epochs == 1 and batch_size is None and _is_forward(scheme)
    rate = subject.optimizer.learning_rate
    # stepping along a slope that is too large by the error leaves the weight lower by rate · error
    curved = _curvature_error(subject, scheme.step) if once else None
    out.print(f"{subject.name}, {done} epoch{'' if done == 1 else 's'}: {subject.note}", soft_wrap=True, markup=False)
    table = Table(box=None, pad_edge=False)
    for column in (
        "weight",
        "start",
        "nudged (NumPy)",
        "back-propagated (Keras)",
        "difference",
        *(["explained by h/2·f''"] if once else []),
    ):
        table.add_column(column, justify="left" if column == "weight" else "right", no_wrap=True)
    for i, label in enumerate(subject.labels):
        more = [f"{-rate * curved[i] + 0.0:+.3e}"] if curved is not None else []
        table.add_row(
            label, f"{start[i]:.8f}", f"{mine[i]:.12f}", f"{theirs[i]:.12f}", f"{mine[i] - theirs[i]:+.3e}", *more
        )
    out.print(table)
    if curved is not None and subject.title == "Recipe 1 of the book":
        out.print(
            f"The forward difference errs by h·mean(x²) = {curved[0]:.2e} in the slope of the weight, hence by {rate * curved[0]:.2e} in the weight."
        )
    if epochs > 1:
        out.print(_epoch_table(nudged, beside, done, epochs))
    away = nudged.diverged or beside.diverged
    if away:
        out.print(
            f"The training diverges: after epoch {away} the loss is more than 10¹² times what it was, and we stop. A smaller --learning-rate does not."
        )
    out.print()


def _epoch_table(nudged: Any, beside: Any, done: int, epochs: int) -> Table:
    """The loss of both sides: the first epochs, then ever fewer, and the last."""
    marks = sorted(
        {0, 1, 2, 3, *(m * 10**k for k in range(len(str(epochs))) for m in (1, 2, 5)), done} & set(range(done + 1))
    )
    table = Table(box=None, pad_edge=False)
    for column in ("after epoch", "loss, nudged", "loss, back-propagated", "difference"):
        table.add_column(column, justify="right", no_wrap=True)
    for at in marks:
        mine, theirs = nudged.losses[at], beside.losses[at]
        table.add_row(str(at), f"{mine:.12g}", f"{theirs:.12g}", f"{mine - theirs:+.3e}")
    return table


def _is_forward(scheme: Any) -> bool:
    return type(scheme).__name__ == "Forward"


def _curvature_error(subject: Any, step: float) -> Any:
    """h/2 · f'' of every entry, from the losses at w - h, w, w + h: what a forward difference errs by."""
    import numpy as np

    from scratch.gradient import Nudges

    nudges, found = Nudges(subject.objective, subject.weights, subject.x, subject.y, training=True), []
    for name in subject.trained:
        size = subject.weights[name].size
        ahead, behind = nudges.losses(name, np.arange(size), np.array([[step], [-step]]) * np.ones(size))
        found.append((ahead - 2 * nudges.base + behind) / step / 2)
    return np.concatenate(found)


def _explain(out: Console, subject: Any, scheme: Any) -> None:
    """One weight in sentences: the one with the largest slope."""
    for sentence in explanation(subject, scheme):
        out.print(sentence, markup=False, soft_wrap=True)
    out.print()


def explanation(subject: Any, scheme: Any) -> list[str]:
    """What happens to the weight with the largest slope in the first epoch, sentence by sentence."""
    import numpy as np

    from keras_ref.lesson.two_trainings import flat, keras_side, loss_of, slopes_of
    from keras_ref.lesson.walkthrough import reason
    from keras_ref.lesson.what_if import unflat

    slopes = slopes_of(subject, subject.weights, subject.x, subject.y, scheme)
    values, errors = (
        flat(subject, {n: e.value for n, e in slopes.items()}),
        flat(subject, {n: e.error for n, e in slopes.items()}),
    )
    with keras_side(subject) as side:
        autodiff = flat(subject, side.gradient(subject.weights))
    i = int(np.argmax(np.abs(values)))
    start = flat(subject, subject.weights)
    step: float = getattr(scheme, "step", 0.0) or getattr(scheme, "start", 0.0)
    moved = start.copy()
    moved[i] += step
    before, after = loss_of(subject, subject.weights), loss_of(subject, unflat(subject, moved))
    rate, kind = subject.optimizer.learning_rate, type(scheme).__name__
    looking = {
        "Forward": [
            f"Push it up by h = {step:g}: the loss becomes {after:.12g}, a change of {after - before:+.6g}.",
            f"Change divided by h is the slope: {values[i]:.10g}.",
        ],
        "Backward": [
            f"Pull it down by h = {step:g} and see what that changes; divided by h it is the slope: {values[i]:.10g}."
        ],
        "Central": [
            f"Push it up and pull it down by h = {step:g}; half the difference divided by h is the slope: {values[i]:.10g}."
        ],
        "Richardson": [
            f"Push and pull it by ever smaller nudges, from {step:g} times its size on, and extrapolate to none: the slope is {values[i]:.10g}."
        ],
        "ComplexStep": [
            f"Push it by h = {step:g} in the imaginary direction: the imaginary part of the loss divided by h is the slope, {values[i]:.10g}."
        ],
    }[kind]
    why = []
    if kind == "Forward":
        name, curved = subject.labels[i].split("[")[0], float(_curvature_error(subject, step)[i])
        said = reason(
            subject, name, slope=values[i], autodiff=autodiff[i], explained=curved, allowed=errors[i], step=step
        )
        why = [f"{said} Measured on the loss itself, h/2·f″ is {curved:+.3g}."]
    return [
        f"Look at {subject.labels[i]} of {subject.name}, which is {start[i]:.10g}. The loss of all {subject.samples} samples is {before:.12g}.",
        *looking,
        f"Back-propagation says {autodiff[i]:.10g}: the two differ by {values[i] - autodiff[i]:+.3g}, and may differ by {errors[i]:.3g}, truncation and rounding of the nudge.",
        *why,
        f"The weight steps against the slope, {rate:g} times as far: {start[i]:.10g} - {rate:g} · {values[i]:.10g} = {start[i] - rate * values[i]:.12g}. With back-propagation's slope it would be {start[i] - rate * autodiff[i]:.12g}.",
        "Every other weight is nudged the same way, each alone, and then all step together: that is one epoch."
        + (f" {subject.note}" if subject.name == "recipe2" else ""),
    ]
