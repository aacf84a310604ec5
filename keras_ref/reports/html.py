"""A report as one small page: a row per variable, a heat map of the worst, the six lines and the command that replays it.

No script and nothing loaded: an artifact of a few kilobytes that opens anywhere. The look is the lesson's.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from importlib.resources import files

import numpy as np

from keras_ref.reports.heat_map import WINDOW, Cells
from keras_ref.reports.verdict import Report, Verdict
from scratch.arrays import Array

#: variables, and failures in six lines, that are shown: a report of a large model stays an artifact
ROWS, FAILURES = 1000, 50

_STYLE = """
.cells { display: flex; flex-wrap: wrap; gap: 1rem; } .cells td { padding: .15rem .35rem; font-size: .72rem; border: 0; } .cells td.worst { outline: 3px solid var(--ink); outline-offset: -3px; font-weight: bold; }
.bad th, .bad td { color: var(--bad); } .odd th, .odd td { color: var(--warn-ink); } main > .scroll { max-height: 40rem; }
:root { --bad: #a3182f; } @media (prefers-color-scheme: dark) { :root { --bad: #ff8d9c; DARK } }
td.l, th.l { text-align: left; } .state { font-size: 1.2rem; font-weight: 700; }
"""


def report_html(report: Report) -> str:
    """The page of a report, at most 2 MB: ROWS variables, FAILURES in six lines, a heat map of WINDOW × WINDOW entries."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{escape(report.subject)} – gradtwin</title>'
        f'<link rel="icon" href="data:,"><style>{_style()}</style></head><body>{_body(report)}</body></html>\n'
    )


def _body(report: Report) -> str:
    state = (
        "All match."
        if report.ok
        else f"{len(report.failures)} of {len(report.verdicts)} verdicts fail."
        if report.failures
        else "Nothing was compared."
    )
    body = [
        f'<header><h1>{escape(report.subject)}</h1><p class="state {"ok" if report.ok else "bad"}">{state}</p><p class="verdict">{escape(report.summary())}</p></header><main>',
        *(f'<p class="note">{escape(note)}</p>' for note in report.notes),
        variables_table(report.verdicts, report.allowed),
    ]
    worst = worst_verdict(report)
    if worst is not None:
        nearest = "The worst" if worst.failed else "Nearest to what is allowed"
        body.append(f"<h2>{nearest}: {escape(worst.name)}, by the oracle {escape(worst.oracle)}</h2>{heat_maps(worst)}")
    if report.failures:
        body.append(f"<h2>Failures</h2><p>{escape(report.oracles)}.</p>")
        body += [f'<pre tabindex="0">{escape(v.explain(report.replay))}</pre>' for v in report.failures[:FAILURES]]
        if len(report.failures) > FAILURES:
            body.append(f"<p>{len(report.failures) - FAILURES} more failures are in the table above.</p>")
    replay = report.replay or "call the check again with the same arguments"
    noise = f", noise of the loss {report.noise:.1e}" if report.noise == report.noise else ""
    body.append(
        f'<h2>Replay</h2><pre tabindex="0">{escape(replay)}</pre></main><footer>gradtwin, seed {report.seed}{noise}.</footer>'
    )
    return "".join(body)


def _style() -> str:
    """The lesson's style; without a script the theme is the reader's own."""
    css = (files("keras_ref.lesson") / "assets" / "style.css").read_text(encoding="utf-8")
    dark = css.split(':root[data-theme="dark"] {', 1)[1].split("}", 1)[0]
    return css + _STYLE.replace("DARK", dark)


def variables_table(verdicts: Iterable[Verdict], allowed: frozenset[str] = frozenset()) -> str:
    """A row per variable and oracle: entries compared, worst difference, what was allowed, verdict. Failures first."""
    ordered = sorted(verdicts, key=lambda v: (not v.failed, v.verdict == "match"))
    head = (
        "variable",
        "oracle",
        "verdict",
        "compared",
        "worst at",
        "numeric",
        "autodiff",
        "differ by",
        "allowed",
        "would see",
    )
    rows = []
    for v in ordered[:ROWS]:
        kind = "bad" if v.failed and v.verdict not in allowed else "odd" if v.verdict != "match" else ""
        at = str(list(v.worst)) if v.worst else ""
        numbers = (
            v.coverage,
            at,
            *(_short(x) for x in (v.numeric, v.autodiff)),
            *(_short(x, 1) for x in (v.difference, v.allowed, v.visible)),
        )
        cells = "".join(f'<td class="n">{x}</td>' for x in numbers)
        rows.append(
            f'<tr class="{kind}"><th scope="row">{escape(v.name)}</th><td class="l">{escape(v.oracle)}</td><td class="l">{escape(v.verdict)}</td>{cells}</tr>'
        )
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
    cells = verdict.cells
    if cells is None:  # a report that went through JSON
        if verdict.numeric != verdict.numeric:
            return "<p>Nothing was compared of it.</p>"
        cells = _alone(verdict)
        where = "of this check only the worst entry was kept"
    else:
        seen = int((~np.isnan(cells.numeric)).sum())
        where = (
            f"all {cells.size} entries"
            if seen == cells.size
            else f"{seen} of {cells.size} entries, those around the worst that were compared; at most {WINDOW} rows and columns"
        )
    both = _largest(cells.numeric, cells.autodiff)
    theirs = "Keras" if verdict.oracle == "update" else "autodiff"
    names = (
        ("numeric", cells.numeric, both),
        (theirs, cells.autodiff, both),
        (f"numeric − {theirs}", cells.difference, _largest(cells.difference)),
    )
    parts = [_heat(name, grid, cells, largest) for name, grid, largest in names]
    return f'<p>Rows and columns are indices (all axes but the last in one). Blue is negative, orange positive, the frame marks the worst entry; {where}.</p><div class="cells">{"".join(parts)}</div>'


def _alone(verdict: Verdict) -> Cells:
    """The worst entry by itself."""
    shape = tuple(i + 1 for i in verdict.worst) or (1,)
    row, column = int(np.prod(shape[:-1], dtype=int)) - 1, shape[-1] - 1
    return Cells(np.array([[verdict.numeric]]), np.array([[verdict.autodiff]]), row, column, (row, column), 0)


def _largest(*grids: Array) -> float:
    values = np.abs(np.concatenate([g[np.isfinite(g)] for g in grids]))
    return float(values.max(initial=0.0))


def _heat(name: str, grid: Array, cells: Cells, largest: float) -> str:
    columns = range(cells.left, cells.left + grid.shape[1])
    head = "".join(f'<th scope="col">{j}</th>' for j in columns)
    lines = []
    for i, values in enumerate(grid, start=cells.top):
        shown = "".join(_cell(float(v), largest, (i, j) == cells.worst) for j, v in zip(columns, values, strict=True))
        lines.append(f'<tr><th scope="row">{i}</th>{shown}</tr>')
    caption = f"{name}, up to {largest:.3g}"
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(name)}"><table><caption>{escape(caption)}</caption><thead><tr><td></td>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _cell(value: float, largest: float, worst: bool) -> str:
    frame = " worst" if worst else ""
    if value != value:
        return f'<td class="n{frame}" title="not compared"></td>'
    share = (
        min(abs(value) / largest, 1.0) if largest > 0 and np.isfinite(value) else 1.0 if not np.isfinite(value) else 0.0
    )
    hue = "224,123,31" if value > 0 else "61,143,214"
    return f'<td class="n{frame}" style="background:rgba({hue},{share * 0.75:.2f})" title="{value!r}">{value:.2g}</td>'
