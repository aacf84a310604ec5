"""The figures of a lesson as Plotly specifications {"data": …, "layout": …}: plain data, for the page and the notebook.

A trace with `meta.source` shows one weight's column of the track's array of that name; when the reader chooses another
weight, the page replaces the column. The two trainings differ in colour, in line style and in the legend.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from keras_ref.lesson.lesson import Lesson, simplify
from keras_ref.lesson.what_if import Landscape, Precision, Training
from keras_ref.lesson.words import ENGLISH, Phrase, Words, phrase
from scratch.arrays import Array

Spec = dict[str, Any]
NUDGED, KERAS, DIFFERENCE, OTHER = "#e07b1f", "#3d8fd6", "#c44fa3", "#2f9e77"
SERIES = (KERAS, NUDGED, OTHER, DIFFERENCE, "#b59a00", "#7a6fd0", "#d1495b", "#5f9ea0")
#: at most so many contours in a landscape
LEVELS = 18
#: five line styles and eight colours: forty lines before two look alike
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")


def _make_layout(x: str, y: str, *, log: bool = False, log_x: bool = False, **more: Any) -> Spec:
    return {
        "xaxis": {"title": {"text": x, "standoff": 14}, "zeroline": False}
        | ({"type": "log", "exponentformat": "power"} if log_x else {}),
        "yaxis": {"title": {"text": y}, "zeroline": False, "automargin": True}
        | ({"type": "log", "exponentformat": "power", "nticks": 6} if log else {}),
        "margin": {"l": 70, "r": 16, "t": 16, "b": 64},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "hovermode": "x unified",
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
    } | more


def _make_line(
    x: Any, y: Any, *, name: str, color: str, dash: str = "solid", source: str = "", width: float = 2.5
) -> Spec:
    meta = {"meta": {"source": source}} if source else {}
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": simplify(x),
        "y": simplify(y),
        "line": {"color": color, "dash": dash, "width": width},
        "hovertemplate": "%{y:.9g}",
    } | meta


def keep_positive(values: Any) -> Any:
    """Values for a logarithmic axis: what is not above 0 becomes nan, a gap in the line."""
    values = np.asarray(values, dtype=float)
    with np.errstate(invalid="ignore"):
        return np.where(values > 0, values, np.nan)


def digits(values: Array, count: int) -> Any:
    """Rows of numbers rounded to so many significant digits: enough to draw them, and the page stays small."""
    return simplify([[float(f"{v:.{count}g}") for v in row] for row in values])


def _escape_text(name: str) -> str:
    """A name in a text of Plotly's, which reads elements, and in a template %{…}."""
    return escape(name, quote=False).replace("%", "&#37;")


def _is_all_positive(*series: Any) -> bool:
    return all(np.all(np.asarray(s, dtype=float)[np.isfinite(s)] > 0) for s in series)


def plot_loss(lesson: Lesson, words: Words = ENGLISH) -> Spec:
    """The loss of both trainings over epochs, with the epochs in which units die."""
    track, epochs = lesson.track, np.arange(lesson.epochs + 1)
    deaths = sorted({unit.since for unit in lesson.units if unit.since > 0})
    marks = [
        {
            "type": "line",
            "x0": at,
            "x1": at,
            "yref": "paper",
            "y0": 0,
            "y1": 1,
            "line": {"color": DIFFERENCE, "dash": "dot", "width": 2},
        }
        for at in deaths
    ]
    named = [
        {
            "x": at,
            "y": 0.02 + 0.07 * (k % 5),
            "yref": "paper",
            "xanchor": "left" if at <= lesson.epochs / 2 else "right",
            "yanchor": "bottom",
            "showarrow": False,
            "font": {"color": DIFFERENCE},
            "text": " "
            + ", ".join(f"✝ {_escape_text(words.say(unit.name))}" for unit in lesson.units if unit.since == at)
            + " ",
        }
        for k, at in enumerate(deaths)
    ]
    layout = _make_layout(
        words.say("axis_epoch"),
        words.say("axis_loss"),
        log=_is_all_positive(track.losses, track.keras_losses),
        shapes=marks,
        annotations=named,
    )
    layout["xaxis"]["range"] = [0, lesson.epochs]  # else a long name beside a line would widen it
    return {
        "data": [
            _make_line(epochs, track.keras_losses, name=words.say("line_exact"), color=KERAS, width=8),
            _make_line(epochs, track.losses, name=words.say("line_nudged"), color=NUDGED, dash="6px,5px"),
        ],
        "layout": layout,
    }


def _plot_pair(lesson: Lesson, entry: int, sources: Sequence[str], *, title: str, words: Words) -> Spec:
    epochs = np.arange(lesson.epochs + 1)
    mine, theirs = sources
    nudged, exact = words.say("line_nudged"), words.say("line_exact")
    return {
        "data": [
            _make_line(
                epochs,
                getattr(lesson.track, theirs)[:, entry],
                name=exact,
                color=KERAS,
                source=theirs,
                width=8,
            ),
            _make_line(
                epochs, getattr(lesson.track, mine)[:, entry], name=nudged, color=NUDGED, dash="6px,5px", source=mine
            ),
        ],
        "layout": _make_layout(words.say("axis_epoch"), words.say(title)),
    }


def plot_weight(lesson: Lesson, entry: int = 0, *, words: Words = ENGLISH) -> Spec:
    """One weight over epochs, in both trainings."""
    return _plot_pair(lesson, entry, ("weights", "keras_weights"), title="axis_weight", words=words)


def plot_slope(lesson: Lesson, entry: int = 0, *, words: Words = ENGLISH) -> Spec:
    """One gradient entry over epochs: nudged at the twin's weights, autodiff at Keras's weights."""
    return _plot_pair(lesson, entry, ("slopes", "gradients"), title="axis_slope", words=words)


def plot_difference(lesson: Lesson, entry: int = 0, *, words: Words = ENGLISH) -> Spec:
    """How far the trainings are apart, in slope and in weight, and how far they may be, on a logarithmic axis."""
    epochs = np.arange(lesson.epochs + 1)
    rows = (
        ("slope_difference", "line_slopes", NUDGED, "solid"),
        ("slope_allowed", "line_slopes_may", NUDGED, "dot"),
        ("weight_difference", "line_weights", OTHER, "solid"),
        ("weight_allowed", "line_weights_may", OTHER, "dot"),
    )
    return {
        "data": [
            _make_line(
                epochs,
                keep_positive(getattr(lesson.track, s)[:, entry]),
                name=words.say(name),
                color=color,
                dash=dash,
                source=s,
            )
            for s, name, color, dash in rows
        ],
        "layout": _make_layout(words.say("axis_epoch"), words.say("axis_difference"), log=True),
    }


def plot_landscape(lesson: Lesson, index: int = 0, epoch: int = 0, *, words: Words = ENGLISH) -> Spec:
    """Contours of the loss over two weights with both paths, and the two nudges at one epoch, drawn longer."""
    scene = lesson.landscapes[index]
    log = bool(np.all(scene.losses > 0)) and _is_all_positive(lesson.track.losses)
    # the logarithm would draw a deep pit at the grid point that happens to lie nearest to a minimum: heights end at the
    # lowest loss on the paths
    lowest = float(np.nanmin(lesson.track.losses))
    height = np.log10(np.maximum(scene.losses, lowest)) if log else scene.losses
    low, high = float(np.nanmin(height)), float(np.nanmax(height))
    spacing = _round_up((high - low) / LEVELS)
    a, b = scene.entries
    track = lesson.track
    contour = {
        "type": "contour",
        "x": simplify(scene.across),
        "y": simplify(scene.up),
        "z": digits(height, 4),
        "customdata": digits(scene.losses, 5),
        "colorscale": "Viridis",
        "contours": {
            "coloring": "heatmap",
            "start": spacing * np.floor(low / spacing + 1.5),
            "end": high,
            "size": spacing,
        },
        "line": {"width": 0.6, "smoothing": 1.3, "color": "rgba(255,255,255,.45)"},
        "colorbar": {
            "title": {"text": words.say("landscape_log" if log else "axis_loss"), "side": "right"},
            "thickness": 12,
        },
        "hovertemplate": f"{_escape_text(scene.first)} %{{x:.6g}}<br>{_escape_text(scene.second)} %{{y:.6g}}<br>"
        f"{words.say('axis_loss')} %{{customdata:.5g}}<extra></extra>",
    }

    def path(values: Array, name: str, color: str, width: float, dash: str) -> Spec:
        return _make_line(values[:, a], values[:, b], name=name, color=color, dash=dash, width=width) | {
            "hoverinfo": "skip",
            "hovertemplate": None,
        }

    x, y = float(track.weights[epoch, a]), float(track.weights[epoch, b])
    across, up = nudge_lengths(scene, lesson.nudge)
    here = {
        "type": "scatter",
        "mode": "markers",
        "name": words.say("landscape_here"),
        "x": [x],
        "y": [y],
        "marker": {"size": 13, "color": "#ffffff", "line": {"color": "#000000", "width": 2}},
        "hovertemplate": "%{x:.9g}, %{y:.9g}<extra></extra>",
    }
    arms = {
        "type": "scatter",
        "mode": "lines+markers",
        "name": words.say("landscape_nudges", times=describe_times_longer(scene, lesson.nudge)),
        "x": [x + across, x, x],
        "y": [y, y, y + up],
        "line": {"color": "#ff5252", "width": 3},
        "marker": {"size": 7, "symbol": "circle"},
        "hoverinfo": "skip",
    }
    return {
        "data": [
            contour,
            path(track.keras_weights, words.say("line_exact"), color="rgba(190,225,255,.75)", width=9, dash="solid"),
            path(track.weights, words.say("line_nudged"), color="#ff9330", width=3, dash="6px,5px"),
            arms,
            here,
        ],
        "layout": _make_layout(_escape_text(scene.first), _escape_text(scene.second), hovermode="closest")
        | {
            "xaxis": {
                "title": {"text": _escape_text(scene.first)},
                "range": [float(scene.across[0]), float(scene.across[-1])],
                "zeroline": False,
            },
            "yaxis": {
                "title": {"text": _escape_text(scene.second)},
                "range": [float(scene.up[0]), float(scene.up[-1])],
                "zeroline": False,
                "automargin": True,
            },
        },
    }


def _round_up(value: float) -> float:
    """The least of 1, 2 and 5 times a power of ten that is at least `value`; 1 for 0."""
    if value <= 0:
        return 1.0
    unit = 10.0 ** np.floor(np.log10(value))
    return float(next(unit * k for k in (1, 2, 5, 10) if unit * k >= value))


def nudge_lengths(scene: Landscape, nudge: float) -> tuple[float, float]:
    """The nudge along each axis times a power of ten, so that it is seen: a fiftieth to a fifth of that axis."""

    def length(axis: Array) -> float:
        return float(nudge * 10.0 ** np.floor(np.log10(0.2 * (axis[-1] - axis[0]) / nudge)))

    return length(scene.across), length(scene.up)


def describe_times_longer(scene: Landscape, nudge: float) -> Phrase:
    """How many times longer than they are the nudges are drawn, in words."""
    across, up = (length / nudge for length in nudge_lengths(scene, nudge))
    if across == up:
        return phrase("times_longer", times=f"{across:g}")
    return phrase("times_longer_both", across=f"{across:g}", up=f"{up:g}")


def plot_precision(lesson: Lesson, entry: int = 0, *, words: Words = ENGLISH) -> Spec:
    """The error of one slope against the size of the nudge, for four schemes, each with its best nudge marked."""
    data: list[Spec] = []
    for k, one in enumerate(lesson.precisions):
        line = _make_line(
            one.steps, keep_positive(one.error[:, entry]), name=words.say(one.scheme), color=SERIES[k], dash=DASHES[k]
        ) | {
            "mode": "lines+markers",
            "meta": {"scheme": k},
        }
        line["marker"] = {"size": 5, "color": SERIES[k]}
        data.append(line)
    for k, one in enumerate(lesson.precisions):
        data.append(_plot_best(one, entry, k, words))
    titles = words.say("precision_axis"), words.say("precision_axis_error")
    layout = _make_layout(*titles, log=True, log_x=True, hovermode="closest")
    layout["xaxis"]["autorange"] = "reversed"
    return {"data": data, "layout": layout}


def _plot_best(one: Precision, entry: int, k: int, words: Words) -> Spec:
    name = words.say("precision_star", scheme=one.scheme)
    best = float(one.best[entry])
    error = float(np.nanmin(one.error[:, entry]))
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [best],
        "y": [error if error > 0 else None],
        "name": name,
        "showlegend": False,
        "meta": {"best": k},
        "marker": {"size": 15, "symbol": "star", "color": SERIES[k], "line": {"width": 1, "color": "#ffffff"}},
        "hovertemplate": f"{name}: %{{x:.2g}}, {words.say('precision_error')} %{{y:.2g}}<extra></extra>",
    }


def plot_trainings(trainings: Sequence[Training], changed: str, words: Words = ENGLISH) -> Spec:
    """The loss of several trainings from one start that differ in what `changed` names."""
    log = _is_all_positive(*(np.nan_to_num(training.losses, nan=1.0, posinf=1.0) for training in trainings))
    data = []
    for k, training in enumerate(trainings):
        name = words.say(training.label) + " ↗" * bool(training.diverged)
        line = _make_line(
            training.epochs, training.losses, name=name, color=SERIES[k % len(SERIES)], dash=DASHES[k % len(DASHES)]
        )
        data.append(line | {"hovertemplate": "%{y:.4g}"})
    layout = _make_layout(words.say("axis_epoch"), words.say("trainings_loss"), log=log)
    some_diverge = any(training.diverged for training in trainings)
    legend = words.say("trainings_legend_away" if some_diverge else "trainings_legend", changed=changed)
    layout["legend"] |= {"title": {"text": legend, "side": "top"}}
    if log and some_diverge:
        # a divergent training leaves the picture; the scale is that of the others
        start = trainings[0].losses[0]
        low = min([float(np.min(t.losses)) for t in trainings if not t.diverged], default=start)
        layout["yaxis"]["range"] = [float(np.log10(low)) - 0.2, float(np.log10(start)) + 2]
    return {"data": data, "layout": layout}
