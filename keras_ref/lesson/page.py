"""A lesson as one self-contained page: numbers and figures as JSON, Plotly, style and script all in the file."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
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
from keras_ref.lesson.lesson import Lesson, Listing, simplify
from keras_ref.lesson.recipe_table import RECIPES
from keras_ref.lesson.tables import (
    build_cell,
    build_forward_tables,
    build_row,
    build_table,
    describe_units,
    format_number,
    nudge_table,
    walk,
)
from keras_ref.lesson.what_if import Training
from keras_ref.lesson.words import Words, phrase, read_words
from keras_ref.reports.html import read_asset
from scratch.releases import find_version

#: bytes that a page may have
LIMIT = 6_000_000
TABS = ("step", "epochs", "landscape", "what-if", "code")
#: the programs of the page, in the order in which they build on each other
SCRIPTS = (
    "words.js",
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
COLUMNS = ("nudged", "keras", "differ", "may", "slope", "autodiff", "differ", "may")


def build_page(lesson: Lesson, *, language: str = "en", questions: Sequence[Mapping[str, Any]] = ()) -> str:
    """The page of a lesson: HTML text that needs no network and no server.

    language    of the page: one that assets/strings.….json is there for
    questions   of an exercise, as live.read_questions gives them; until they are answered, the rest is hidden

    Raises: CouldNotRun for a page of more than LIMIT bytes, for a language without strings, and for questions about a
    model that the page cannot compute.
    """
    if questions and lesson.live is None:
        raise CouldNotRun(
            f"An exercise needs a network of the recipes' kind, which the page computes. Received: {lesson.name}. "
            "Make one of recipe1 or recipe2."
        )
    template = Template(_read_lesson_asset("page.html"))
    words = read_words(language)
    made = template.substitute(
        {name: escape(text) for name, text in words.texts.items()}
        | _build_header(lesson, words)
        | _build_epoch_parts(lesson, words)
        | _build_training_parts(lesson, words)
        | {f"figure_{name}": build_figure(name, caption, words) for name, caption in write_captions(lesson).items()}
        | _build_live_parts(lesson, words, questions),
        style=read_asset("style.css") + _read_lesson_asset("lesson.css"),
        tabs=_build_tabs(lesson, words),
        code=_build_code(lesson, words),
        listings="".join(_build_listing(listing, words) for listing in lesson.listings),
        records=_write_json(_select_records(lesson, words)),
        figures=_write_json(_collect_specifications(lesson, words)),
        plotly=_read_plotly(),
        scripts="".join(f"<script>{_read_lesson_asset(name)}</script>\n" for name in SCRIPTS),
        footer=words.html("page_footer", version=find_version("gradtwin") or "(not installed)"),
    )
    size = len(made.encode())
    if size > LIMIT:
        raise CouldNotRun(
            f"A page must have at most {LIMIT / 1e6:g} MB. Received: {lesson.name}, whose page would have "
            f"{size / 1e6:.1f} MB. Pass fewer --epochs, or a smaller model."
        )
    return made


# Parts of the template ------------------------------------------------------------------------------------------------


def _build_header(lesson: Lesson, words: Words) -> dict[str, str]:
    note = words.html(lesson.note)
    source = "" if lesson.source is None else f" {words.html(lesson.source)}"
    return {
        "title": words.html(lesson.title),
        "note": (note if note.endswith(".") else note + ".") + source,
        "note_class": "note warn" if lesson.name == "recipe2" else "note",
        "units_note": _build_units_note(lesson, words),
        "intro": words.html(
            "page_intro",
            mine=f'<b class="mine">{words.html("side_nudged")}</b>',
            theirs=f'<b class="theirs">{words.html("side_exact")}</b>',
            nudge=f"{lesson.nudge:g}",
            verdict=words.html(lesson.verdict),
        ),
    }


def _build_loss(side: str, name: str, value: float | None, words: Words) -> str:
    """A loss with the colour of its side; page.js fills in one without a value."""
    data = "" if value is None else f' data-value="{value!r}"'
    shown = "" if value is None else format_number(value, words=words)
    return f'<b class="n {side}" id="{name}"{data}>{shown}</b>'


def _build_epoch_parts(lesson: Lesson, words: Words) -> dict[str, str]:
    """The first tab: one epoch, step by step."""
    step = lesson.step
    return {
        "model": _build_model(lesson, words),
        "forward": build_forward_tables(step, words),
        "step_loss": words.html(
            "step_loss_all" if step.sample_losses is None else "step_loss_mean",
            mine=_build_loss("mine", "first-loss", step.loss, words),
            theirs=_build_loss("theirs", "first-keras-loss", step.keras_loss, words),
        ),
        "entries": "".join(
            f'<option value="{i}">{escape(label)}</option>' for i, label in enumerate(lesson.track.labels)
        ),
        "walks": "".join(walk(step, i, hidden=i != lesson.steepest, words=words) for i in range(len(step.nudges))),
        "nudges": nudge_table(step, words),
        "step_all_text": words.html("step_all", update=escape(lesson.optimizer)),
    }


def _build_training_parts(lesson: Lesson, words: Words) -> dict[str, str]:
    """The other tabs with numbers: epochs, landscape, what if."""
    empty = ['<td class="n"></td>'] * len(COLUMNS)
    rows = (build_row(label, empty) for label in lesson.track.labels)
    head = (words.say("nudges_weight"), *(words.say(f"column_{name}") for name in COLUMNS))
    return {
        "units_text": words.html("epochs_units" if lesson.units else "epochs_no_units"),
        "units": _build_units(lesson, words),
        "epochs": str(lesson.epochs),
        "epochs_losses": words.html(
            "epochs_loss",
            mine=_build_loss("mine", "loss-nudged", None, words),
            theirs=_build_loss("theirs", "loss-keras", None, words),
        ),
        "epoch_table": build_table(words.say("epochs_caption"), head, rows),
        "landscape": _build_landscapes(lesson, words),
        "best": _describe_best(lesson, words),
        "runs": "".join(_build_comparison(comparison, words) for comparison in write_comparisons(lesson, words)),
    }


def name_tab(name: str, words: Words) -> str:
    """The name of a numbered part of the page: one of TABS."""
    return words.say(f"tab_{name.replace('-', '_')}")


def _build_tabs(lesson: Lesson, words: Words) -> str:
    own = [("live", words.html("tab_live"))] if lesson.live else []
    tabs = [*own, *((name, f"{i}. {escape(name_tab(name, words))}") for i, name in enumerate(TABS, start=1))]
    return "".join(
        f'<button role="tab" type="button" id="tab-{name}" aria-controls="panel-{name}" '
        f'aria-selected="{"true" if i == 0 else "false"}" tabindex="{0 if i == 0 else -1}">{title}</button>'
        for i, (name, title) in enumerate(tabs)
    )


def _build_live_parts(lesson: Lesson, words: Words, questions: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The part that computes in the page, where it can; and the drawing of the network where it cannot."""
    escaped = {name: escape(text) for name, text in words.texts.items()}
    live = Template(_read_lesson_asset("live.html")).substitute(escaped) if lesson.live else ""
    record = {**simplify(lesson.live), "exercise": list(questions)} if lesson.live else None
    drawn = "" if lesson.live else _build_drawing(lesson, escaped)
    return {
        "language": escaped["language"],
        "live": live,
        "drawing": drawn,
        "live_record": _write_json(record),
        "strings": _write_json(dict(words.texts)),
        "projector": f'<button id="projector" type="button" aria-pressed="false">{escaped["projector"]}</button>'
        * bool(lesson.live),
        "step_hidden": " hidden" * bool(lesson.live),
    }


def _build_drawing(lesson: Lesson, strings: Mapping[str, str]) -> str:
    if not lesson.network:
        return f"<p>{strings['drawing_too_large']}</p>"
    return (
        f'<figure class="drawing" tabindex="0" role="group" aria-label="{strings["live_network"]}">'
        '<svg id="model-drawing" role="img" aria-labelledby="model-drawing-caption"></svg>'
        f'<figcaption id="model-drawing-caption">{strings["drawing_caption"]}</figcaption></figure>'
    )


def build_figure(
    name: str, caption: Caption, words: Words, *, tall: bool = False, scene: bool = False, hidden: bool = False
) -> str:
    """A figure: plot, caption and, unless it is a landscape (`scene`), its numbers as a table."""
    own = ' class="scene"' * scene + " hidden" * hidden
    summary = words.html("numbers_of_figure")
    numbers = f'<details class="numbers" data-of="{name}"><summary>{summary}</summary><div></div></details>'
    return (
        f"<figure{own}><h3>{words.html(caption.title)}</h3>"
        f'<div class="plot{" tall" * tall}" id="{name}" role="img" aria-labelledby="{name}-caption"></div>'
        f'<figcaption id="{name}-caption">{words.html(caption.text)}</figcaption>{numbers * (not scene)}</figure>'
    )


def _build_model(lesson: Lesson, words: Words) -> str:
    def code(text: str) -> str:
        return f"<code>{escape(text)}</code>"

    return words.html(
        "step_model",
        layers=words.html("step_then").join(map(code, lesson.layers)),
        loss=code(lesson.loss),
        optimizer=code(lesson.optimizer),
        count=str(len(lesson.track.labels)),
    )


def _build_units_note(lesson: Lesson, words: Words) -> str:
    """A line at the top where units die; recipe 2 has a note of its own about that."""
    if not lesson.units or lesson.name == "recipe2":
        return ""
    names = "; ".join(dict.fromkeys(words.html(unit.name) for unit in lesson.units))
    return f'<p class="note warn">{words.html("note_units", names=names)}</p>'


def _build_units(lesson: Lesson, words: Words) -> str:
    sentences = describe_units(lesson.units, lesson.epochs, words)
    return f'<ul class="units">{"".join(f"<li>{escape(s)}</li>" for s in sentences)}</ul>' if sentences else ""


def _build_code(lesson: Lesson, words: Words) -> str:
    model = "" if lesson.name in RECIPES else words.html("code_model", name=escape(lesson.name))
    return words.html("code_text", model=model)


def _build_landscapes(lesson: Lesson, words: Words) -> str:
    if not lesson.landscapes:
        return f"<p>{words.html('landscape_one')}</p>"
    pairs = [phrase("landscape_pair", first=scene.first, second=scene.second) for scene in lesson.landscapes]
    options = "".join(f'<option value="{i}">{words.html(pair)}</option>' for i, pair in enumerate(pairs))
    choice = f'<label>{words.html("landscape_choice")} <select id="pair">{options}</select></label>'
    scenes = "".join(
        build_figure(
            f"landscape-{i}",
            Caption(pair, write_landscape_caption(lesson, scene)),
            words,
            tall=True,
            scene=True,
            hidden=i > 0,
        )
        for i, (pair, scene) in enumerate(zip(pairs, lesson.landscapes, strict=True))
    )
    return (
        f"<p>{words.html('landscape_lead_away' if lesson.track.diverged else 'landscape_lead')}</p>"
        f'<div class="controls"><button class="play" type="button">{words.html("play")}</button>'
        '<label class="grow"><span class="epoch-number"></span><input class="epoch" type="range" min="0" '
        f'max="{lesson.epochs}" value="0" aria-label="{words.html("epoch_slider")}"></label>'
        f"{choice * (len(lesson.landscapes) > 1)}</div>{scenes}"
    )


def _describe_best(lesson: Lesson, words: Words) -> str:
    rows = (
        build_row(
            words.say(one.scheme),
            [build_cell(float(one.best[lesson.steepest]), 3, words=words), '<td class="n"></td>'],
        )
        for one in lesson.precisions
    )
    head = [words.say(f"precision_{name}") for name in ("scheme", "best_h", "error")]
    return build_table(words.say("precision_best"), head, rows)


def _build_comparison(comparison: Comparison, words: Words) -> str:
    """A figure of trainings with one thing changed, and a table of where each ends."""
    spread = comparison.name == "batches"
    rows = (
        build_row(
            words.say(training.label),
            [
                build_cell(float(training.losses[-1]), 6, words=words),
                *([build_cell(training.spread, 3, words=words)] if spread else []),
                f"<td>{_describe_end(training, words)}</td>",
            ],
        )
        for training in comparison.trainings
    )
    spreads = [words.say("trainings_spread")] if spread else []
    head = (words.say(comparison.changed), words.say("trainings_last"), *spreads, "")
    ends = build_table(words.say("trainings_ends", changed=comparison.changed), head, rows)
    return f"<div>{build_figure(comparison.name, comparison.caption, words)}{ends}</div>"


def _describe_end(training: Training, words: Words) -> str:
    if training.diverged:
        return words.html("trainings_stopped", epoch=str(training.diverged))
    return words.html("trainings_higher") if training.higher else ""


def _build_listing(one: Listing, words: Words) -> str:
    return (
        f'<section><h3>{words.html(one.title)}</h3><pre tabindex="0">{escape(one.source)}</pre>'
        f'<h4>{words.html("code_printed")}</h4><pre tabindex="0">{escape(one.printed)}</pre></section>'
    )


# Data and files in the page -------------------------------------------------------------------------------------------


def _read_lesson_asset(name: str) -> str:
    return (files("keras_ref.lesson") / "assets" / name).read_text(encoding="utf-8")


@cache
def _read_plotly() -> str:
    """Plotly's own bundle, compressed, as base64: the page unpacks it, and stays small enough to be mailed."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode("utf-8"), 9, mtime=0)).decode("ascii")


def _write_json(value: Any) -> str:
    """JSON in which no text can end the script element that holds it."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _select_records(lesson: Lesson, words: Words) -> dict[str, Any]:
    """The records that page.js reads: without programs, tables, landscape heights and trainings, which are elsewhere.

    Errors are rounded to 6 digits: they are shown with 3, and the page stays small.
    """
    records = lesson.to_dict()
    for shown, unit in zip(records["units"], lesson.units, strict=True):
        shown["name"] = words.say(unit.name)
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


def _collect_specifications(lesson: Lesson, words: Words) -> dict[str, Any]:
    """{id of a figure: its Plotly specification}."""
    farthest = lesson.farthest
    specifications = {
        "loss": figures.plot_loss(lesson, words),
        "weight": figures.plot_weight(lesson, farthest, words=words),
        "slope": figures.plot_slope(lesson, farthest, words=words),
        "difference": figures.plot_difference(lesson, farthest, words=words),
        "precision": figures.plot_precision(lesson, lesson.steepest, words=words),
    }
    for i, scene in enumerate(lesson.landscapes):
        length = {"lengths": figures.nudge_lengths(scene, lesson.nudge)}
        specifications[f"landscape-{i}"] = figures.plot_landscape(lesson, i, words=words) | length
    for comparison in write_comparisons(lesson, words):
        trainings, changed = comparison.trainings, words.say(comparison.changed)
        specifications[comparison.name] = figures.plot_trainings(trainings, changed, words)
    return specifications
