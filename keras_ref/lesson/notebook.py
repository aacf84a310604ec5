"""A lesson as a notebook that runs from top to bottom: the same numbers and figures as the page."""

from __future__ import annotations

from typing import Any

from keras_ref.lesson.page import TABS
from keras_ref.lesson.recipe_table import RECIPES
from keras_ref.reports.escaping import markdown

_IMPORTS = """\
from keras_ref.inputs.targets import import_quietly, quiet_tensorflow

quiet_tensorflow()
import_quietly()

import plotly.graph_objects as go
from IPython.display import HTML, Markdown

from keras_ref.lesson import figures, make, tables
from keras_ref.reports.escaping import markdown


def show(specification):
    return go.Figure(data=specification['data'], layout=specification['layout'])"""

_ALGORITHM = """\
import numpy as np
from scratch.recipe import INPUTS, NUDGE, OUTPUTS, START, feed_forward


def slopes_by_nudging(weights):
    before, slopes = feed_forward(INPUTS, OUTPUTS, weights), []
    for i, weight in enumerate(weights):
        for entry in np.ndindex(weight.shape):
            nudged = [other.copy() for other in weights]
            nudged[i][entry] += NUDGE
            slopes.append(np.mean(feed_forward(INPUTS, OUTPUTS, nudged) - before) / NUDGE)
    return np.array(slopes)


weights = [np.array(weight, dtype=float) for weight in START]
print('loss  ', np.mean(feed_forward(INPUTS, OUTPUTS, weights)))
print('slopes', slopes_by_nudging(weights))"""

_SLIDERS = """\
def push(**values):
    pushed, at = [], iter(values.values())
    for weight in weights:
        pushed.append(np.array([next(at) for _ in range(weight.size)]).reshape(weight.shape))
    print('loss  ', np.mean(feed_forward(INPUTS, OUTPUTS, pushed)))
    print('slopes', slopes_by_nudging(pushed))


start = {f'w{i}': float(value) for i, value in enumerate(np.concatenate([np.ravel(weight) for weight in weights]))}
try:
    from ipywidgets import FloatSlider, interact
except ImportError:
    push(**start)  # without ipywidgets: the numbers once
else:
    interact(push, **{name: FloatSlider(value, min=-3, max=3, step=0.01) for name, value in start.items()})"""

_UNITS = """\
sentences = tables.unit_sentences(lesson.units, lesson.epochs)
Markdown('\\n'.join(f'- {markdown(sentence)}' for sentence in sentences) or 'No unit dies in this one.')"""

_WEIGHTS = """\
epochs = sorted({0, min(1, lesson.epochs), lesson.epochs // 2, lesson.epochs})
HTML(tables.track_table(lesson.track, epochs))"""

_LANDSCAPE = """\
epoch = min(5, lesson.epochs)
if lesson.landscapes:
    figure = show(figures.landscape_figure(lesson, epoch=epoch))
else:
    figure = 'A landscape needs two weights; this model has one.'
figure"""

_RATES = """\
if lesson.rates:
    figure = show(figures.trainings_figure(lesson.rates, 'learning rate'))
else:
    figure = 'A schedule sets the learning rate.'
figure"""

_LISTINGS = """\
for listing in lesson.listings:
    print('#', listing.title)
    print(listing.source)
    print(listing.printed)"""


def notebook(target: str, data: str = "", *, seed: int = 0, epochs: int) -> Any:
    """The notebook of a lesson, not yet run: its first cells compute the lesson, the others show parts of it.

    The arguments are those of keras_ref.lesson.make; the same arguments give the same notebook, byte for byte.
    """
    from nbformat import v4

    cells = [
        v4.new_markdown_cell(text) if kind == "text" else v4.new_code_cell(text)
        for kind, text in _cells(target, data, seed=seed, epochs=epochs)
    ]
    for i, one in enumerate(cells):
        one["id"] = f"cell-{i}"  # in place of nbformat's random identifiers
    cells[0]["metadata"]["generator"] = "gradtwin lesson"  # a later lesson may take the place of this one
    return v4.new_notebook(
        cells=cells,
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
            "language_info": {"name": "python"},
        },
    )


def _cells(target: str, data: str, *, seed: int, epochs: int) -> list[tuple[str, str]]:
    """(kind, text) of each cell; kind is "text" or "code"."""
    note = f"\n\n> {RECIPES[target][1]}" if target in RECIPES else ""
    options = f", data={data!r}" * bool(data) + f", seed={seed}" * bool(seed) + f", epochs={epochs}"
    titles = [title for _, title in TABS]
    return [
        (
            "text",
            (
                f"# Nudge every weight and look, or back-propagate: {markdown(target)}{note}\n\n"
                "The same network twice, from the same start. One is trained by nudging: each weight is pushed by "
                "h = 0.0001 and the change of the loss gives its slope (NumPy, no calculus). The other back-propagates "
                "(Keras). Run the cells from top to bottom."
            ),
        ),
        ("code", _IMPORTS),
        ("code", f"lesson = make({target!r}{options})\nlesson"),
        (
            "text",
            (
                f"## 1. {titles[0]}\n\n"
                "Forward: follow one sample from table to table; the mean of the last table is the loss."
            ),
        ),
        ("code", "HTML(tables.forward_tables(lesson.step))"),
        ("text", "One weight in sentences. Change the number and run the cell again."),
        ("code", "weight = lesson.steepest\nHTML(tables.walk(lesson.step, weight, hidden=False))"),
        (
            "text",
            (
                "All weights together. Compare “difference” with “explained”: a nudged slope is never exactly the "
                "derivative, and the second column says by how much it is off."
            ),
        ),
        ("code", "HTML(tables.nudge_table(lesson.step))"),
        (
            "text",
            (
                "The same algorithm in plain Python, as in scratch/recipe.py: nothing is hidden. Change a number and "
                "run the cell again; with ipywidgets installed, the next cell has a slider for each weight."
            ),
        ),
        ("code", _ALGORITHM.replace("START", "RECIPE_2" if target == "recipe2" else "RECIPE_1")),
        ("code", _SLIDERS),
        ("text", f"## 2. {titles[1]}\n\nTwo lines, one on the other; a dotted line marks where a unit dies."),
        ("code", _UNITS),
        ("code", "show(figures.loss_figure(lesson))"),
        ("code", "weight = lesson.farthest\nshow(figures.weight_figure(lesson, weight))"),
        ("code", "show(figures.slope_figure(lesson, weight))"),
        ("text", "How far apart: each solid line stays below the dotted line of its colour."),
        ("code", "show(figures.difference_figure(lesson, weight))"),
        ("code", _WEIGHTS),
        (
            "text",
            (
                f"## 3. {titles[2]}\n\nThe loss over two weights, seen from above; both paths run downhill. The red "
                "arms are the two nudges of one epoch, drawn longer. Change the epoch and run the cell again."
            ),
        ),
        ("code", _LANDSCAPE),
        (
            "text",
            (
                f"## 4. {titles[3]}\n\nA larger or a smaller nudge: the error of the forward difference is a V, with "
                "truncation error on the left and rounding error on the right. Stars mark the best h."
            ),
        ),
        ("code", "show(figures.precision_figure(lesson, lesson.steepest))"),
        (
            "text",
            (
                "Learning rates from small to divergent, batches of 1, 2 and 4 samples with their noise, and other "
                "optimizers, all from the same start."
            ),
        ),
        ("code", _RATES),
        ("code", "show(figures.trainings_figure(lesson.batches, 'batch size'))"),
        ("code", "show(figures.trainings_figure(lesson.optimizers, 'optimizer'))"),
        (
            "text",
            (
                f"## 5. {titles[4]}\n\nTwo programs that share nothing but the numbers they start from, and what each "
                "printed."
            ),
        ),
        ("code", _LISTINGS),
    ]
