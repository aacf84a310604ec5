"""The layer at fault: the one whose gradient is wrong when it is checked by itself, on what the model gives it."""

from __future__ import annotations

from dataclasses import dataclass

from keras_ref.reports.escaping import make_printable


@dataclass(frozen=True, kw_only=True)
class Culprit:
    """A layer by its name and its class, and the file and line of that class ("" and 0 where there is no source)."""

    layer: str
    kind: str
    file: str = ""
    line: int = 0

    def __post_init__(self) -> None:
        for name in ("layer", "kind", "file"):
            object.__setattr__(self, name, make_printable(getattr(self, name)))

    @property
    def text(self) -> str:
        """The layer and its place: "norm (RmsNorm, acme/layers.py:41)"."""
        return f"{self.layer} ({self.kind}{f', {self.file}:{self.line}' if self.file else ''})"
