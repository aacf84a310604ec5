"""The numbers of a lesson as HTML tables and sentences: for the page, for notebooks, for a screen reader."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from keras_ref.lesson.two_trainings import Track
from keras_ref.lesson.walkthrough import Nudge, Step, Tensor, Unit
from keras_ref.lesson.words import ENGLISH, Phrase, Words, phrase

#: significant digits that are shown; the cell carries the whole number as data-value
DIGITS = 10
_NUDGE_COLUMNS = (
    "weight",
    "value",
    "change",
    "slope",
    "exact",
    "difference",
    "explained",
    "allowed",
    "updated",
    "keras",
)


def format_number(value: float | None, digits: int = DIGITS, *, sign: bool = False, words: Words = ENGLISH) -> str:
    """A number as it is shown, with so many significant digits."""
    if value is None or value != value or abs(value) == float("inf"):
        return words.say("not_finite")
    return f"{value:{'+' if sign else ''}.{digits}g}" if value else "0"


def build_cell(value: float, digits: int = DIGITS, *, words: Words = ENGLISH) -> str:
    """A table cell with a number: rounded for the reader, unrounded in data-value."""
    return f'<td class="n" data-value="{float(value)!r}">{format_number(value, digits, words=words)}</td>'


def build_table(caption: str, head: Sequence[str], rows: Iterable[str], *, label: str = "") -> str:
    """A table that scrolls by itself where it is wider than the screen, also by keyboard."""
    columns = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label or caption, quote=True)}">'
        f"<table><caption>{escape(caption)}</caption>"
        f"<thead><tr>{columns}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def build_row(name: str, cells: Iterable[str]) -> str:
    """A row of a table with its heading."""
    return f'<tr><th scope="row">{escape(name)}</th>{"".join(cells)}</tr>'


def build_tensor_table(tensor: Tensor, words: Words) -> str:
    """One array of the forward pass: a row per sample."""
    shape = " × ".join(map(str, tensor.shape))
    units = range(tensor.rows.shape[1])
    # the index as in the name of a weight, kernel[0, 2]; and the number by which the sentences name the unit
    values = [words.say("tensor_unit", number=i + 1, index=i) for i in units]
    head = [words.say("tensor_sample"), *(values if len(units) > 1 else [words.say("tensor_value")])]
    rows = (build_row(str(i + 1), (build_cell(v, words=words) for v in values)) for i, values in enumerate(tensor.rows))
    return build_table(words.say("tensor_table", name=tensor.name, shape=shape, meaning=tensor.meaning), head, rows)


def build_forward_tables(step: Step, words: Words = ENGLISH) -> str:
    """The forward pass, array after array, and the loss of each sample."""
    parts = [build_tensor_table(tensor, words) for tensor in step.tensors]
    if step.sample_losses is not None:
        rows = (build_row(str(i + 1), [build_cell(v, words=words)]) for i, v in enumerate(step.sample_losses))
        head = [words.say("tensor_sample"), words.say("axis_loss")]
        parts.append(build_table(words.say("tensor_losses"), head, rows))
    return f'<div class="tensors">{"".join(parts)}</div>'


def nudge_table(step: Step, words: Words = ENGLISH) -> str:
    """Every weight of the first epoch: its slope by nudging and by back-propagation, and its value after the update."""
    columns = [words.say(f"nudges_{name}") for name in _NUDGE_COLUMNS]
    return build_table(words.say("nudges_caption"), columns, (_nudge_row(nudge, words) for nudge in step.nudges))


def _nudge_row(n: Nudge, words: Words) -> str:
    def cells(*values: float, digits: int = DIGITS) -> list[str]:
        return [build_cell(value, digits, words=words) for value in values]

    values = cells(n.weight, n.change, n.slope, n.autodiff)
    errors = cells(n.difference, n.explained, n.allowed, digits=3)
    return build_row(n.label, [*values, *errors, *cells(n.updated, n.keras_updated)])


def walk(step: Step, index: int, *, hidden: bool = True, words: Words = ENGLISH) -> str:
    """One weight in six sentences: nudge, look, divide, compare, why, step. The page shows one weight at a time."""
    n = step.nudges[index]

    def value(name: str, x: float, digits: int = DIGITS, *, sign: bool = False) -> str:
        shown = format_number(x, digits, sign=sign, words=words)
        return f'<b class="n" data-name="{name}" data-value="{x!r}">{shown}</b>'

    sentences: dict[str, dict[str, str]] = {
        "nudge": {
            "weight": value("weight", n.weight),
            "nudged": value("nudged", n.weight + n.step),
            "step": value("step", n.step, 4),
        },
        "look": {
            "loss": value("loss", n.loss),
            "nudged_loss": value("nudged_loss", n.nudged_loss),
            "change": value("change", n.change, 8, sign=True),
        },
        "divide": {"slope": value("slope", n.slope)},
        "compare": {
            "autodiff": value("autodiff", n.autodiff),
            "difference": value("difference", n.difference, 3, sign=True),
            "allowed": value("allowed", n.allowed, 3),
        },
        "why": {
            "reason": words.html(n.reason),
            "explained": value("explained", n.explained, 3, sign=True),
            "left": value("left", n.left, 2, sign=True),
        },
        "step": {
            "updated": value("updated", n.updated),
            "keras_updated": value("keras_updated", n.keras_updated),
        },
    }
    items = "".join(
        f"<li><span>{words.html(f'walk_{name}')}</span><div>{words.html(f'walk_{name}_text', **values)}</div></li>"
        for name, values in sentences.items()
    )
    return (
        f'<article class="walk" id="walk-{index}"{" hidden" * hidden}>'
        f"<h4>{escape(n.label)}</h4><ol>{items}</ol></article>"
    )


def track_table(track: Track, epochs: Sequence[int], words: Words = ENGLISH) -> str:
    """Every weight after these numbers of epochs, nudged and by Keras."""
    sides = [words.say(f"track_{side}", epoch=e) for e in epochs for side in ("nudged", "keras")]
    rows = (
        build_row(
            label, [build_cell(a[e, i], words=words) for e in epochs for a in (track.weights, track.keras_weights)]
        )
        for i, label in enumerate(track.labels)
    )
    return build_table(words.say("track_caption"), [words.say("nudges_weight"), *sides], rows)


def describe_units(units: Iterable[Unit], epochs: int, words: Words = ENGLISH) -> list[str]:
    """A sentence for each ReLU unit that dies in a training of so many epochs."""
    return [words.say(_describe_unit(unit, epochs)) for unit in units]


def _describe_unit(unit: Unit, epochs: int) -> Phrase:
    born, stays = ("start" if unit.since == 0 else "dies"), ("stays" if unit.until < 0 else "until")
    values = {"unit": unit.name, "since": unit.since, "until": unit.until, "last": epochs}
    return phrase(f"unit_{born}_{stays}", **values)
