"""What a campaign says of an operation: counts and accusations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Accusation:
    """An argument of an operation whose derivative is wrong at a point."""

    name: str
    point: str
    argument: str
    claim: str
    kind: str
    entry: tuple[int, ...]
    autodiff: float
    numeric: float
    allowed: float
    reason: str

    def __str__(self) -> str:
        where = f"{self.argument}{list(self.entry)}" if self.entry else self.argument
        return (
            f"{self.name} at {self.point}, {self.claim}, {where}: {self.kind}, autodiff {self.autodiff:.10g}, numeric "
            f"{self.numeric:.10g}, allowed {self.allowed:.1e}"
        )


def without_numbers(*, name: str, point: str, claim: str, kind: str, reason: str) -> Accusation:
    """An accusation of an operation as a whole, at a point: no entry, and no numbers."""
    nan = float("nan")
    return Accusation(
        name=name, point=point, argument="", claim=claim, kind=kind, entry=(), autodiff=nan, numeric=nan, allowed=nan,
        reason=reason,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Result:
    """What the campaign found of an operation.

    counts        verdicts of all points by their kind, UNDEFINED points too
    accusations   in full
    reason        why it was not checked, "" where it was
    gradients     operations of TensorFlow whose registered gradients ran
    """

    name: str
    counts: dict[str, int] = field(default_factory=dict)
    accusations: tuple[Accusation, ...] = ()
    reason: str = ""
    gradients: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Result:
        """The result that a process wrote."""
        accused = tuple(Accusation(**{**one, "entry": tuple(one["entry"])}) for one in data["accusations"])
        return cls(**{**data, "accusations": accused, "gradients": tuple(data["gradients"])})

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "name": self.name,
            "counts": self.counts,
            "accusations": [vars(one) for one in self.accusations],
            "reason": self.reason,
            "gradients": list(self.gradients),
        }
