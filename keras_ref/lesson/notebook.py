"""A lesson as a notebook that runs from top to bottom: the same numbers and figures as the page."""

from __future__ import annotations

from typing import Any

from keras_ref.lesson.page import TABS, name_tab
from keras_ref.lesson.recipe_table import RECIPES
from keras_ref.lesson.words import Words, read_words
from keras_ref.reports.escaping import escape_markdown

_IMPORTS = """\
from keras_ref.inputs.targets import import_quietly, quiet_tensorflow

quiet_tensorflow()
import_quietly()

import plotly.graph_objects as go
from IPython.display import HTML, Markdown

from keras_ref.lesson import figures, make, tables
from keras_ref.lesson.words import read_words
from keras_ref.reports.escaping import escape_markdown


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
sentences = tables.describe_units(lesson.units, lesson.epochs, words)
Markdown('\\n'.join(f'- {escape_markdown(sentence)}' for sentence in sentences) or words.say('book_no_units'))"""

_WEIGHTS = """\
epochs = sorted({0, min(1, lesson.epochs), lesson.epochs // 2, lesson.epochs})
HTML(tables.track_table(lesson.track, epochs, words))"""

_LANDSCAPE = """\
epoch = min(5, lesson.epochs)
if lesson.landscapes:
    figure = show(figures.plot_landscape(lesson, epoch=epoch, words=words))
else:
    figure = words.say('landscape_one')
figure"""

_RATES = """\
if lesson.rates:
    figure = show(figures.plot_trainings(lesson.rates, words.say('rates_changed'), words))
else:
    figure = words.say('book_schedule')
figure"""

_LISTINGS = """\
for listing in lesson.listings:
    print('#', words.say(listing.title))
    print(listing.source)
    print(listing.printed)"""


def build_notebook(target: str, data: str = "", *, seed: int = 0, epochs: int, language: str = "en") -> Any:
    """The notebook of a lesson, not yet run: its first cells compute the lesson, the others show parts of it.

    The arguments are those of keras_ref.lesson.make, and the language of the page; the same arguments give the same
    notebook, byte for byte. Raises: CouldNotRun for a language without strings.
    """
    from nbformat import v4

    cells = [
        v4.new_markdown_cell(text) if kind == "text" else v4.new_code_cell(text)
        for kind, text in _list_cells(target, data, seed=seed, epochs=epochs, words=read_words(language))
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


def _list_cells(target: str, data: str, *, seed: int, epochs: int, words: Words) -> list[tuple[str, str]]:
    """(kind, text) of each cell; kind is "text" or "code"."""
    say = words.say
    note = f"\n\n> {say(f'note_{target}')}" if target in RECIPES else ""
    options = f", data={data!r}" * bool(data) + f", seed={seed}" * bool(seed) + f", epochs={epochs}"
    heads = [f"## {i}. {name_tab(name, words)}\n\n" for i, name in enumerate(TABS, start=1)]
    make = f"lesson = make({target!r}{options})"
    return [
        ("text", f"# {say('book_title', target=escape_markdown(target))}{note}\n\n{say('book_lead')}"),
        ("code", _IMPORTS),
        ("code", f"words = read_words({words.language!r})\n{make}\nHTML(lesson.summarize(words))"),
        ("text", heads[0] + say("book_forward")),
        ("code", "HTML(tables.build_forward_tables(lesson.step, words))"),
        ("text", say("book_walk")),
        ("code", "weight = lesson.steepest\nHTML(tables.walk(lesson.step, weight, hidden=False, words=words))"),
        ("text", say("book_all")),
        ("code", "HTML(tables.nudge_table(lesson.step, words))"),
        ("text", say("book_algorithm")),
        ("code", _ALGORITHM.replace("START", "RECIPE_2" if target == "recipe2" else "RECIPE_1")),
        ("code", _SLIDERS),
        ("text", heads[1] + say("book_epochs")),
        ("code", _UNITS),
        ("code", "show(figures.plot_loss(lesson, words))"),
        ("code", "weight = lesson.farthest\nshow(figures.plot_weight(lesson, weight, words=words))"),
        ("code", "show(figures.plot_slope(lesson, weight, words=words))"),
        ("text", say("book_apart")),
        ("code", "show(figures.plot_difference(lesson, weight, words=words))"),
        ("code", _WEIGHTS),
        ("text", heads[2] + say("book_landscape")),
        ("code", _LANDSCAPE),
        ("text", heads[3] + say("book_precision")),
        ("code", "show(figures.plot_precision(lesson, lesson.steepest, words=words))"),
        ("text", say("book_what_if")),
        ("code", _RATES),
        ("code", "show(figures.plot_trainings(lesson.batches, words.say('batches_changed'), words))"),
        ("code", "show(figures.plot_trainings(lesson.optimizers, words.say('optimizers_changed'), words))"),
        ("text", heads[4] + say("book_code")),
        ("code", _LISTINGS),
    ]
