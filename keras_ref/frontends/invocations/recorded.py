"""What --json wrote, read again: validated, and without any permission. A report is a file that came from somewhere."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any
from zipfile import is_zipfile

from keras_ref.errors import CouldNotRun, shorten_error
from keras_ref.frontends.invocations.invocation import (
    RECORDED,
    TAKES,
    Invocation,
    hash_file,
    name_parameter,
    read_versions,
)
from keras_ref.options import OPTIONS
from keras_ref.reports.culprit import Culprit
from keras_ref.reports.files import is_plain_file, read_text, require_readable
from keras_ref.reports.schema import (
    COUNT,
    HEADER,
    OPTIONAL,
    PATH,
    REPORT,
    TEXT,
    describe_list,
    describe_record,
    describe_table,
)
from keras_ref.reports.verdict import Report, Verdict

#: options that let a command run code of files; a report cannot give them
PERMISSIONS = ("import", "unsafe")
#: what holds no model of the user's: Python's own library with its tests, the running command, and this program
NOT_THEIRS = frozenset((*sys.stdlib_module_names, "test", "__main__", "__mp_main__", "keras_ref", "scratch"))


@dataclass(frozen=True)
class Recorded:
    """What a file of --json holds: its path, the command, the report of each target, and what has changed since."""

    path: str
    invocation: Invocation
    reports: Mapping[str, Report]
    changed: tuple[str, ...] = ()


def read_recorded(path: str) -> Recorded:
    """The command and the reports in a file that --json wrote.

    Raises: CouldNotRun for any other file, and for one that names a target of Python's own library.
    """
    data = _read(path)
    if data.get("reports") == []:
        raise CouldNotRun(
            f"A report to replay must hold the verdicts of a target. Received: {path}, whose targets could not be run. "
            "Run its command again."
        )
    invocation = read_invocation(data["run"])
    refuse_library(invocation.targets)
    listed = data["reports"] if "reports" in data else [{"target": invocation.targets[0], **data}]
    reports = {one["target"]: read_report(one) for one in listed}
    wrong = [one["target"] for one in listed if one["ok"] != reports[one["target"]].ok]
    other = [name for name in REPORT if name in data and name != "ok" and data[name] != listed[0][name]]
    said = not data.get("could_not_run") and all(report.ok for report in reports.values())
    if (
        wrong
        or other
        or data["ok"] != said
        or len(reports) != len(listed)
        or not set(reports) <= set(invocation.targets)
    ):
        raise _make_refusal(path, "its parts contradict one another")
    invocation = replace(invocation, targets=tuple(reports))
    return Recorded(path, invocation, reports, tuple(describe_changes(data["run"])))


def _read(path: str) -> Any:
    """The data of a report, valid by its schema. Raises: CouldNotRun."""
    data = read_json(path)
    _require_known(data["run"])
    require_valid(path, data, _make_validator("reports" in data))
    return data


def read_json(path: str) -> dict[str, Any]:
    """The data of a file that --json wrote, which says what was run. Raises: CouldNotRun for any other file."""
    require_readable(path)
    try:
        data = json.loads(read_text(path), parse_constant=_refuse_constant)
    except OSError as error:
        if os.path.exists(path):  # noqa: PTH110 (Path.exists raises for a name that no file can have)
            raise _make_refusal(path) from error
        raise CouldNotRun(
            f"A report to replay must exist. Received: {path}: {error.strerror}. Check the path."
        ) from error
    except (ValueError, RecursionError) as error:
        raise _make_refusal(path) from error
    if not isinstance(data, dict) or "run" not in data:
        raise _make_refusal(path)
    return data


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def _make_refusal(path: str, why: str = "") -> CouldNotRun:
    return CouldNotRun(
        f"A report to replay must be one that --json wrote. Received: {path}, which is not{f' ({why})' * bool(why)}. "
        "Write one with gradtwin check … --json report.json."
    )


def _require_known(run: Any) -> None:
    """Raises: CouldNotRun for a command, or an option of a command, that this gradtwin does not have."""
    command, options = (run.get(name) for name in ("command", "options")) if isinstance(run, dict) else (None, None)
    if not isinstance(command, str) or not isinstance(options, dict):
        return  # the schema says so
    if command not in TAKES or not set(options) <= set(RECORDED[command]):
        raise CouldNotRun(
            f"A recorded run must be one of {', '.join(TAKES)} with its options. Received: {command!r} with "
            f"{', '.join(options) or 'none'}. Replay it with the gradtwin that wrote it."
        )


def require_valid(path: str, data: Any, validator: Any) -> None:
    """Raises: CouldNotRun with the first place where data are not what the schema of a validator says."""
    found = next(iter(validator.iter_errors(data)), None)
    if found is not None:
        place = "/".join(map(str, found.absolute_path)) or "the report"
        raise _make_refusal(path, f"{place}: {shorten_error(found.message).rstrip('.')}")


@cache
def _make_validator(several: bool) -> Any:  # noqa: FBT001 (which of two schemas)
    from jsonschema import Draft202012Validator

    return Draft202012Validator(build_document_schema(several=several))


def build_document_schema(*, several: bool) -> dict[str, Any]:
    """The JSON Schema of what --json writes: a report for each target; without them, what it wrote before version 1."""
    run = _run_schema()
    if not several:
        return describe_record({**REPORT, "run": run}, OPTIONAL)
    one = describe_record({"target": PATH, **REPORT}, OPTIONAL)
    record = describe_record(
        {"ok": REPORT["ok"], "could_not_run": describe_list(TEXT), "reports": describe_list(one), "run": run},
        {**HEADER, **REPORT, **OPTIONAL},
    )
    told = [{"properties": {name: {"minItems": 1}}} for name in ("reports", "could_not_run")]
    return {**record, "anyOf": told}


def _run_schema() -> dict[str, Any]:
    options = {name: _build_option_schema(name) for names in RECORDED.values() for name in names}
    return describe_record(
        {
            "command": {"enum": [*TAKES]},
            "targets": describe_list({**PATH, "minLength": 1}, least=1),
            "data": PATH,
            "options": describe_record({}, options),
            "seed": COUNT,
            "files": describe_table(TEXT),
            "versions": describe_table(TEXT),
            "replay": TEXT,
        }
    )


def _build_option_schema(name: str) -> dict[str, Any]:
    """The schema of an option's value, by the table of all options."""
    option = OPTIONS[name]
    # several modes are one text, joined by commas
    choice = {"enum": [*option.choices]} if option.choices and name != "mode" else PATH
    of_type: dict[type, dict[str, Any]] = {bool: {"type": "boolean"}, int: COUNT, str: choice}
    return describe_list(of_type[option.type]) if option.many else of_type[option.type]


def read_invocation(data: Mapping[str, Any]) -> Invocation:
    """The invocation that to_dict wrote, of valid data. Raises: CouldNotRun for a value that no option takes."""
    given = {name_parameter(name): data["options"].get(name, OPTIONS[name].default) for name in TAKES[data["command"]]}
    return Invocation.of(data["command"], targets=data["targets"], data=data["data"], **given)


def permit(recorded: Recorded, *, imports: Sequence[str], unsafe: bool) -> Recorded:
    """The recorded command with the permissions that the command line gives, and no others.

    Raises: CouldNotRun where the report asks for more.
    """
    invocation = recorded.invocation
    asked = [f"--import {name}" for name in invocation.value("import") if name not in imports]
    asked += ["--unsafe"] * (invocation.value("unsafe") and not unsafe)
    if asked:
        raise CouldNotRun(
            f"A report cannot permit what it asks for. Received: {recorded.path}, which asks for {' '.join(asked)}. "
            "Pass that to gradtwin replay if you trust the file."
        )
    given = {"import": tuple(imports), "unsafe": unsafe}
    options = {name: value for name, value in invocation.options.items() if name not in PERMISSIONS}
    options |= {name: value for name, value in given.items() if value}
    return replace(recorded, invocation=replace(invocation, options=options))


def refuse_library(targets: Iterable[str]) -> None:
    """Raises: CouldNotRun for a recorded target that is of Python's own library, or of gradtwin."""
    library = [t for t in targets if t.partition(":")[0].partition(".")[0] in NOT_THEIRS]
    if library:
        raise CouldNotRun(
            f"A recorded target must be a factory of yours or a .keras file. Received: {library[0]}, which is of "
            "Python's own library or of gradtwin. Do not trust this file."
        )


def read_report(data: Mapping[str, Any]) -> Report:
    """The report that Report.to_json wrote, where numbers that are not finite are words."""
    names = {f.name for f in fields(Verdict)}
    numbers = {f.name for f in fields(Verdict) if f.type == "float"}
    verdicts = []
    for one in data["verdicts"]:
        kept: dict[str, Any] = {name: float(v) if name in numbers else v for name, v in one.items() if name in names}
        verdicts.append(Verdict(**kept | {"worst": tuple(kept.get("worst", ()))}))
    return Report(
        subject=data["subject"],
        verdicts=tuple(verdicts),
        notes=tuple(data["notes"]),
        seed=data["seed"],
        replay=data["replay"],
        noise=float(data["noise"]),
        allowed=frozenset(data.get("allowed", ())),
        culprit=Culprit(**data["culprit"]) if data.get("culprit") else None,
        precision_loss={name: float(v) for name, v in data.get("precision_loss", {}).items()},
    )


def read_written_report(data: Any, target: str) -> Report | None:
    """The report on one target in a document that another process was asked to write; None where it is none."""
    listed = data.get("reports") if isinstance(data, dict) else None
    written: Any = listed[0] if isinstance(listed, list) and len(listed) == 1 else None
    with suppress(RecursionError):
        if _make_report_validator().is_valid(written) and written["target"] == target:
            report = read_report(written)
            return report if report.ok == written["ok"] else None
    return None


@cache
def _make_report_validator() -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(describe_record({"target": TEXT, **REPORT}, OPTIONAL))


def describe_changes(data: Mapping[str, Any]) -> list[str]:
    """A sentence for each version and each file that is not what it was when a command was recorded as `data`."""
    now = read_versions()
    versions = [
        f"{name} was {was} when the report was written, and is {now[name]}."
        for name, was in data.get("versions", {}).items()
        if name in now and now[name] != was
    ]
    # no other file is looked at, whatever the report names: models and data are archives, programs are run anyway
    named = [name for name in (*data["targets"], data["data"]) if is_plain_file(name)]
    read = {name for name in named if name.endswith(".py") or is_zipfile(name)}
    return versions + [
        f"{name} is not the file that the report was written for."
        for name, was in data.get("files", {}).items()
        if name in read and hash_file(name) != was
    ]


def compare_verdicts(recorded: Report, again: Report) -> list[str]:
    """A line for each verdict that is not the same in both reports."""
    before, now = (Counter((v.name, v.oracle, v.verdict) for v in report.verdicts) for report in (recorded, again))
    lines = []
    for name, oracle in dict.fromkeys((v.name, v.oracle) for v in (*recorded.verdicts, *again.verdicts)):
        were, are = (_format_kinds(counts, name, oracle) for counts in (before, now))
        if were != are:
            lines.append(f"{name}, by the oracle {oracle!r}: {were} recorded, {are} now")
    return lines


def _format_kinds(counts: Counter[tuple[str, str, Any]], name: str, oracle: str) -> str:
    """The verdicts on a variable by an oracle, "none" without any."""
    kinds = sorted(
        str(kind) for (n, o, kind), count in counts.items() for _ in range(count) if (n, o) == (name, oracle)
    )
    return ", ".join(kinds) or "none"
