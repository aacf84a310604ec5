"""The file of a campaign: a line of JSON for each operation, so that a campaign that is stopped can go on."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from keras_ref.campaign.ledger import load_findings
from keras_ref.campaign.registered import cover_registered
from keras_ref.campaign.results import Accusation, Result
from keras_ref.errors import CouldNotRun
from keras_ref.reports import files
from keras_ref.reports.escaping import escape_markdown, make_printable


def read_results(path: str, *, head: dict[str, Any]) -> list[Result]:
    """The results in a file, none where there is no file yet. A last line that was cut off is left out.

    head   the settings and versions of this campaign

    Raises: CouldNotRun where the file is something else, or another campaign's.
    """
    none = CouldNotRun(f"--file must name a new file, or one of a campaign. Received: {path}. Choose another path.")
    try:
        text = files.read_text(path)
    except FileNotFoundError:
        return []
    except files.NO_PATH as error:
        raise none from error
    if not text:
        return []
    first, *lines = text.splitlines()
    recorded = _parse_line(first)
    if recorded is None or "campaign" not in recorded:
        raise none
    if recorded["campaign"] != head:
        raise CouldNotRun(
            f"A campaign goes on with the settings and versions that it began with. Received: {head}, and in {path} "
            f"{recorded['campaign']}. Choose another path, or the same settings."
        )
    try:
        return [_read_result(data) for data in map(_parse_line, lines) if data is not None]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise none from error


def read_record(path: str) -> tuple[dict[str, Any], list[Result]]:
    """The settings and versions of a campaign, and its results. Raises: CouldNotRun where the file is no campaign's."""
    none = CouldNotRun(
        f"--table must name a file that `gradtwin campaign --file` wrote. Received: {path}. Choose another path."
    )
    try:
        files.require_readable(path)
        first, _, _ = files.read_text(path).partition("\n")
    except files.NO_PATH as error:
        raise none from error
    head = (_parse_line(first) or {}).get("campaign")
    if not isinstance(head, dict):
        raise none
    return head, read_results(path, head=head)


@contextmanager
def claim(path: str) -> Iterator[None]:
    """For the time of the block no other campaign writes to this file, where the system has locks for files (Linux).

    The lock is the file's, not its name's: who puts another file into its place claims that one, too. An empty file is
    made where there is none.

    Raises: CouldNotRun where another campaign writes to it, or it cannot be opened.
    """
    try:
        opened = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except files.NO_PATH as error:
        raise files.make_write_refusal("--file", path, error) from error
    try:
        _lock(opened, path)
        yield
    finally:
        os.close(opened)


def _lock(opened: int, path: str) -> None:
    """Raises: CouldNotRun where another process has locked the file, or has put another one into its place."""
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        taken = not os.path.samestat(os.fstat(opened), Path(path).stat())
    except (BlockingIOError, FileNotFoundError):
        taken = True
    except OSError:  # a file system without locks
        taken = False
    if taken:
        raise CouldNotRun(
            f"--file must name a file that no other campaign is writing. Received: {path}. Wait for that one, or "
            "choose another path."
        )


def begin(path: str, *, head: dict[str, Any], results: Sequence[Result]) -> None:
    """Write the head of a file and the results that it has: what was cut off is gone. Raises: CouldNotRun."""
    lines = [{"campaign": head}, *(result.to_dict() for result in results)]
    files.write("--file", path, "".join(f"{json.dumps(line)}\n" for line in lines))


def append(path: str, result: Result) -> None:
    """Add a result. Raises: CouldNotRun, and what is in the file by then stays."""
    files.append("--file", path, f"{json.dumps(result.to_dict())}\n")


def summarize(results: Sequence[Result]) -> list[str]:
    """What a campaign came to, in lines: counts of verdicts, accusations by operation, and what was not checked."""
    checked = [r for r in results if not r.reason]
    known = {finding.where for finding in load_findings()}
    lines = []
    for result in checked:
        if result.accusations:
            first, more = result.accusations[0], len(result.accusations) - 1
            new = "" if _shorten_name(result.name) in known else " (not in the ledger)"
            lines.append(f"{first}{f', and {more} more' if more else ''}{new}")
    reasons = Counter(r.reason.partition(" (")[0] for r in results if r.reason)
    for module, claims in count_claims_by_module(results).items():
        told = (f"{claim}: {_describe_counts(kinds)}" for claim, kinds in claims.items())
        lines.append(f"{module}: {'; '.join(told)}")
    if reasons:
        lines.append("not checked: " + "; ".join(f"{count} {reason}" for reason, count in reasons.most_common()))
    covered = cover_registered({r.name: r.gradients for r in results})
    lines.append(
        f"registered gradients of TensorFlow: {len(covered.checked)} ran, {len(covered.listed)} are listed with a "
        f"reason, {len(covered.left)} are neither."
    )
    lines.append(
        f"{len(checked)} of {len(results)} operations checked, {len([r for r in checked if r.accusations])} accused."
    )
    return [make_printable(line) for line in lines]  # names may come from a file


def tabulate(results: Sequence[Result]) -> list[str]:
    """The tables of a campaign in Markdown: operations by module, entries by module and claim, what was not called and
    why, and what an operation was accused of.
    """
    modules = dict.fromkeys(_find_module(r.name) for r in results)
    lines = ["| module | operations | checked | listed with a reason | accused |", "|---|---|---|---|---|"]
    for module, of_module in [
        *((m, [r for r in results if _find_module(r.name) == m]) for m in modules),
        ("all", results),
    ]:
        checked = [r for r in of_module if not r.reason]
        accused = [r for r in checked if r.accusations]
        listed = len(of_module) - len(checked)
        lines.append(_format_row(module, len(of_module), len(checked), listed, len(accused)))
    lines += ["", "| module | claim | entries |", "|---|---|---|"]
    for module, claims in count_claims_by_module(results).items():
        lines += [_format_row(module, claim, _describe_counts(kinds)) for claim, kinds in claims.items()]
    reasons = Counter(r.reason for r in results if r.reason)
    lines += ["", "| operations not called | why |", "|---|---|"]
    lines += [_format_row(count, reason) for reason, count in reasons.most_common()]
    covered = cover_registered({r.name: r.gradients for r in results})
    why = Counter(covered.listed.values())
    lines += ["", "| registered gradients of TensorFlow | |", "|---|---|", f"| {len(covered.checked)} | ran |"]
    lines += [_format_row(count, reason) for reason, count in why.most_common()]
    lines += [_format_row(len(covered.left), f"neither: {', '.join(covered.left)}")] if covered.left else []
    lines += ["", "| operation | accused of | at the first of |", "|---|---|---|"]
    for result in results:
        kinds = Counter(f"{one.claim}: {one.kind}" for one in result.accusations)
        if kinds:
            lines.append(_format_row(result.name, _describe_counts(kinds), result.accusations[0].point))
    return lines


def _format_row(*cells: object) -> str:
    """A row of a table in Markdown, whose cells may come from a file."""
    return f"| {' | '.join(escape_markdown(str(cell)) for cell in cells)} |"


def _find_module(name: str) -> str:
    return name.rpartition(".")[0]


def count_claims_by_module(results: Sequence[Result]) -> dict[str, dict[str, Counter[str]]]:
    """{module: {claim: how many entries came to each kind}} of the operations that were checked.

    Points without a derivative to check, and values that are not those of the definition, are claims of their own.
    """
    found: dict[str, dict[str, Counter[str]]] = {}
    for result in results:
        for key, count in result.counts.items():
            claim, _, kind = key.rpartition(": ")
            claims = found.setdefault(_find_module(result.name), {})
            claims.setdefault(claim or "points", Counter())[kind] += count
    return found


def _describe_counts(kinds: Counter[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())


def list_accusations(results: Sequence[Result]) -> list[Accusation]:
    """All accusations, in order."""
    return [one for result in results for one in result.accusations]


def _shorten_name(name: str) -> str:
    return name.replace("tensorflow.", "tf.", 1)


def _read_result(data: dict[str, Any]) -> Result:
    """The result that a line holds. Raises what a line may that somebody has edited."""
    result = Result.from_dict(data)
    for accusation in result.accusations:
        str(accusation)
    if not all(isinstance(text, str) for text in (result.name, result.reason, *result.counts)):
        raise TypeError(result)
    if not all(type(count) is int for count in result.counts.values()):
        raise TypeError(result)
    return result


def _parse_line(line: str) -> dict[str, Any] | None:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None
