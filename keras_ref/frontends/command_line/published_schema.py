"""The JSON Schema of everything that --json writes, as it is published; `python -m` prints it.

keras_ref/reports/assets/gradtwin.schema.json is in the package, .github/docs/gradtwin.schema.json is for readers.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from keras_ref.frontends.command_line.compare_cli import build_comparison_schema
from keras_ref.frontends.invocations.invocation import TAKES
from keras_ref.frontends.invocations.recorded import build_document_schema
from keras_ref.reports.files import SCHEMA_VERSION
from keras_ref.reports.schema import OPTIONAL, REPORT, TEXT, describe_list, describe_record, describe_table

#: a list of records that have their own columns
_ROWS = describe_list({"type": "object"})


def build_published_schema() -> dict[str, Any]:
    """The schema: one branch for each command, told by the key `written_by`."""
    test = describe_record({"test": TEXT, **REPORT}, OPTIONAL)
    of_pytest = {
        "ok": REPORT["ok"],
        "could_not_run": describe_list(TEXT),
        "reports": describe_list(test),
        "versions": describe_table(TEXT),
    }
    branches = {
        (*TAKES,): build_document_schema(several=True),
        ("pytest",): describe_record(of_pytest),
        ("compare",): build_comparison_schema(),
        ("homework",): describe_record({"ok": REPORT["ok"], "submissions": _ROWS}),
        ("findings",): describe_record({"subject": TEXT, "ok": REPORT["ok"], "versions": TEXT, "findings": _ROWS}),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What gradtwin writes with --json",
        "description": "JSON has no number for what is not finite: nan, inf and -inf are words.",
        "oneOf": [_add_head(commands, branch) for commands, branch in branches.items()],
    }


def _add_head(commands: tuple[str, ...], branch: dict[str, Any]) -> dict[str, Any]:
    """The schema of a document with the keys that every one begins with."""
    names = [f"gradtwin {command}" for command in commands]
    header = {"written_by": {"enum": names}, "schema_version": {"const": SCHEMA_VERSION}}
    return {
        **branch,
        "properties": {**branch["properties"], **header},
        "required": [*header, *(name for name in branch["required"] if name not in header)],
    }


if __name__ == "__main__":
    json.dump(build_published_schema(), sys.stdout, indent=1)
    print()  # noqa: T201 (the file ends with a newline)
