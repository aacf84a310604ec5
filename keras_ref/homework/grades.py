"""What was found of a submission, as plain records: a result for each stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from keras_ref.reports.escaping import make_printable


@dataclass(frozen=True)
class StageResult:
    """One stage of a submission.

    state       right, wrong, missing (there is no such function), unwritten, raised, or waiting (for an earlier stage)
    text        what is wrong, in words
    cause       the name of the diagnosis that fits
    shown       the right numbers, for --show
    """

    stage: str
    state: str
    text: str = ""
    cause: str = ""
    shown: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", make_printable(self.text))
        object.__setattr__(self, "shown", "\n".join(map(make_printable, self.shown.split("\n"))))


@dataclass(frozen=True)
class Grade:
    """What was found of one submission; `refused` is the sentence of one that could not be run."""

    path: str
    exercise: str
    stages: tuple[StageResult, ...] = ()
    refused: str = ""
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        for name in ("path", "exercise", "refused"):
            object.__setattr__(self, name, make_printable(getattr(self, name)))
        object.__setattr__(self, "notes", tuple(map(make_printable, self.notes)))

    @property
    def ok(self) -> bool:
        """Whether every stage is right."""
        return not self.refused and bool(self.stages) and all(one.state == "right" for one in self.stages)

    @property
    def first(self) -> StageResult | None:
        """The first stage that is wrong."""
        return next((one for one in self.stages if one.state in ("wrong", "raised")), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "path": self.path,
            "exercise": self.exercise,
            "ok": self.ok,
            "refused": self.refused,
            "notes": list(self.notes),
            "stages": [dict(vars(one)) for one in self.stages],
        }
