"""The ledger as one HTML page that can be sent to a maintainer, and the draft of an upstream report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape

from keras_ref.campaign.ledger import UNREPORTED, Finding
from keras_ref.campaign.standing import Standing
from keras_ref.reports.escaping import fenced
from keras_ref.reports.html import page_html


def ledger_html(standings: Sequence[Standing], versions: str) -> str:
    """The page: a count of each state, a table with a row per finding, and each with its script."""
    counts = ", ".join(f"{count} {state}" for state, count in Counter(s.state for s in standings).items())
    rows = "".join(_row(s) for s in standings)
    body = (
        f"<header><h1>Findings</h1><p class='verdict'>{escape(versions)}: {escape(counts)}.</p></header><main>"
        "<table><thead><tr><th scope='col'>finding</th><th scope='col'>where</th><th scope='col'>kind</th>"
        f"<th scope='col'>here</th><th scope='col'>upstream</th></tr></thead><tbody>{rows}</tbody></table>"
        f"{''.join(map(_section, standings))}</main>"
    )
    return page_html("Findings", body, command="findings")


def _row(standing: Standing) -> str:
    finding = standing.finding
    cells = (finding.where, finding.kind, standing.state)
    return (
        f"<tr><td><a href='#{escape(finding.id)}'>{escape(finding.id)}</a></td>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        + f"<td>{_link(finding)}</td></tr>"
    )


def _link(finding: Finding) -> str:
    if finding.upstream == UNREPORTED:
        return UNREPORTED
    return f"<a href='{escape(finding.upstream)}'>{escape(finding.upstream.rsplit('/', 1)[-1])}</a>"


def _section(standing: Standing) -> str:
    finding = standing.finding
    facts = {
        "What is right": finding.source,
        "Affects": finding.affects,
        "Found in": _releases(finding.found_in),
        "Seen in Keras": ", ".join(finding.seen_in) or "no older release that was tried",
        "Corrected in": _releases(finding.fixed_in) or "no release that was tried",
        "Here": f"{standing.state}. {standing.said}",
    }
    listed = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in facts.items())
    return (
        f"<section id='{escape(finding.id)}'><h2>{escape(finding.id)}</h2><p>{escape(finding.what)}</p>"
        f"<dl>{listed}</dl><pre tabindex='0'>{escape(finding.script)}</pre></section>"
    )


def draft_report(standing: Standing) -> str:
    """A report for the tracker of Keras or TensorFlow, as Markdown. Nothing is sent anywhere."""
    finding = standing.finding
    actual = f"\n\n{fenced(standing.said)}" if standing.said else f" {standing.state}"
    known = "" if finding.upstream == UNREPORTED else f"\nAlready reported: {finding.upstream}\n"
    return (
        f"# {finding.where}: {finding.what.split('. ')[0].rstrip('.')}\n{known}\n"
        f"**Kind.** {finding.kind}\n\n**What happens.** {finding.what}\n\n**Expected.** {finding.source}\n\n"
        f"**Actual.**{actual}\n\n**Found in.** {_releases(finding.found_in)}\n\n**Script** (exits with 1 while the "
        f"fault is there)\n\n```python\n{finding.script}```\n"
    )


def _releases(releases: dict[str, str]) -> str:
    return ", ".join(f"{name} {release}" for name, release in releases.items())
