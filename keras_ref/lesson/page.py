"""A lesson as one self-contained page: numbers and figures as JSON, Plotly, style and script all in the file."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from string import Template
from typing import Any

import numpy as np

from keras_ref.errors import CouldNotRun
from keras_ref.lesson import figures
from keras_ref.lesson.captions import (
    Caption,
    Comparison,
    write_captions,
    write_comparisons,
    write_landscape_caption,
)
from keras_ref.lesson.lesson import Lesson, Listing, plain
from keras_ref.lesson.recipe_table import RECIPES
from keras_ref.lesson.tables import cell, forward_tables, nudge_table, number, row, table, unit_sentences, walk
from keras_ref.lesson.what_if import Training
from keras_ref.reports.html import asset

#: bytes that a page may have
LIMIT = 6_000_000
TABS = (
    ("step", "One epoch"),
    ("epochs", "Epochs"),
    ("landscape", "Landscape"),
    ("what-if", "What if"),
    ("code", "Code"),
)
#: the programs of the page, in the order in which they build on each other
SCRIPTS = (
    "engine.js",
    "network.js",
    "programs.js",
    "live.js",
    "liveview.js",
    "exercise.js",
    "livehands.js",
    "page.js",
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


def page(lesson: Lesson, *, language: str = "en", questions: Sequence[Mapping[str, Any]] = ()) -> str:
    """The page of a lesson: HTML text that needs no network and no server.

    language    whose strings, assets/strings.….json, the live part has
    questions   of an exercise, as live.read_questions gives them; until they are answered, the rest is hidden

    Raises: CouldNotRun for a page of more than LIMIT bytes, for a language without strings, and for questions about a
    model that the page cannot compute.
    """
    if questions and lesson.live is None:
        raise CouldNotRun(
            f"An exercise needs a network of the recipes' kind, which the page computes. Received: {lesson.name}. "
            "Make one of recipe1 or recipe2."
        )
    template = Template(_lesson_asset("page.html"))
    strings = read_strings(language)
    made = template.substitute(
        **_header(lesson),
        **_epoch_parts(lesson),
        **_training_parts(lesson),
        **{f"figure_{name}": figure(name, caption) for name, caption in write_captions(lesson).items()},
        **_live_parts(lesson, strings, questions),
        style=asset("style.css") + _lesson_asset("lesson.css"),
        tabs=_tabs(lesson, strings),
        code=_code(lesson),
        listings="".join(map(_listing, lesson.listings)),
        records=_json(_shown_records(lesson)),
        figures=_json(_specifications(lesson)),
        plotly=_plotly(),
        scripts="".join(f"<script>{_lesson_asset(name)}</script>\n" for name in SCRIPTS),
        version=_version(),
    )
    size = len(made.encode())
    if size > LIMIT:
        raise CouldNotRun(
            f"A page must have at most {LIMIT / 1e6:g} MB. Received: {lesson.name}, whose page would have "
            f"{size / 1e6:.1f} MB. Pass fewer --epochs, or a smaller model."
        )
    return made


# Parts of the template ------------------------------------------------------------------------------------------------


def _header(lesson: Lesson) -> dict[str, str]:
    return {
        "title": escape(lesson.title),
        "note": escape(lesson.note if lesson.note.endswith(".") else lesson.note + "."),
        "note_class": "note warn" if lesson.name == "recipe2" else "note",
        "units_note": _units_note(lesson),
        "verdict": escape(lesson.verdict),
        "nudge": f"{lesson.nudge:g}",
    }


def _epoch_parts(lesson: Lesson) -> dict[str, str]:
    """The first tab: one epoch, step by step."""
    step = lesson.step
    mean = "The mean of the last table is the loss"
    return {
        "model": _model(lesson),
        "forward": forward_tables(step),
        "loss_text": mean if step.sample_losses is not None else "All samples together give the loss",
        "loss": repr(step.loss),
        "loss_shown": number(step.loss),
        "keras_loss": repr(step.keras_loss),
        "keras_loss_shown": number(step.keras_loss),
        "entries": "".join(
            f'<option value="{i}">{escape(label)}</option>' for i, label in enumerate(lesson.track.labels)
        ),
        "walks": "".join(walk(step, i, hidden=i != lesson.steepest) for i in range(len(step.nudges))),
        "nudges": nudge_table(step),
        "update": escape(lesson.optimizer),
    }


def _training_parts(lesson: Lesson) -> dict[str, str]:
    """The other tabs with numbers: epochs, landscape, what if."""
    empty = ['<td class="n"></td>'] * len(COLUMNS)
    rows = (row(label, empty) for label in lesson.track.labels)
    return {
        "units_text": "Some units are dead:" if lesson.units else "No ReLU unit dies in this one.",
        "units": _units(lesson),
        "epochs": str(lesson.epochs),
        "epoch_table": table("Every weight at this epoch", ("weight", *COLUMNS), rows),
        "landscape": _landscapes(lesson),
        "best": _best(lesson),
        "runs": "".join(map(_comparison, write_comparisons(lesson))),
    }


def _tabs(lesson: Lesson, strings: Mapping[str, str]) -> str:
    own = [("live", strings["tab_live"])] if lesson.live else []
    tabs = [*own, *((name, f"{i}. {title}") for i, (name, title) in enumerate(TABS, start=1))]
    return "".join(
        f'<button role="tab" type="button" id="tab-{name}" aria-controls="panel-{name}" '
        f'aria-selected="{"true" if i == 0 else "false"}" tabindex="{0 if i == 0 else -1}">{title}</button>'
        for i, (name, title) in enumerate(tabs)
    )


def _live_parts(lesson: Lesson, strings: Mapping[str, str], questions: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The part that computes in the page, where it can; and the drawing of the network where it cannot."""
    escaped = {name: escape(text) for name, text in strings.items()}
    live = Template(_lesson_asset("live.html")).substitute(escaped) if lesson.live else ""
    record = {**plain(lesson.live), "exercise": list(questions)} if lesson.live else None
    drawn = "" if lesson.live else _drawing(lesson, escaped)
    return {
        "language": escaped["language"],
        "live": live,
        "drawing": drawn,
        "live_record": _json(record),
        "strings": _json(dict(strings)),
        "projector": f'<button id="projector" type="button" aria-pressed="false">{escaped["projector"]}</button>'
        * bool(lesson.live),
        "step_hidden": " hidden" * bool(lesson.live),
    }


def _drawing(lesson: Lesson, strings: Mapping[str, str]) -> str:
    if not lesson.network:
        return f"<p>{strings['drawing_too_large']}</p>"
    return (
        f'<figure class="drawing" tabindex="0" role="group" aria-label="{strings["live_network"]}">'
        '<svg id="model-drawing" role="img" aria-labelledby="model-drawing-caption"></svg>'
        f'<figcaption id="model-drawing-caption">{strings["drawing_caption"]}</figcaption></figure>'
    )


def figure(name: str, caption: Caption, *, tall: bool = False, scene: bool = False, hidden: bool = False) -> str:
    """A figure: plot, caption and, unless it is a landscape (`scene`), its numbers as a table."""
    own = ' class="scene"' * scene + " hidden" * hidden
    numbers = (
        f'<details class="numbers" data-of="{name}"><summary>Numbers of this figure</summary><div></div></details>'
    )
    return (
        f"<figure{own}><h3>{escape(caption.title)}</h3>"
        f'<div class="plot{" tall" * tall}" id="{name}" role="img" aria-labelledby="{name}-caption"></div>'
        f'<figcaption id="{name}-caption">{escape(caption.text)}</figcaption>{numbers * (not scene)}</figure>'
    )


def _model(lesson: Lesson) -> str:
    layers = ", then ".join(f"<code>{escape(layer)}</code>" for layer in lesson.layers)
    return (
        f"The network: {layers}; loss <code>{escape(lesson.loss)}</code>; update "
        f"<code>{escape(lesson.optimizer)}</code>; {len(lesson.track.labels)} weights in all."
    )


def _units_note(lesson: Lesson) -> str:
    """A line at the top where units die; recipe 2 has a note of its own about that."""
    if not lesson.units or lesson.name == "recipe2":
        return ""
    names = "; ".join(dict.fromkeys(unit.name for unit in lesson.units))
    return (
        '<p class="note warn">Some ReLU units are dead for a time, and their weights do not learn then: '
        f"{escape(names)}. The second part says when.</p>"
    )


def _units(lesson: Lesson) -> str:
    sentences = unit_sentences(lesson.units, lesson.epochs)
    return f'<ul class="units">{"".join(f"<li>{escape(s)}</li>" for s in sentences)}</ul>' if sentences else ""


def _code(lesson: Lesson) -> str:
    if lesson.name in RECIPES:
        return ""
    return (
        f" The model of this page, {escape(lesson.name)}, was trained in the same two ways; the programs here are "
        "their shortest form, on the book's two recipes."
    )


def _landscapes(lesson: Lesson) -> str:
    if not lesson.landscapes:
        return "<p>A landscape needs two weights; this model has one.</p>"
    options = "".join(
        f'<option value="{i}">{escape(s.first)} and {escape(s.second)}</option>'
        for i, s in enumerate(lesson.landscapes)
    )
    choice = f'<label>Two weights <select id="pair">{options}</select></label>' if len(lesson.landscapes) > 1 else ""
    goes = "Both paths run away from the valley" if lesson.track.diverged else "Both paths run down into the valley"
    scenes = "".join(
        figure(
            f"landscape-{i}",
            Caption(f"{scene.first} and {scene.second}", write_landscape_caption(lesson, scene)),
            tall=True,
            scene=True,
            hidden=i > 0,
        )
        for i, scene in enumerate(lesson.landscapes)
    )
    return (
        "<p>The loss over two weights, seen from above: dark is low (nothing is drawn darker than the lowest loss on "
        f'the paths). {goes}.</p><div class="controls"><button class="play" type="button">Play</button>'
        '<label class="grow"><span class="epoch-number">epoch 0</span><input class="epoch" type="range" min="0" '
        f'max="{lesson.epochs}" value="0" aria-label="Epoch"></label>{choice}</div>{scenes}'
    )


def _best(lesson: Lesson) -> str:
    rows = (
        row(one.scheme, [cell(float(one.best[lesson.steepest]), 3), '<td class="n"></td>']) for one in lesson.precisions
    )
    return table("The best nudge of each scheme, for this weight", ("scheme", "best h", "error there"), rows)


def _comparison(comparison: Comparison) -> str:
    """A figure of trainings with one thing changed, and a table of where each ends."""
    spread = comparison.name == "batches"
    rows = (
        row(
            training.label,
            [
                cell(float(training.losses[-1]), 6),
                *([cell(training.spread, 3)] if spread else []),
                f"<td>{_ended(training)}</td>",
            ],
        )
        for training in comparison.trainings
    )
    head = (comparison.changed, "last loss", *(["spread of slopes"] if spread else []), "")
    ends = table(f"Where each {comparison.changed} ends", head, rows)
    return f"<div>{figure(comparison.name, comparison.caption)}{ends}</div>"


def _ended(training: Training) -> str:
    if training.diverged:
        return f"diverges: stopped in epoch {training.diverged}"
    return "higher than its start" if training.higher else ""


def _listing(one: Listing) -> str:
    return (
        f'<section><h3>{escape(one.title)}</h3><pre tabindex="0">{escape(one.source)}</pre><h4>It printed</h4>'
        f'<pre tabindex="0">{escape(one.printed)}</pre></section>'
    )


# Data and files in the page -------------------------------------------------------------------------------------------


def read_strings(language: str) -> dict[str, str]:
    """The strings of a language: assets/strings.….json. Raises: CouldNotRun for a language without such a file."""
    known = sorted(
        path.name.split(".")[1]
        for path in (files("keras_ref.lesson") / "assets").iterdir()
        if path.name.startswith("strings.")
    )
    if language not in known:
        raise CouldNotRun(f"--language must be one of {', '.join(known)}. Received: {language!r}. Choose one of them.")
    found: dict[str, str] = json.loads(_lesson_asset(f"strings.{language}.json"))
    return found


def _lesson_asset(name: str) -> str:
    return (files("keras_ref.lesson") / "assets" / name).read_text(encoding="utf-8")


def _plotly() -> str:
    """Plotly's own bundle, compressed, as base64: the page unpacks it, and stays small enough to be mailed."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode("utf-8"), 9, mtime=0)).decode("ascii")


def _json(value: Any) -> str:
    """JSON in which no text can end the script element that holds it."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _shown_records(lesson: Lesson) -> dict[str, Any]:
    """The records that page.js reads: without programs, tables, landscape heights and trainings, which are elsewhere.

    Errors are rounded to 6 digits: they are shown with 3, and the page stays small.
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
        if key not in ("listings", "step", "rates", "batches", "optimizers", "live")
    }


def _specifications(lesson: Lesson) -> dict[str, Any]:
    """{id of a figure: its Plotly specification}."""
    farthest = lesson.farthest
    specifications = {
        "loss": figures.loss_figure(lesson),
        "weight": figures.weight_figure(lesson, farthest),
        "slope": figures.slope_figure(lesson, farthest),
        "difference": figures.difference_figure(lesson, farthest),
        "precision": figures.precision_figure(lesson, lesson.steepest),
    }
    for i, scene in enumerate(lesson.landscapes):
        length = {"lengths": figures.nudge_lengths(scene, lesson.nudge)}
        specifications[f"landscape-{i}"] = figures.landscape_figure(lesson, i) | length
    for comparison in write_comparisons(lesson):
        specifications[comparison.name] = figures.trainings_figure(comparison.trainings, comparison.changed)
    return specifications


def _version() -> str:
    try:
        return version("gradtwin")
    except PackageNotFoundError:
        return "(not installed)"
