"""The numbers of a lesson as HTML tables and sentences: for the page, for notebooks, for a screen reader."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from keras_ref.lesson.two_trainings import Track
from keras_ref.lesson.walkthrough import Nudge, Step, Tensor, Unit

#: significant digits that are shown; the cell carries the whole number as data-value
DIGITS = 10
_NUDGE_COLUMNS = (
    "weight",
    "value",
    "change of the loss",
    "slope: change / h",
    "back-propagation",
    "difference",
    "explained by h/2·f″",
    "allowed difference",
    "updated, nudged",
    "updated, Keras",
)


def number(value: float | None, digits: int = DIGITS, *, sign: bool = False) -> str:
    """A number as it is shown, with so many significant digits."""
    if value is None or value != value or abs(value) == float("inf"):
        return "not finite"
    return f"{value:{'+' if sign else ''}.{digits}g}" if value else "0"


def cell(value: float, digits: int = DIGITS) -> str:
    """A table cell with a number: rounded for the reader, unrounded in data-value."""
    return f'<td class="n" data-value="{float(value)!r}">{number(value, digits)}</td>'


def table(caption: str, head: Sequence[str], rows: Iterable[str], *, label: str = "") -> str:
    """A table that scrolls by itself where it is wider than the screen, also by keyboard."""
    columns = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label or caption, quote=True)}">'
        f"<table><caption>{escape(caption)}</caption>"
        f"<thead><tr>{columns}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def row(name: str, cells: Iterable[str]) -> str:
    """A row of a table with its heading."""
    return f'<tr><th scope="row">{escape(name)}</th>{"".join(cells)}</tr>'


def tensor_table(tensor: Tensor) -> str:
    """One array of the forward pass: a row per sample."""
    shape = " × ".join(map(str, tensor.shape))
    single = tensor.rows.shape[1] == 1
    # the index as in the name of a weight, kernel[0, 2]; and the number by which the sentences name the unit
    head = ["sample", *("value" if single else f"unit {i + 1} [{i}]" for i in range(tensor.rows.shape[1]))]
    rows = (row(str(i + 1), (cell(v) for v in values)) for i, values in enumerate(tensor.rows))
    return table(f"{tensor.name} ({shape}): {tensor.meaning}", head, rows)


def forward_tables(step: Step) -> str:
    """The forward pass, array after array, and the loss of each sample."""
    parts = [tensor_table(tensor) for tensor in step.tensors]
    if step.sample_losses is not None:
        rows = (row(str(i + 1), [cell(v)]) for i, v in enumerate(step.sample_losses))
        parts.append(table("loss of each sample", ["sample", "loss"], rows))
    return f'<div class="tensors">{"".join(parts)}</div>'


def nudge_table(step: Step) -> str:
    """Every weight of the first epoch: its slope by nudging and by back-propagation, and its value after the update."""
    return table(
        "Every weight of the first epoch, nudged and back-propagated", _NUDGE_COLUMNS, map(_nudge_row, step.nudges)
    )


def _nudge_row(n: Nudge) -> str:
    values = (n.weight, n.change, n.slope, n.autodiff)
    errors = (n.difference, n.explained, n.allowed)
    return row(n.label, [*map(cell, values), *(cell(v, 3) for v in errors), cell(n.updated), cell(n.keras_updated)])


def walk(step: Step, index: int, *, hidden: bool = True) -> str:
    """One weight in six sentences: nudge, look, divide, compare, why, step. The page shows one weight at a time."""
    n = step.nudges[index]

    def value(name: str, x: float, digits: int = DIGITS, *, sign: bool = False) -> str:
        return f'<b class="n" data-name="{name}" data-value="{x!r}">{number(x, digits, sign=sign)}</b>'

    sentences = (
        (
            "Nudge",
            (
                f"{value('weight', n.weight)} becomes {value('nudged', n.weight + n.step)}, "
                f"which is {value('step', n.step, 4)} more."
            ),
        ),
        (
            "Look",
            (
                f"The loss was {value('loss', n.loss)} and is now {value('nudged_loss', n.nudged_loss)}: "
                f"it changed by {value('change', n.change, 8, sign=True)}."
            ),
        ),
        ("Divide", f"The change divided by the nudge is the slope: {value('slope', n.slope)}."),
        (
            "Compare",
            (
                f"Back-propagation computes {value('autodiff', n.autodiff)}. The nudged slope differs by "
                f"{value('difference', n.difference, 3, sign=True)}; allowed are {value('allowed', n.allowed, 3)}."
            ),
        ),
        (
            "Why",
            (
                f"{escape(n.reason)} Measured on the loss itself, h/2·f″ is "
                f"{value('explained', n.explained, 3, sign=True)}; "
                f"the remaining {value('left', n.left, 2, sign=True)} are rounding and derivatives of higher order."
            ),
        ),
        (
            "Step",
            (
                f"The update moves the weight to {value('updated', n.updated)}; "
                f"Keras moves it to {value('keras_updated', n.keras_updated)}."
            ),
        ),
    )
    items = "".join(f"<li><span>{name}</span><div>{text}</div></li>" for name, text in sentences)
    return (
        f'<article class="walk" id="walk-{index}"{" hidden" * hidden}>'
        f"<h4>{escape(n.label)}</h4><ol>{items}</ol></article>"
    )


def track_table(track: Track, epochs: Sequence[int]) -> str:
    """Every weight after these numbers of epochs, nudged and by Keras."""
    head = ("weight", *(f"{side}, epoch {e}" for e in epochs for side in ("nudged", "Keras")))
    rows = (
        row(label, [cell(a[e, i]) for e in epochs for a in (track.weights, track.keras_weights)])
        for i, label in enumerate(track.labels)
    )
    return table("Weights of both trainings", head, rows)


def unit_sentences(units: Iterable[Unit], epochs: int) -> list[str]:
    """A sentence for each ReLU unit that dies in a training of so many epochs."""
    found = []
    for unit in units:
        born = "is dead from the start" if unit.since == 0 else f"dies in epoch {unit.since}"
        stays = f"and stays dead through epoch {epochs}" if unit.until < 0 else f"and is dead until epoch {unit.until}"
        found.append(f"{unit.name} {born} {stays}: it is 0 for every sample, so its weights get a slope of exactly 0.")
    return found
