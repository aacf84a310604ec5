"""A report as one small page: a row per variable, the worst one as a heat map, the failures, how to run it again.

The page has no script and loads nothing: a file of a few kilobytes that opens anywhere. It shares its style with the
lesson's page.
"""

from __future__ import annotations

from html import escape
from importlib.resources import files
from string import Template

from keras_ref.reports.html_tables import build_heat_maps, build_variables_table
from keras_ref.reports.verdict import Report, Verdict

#: at most so many failures are explained in full, so that the report of a large model stays small enough to send
FAILURES = 50


def report_html(*reports: Report, command: str = "check") -> str:
    """The page of one or several reports as HTML text, at most 2 MB for each whatever the model's size."""
    if len(reports) == 1:
        head, body = _build_head(reports[0]), _build_body(reports[0])
        page = f"<header>{head}</header><main>{body}</main><footer>{_build_foot(reports[0])}</footer>"
        return build_page(reports[0].subject, page, command=command)
    listed = "".join(
        f'<li><a href="#target-{i}">{escape(report.subject)}</a>: {escape(_describe_state(report))}</li>'
        for i, report in enumerate(reports)
    )
    wrong = sum(not report.ok for report in reports)
    state = f"{wrong} of {len(reports)} targets fail." if wrong else "All match."
    body = (
        f'<header><h1>{len(reports)} targets</h1><p class="state {"bad" if wrong else "ok"}">{state}</p>'
        f"<ul>{listed}</ul></header><main>"
        + "".join(
            f"<section "
            f'id="target-{i}">{_build_head(report, "h2")}{_build_body(report)}<p>{_build_foot(report)}</p></section>'
            for i, report in enumerate(reports)
        )
        + "</main>"
    )
    return build_page(", ".join(report.subject for report in reports), body, command=command)


def build_page(title: str, body: str, *, command: str, style: str = "") -> str:
    """A page of this style, and more of its own, written by a command, from the HTML of its body."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="generator" content="gradtwin {command}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)} – gradtwin</title>"
        f'<link rel="icon" href="data:,"><style>{_build_style()}{style}</style></head><body>{body}</body></html>\n'
    )


def read_asset(name: str) -> str:
    """The text of a file in keras_ref/reports/assets."""
    return (files("keras_ref.reports") / "assets" / name).read_text(encoding="utf-8")


def _build_style() -> str:
    """The shared style; this page has no button for the theme, so that the reader's own setting decides."""
    shared = read_asset("style.css")
    dark = shared.split(':root[data-theme="dark"] {', 1)[1].split("}", 1)[0]
    return shared + Template(read_asset("report.css")).substitute(dark=dark)


def _build_head(report: Report, heading: str = "h1") -> str:
    culprit = "" if report.culprit is None else f"<p>The layer at fault: <b>{escape(report.culprit.text)}</b></p>"
    state = "ok" if report.ok else "bad"
    return (
        f'<{heading}>{escape(report.subject)}</{heading}><p class="state {state}">{_describe_state(report)}</p>'
        f'<p class="verdict">{escape(report.summary())}</p>{culprit}'
    )


def _build_body(report: Report) -> str:
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in report.notes)
    table = build_variables_table(report.verdicts, report.allowed)
    return f"{notes}{table}{_describe_worst(report)}{_list_failures(report)}{_replay(report)}"


def _build_foot(report: Report) -> str:
    noise = f", rounding noise of the loss {report.noise:.1e}" if report.noise == report.noise else ""
    return f"gradtwin, seed {report.seed}{noise}."


def _describe_state(report: Report) -> str:
    if report.ok:
        return "All match."
    if report.failures:
        return f"{len(report.failures)} of {len(report.verdicts)} verdicts fail."
    return "Nothing was compared."


def _describe_worst(report: Report) -> str:
    worst = find_worst_verdict(report)
    if worst is None:
        return ""
    which = "The worst" if worst.failed else "Nearest to the allowed difference"
    return f"<h2>{which}: {escape(worst.name)}, by the oracle {escape(worst.oracle)}</h2>{build_heat_maps(worst)}"


def _list_failures(report: Report) -> str:
    if not report.failures:
        return ""
    shown = "".join(f'<pre tabindex="0">{escape(v.explain(report.replay))}</pre>' for v in report.failures[:FAILURES])
    more = len(report.failures) - FAILURES
    rest = f"<p>{more} more failures are in the table above.</p>" if more > 0 else ""
    return f"<h2>Failures</h2><p>{escape(report.oracles)}.</p>{shown}{rest}"


def _replay(report: Report) -> str:
    command = report.replay or "call the check again with the same arguments"
    return f'<h2>Run it again</h2><pre tabindex="0">{escape(command)}</pre>'


def find_worst_verdict(report: Report) -> Verdict | None:
    """The verdict to look at first: a failure, else the one nearest to its allowed difference; None without any."""
    compared = [v for v in report.verdicts if v.worst != () or v.compared]
    if not compared:
        return None

    def badness(v: Verdict) -> tuple[bool, float]:
        share = v.difference / v.allowed if v.allowed > 0 else float(v.difference > 0)
        return v.failed and v.verdict not in report.allowed, share if share == share else 0.0

    return max(compared, key=badness)
