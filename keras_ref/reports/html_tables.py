"""Verdicts as HTML: a table with a row per variable, and the heat map of one variable. For the page and for notebooks.

Only the attributes in `ShownVerdict` are read, so that the records in verdict.py can import this module.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Protocol

import numpy as np

from keras_ref.reports.heat_map import WINDOW, ErrorWindow
from keras_ref.reports.words import ALLOWED, LEGEND, SEEN, WORST
from scratch.arrays import Array

#: a table shows at most so many variables: the report of a large model must stay small enough to send
ROWS = 1000


class ShownVerdict(Protocol):
    """What a table or heat map shows of a verdict (keras_ref.reports.verdict.Verdict)."""

    @property
    def name(self) -> str: ...
    @property
    def oracle(self) -> str: ...
    @property
    def verdict(self) -> str: ...
    @property
    def failed(self) -> bool: ...
    @property
    def coverage(self) -> str: ...
    @property
    def worst(self) -> tuple[int, ...]: ...
    @property
    def numeric(self) -> float: ...
    @property
    def autodiff(self) -> float: ...
    @property
    def difference(self) -> float: ...
    @property
    def allowed(self) -> float: ...
    @property
    def visible(self) -> float: ...
    @property
    def cells(self) -> ErrorWindow | None: ...


#: columns of the table of verdicts; the first three hold text
_COLUMNS = (
    "variable",
    "oracle",
    "verdict",
    "entries compared",
    "worst entry",
    "numeric",
    "autodiff",
    WORST,
    ALLOWED,
    SEEN,
)


def build_variables_table(verdicts: Iterable[ShownVerdict], allowed: frozenset[str] = frozenset()) -> str:
    """A row per variable and oracle, failures first. Verdicts in `allowed` are not shown as failures."""
    ordered = sorted(verdicts, key=lambda v: (not v.failed, v.verdict == "match"))
    more = f"; the first {ROWS} of {len(ordered)}" if len(ordered) > ROWS else ""
    columns = "".join(f'<th scope="col"{" class=l" if i < 3 else ""}>{name}</th>' for i, name in enumerate(_COLUMNS))
    rows = "".join(_build_row(v, allowed) for v in ordered[:ROWS])
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="Verdicts"><table>'
        f"<caption>Verdicts, failures first{more}</caption>"
        f"<thead><tr>{columns}</tr></thead><tbody>{rows}</tbody></table></div><p>{escape(LEGEND)}.</p>"
    )


def _build_row(v: ShownVerdict, allowed: frozenset[str]) -> str:
    kind = "bad" if v.failed and v.verdict not in allowed else "odd" if v.verdict != "match" else ""
    numbers = (
        v.coverage,
        str(list(v.worst)) if v.worst else "",
        *(_format_number(x) for x in (v.numeric, v.autodiff)),
        *(_format_number(x, 1) for x in (v.difference, v.allowed, v.visible)),
    )
    cells = "".join(f'<td class="n">{x}</td>' for x in numbers)
    return (
        f'<tr class="{kind}"><th scope="row">{escape(v.name)}</th><td class="l">{escape(v.oracle)}</td>'
        f'<td class="l">{escape(v.verdict)}</td>{cells}</tr>'
    )


def _format_number(value: float, digits: int = 6) -> str:
    return "" if value != value else f"{value:.{digits}e}" if digits == 1 else f"{value:.{digits}g}"


def build_heat_maps(verdict: ShownVerdict) -> str:
    """numeric, autodiff and their difference as three coloured tables, around the worst entry."""
    window = verdict.cells
    if window is None:  # a report that was read from JSON
        if verdict.numeric != verdict.numeric:
            return "<p>None of its entries were compared.</p>"
        window = ErrorWindow.of_entry(verdict.worst, numeric=verdict.numeric, autodiff=verdict.autodiff)
        which = "this report kept only the worst entry"
    else:
        compared = int((~np.isnan(window.numeric)).sum())
        which = (
            f"all {window.size} entries"
            if compared == window.size
            else f"{compared} of {window.size} entries, the compared ones nearest to the worst; "
            f"at most {WINDOW} rows and columns"
        )
    theirs = "Keras" if verdict.oracle == "update" else "autodiff"
    both = _find_largest(window.numeric, window.autodiff)
    maps = (
        _map("numeric", window.numeric, window, both),
        _map(theirs, window.autodiff, window, both),
        _map(f"numeric − {theirs}", window.difference, window, _find_largest(window.difference)),
    )
    return (
        "<p>Rows and columns are indices; all axes but the last are merged into rows. Blue is negative, orange is "
        f'positive, the frame marks the worst entry. Shown: {which}.</p><div class="maps">{"".join(maps)}</div>'
    )


def _find_largest(*grids: Array) -> float:
    values = np.abs(np.concatenate([g[np.isfinite(g)] for g in grids]))
    return float(values.max(initial=0.0))


def _map(name: str, grid: Array, window: ErrorWindow, largest: float) -> str:
    columns = range(window.left, window.left + grid.shape[1])
    head = "".join(f'<th scope="col">{j}</th>' for j in columns)
    lines = []
    for i, values in enumerate(grid, start=window.top):
        shown = "".join(
            _build_cell(float(v), largest, worst=(i, j) == window.worst) for j, v in zip(columns, values, strict=True)
        )
        lines.append(f'<tr><th scope="row">{i}</th>{shown}</tr>')
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(name)}"><table>'
        f"<caption>{escape(f'{name}, up to {largest:.3g}')}</caption>"
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _build_cell(value: float, largest: float, *, worst: bool) -> str:
    """One cell: the number, and a colour whose strength is the value's share of the largest."""
    frame = " worst" if worst else ""
    if value != value:
        return f'<td class="n{frame}" title="not compared"></td>'
    share = (
        min(abs(value) / largest, 1.0) if largest > 0 and np.isfinite(value) else 1.0 if not np.isfinite(value) else 0.0
    )
    hue = "224,123,31" if value > 0 else "61,143,214"
    colour = f"rgba({hue},{share * 0.75:.2f})"
    return f'<td class="n{frame}" style="background:{colour}" title="{value!r}">{value:.2g}</td>'
