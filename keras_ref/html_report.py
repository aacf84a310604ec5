"""A report as one small page: a row per variable, a heat map of the worst, the six lines and the command that replays it.

No script and nothing loaded: an artifact of a few kilobytes that opens anywhere. The look is the lesson's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from importlib.resources import files

import numpy as np

from keras_ref.verdicts import Report, Verdict

Array = np.ndarray
#: rows and columns of a heat map, a window around the worst entry of a larger variable
WINDOW = 24
#: variables, and failures in six lines, that are shown: a report of a large model stays an artifact
ROWS, FAILURES = 1000, 50

_STYLE = """
.cells { display: flex; flex-wrap: wrap; gap: 1rem; } .cells td { padding: .15rem .35rem; font-size: .72rem; border: 0; } .cells td.worst { outline: 3px solid var(--ink); outline-offset: -3px; font-weight: bold; }
.bad th, .bad td { color: var(--bad); } .odd th, .odd td { color: var(--warn-ink); } main > .scroll { max-height: 40rem; }
:root { --bad: #a3182f; } @media (prefers-color-scheme: dark) { :root { --bad: #ff8d9c; DARK } }
td.l, th.l { text-align: left; } .state { font-size: 1.2rem; font-weight: 700; }
"""


@dataclass(frozen=True)
class Cells:
    """What a check compared of one variable: numeric and autodiff (entries,), which flat entries, of what shape."""

    numeric: Array
    autodiff: Array
    entries: Array
    shape: tuple[int, ...]


def report_html(report: Report) -> str:
    """The page of a report, at most 2 MB: ROWS variables, FAILURES in six lines, a heat map of WINDOW × WINDOW entries.

    The heat map shows the entries that a verdict carries as `cells`, and the worst entry alone where it carries none.
    """
    state = "All match." if report.ok else f"{len(report.failures)} of {len(report.verdicts)} verdicts fail." if report.failures else "Nothing was compared."
    body = [
        f'<header><h1>{escape(report.subject)}</h1><p class="state {"ok" if report.ok else "bad"}">{state}</p><p class="verdict">{escape(report.summary())}</p></header><main>',
        *(f'<p class="note">{escape(note)}</p>' for note in report.notes),
        variables_table(report.verdicts, report.allowed),
    ]
    worst = worst_verdict(report)
    if worst is not None:
        body.append(f"<h2>The worst: {escape(worst.name)}, by the oracle {escape(worst.oracle)}</h2>{heat_maps(worst)}")
    if report.failures:
        body.append(f"<h2>Failures</h2><p>{escape(report.oracles)}.</p>")
        body += [f'<pre tabindex="0">{escape(v.explain(report.replay))}</pre>' for v in report.failures[:FAILURES]]
        if len(report.failures) > FAILURES:
            body.append(f"<p>{len(report.failures) - FAILURES} more failures are in the table above.</p>")
    replay = report.replay or "call the check again with the same arguments"
    body.append(f'<h2>Replay</h2><pre tabindex="0">{escape(replay)}</pre></main><footer>gradtwin, seed {report.seed}, noise of the loss {report.noise:.1e}.</footer>')
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{escape(report.subject)} – gradtwin</title>'
        f'<link rel="icon" href="data:,"><style>{_style()}</style></head><body>{"".join(body)}</body></html>\n'
    )


def _style() -> str:
    """The lesson's style; without a script the theme is the reader's own."""
    css = (files("keras_ref.lesson") / "assets" / "style.css").read_text(encoding="utf-8")
    dark = css.split(':root[data-theme="dark"] {', 1)[1].split("}", 1)[0]
    return css + _STYLE.replace("DARK", dark)


def variables_table(verdicts: Iterable[Verdict], allowed: frozenset[str] = frozenset()) -> str:
    """A row per variable and oracle: entries compared, worst difference, what was allowed, verdict. Failures first."""
    ordered = sorted(verdicts, key=lambda v: (not v.failed, v.verdict == "match"))
    head = ("variable", "oracle", "verdict", "compared", "worst at", "numeric", "autodiff", "differ by", "allowed", "would see")
    rows = []
    for v in ordered[:ROWS]:
        kind = "bad" if v.failed and v.verdict not in allowed else "odd" if v.verdict != "match" else ""
        at = str(list(v.worst)) if v.worst else ""
        numbers = (f"{v.compared} of {v.total}", at, *(_short(x) for x in (v.numeric, v.autodiff)), *(_short(x, 1) for x in (v.difference, v.allowed, v.visible)))
        cells = "".join(f'<td class="n">{x}</td>' for x in numbers)
        rows.append(f'<tr class="{kind}"><th scope="row">{escape(v.name)}</th><td class="l">{escape(v.oracle)}</td><td class="l">{escape(v.verdict)}</td>{cells}</tr>')
    more = f"; the first {ROWS} of {len(ordered)}" if len(ordered) > ROWS else ""
    columns = "".join(f'<th scope="col"{" class=l" if i < 3 else ""}>{name}</th>' for i, name in enumerate(head))
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="Verdicts"><table><caption>Verdicts, failures first{more}</caption>'
        f"<thead><tr>{columns}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _short(value: float, digits: int = 6) -> str:
    return "" if value != value else f"{value:.{digits}e}" if digits == 1 else f"{value:.{digits}g}"


def worst_verdict(report: Report) -> Verdict | None:
    """The verdict to look at first: a failure, else the one nearest to what was allowed; None if nothing was compared."""
    compared = [v for v in report.verdicts if v.worst != () or v.compared]
    if not compared:
        return None

    def badness(v: Verdict) -> tuple[bool, float]:
        share = v.difference / v.allowed if v.allowed > 0 else float(v.difference > 0)
        return v.failed and v.verdict not in report.allowed, share if share == share else 0.0

    return max(compared, key=badness)


def heat_maps(verdict: Verdict) -> str:
    """numeric, autodiff and difference of one variable as coloured tables; colours repeat what the numbers say."""
    cells = getattr(verdict, "cells", None)
    if cells is None:
        at = _index2(verdict.worst, tuple(i + 1 for i in verdict.worst))
        rows, columns = range(at[0], at[0] + 1), range(at[1], at[1] + 1)
        numeric, autodiff = np.array([[verdict.numeric]]), np.array([[verdict.autodiff]])
        where = "of this check only the worst entry was kept"
    else:
        at = _index2(verdict.worst, cells.shape)
        rows, columns, (numeric, autodiff) = _window(cells, at)
        seen, size = int(np.isfinite(numeric).sum()), int(np.prod(cells.shape, dtype=int))
        where = f"all {size} entries" if seen == size else f"{seen} of {size} entries, those around the worst that were compared"
    names = ("numeric", numeric), ("autodiff", autodiff), ("numeric − autodiff", numeric - autodiff)
    both = _largest(numeric, autodiff)
    parts = [_heat(name, grid, rows, columns, at, both if i < 2 else _largest(grid)) for i, (name, grid) in enumerate(names)]
    return f'<p>Blue is negative, orange positive, the frame marks the worst entry; {where}.</p><div class="cells">{"".join(parts)}</div>'


def _index2(worst: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, int]:
    """Where an index lies when all axes but the last are one."""
    if not worst:
        return 0, 0
    leading = shape[:-1]
    return (int(np.ravel_multi_index(worst[:-1], leading)) if leading else 0), int(worst[-1])


def _window(cells: Cells, at: tuple[int, int]) -> tuple[range, range, tuple[Array, Array]]:
    """Row and column numbers of at most WINDOW each around the worst entry, and the two grids; nan was not compared."""
    width = cells.shape[-1] if cells.shape else 1
    height = int(np.prod(cells.shape[:-1], dtype=int)) if cells.shape else 1
    ranges = []
    for size, centre in ((height, at[0]), (width, at[1])):
        start = max(0, min(centre - WINDOW // 2, size - WINDOW))
        ranges.append(range(start, min(size, start + WINDOW)))
    rows, columns = ranges
    grids = np.full((2, len(rows), len(columns)), np.nan)
    for flat, numeric, autodiff in zip(cells.entries, cells.numeric, cells.autodiff, strict=True):
        i, j = divmod(int(flat), width)
        if i in rows and j in columns:
            grids[:, i - rows.start, j - columns.start] = numeric, autodiff
    return rows, columns, (grids[0], grids[1])


def _largest(*grids: Array) -> float:
    values = np.abs(np.concatenate([g[np.isfinite(g)] for g in grids]))
    return float(values.max(initial=0.0))


def _heat(name: str, grid: Array, rows: range, columns: range, worst: tuple[int, int], largest: float) -> str:
    head = "".join(f'<th scope="col">{j}</th>' for j in columns)
    lines = []
    for i, values in zip(rows, grid, strict=True):
        cells = "".join(_cell(float(v), largest, (i, j) == worst) for j, v in zip(columns, values, strict=True))
        lines.append(f'<tr><th scope="row">{i}</th>{cells}</tr>')
    caption = f"{name}, up to {largest:.3g}"
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(name)}"><table><caption>{escape(caption)}</caption><thead><tr><td></td>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _cell(value: float, largest: float, worst: bool) -> str:
    frame = " worst" if worst else ""
    if value != value:
        return f'<td class="n{frame}" title="not compared"></td>'
    share = min(abs(value) / largest, 1.0) if largest > 0 and np.isfinite(value) else 1.0 if not np.isfinite(value) else 0.0
    hue = "224,123,31" if value > 0 else "61,143,214"
    return f'<td class="n{frame}" style="background:rgba({hue},{share * 0.75:.2f})" title="{value!r}">{value:.2g}</td>'
