"""What a comparison of two programs answers: a row a place, the first place where they part, and one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from html import escape
from typing import Any, TypeVar

from keras_ref.reports.escaping import make_printable
from keras_ref.reports.verdict import write_json_text


class ProgramsDiffer(AssertionError):
    """Raised by Comparison.raise_if_failed: the message is the explanation."""


@dataclass(frozen=True, kw_only=True)
class Matched:
    """A weight of A, the weight of B that has the same values, and how its layout differs ("" where it does not)."""

    a: str
    b: str
    layout: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One place of both programs.

    stage        weights, forward, loss, gradient or update
    a, b         the layer or weight in each; "" where only one has it
    difference   the largest, |A - B|, in the unit of the values
    allowed      what rounding allows, measured of both
    worst        the index of the worst entry, whose values follow
    right        of a gradient that differs: "A", "B", "both" (of its own loss) or "neither", by slopes; "" undecided
    """

    stage: str
    a: str
    b: str
    difference: float = 0.0
    allowed: float = 0.0
    worst: tuple[int, ...] = ()
    value_a: float = float("nan")
    value_b: float = float("nan")
    slope: float = float("nan")
    right: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "stage", str(self.stage))  # plain text, not a member of an enumeration

    @property
    def agrees(self) -> bool:
        """Whether both are the same to rounding."""
        return bool(self.a and self.b) and self.difference <= self.allowed

    @property
    def place(self) -> str:
        """The layer or weight in words."""
        if self.a == self.b or not self.b:
            return f"`{self.a}`"
        return f"`{self.a}` (B: `{self.b}`)" if self.a else f"`{self.b}`"


Record = TypeVar("Record", Matched, Row)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two programs at one point.

    a, b          what they are
    precision     what both computed in
    matched       which weights have the same values; only_a, only_b those without a counterpart
    rows          every place, in the order of the computation
    parting       the first row that does not agree
    cause         what explains it to rounding; "" where nothing does
    notes         what was not compared, and how
    errors        a sentence for each stage that raised
    seed, replay  the seed of all that was drawn; a command that repeats the comparison
    """

    a: str
    b: str
    precision: str = "float64"
    matched: tuple[Matched, ...] = ()
    rows: tuple[Row, ...] = ()
    parting: Row | None = None
    cause: str = ""
    notes: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    seed: int = 0
    replay: str = ""

    def __post_init__(self) -> None:
        """Texts that come from models and files are made harmless once, for every form of the report."""
        harmless = {
            **{name: make_printable(getattr(self, name)) for name in ("a", "b", "cause", "replay")},
            **{name: tuple(map(make_printable, getattr(self, name))) for name in ("notes", "errors")},
            "matched": tuple(map(_make_printable, self.matched)),
            "rows": tuple(map(_make_printable, self.rows)),
            "parting": None if self.parting is None else _make_printable(self.parting),
        }
        for name, value in harmless.items():
            object.__setattr__(self, name, value)

    @property
    def ok(self) -> bool:
        """Whether the programs agree wherever they were compared, and something was."""
        return self.parting is None and not self.errors and any(row.agrees for row in self.rows)

    @property
    def sentence(self) -> str:
        """The result in one sentence."""
        if self.parting is None:
            stages = list(dict.fromkeys(row.stage for row in self.rows))
            return f"They agree: {', '.join(stages)}." if stages else "Nothing was compared."
        row = self.parting
        why = f": {self.cause}" if self.cause else ""
        if not (row.a and row.b):
            return f"They part at {row.place} ({row.stage}): only {'A' if row.a else 'B'} has it."
        judge = {
            "A": " A's is the slope of the loss, B's is not.",
            "B": " B's is the slope of the loss, A's is not.",
            "both": " Each is the slope of its own loss.",
            "neither": " Neither is the slope of the loss.",
        }.get(row.right, "")
        numbers = row.note or f"{row.difference:.1e} where {row.allowed:.0e} is allowed"
        return f"They part at {row.place} ({row.stage}){why}; {numbers}.{judge}"

    def explain(self) -> str:
        """The table, the notes and the sentence, as text."""
        return "\n".join(self.lines())

    def lines(self) -> Iterator[str]:
        """The lines of `explain`, the sentence last."""
        yield f"A: {self.a}"
        yield f"B: {self.b}"
        for one in self.matched:
            if one.a != one.b or one.layout:
                yield f"  {one.a} = {one.b}{f', {one.layout}' if one.layout else ''}"
        same = sum(one.a == one.b and not one.layout for one in self.matched)
        if same:
            yield f"  {same} weights of the same names"
        width = max([len(_format_pair(row)) for row in self.rows], default=0)
        for row in self.rows:
            mark = "" if row.agrees else "  ←"
            yield f"{row.stage:<9} {_format_pair(row):<{width}}  {_format_numbers(row)}{mark}"
        yield from self.notes
        yield from self.errors
        if self.parting is not None and self.parting.worst and self.parting.a and self.parting.b:
            row = self.parting
            slope = f", slope {row.slope:+.15e}" if row.slope == row.slope else ""
            yield f"at {list(row.worst)}: A {row.value_a:+.15e}, B {row.value_b:+.15e}{slope}"
        if self.replay:
            yield f"replay: {self.replay}"
        yield self.sentence

    def raise_if_failed(self) -> Comparison:
        """This comparison, if the programs agree. Raises: ProgramsDiffer with the explanation."""
        if not self.ok:
            raise ProgramsDiffer(self.explain())
        return self

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {"ok": self.ok, "sentence": self.sentence, **asdict(self)}

    def to_json(self) -> str:
        """to_dict as JSON text."""
        return write_json_text(self.to_dict())

    def _repr_html_(self) -> str:
        return f"<p><b>{escape(self.sentence)}</b></p>{build_rows_table(self)}"

    def __repr__(self) -> str:
        return self.explain()


def _make_printable(one: Record) -> Record:
    """A record with every text in it made harmless."""
    texts: dict[str, Any] = {name: make_printable(value) for name, value in vars(one).items() if isinstance(value, str)}
    return replace(one, **texts)


def _format_pair(row: Row) -> str:
    return row.a if row.a == row.b or not row.b else f"{row.a} | {row.b}" if row.a else f"(B) {row.b}"


def _format_numbers(row: Row) -> str:
    if not (row.a and row.b):
        return f"only in {'A' if row.a else 'B'}"
    return row.note or f"{row.difference:.1e}, allowed {row.allowed:.1e}"


def build_rows_table(found: Comparison) -> str:
    """The rows as an HTML table."""
    heads = ("stage", "A", "B", "difference", "allowed", "")
    head = "".join(f"<th>{name}</th>" for name in heads)
    body = "".join(
        f"<tr{'' if row.agrees else ' class=bad'}>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in (row.stage, row.a, row.b))
        + f"<td>{row.difference:.1e}</td><td>{row.allowed:.1e}</td><td>{'' if row.agrees else 'differs'}</td></tr>"
        for row in found.rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def write_comparison_html(found: Comparison) -> str:
    """The comparison as one page without script."""
    from keras_ref.reports.html import build_page

    matched = "".join(
        f"<tr><td>{escape(m.a)}</td><td>{escape(m.b)}</td><td>{escape(m.layout)}</td></tr>" for m in found.matched
    )
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in found.notes)
    body = (
        f"<header><h1>{escape(found.a)} and {escape(found.b)}</h1>"
        f'<p class="state {"ok" if found.ok else "bad"}">{escape(found.sentence)}</p></header><main>{notes}'
        f"{build_rows_table(found)}<h2>Weights with the same "
        "values</h2><table><tr><th>A</th><th>B</th><th>layout</th></tr>"
        f"{matched}</table></main><footer>gradtwin, seed {found.seed}, {found.precision}.</footer>"
    )
    return build_page(f"{found.a} and {found.b}", body, command="compare")
