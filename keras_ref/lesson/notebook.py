"""A lesson as a notebook that runs from top to bottom: the same records, the same figures, the same words."""

from __future__ import annotations

from typing import Any

from keras_ref.lesson.page import TABS
from keras_ref.lesson.recipe_table import RECIPES

_SHOW = "import plotly.graph_objects as go\n\n\ndef show(specification):\n    return go.Figure(data=specification['data'], layout=specification['layout'])"


def notebook(target: str, data: str = "", *, seed: int = 0, epochs: int) -> Any:
    """The notebook of a lesson, not yet run. Its first cell makes the lesson; the others show parts of it."""
    import nbformat.v4 as v4

    cells = [
        v4.new_markdown_cell(text) if kind == "text" else v4.new_code_cell(text)
        for kind, text in _cells(target, data, seed, epochs)
    ]
    for i, one in enumerate(cells):
        one["id"] = f"cell-{i}"  # the same notebook for the same arguments, to the last byte
    return v4.new_notebook(
        cells=cells,
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
            "language_info": {"name": "python"},
        },
    )


def _cells(target: str, data: str, seed: int, epochs: int) -> list[tuple[str, str]]:
    note = f"\n\n> {RECIPES[target][1]}" if target in RECIPES else ""
    options = f", data={data!r}" * bool(data) + f", seed={seed}" * bool(seed) + f", epochs={epochs}"
    titles = [title for _, title in TABS]
    return [
        (
            "text",
            f"# Nudge every weight and look, or back-propagate: {target}{note}\n\nThe same network twice, from the same start. One side only pushes each weight by h = 0.0001 and looks at the loss (NumPy, no calculus); the other back-propagates (Keras). Run the cells from top to bottom.",
        ),
        (
            "code",
            "from keras_ref.inputs.targets import import_quietly, quiet_tensorflow\n\nquiet_tensorflow()\nimport_quietly()\n\nfrom IPython.display import HTML, Markdown\n\nfrom keras_ref.lesson import figures, make, tables\n\n"
            + _SHOW,
        ),
        ("code", f"lesson = make({target!r}{options})\nlesson"),
        (
            "text",
            f"## 1. {titles[0]}\n\nForward: follow one sample from table to table; the mean of the last is the loss.",
        ),
        ("code", "HTML(tables.forward_tables(lesson.step))"),
        ("text", "One weight in sentences. Change the number and run the cell again."),
        ("code", "weight = lesson.steepest\nHTML(tables.walk(lesson.step, weight).replace(' hidden', '', 1))"),
        (
            "text",
            "All weights together. See that “difference” and “explained” agree: the nudge is never the derivative, and we know by how much.",
        ),
        ("code", "HTML(tables.nudge_table(lesson.step))"),
        ("text", f"## 2. {titles[1]}\n\nSee one line on the other; a dotted line marks where a unit dies."),
        (
            "code",
            "Markdown('\\n'.join(f'- {sentence}' for sentence in tables.unit_sentences(lesson)) or 'No unit dies in this one.')",
        ),
        ("code", "show(figures.loss_figure(lesson))"),
        ("code", "weight = lesson.farthest\nshow(figures.weight_figure(lesson, weight))"),
        ("code", "show(figures.slope_figure(lesson, weight))"),
        ("text", "How far apart: see each solid line stay below the dotted one of its colour."),
        ("code", "show(figures.difference_figure(lesson, weight))"),
        (
            "code",
            "HTML(tables.track_table(lesson, sorted({0, min(1, lesson.epochs), lesson.epochs // 2, lesson.epochs})))",
        ),
        (
            "text",
            f"## 3. {titles[2]}\n\nThe loss over two weights, seen from above; both paths run downhill. The red arms are the two nudges of one epoch, drawn longer. Change the epoch and run the cell again.",
        ),
        (
            "code",
            "epoch = min(5, lesson.epochs)\nshow(figures.landscape_figure(lesson, epoch=epoch)) if lesson.landscapes else 'A landscape needs two weights; this model has one.'",
        ),
        (
            "text",
            f"## 4. {titles[3]}\n\nThe nudge larger, or smaller: see the V of the forward difference, truncation on the left, rounding on the right; stars mark the best h.",
        ),
        ("code", "show(figures.precision_figure(lesson, lesson.steepest))"),
        (
            "text",
            "The learning rate from timid to divergent, batches of 1, 2, 4 with the noise they bring, and other optimizers, on the same start.",
        ),
        (
            "code",
            "show(figures.runs_figure(lesson.rates, 'learning rate')) if lesson.rates else 'A schedule sets the learning rate.'",
        ),
        ("code", "show(figures.runs_figure(lesson.batches, 'batch size'))"),
        ("code", "show(figures.runs_figure(lesson.optimizers, 'optimizer'))"),
        (
            "text",
            f"## 5. {titles[4]}\n\nTwo programs that share nothing but the numbers they start from, and what each printed.",
        ),
        (
            "code",
            "for listing in lesson.listings:\n    print('#', listing.title)\n    print(listing.source)\n    print(listing.printed)",
        ),
    ]
