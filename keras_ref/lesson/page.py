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

from keras_ref.lesson import figures
from keras_ref.lesson.records import Lesson, Listing
from keras_ref.lesson.tables import cell, forward_tables, nudge_table, number, row, table, unit_sentences, walk

#: bytes that a page may have
LIMIT = 6_000_000
TABS = (("step", "One epoch"), ("epochs", "Epochs"), ("landscape", "Landscape"), ("what-if", "What if"), ("code", "Code"))
#: columns of the table that follows the slider, in the order in which page.js fills them
COLUMNS = ("nudged", "Keras", "differ by", "may differ by", "slope, nudged", "autodiff there", "differ by", "may differ by")


def page(lesson: Lesson) -> str:
    """The page of a lesson: HTML that needs no network and no server."""
    specs = _specs(lesson)
    return Template(_asset("page.html")).substitute(
        title=escape(lesson.title), note=escape(_sentence(lesson.note)), note_class="note warn" if lesson.units else "note", verdict=escape(lesson.verdict), nudge=f"{lesson.nudge:g}",
        style=_asset("style.css"), tabs=_tabs(), model=_model(lesson), forward=forward_tables(lesson.step),
        loss=repr(lesson.step.loss), loss_shown=number(lesson.step.loss), keras_loss=repr(lesson.step.keras_loss), keras_loss_shown=number(lesson.step.keras_loss),
        entries="".join(f'<option value="{i}">{escape(label)}</option>' for i, label in enumerate(lesson.track.labels)),
        walks="".join(walk(lesson.step, i).replace(" hidden", "" if i == lesson.steepest else " hidden", 1) for i in range(len(lesson.step.nudges))), nudges=nudge_table(lesson.step),
        update=escape(lesson.optimizer), units_text=_units_text(lesson), units=_units(lesson), epochs=str(lesson.epochs),
        epoch_table=_epoch_table(lesson), landscape=_landscape(lesson), best=_best(lesson), runs=_runs(lesson), listings="".join(map(_listing, lesson.listings)),
        **{f"figure_{name}": figure(name, title, caption) for name, (title, caption) in _captions(lesson).items()},
        records=_json(_shown_records(lesson)), figures=_json(specs), plotly=_plotly(), script=_asset("page.js"), version=_version(),
    )  # fmt: skip


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
    """The records without what stands in the page already: programs, tables of the step, heights of the landscapes."""
    records = lesson.to_dict()
    for one in records["precisions"]:
        del one["stated"]
    for scene in records["landscapes"]:
        del scene["losses"]
    return {key: value for key, value in records.items() if key not in ("listings", "step")}


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
        "loss": figures.loss_figure(lesson), "weight": figures.weight_figure(lesson, far), "slope": figures.slope_figure(lesson, far),
        "difference": figures.difference_figure(lesson, far), "precision": figures.precision_figure(lesson, lesson.steepest),
    }  # fmt: skip
    for i, scene in enumerate(lesson.landscapes):
        specs[f"landscape-{i}"] = figures.landscape_figure(lesson, i) | {"length": figures.nudge_length(scene, lesson.nudge)}
    for name, runs, what, _, _ in _changes(lesson):
        if runs:
            specs[name] = figures.runs_figure(runs, what)
    return specs


def _tabs() -> str:
    return "".join(
        f'<button role="tab" type="button" id="tab-{name}" aria-controls="panel-{name}" aria-selected="{"true" if i == 0 else "false"}" tabindex="{0 if i == 0 else -1}">{i + 1}. {title}</button>'
        for i, (name, title) in enumerate(TABS)
    )


def figure(name: str, title: str, caption: str, *, tall: bool = False, extra: str = "", hidden: bool = False) -> str:
    """A figure: plot, caption that says what to see, and its numbers as a table."""
    numbers = f'<details class="numbers" data-of="{name}"><summary>Numbers of this figure</summary><div></div></details>'
    return (
        f'<figure{extra}{" hidden" if hidden else ""}><h3>{escape(title)}</h3><div class="plot{" tall" if tall else ""}" id="{name}" role="img" aria-labelledby="{name}-caption"></div>'
        f'<figcaption id="{name}-caption">{escape(caption)}</figcaption>{"" if name.startswith("landscape") else numbers}</figure>'
    )


def _captions(lesson: Lesson) -> dict[str, tuple[str, str]]:
    track = lesson.track
    best, steepest = lesson.precisions[0], lesson.steepest
    dies = " The dotted line marks where a unit dies." if any(u.since > 0 for u in lesson.units) else ""
    return {
        "loss": ("Loss", f"See one line on the other: the loss falls from {track.losses[0]:.4g} to {track.losses[-1]:.4g} on both sides.{dies}"),
        "weight": ("The weight", "See the dashes of the nudged weight lie on Keras's line, epoch after epoch."),
        "slope": ("Its slope", "See both slopes tend to zero where the weight comes to rest."),
        "difference": ("How far apart", "See each solid line stay below the dotted one of its colour: what differs is what the nudge explains, and no more. Slopes are compared at the same weights; weights each on their own path."),
        "precision": ("… the nudge were larger, or smaller?", f"Read from left to right, as h shrinks. Forward: see the V, first h/2·f″ falls with h, then rounding rises as h falls; the star marks the best h. {_parabola(lesson)} The smallest errors are autodiff's own rounding. Errors of exactly 0 have no place on the axis. Best h of the forward difference for {lesson.track.labels[steepest]}: {best.best[steepest]:.2g}."),
    }  # fmt: skip


def _parabola(lesson: Lesson) -> str:
    straight = all("activation=" not in layer or "'linear'" in layer or "'relu'" in layer for layer in lesson.layers)
    if straight and lesson.loss.startswith("MeanSquaredError") and all("Dense" in layer for layer in lesson.layers):
        return "Along each weight this loss is a parabola (until a ReLU flips), so the other three have no truncation at all and only central and Richardson suffer rounding; the complex step takes no difference and stays at the bottom."
    return "Central falls twice as steeply, Richardson is nearly free of truncation, and the complex step takes no difference, so nothing is ever lost to rounding."


def _model(lesson: Lesson) -> str:
    layers = ", then ".join(f"<code>{escape(layer)}</code>" for layer in lesson.layers)
    return f"The network: {layers}; loss <code>{escape(lesson.loss)}</code>; update <code>{escape(lesson.optimizer)}</code>; {len(lesson.track.labels)} weights in all."


def _units_text(lesson: Lesson) -> str:
    return "Some units die on the way:" if lesson.units else "No unit dies in this one."


def _units(lesson: Lesson) -> str:
    sentences = unit_sentences(lesson)
    return f'<ul class="units">{"".join(f"<li>{escape(s)}</li>" for s in sentences)}</ul>' if sentences else ""


def _epoch_table(lesson: Lesson) -> str:
    rows = (row(label, ['<td class="n"></td>'] * len(COLUMNS)) for label in lesson.track.labels)
    return table("Every weight at this epoch", ("weight", *COLUMNS), rows)


def _landscape(lesson: Lesson) -> str:
    if not lesson.landscapes:
        return "<p>A landscape needs two weights; this model has one.</p>"
    options = "".join(f'<option value="{i}">{escape(s.first)} and {escape(s.second)}</option>' for i, s in enumerate(lesson.landscapes))
    choice = f'<label>Two weights <select id="pair">{options}</select></label>' if len(lesson.landscapes) > 1 else ""
    exact = len(lesson.track.labels) == 2
    slice_ = "" if exact else " The other weights are held at their start, so away from the start the paths are seen in projection."
    parts = [
        '<p>The loss over two weights, seen from above: dark is low (nothing is drawn darker than the lowest loss on the paths). Both paths run down into the valley.</p><div class="controls"><button class="play" type="button">Play</button>'
        f'<label class="grow"><span class="epoch-number">epoch 0</span><input class="epoch" type="range" min="0" max="{lesson.epochs}" value="0" aria-label="Epoch"></label>{choice}</div>'
    ]
    for i, scene in enumerate(lesson.landscapes):
        times = figures.nudge_length(scene, lesson.nudge) / lesson.nudge
        caption = (
            f"See both paths run downhill, and the dashes of the nudged one lie on Keras's. At the white point both nudges of this epoch are drawn in red, {times:g} times longer than they are: "
            f"a nudge asks how the height changes along one axis at a time.{slice_}"
        )
        parts.append(figure(f"landscape-{i}", f"{scene.first} and {scene.second}", caption, tall=True, extra=' class="scene"', hidden=i > 0))
    return "".join(parts)


def _best(lesson: Lesson) -> str:
    rows = (row(one.scheme, [cell(float(one.best[lesson.steepest]), 3), '<td class="n"></td>']) for one in lesson.precisions)
    return table("The best nudge of each scheme, for this weight", ("scheme", "best h", "error there"), rows)


def _changes(lesson: Lesson) -> tuple[tuple[str, Any, str, str, str], ...]:
    """id, runs, what changes, question, caption."""
    away = [run for run in lesson.rates if run.diverged]
    ran = "; ".join(f"at {run.label} it passes 10¹² times its start in epoch {run.diverged}, and we stop" for run in away)
    return (
        ("rates", lesson.rates, "learning rate", "… the learning rate were another?", "See timid rates creep, bolder ones arrive" + (f", and too bold ones diverge: {ran}." if away else "; in this network none of these diverges.")),
        ("batches", lesson.batches, "batch size", "… the batches were smaller?", "See the same number of epochs, cut into smaller batches drawn anew each epoch: more steps, so the loss falls sooner, but each step sees few samples, so the line is rough."),
        ("optimizers", lesson.optimizers, "optimizer", "… the optimizer were another?", "See the same start and the same learning rate under different laws. A rate that suits one law need not suit another: compare the shapes, not the ranks."),
    )  # fmt: skip


def _runs(lesson: Lesson) -> str:
    parts = []
    for name, runs, what, question, caption in _changes(lesson):
        if runs:
            parts.append(f"<div>{figure(name, question, caption)}{_ends(runs, what)}</div>")
    return "".join(parts)


def _ends(runs: Any, what: str) -> str:
    rows = (row(run.label, [cell(float(run.losses[-1]), 6), f"<td>{'diverges: stopped in epoch ' + str(run.diverged) if run.diverged else ''}</td>"]) for run in runs)
    return table(f"Where each {what} ends", (what, "last loss", ""), rows)


def _listing(one: Listing) -> str:
    return f'<section><h3>{escape(one.title)}</h3><pre tabindex="0">{escape(one.source)}</pre><h4>It printed</h4><pre tabindex="0">{escape(one.printed)}</pre></section>'
