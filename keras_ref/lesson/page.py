"""A lesson as one self-contained page: records and figures as JSON, Plotly and everything else inlined."""

from __future__ import annotations

import base64
import gzip
import json
from html import escape
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from string import Template
from typing import Any

import numpy as np

from keras_ref.errors import CouldNotRun
from keras_ref.lesson import figures
from keras_ref.lesson.captions import Change, captions, changes, landscape
from keras_ref.lesson.lesson import Lesson, Listing
from keras_ref.lesson.recipe_table import RECIPES
from keras_ref.lesson.tables import cell, forward_tables, nudge_table, number, row, table, unit_sentences, walk
from keras_ref.lesson.what_if import Run

#: bytes that a page may have
LIMIT = 6_000_000
TABS = (
    ("step", "One epoch"),
    ("epochs", "Epochs"),
    ("landscape", "Landscape"),
    ("what-if", "What if"),
    ("code", "Code"),
)
#: columns of the table that follows the slider, in the order in which page.js fills them
COLUMNS = (
    "nudged",
    "Keras",
    "differ by",
    "may differ by",
    "slope, nudged",
    "autodiff there",
    "differ by",
    "may differ by",
)


def page(lesson: Lesson) -> str:
    """The page of a lesson: HTML that needs no network and no server, at most LIMIT bytes. Raises: CouldNotRun above that."""
    specs = _specs(lesson)
    made = Template(_asset("page.html")).substitute(
        title=escape(lesson.title),
        note=escape(_sentence(lesson.note)),
        note_class="note warn" if lesson.name == "recipe2" else "note",
        units_note=_units_note(lesson),
        verdict=escape(lesson.verdict),
        nudge=f"{lesson.nudge:g}",
        style=_asset("style.css"),
        tabs=_tabs(),
        model=_model(lesson),
        forward=forward_tables(lesson.step),
        loss_text=_loss_text(lesson),
        loss=repr(lesson.step.loss),
        loss_shown=number(lesson.step.loss),
        keras_loss=repr(lesson.step.keras_loss),
        keras_loss_shown=number(lesson.step.keras_loss),
        entries="".join(f'<option value="{i}">{escape(label)}</option>' for i, label in enumerate(lesson.track.labels)),
        walks="".join(
            walk(lesson.step, i).replace(" hidden", "" if i == lesson.steepest else " hidden", 1)
            for i in range(len(lesson.step.nudges))
        ),
        nudges=nudge_table(lesson.step),
        update=escape(lesson.optimizer),
        units_text=_units_text(lesson),
        units=_units(lesson),
        epochs=str(lesson.epochs),
        epoch_table=_epoch_table(lesson),
        landscape=_landscape(lesson),
        best=_best(lesson),
        runs="".join(map(_runs, changes(lesson))),
        code=_code(lesson),
        listings="".join(map(_listing, lesson.listings)),
        **{f"figure_{name}": figure(name, title, caption) for name, (title, caption) in captions(lesson).items()},
        records=_json(_shown_records(lesson)),
        figures=_json(specs),
        plotly=_plotly(),
        script=_asset("page.js"),
        version=_version(),
    )
    size = len(made.encode())
    if size > LIMIT:
        raise CouldNotRun(
            f"A page must have at most {LIMIT / 1e6:g} MB. Received: {lesson.name}, whose page would have {size / 1e6:.1f} MB. Pass fewer --epochs, or a smaller model."
        )
    return made


def _asset(name: str) -> str:
    return (files("keras_ref.lesson") / "assets" / name).read_text(encoding="utf-8")


def _plotly() -> str:
    """Plotly's own bundle, compressed: the page unpacks it, and stays small enough to be mailed and opened on a phone."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode("utf-8"), 9, mtime=0)).decode("ascii")


def _json(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _shown_records(lesson: Lesson) -> dict[str, Any]:
    """The records without what stands in the page already: programs, tables of the step, heights of the landscapes, runs.

    Errors are kept to 6 digits: they are shown with 3, and the page stays small.
    """
    records = lesson.to_dict()
    for one in records["precisions"]:
        del one["stated"]
        one["error"] = figures.digits(np.array(one["error"], dtype=float), 6)
    for scene in records["landscapes"]:
        del scene["losses"]
    for name in ("slope_allowed", "weight_allowed", "slope_difference", "weight_difference"):
        records["track"][name] = figures.digits(getattr(lesson.track, name), 6)
    return {
        key: value
        for key, value in records.items()
        if key not in ("listings", "step", "rates", "batches", "optimizers")
    }


def _version() -> str:
    try:
        return version("gradtwin")
    except PackageNotFoundError:
        return "(not installed)"


def _sentence(text: str) -> str:
    return text if text.endswith(".") else text + "."


def _specs(lesson: Lesson) -> dict[str, Any]:
    """Figure id → Plotly specification."""
    far = lesson.farthest
    specs = {
        "loss": figures.loss_figure(lesson),
        "weight": figures.weight_figure(lesson, far),
        "slope": figures.slope_figure(lesson, far),
        "difference": figures.difference_figure(lesson, far),
        "precision": figures.precision_figure(lesson, lesson.steepest),
    }
    for i, scene in enumerate(lesson.landscapes):
        specs[f"landscape-{i}"] = figures.landscape_figure(lesson, i) | {
            "length": figures.nudge_length(scene, lesson.nudge)
        }
    return specs | {change.name: figures.runs_figure(change.runs, change.what) for change in changes(lesson)}


def _tabs() -> str:
    return "".join(
        f'<button role="tab" type="button" id="tab-{name}" aria-controls="panel-{name}" aria-selected="{"true" if i == 0 else "false"}" tabindex="{0 if i == 0 else -1}">{i + 1}. {title}</button>'
        for i, (name, title) in enumerate(TABS)
    )


def figure(name: str, title: str, caption: str, *, tall: bool = False, extra: str = "", hidden: bool = False) -> str:
    """A figure: plot, caption that says what to see, and its numbers as a table."""
    numbers = (
        f'<details class="numbers" data-of="{name}"><summary>Numbers of this figure</summary><div></div></details>'
    )
    return (
        f'<figure{extra}{" hidden" if hidden else ""}><h3>{escape(title)}</h3><div class="plot{" tall" if tall else ""}" id="{name}" role="img" aria-labelledby="{name}-caption"></div>'
        f'<figcaption id="{name}-caption">{escape(caption)}</figcaption>{"" if name.startswith("landscape") else numbers}</figure>'
    )


def _model(lesson: Lesson) -> str:
    layers = ", then ".join(f"<code>{escape(layer)}</code>" for layer in lesson.layers)
    return f"The network: {layers}; loss <code>{escape(lesson.loss)}</code>; update <code>{escape(lesson.optimizer)}</code>; {len(lesson.track.labels)} weights in all."


def _loss_text(lesson: Lesson) -> str:
    return (
        "The mean of the last table is the loss"
        if lesson.step.sample_losses is not None
        else "All samples together give the loss"
    )


def _units_text(lesson: Lesson) -> str:
    return "Some units are dead:" if lesson.units else "No ReLU unit dies in this one."


def _units_note(lesson: Lesson) -> str:
    """A line at the top where units die, of a model that has no note of its own about it."""
    if not lesson.units or lesson.name == "recipe2":
        return ""
    names = "; ".join(dict.fromkeys(unit.name for unit in lesson.units))
    return f'<p class="note warn">Some ReLU units are dead for a time, and their weights do not learn then: {escape(names)}. The second part says when.</p>'


def _code(lesson: Lesson) -> str:
    return (
        ""
        if lesson.name in RECIPES
        else f" This page's {escape(lesson.name)} was trained by the same two ideas; here they are in their shortest form, on the book's two recipes."
    )


def _units(lesson: Lesson) -> str:
    sentences = unit_sentences(lesson)
    return f'<ul class="units">{"".join(f"<li>{escape(s)}</li>" for s in sentences)}</ul>' if sentences else ""


def _epoch_table(lesson: Lesson) -> str:
    rows = (row(label, ['<td class="n"></td>'] * len(COLUMNS)) for label in lesson.track.labels)
    return table("Every weight at this epoch", ("weight", *COLUMNS), rows)


def _landscape(lesson: Lesson) -> str:
    if not lesson.landscapes:
        return "<p>A landscape needs two weights; this model has one.</p>"
    options = "".join(
        f'<option value="{i}">{escape(s.first)} and {escape(s.second)}</option>'
        for i, s in enumerate(lesson.landscapes)
    )
    choice = f'<label>Two weights <select id="pair">{options}</select></label>' if len(lesson.landscapes) > 1 else ""
    goes = "Both paths run away from the valley" if lesson.track.diverged else "Both paths run down into the valley"
    parts = [
        f'<p>The loss over two weights, seen from above: dark is low (nothing is drawn darker than the lowest loss on the paths). {goes}.</p><div class="controls"><button class="play" type="button">Play</button>'
        f'<label class="grow"><span class="epoch-number">epoch 0</span><input class="epoch" type="range" min="0" max="{lesson.epochs}" value="0" aria-label="Epoch"></label>{choice}</div>'
    ]
    for i, scene in enumerate(lesson.landscapes):
        parts.append(
            figure(
                f"landscape-{i}",
                f"{scene.first} and {scene.second}",
                landscape(lesson, scene),
                tall=True,
                extra=' class="scene"',
                hidden=i > 0,
            )
        )
    return "".join(parts)


def _best(lesson: Lesson) -> str:
    rows = (
        row(one.scheme, [cell(float(one.best[lesson.steepest]), 3), '<td class="n"></td>']) for one in lesson.precisions
    )
    return table("The best nudge of each scheme, for this weight", ("scheme", "best h", "error there"), rows)


def _runs(change: Change) -> str:
    return f"<div>{figure(change.name, change.question, change.caption)}{_ends(change)}</div>"


def _ends(change: Change) -> str:
    """Where each training ends; for batches, how far their slopes spread."""
    noisy = change.name == "batches"
    rows = (
        row(
            run.label,
            [cell(float(run.losses[-1]), 6), *([cell(run.spread, 3)] if noisy else []), f"<td>{_ended(run)}</td>"],
        )
        for run in change.runs
    )
    return table(
        f"Where each {change.what} ends", (change.what, "last loss", *(["slopes spread"] if noisy else []), ""), rows
    )


def _ended(run: Run) -> str:
    return (
        f"diverges: stopped in epoch {run.diverged}" if run.diverged else "higher than its start" if run.higher else ""
    )


def _listing(one: Listing) -> str:
    return f'<section><h3>{escape(one.title)}</h3><pre tabindex="0">{escape(one.source)}</pre><h4>It printed</h4><pre tabindex="0">{escape(one.printed)}</pre></section>'
