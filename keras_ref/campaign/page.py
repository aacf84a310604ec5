"""The ledger as one HTML page that can be sent to a maintainer, and the draft of an upstream report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape

from keras_ref.campaign.ledger import UNREPORTED, Finding
from keras_ref.campaign.standing import Standing
from keras_ref.reports.escaping import fence
from keras_ref.reports.html import build_page

#: words in the cells, not numbers: to the left, and wrapped within the width of the page
STYLE = """
table.ledger { width: 100%; table-layout: fixed; }
.ledger :is(th, td) { text-align: left; vertical-align: top; white-space: normal; overflow-wrap: anywhere; }
table.ledger thead th:first-child { background: none; position: static; }
table.ledger th:nth-child(1) { width: 34%; } table.ledger th:nth-child(2) { width: 28%; }
section { border-top: 1px solid var(--line); margin-top: 2em; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.3em 1.2em; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 40em) { dl { grid-template-columns: 1fr; } dd { margin-bottom: 0.5em; } }
"""


def build_ledger_page(standings: Sequence[Standing], versions: str) -> str:
    """The page: a count of each state, a table with a row per finding, and each with its script."""
    counts = ", ".join(f"{count} {state}" for state, count in Counter(s.state for s in standings).items())
    rows = "".join(_build_row(s) for s in standings)
    kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(s.finding.kind for s in standings).most_common())
    heads = "".join(f"<th scope='col'>{name}</th>" for name in ("finding", "where", "kind", "here", "upstream"))
    body = (
        f"<header><h1>Findings</h1><p class='verdict'>{escape(versions)}: {escape(counts)}.</p>"
        f"<p>By kind: {escape(kinds)}. A script runs without gradtwin and exits with 1 while the fault is there, with "
        f"0 when it is not.</p></header><main><table class='ledger'><thead><tr>{heads}</tr></thead>"
        f"<tbody>{rows}</tbody></table>"
        f"{''.join(map(_build_section, standings))}</main>"
    )
    return build_page("Findings", body, command="findings", style=STYLE)


def _build_row(standing: Standing) -> str:
    finding = standing.finding
    cells = (finding.where, finding.kind, standing.state)
    return (
        f"<tr><td><a href='#{escape(finding.id)}'>{escape(finding.id)}</a></td>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        + f"<td>{_build_link(finding)}</td></tr>"
    )


def _build_link(finding: Finding) -> str:
    if finding.upstream == UNREPORTED:
        return UNREPORTED
    return f"<a href='{escape(finding.upstream)}'>{escape(finding.upstream.rsplit('/', 1)[-1])}</a>"


def _build_section(standing: Standing) -> str:
    finding = standing.finding
    facts = {
        "Where": f"{finding.where} ({finding.kind})",
        "What is right": finding.source,
        "Affects": finding.affects,
        "Found in": _describe_releases(finding.found_in),
        "Seen in Keras": ", ".join(finding.seen_in) or "no older release that was tried",
        "Corrected in": _describe_releases(finding.fixed_in) or "no release that was tried",
        "Here": f"{standing.state}. {standing.said}",
    }
    listed = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in facts.items())
    listed += f"<dt>Upstream</dt><dd>{_build_link(finding)}</dd>"
    return (
        f"<section id='{escape(finding.id)}'><h2>{escape(finding.id)}</h2><p>{escape(finding.what)}</p>"
        f"<dl>{listed}</dl><pre tabindex='0'>{escape(finding.script)}</pre></section>"
    )


def draft_report(standing: Standing) -> str:
    """A report for the tracker of Keras or TensorFlow, as Markdown. Nothing is sent anywhere."""
    finding = standing.finding
    actual = f"\n\n{fence(standing.said)}" if standing.said else f" {standing.state}"
    known = "" if finding.upstream == UNREPORTED else f"\nAlready reported: {finding.upstream}\n"
    return (
        f"# {finding.where}: {finding.what.split('. ')[0].rstrip('.')}\n{known}\n"
        f"**Kind.** {finding.kind}\n\n**What happens.** {finding.what}\n\n**Expected.** {finding.source}\n\n"
        f"**Actual.**{actual}\n\n**Found in.** {_describe_releases(finding.found_in)}\n\n**Script** (exits with 1 "
        f"while the fault is there)\n\n```python\n{finding.script}```\n"
    )


def _describe_releases(releases: dict[str, str]) -> str:
    return ", ".join(f"{name} {release}" for name, release in releases.items())
