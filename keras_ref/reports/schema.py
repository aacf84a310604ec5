"""The JSON Schema of reports: what Report.to_dict gives, and what is accepted where one is read again."""

from __future__ import annotations

import sys
from typing import Any

from keras_ref.reports.files import SCHEMA_VERSION
from keras_ref.reports.kinds import Kind
from keras_ref.reports.reasons import Reason

#: no number of entries, and no seed, is as large as what JSON numbers hold exactly
LARGEST = 2**53
TEXT = {"type": "string", "maxLength": 2**20}
#: names of files and factories: characters that a path can have
PATH = {"type": "string", "maxLength": 4096, "pattern": r"^[^\x00-\x1f\ud800-\udfff]*$"}
COUNT = {"type": "integer", "minimum": 0, "maximum": LARGEST}
#: JSON has no number for what is not finite: it is a word there
NUMBER = {
    "anyOf": [
        {"type": "number", "minimum": -sys.float_info.max, "maximum": sys.float_info.max},
        {"enum": ["nan", "inf", "-inf"]},
    ]
}


def describe_record(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    """The schema of an object with these properties and no others."""
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": [*required],
        "additionalProperties": False,
    }


def describe_table(values: dict[str, Any]) -> dict[str, Any]:
    """The schema of an object with any names."""
    return {"type": "object", "additionalProperties": values}


def describe_list(items: dict[str, Any], *, least: int = 0) -> dict[str, Any]:
    """The schema of a list."""
    return {"type": "array", "items": items, "minItems": least}


VERDICT = describe_record(
    {
        "name": TEXT,
        "oracle": TEXT,
        "verdict": {"enum": [kind.value for kind in Kind]},
        "compared": COUNT,
        "total": COUNT,
        "counts": describe_table(COUNT),
        "worst": describe_list(COUNT),
        **dict.fromkeys(("autodiff", "numeric", "left", "right", "truncation", "rounding"), NUMBER),
        **dict.fromkeys(("visible", "visible_relative"), NUMBER),
        "how": TEXT,
        "reason": TEXT,
        "order": NUMBER,
        "together": COUNT,
        "difference": NUMBER,
        "allowed": NUMBER,
    },
    {
        "reason_code": {"enum": [None, *(reason.value for reason in Reason)]},
        "jumps": COUNT,
        "looks_like": TEXT,
        "instead": TEXT,
    },
)
#: what a document begins with since there are versions of its shape
HEADER = {"written_by": TEXT, "schema_version": {"const": SCHEMA_VERSION}}
CULPRIT = describe_record({"layer": TEXT, "kind": TEXT, "file": PATH, "line": COUNT})
#: properties of a report, without the braces: a document adds its own
REPORT = {
    "subject": TEXT,
    "ok": {"type": "boolean"},
    "seed": COUNT,
    "replay": TEXT,
    "noise": NUMBER,
    "notes": describe_list(TEXT),
    "allowed": describe_list({"enum": [kind.value for kind in Kind]}),
    "precision_loss": describe_table(NUMBER),
    "verdicts": describe_list(VERDICT, least=1),
}
#: properties that reports did not always have
OPTIONAL = {"culprit": {"anyOf": [{"type": "null"}, CULPRIT]}}
