"""gradtwin findings: what is known to be wrong in Keras and TensorFlow, and whether it is so in what is installed.

Exit status: 0 the scripts ran and nothing contradicts the ledger, 1 a fault that the ledger calls corrected is there.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from keras_ref.errors import CouldNotRun
from keras_ref.options import FILE, OPTIONS
from keras_ref.reports.files import Output, describe_writer, refuse_outputs, write
from keras_ref.reports.terminal import make_console, make_ticker, show_progress
from keras_ref.reports.verdict import write_json_text

if TYPE_CHECKING:
    from keras_ref.campaign.ledger import Finding
    from keras_ref.campaign.standing import Standing


def findings(
    ids: Annotated[list[str], typer.Argument(metavar="[ID]…", help="Findings to run; all without any.")] = [],
    show: Annotated[bool, typer.Option("--list", help="List the findings; run nothing.")] = False,
    script: Annotated[bool, typer.Option("--script", help="Print the script of a finding; run nothing.")] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Print the draft of an upstream report; nothing is sent anywhere.")
    ] = False,
    json: Annotated[str, typer.Option("--json", metavar=FILE, help="Write the ledger as JSON to this file.")] = "",
    html: Annotated[
        str, typer.Option("--html", metavar=FILE, help="Write the ledger as one HTML page to this file.")
    ] = "",
    force: Annotated[bool, typer.Option("--force", help=OPTIONS["force"].help)] = False,
) -> None:
    """Run a script for every known fault of Keras and TensorFlow: still there, corrected here, or cannot run here."""
    outputs = (
        Output(option="--json", path=json, kind="report", command="findings"),
        Output(option="--html", path=html, kind="page", command="findings"),
    )
    refuse_outputs(outputs, force="" if force else "--force")
    if (script or report) and not ids:
        raise CouldNotRun(
            f"--{'script' if script else 'report'} must have the id of a finding. Received: none. "
            "`gradtwin findings --list` has the ids."
        )
    chosen = _choose(ids)
    if show or script:
        for finding in chosen:
            _say(finding.script if script else f"{finding.id}  {finding.kind}: {finding.what}")
        return
    from keras_ref.campaign.page import draft_report
    from keras_ref.campaign.standing import describe_installed

    found = _run(chosen)
    wrong = [standing.finding.id for standing in found if standing.contradicts]
    try:
        _write(found, wrong, json=json, html=html)
    finally:  # whether a file could be written or not; and last, for nobody may read this
        for standing in found:
            _say(draft_report(standing) if report else f"{standing.state:15}  {standing.finding.id}")
        for name in wrong:
            _say(f"{name} is still there, though the ledger calls it corrected in what is installed.")
        counts = ", ".join(f"{count} {state}" for state, count in Counter(s.state for s in found).items())
        _say(f"{describe_installed()}: {len(found)} findings: {counts}.")
    raise typer.Exit(1 if wrong else 0)


def _write(found: list[Standing], wrong: list[str], *, json: str, html: str) -> None:
    """Write the files that were asked for. Raises: CouldNotRun."""
    from keras_ref.campaign.page import build_ledger_page
    from keras_ref.campaign.standing import describe_installed

    rows = [{**s.finding.to_dict(), "state": s.state, "said": s.said} for s in found]
    if json:
        written = {"subject": "findings", "ok": not wrong, "versions": describe_installed(), "findings": rows}
        write("--json", json, write_json_text({**describe_writer("findings"), **written}) + "\n")
    if html:
        write("--html", html, build_ledger_page(found, describe_installed()))


def _choose(ids: list[str]) -> tuple[Finding, ...]:
    from keras_ref.campaign.ledger import select_findings

    try:
        return select_findings(ids)
    except ValueError as error:
        raise CouldNotRun(str(error)) from error


def _run(chosen: tuple[Finding, ...]) -> list[Standing]:
    from keras_ref.campaign.standing import find_standings

    found = []
    with show_progress(make_console()) as bar:
        progress = make_ticker(bar, "findings")
        for standing in find_standings(chosen):
            found.append(standing)
            progress(len(found), len(chosen), standing.finding.id)
    return found


def _say(text: str) -> None:
    make_console().print(text, markup=False, highlight=False, soft_wrap=True)
