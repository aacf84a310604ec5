"""What a check answers: a Verdict per variable and oracle, a Report for all of them."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from html import escape
from typing import Any

from keras_ref.reports.advice import Failure, advise
from keras_ref.reports.culprit import Culprit
from keras_ref.reports.escaping import make_printable
from keras_ref.reports.heat_map import ErrorWindow
from keras_ref.reports.html_tables import build_heat_maps, build_variables_table
from keras_ref.reports.kinds import FAILING, ORDER, Kind, find_worst
from keras_ref.reports.reasons import Reason
from keras_ref.reports.words import count_variables

__all__ = [
    "FAILING",
    "ORDER",
    "GradientMismatch",
    "Kind",
    "Reason",
    "Report",
    "Verdict",
    "find_worst",
    "write_json_text",
]

#: what the numeric side of a verdict was computed by, by the name of its oracle
NUMERIC_BY = {
    "forward": "Keras's own forward pass, differenced",
    "twin": "the NumPy twin, every weight nudged",
    "update": "numeric gradient and optimizer twin",
    "low-precision": "GradientTape in float64",
    "digits": "Keras's own forward pass in many digits (mpmath)",
    "hessian-digits": "the slope along a random direction of that in many digits (mpmath)",
    "hessian": "autodiff's own slope along a random direction, differenced",
    "forward-mode": "the loss along a random direction, differenced",
}


class GradientMismatch(AssertionError):
    """Raised by Report.raise_if_failed: the message is the six lines of each failure."""


@dataclass(frozen=True)
class Verdict:
    """One variable (or input) against one oracle.

    `oracle`: "forward" (Keras's own forward pass, differenced), "twin" (the NumPy twin, nudged), "update", "digits"
    (the forward pass in many digits; "hessian-digits": its second derivative), or "low-precision" (autodiff in float64,
    beside that in the precision of training); "process" where the subject killed the process that it was checked in,
    and `name` is the target.
    `verdict`: a Kind, which may be given as its text; `counts`: {kind: how many entries have it}.
    `compared` of `total` entries; `worst` the index of the worst one, whose values follow: `autodiff`, `numeric`, the
    slopes from the `left` and the `right`, and the errors of both sides by `truncation` and `rounding`; `how` autodiff
    ran. `visible`: the smallest error in one entry that this check would have seen, and `visible_relative`: the same as
    a share of the entry. All others are absolute, in loss per unit of the variable (of an update: in the variable's
    unit); nan: not measured.
    `reason_code` says why in a code (None where the numbers say it all), `reason` in words.
    `order`, of a mismatch: how fast the Taylor remainder shrinks (comparison/entries/taylor_remainder.py).
    `together`: entries that were moved together along random directions (effort "fast"), where single ones were not.
    `jumps`: entries of an input at which the loss jumps, compared on the branch of the point; they count as kinks.
    `looks_like`: what explains a mismatch to rounding, in words ("it is the right gradient, negated").
    `instead`: of a departure, what Keras does instead of its definition.
    `cells`: the entries around the worst, for a page; `accused`: the flat indices of the entries called wrong;
    `slopes`: the numeric values of all entries, where all were compared. JSON leaves these out.
    Raises: ValueError for a kind or a reason code that there is not.
    """

    name: str
    oracle: str
    verdict: Kind
    compared: int = 0
    total: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    worst: tuple[int, ...] = ()
    autodiff: float = float("nan")
    numeric: float = float("nan")
    left: float = float("nan")
    right: float = float("nan")
    truncation: float = float("nan")
    rounding: float = float("nan")
    visible: float = float("nan")
    visible_relative: float = float("nan")
    how: str = ""
    reason: str = ""
    order: float = float("nan")
    together: int = 0
    reason_code: Reason | None = None
    jumps: int = 0
    looks_like: str = ""
    instead: str = ""
    accused: tuple[int, ...] = field(default=(), compare=False, repr=False)
    slopes: tuple[float, ...] = field(default=(), compare=False, repr=False)
    cells: ErrorWindow | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "verdict", Kind(self.verdict))
        if self.reason_code is not None:
            object.__setattr__(self, "reason_code", Reason(self.reason_code))

    def because(self, code: Reason, *details: object) -> Verdict:
        """The same verdict with another reason: its code, and its sentence with the details in it."""
        return replace(self, reason_code=code, reason=code.text(*details))

    @property
    def coverage(self) -> str:
        """How many entries were compared, in words: one by one, or together along random directions."""
        if not self.together:
            return f"{self.compared} of {self.total}"
        return f"{self.compared} of {self.total}, all together" if self.compared else f"all {self.total} together"

    @property
    def difference(self) -> float:
        """|numeric - autodiff| at the worst entry."""
        return abs(self.numeric - self.autodiff)

    @property
    def allowed(self) -> float:
        """truncation + rounding of both sides at the worst entry."""
        return self.truncation + self.rounding

    @property
    def failed(self) -> bool:
        """Whether this verdict fails a check, by its kind or by its reason."""
        return self.verdict.failing or (self.reason_code is not None and self.reason_code.failing)

    @property
    def is_straight_through(self) -> bool:
        """Whether autodiff has a slope where the loss has none, exactly: at the worst entry both sides show the 0."""
        return self.verdict is Kind.MISMATCH and self.oracle == "forward" and self.numeric == 0.0 != self.autodiff

    def explain(self, replay: str = "") -> str:
        """Six aligned lines: subject, worst index, both values, difference against allowance, replay.

        A seventh says what the error looks like, where that is known; a crash has two.
        """
        if self.verdict is Kind.CRASH:
            return f"{'verdict':<10} crash: {self.name}, {self.reason}\n{'replay':<10} {replay or 'run it again'}"
        share = (
            f"{self.counts.get(self.verdict, 0)} of {self.compared} compared entries"
            if self.compared
            else f"no single entry: {self.coverage}"
        )
        update = self.oracle == "update"
        handed = self.reason_code is not None and self.reason_code.is_handed
        own_step = "handed to the optimizer" if handed else "Keras's own step"
        autodiff = own_step if update else self.how if "." in self.how else f"GradientTape, {self.how or 'eager'}"
        why = f" ({self.reason})" if self.reason else ""
        numeric = "a loss that the step computes, differenced" if handed else NUMERIC_BY.get(self.oracle, self.oracle)
        errors = f"truncation {self.truncation:.1e} + rounding {self.rounding:.1e}"
        lines = (
            ("verdict", f"{self.verdict}: {self.name}, by the oracle {self.oracle!r}{why}"),
            ("worst at", f"{list(self.worst)}, {share}"),
            ("keras" if update else "autodiff", f"{self.autodiff:+.15e}  {autodiff}"),
            ("numeric", f"{self.numeric:+.15e}  {numeric}{self._describe_sides()}"),
            (
                "differ by",
                f"{self.difference:.3e}, allowed {self.allowed:.3e} = {errors}{self._describe_second_opinion()}",
            ),
            *([("looks like", self.looks_like)] if self.looks_like else []),
            ("replay", replay or "call the check again with the same arguments"),
        )
        return "\n".join(f"{label:<10} {text}" for label, text in lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON: all but cells, accused and slopes; the kind and the code of the reason as text."""
        plain = asdict(replace(self, cells=None, accused=(), slopes=()))
        plain |= {
            "difference": self.difference,
            "allowed": self.allowed,
            "verdict": self.verdict.value,
            "reason_code": None if self.reason_code is None else self.reason_code.value,
        }
        return {key: value for key, value in plain.items() if key not in ("cells", "accused", "slopes")}

    def _repr_html_(self) -> str:
        maps = build_heat_maps(self) if self.compared else ""
        return f"{build_variables_table([self])}{maps}<pre>{escape(self.explain())}</pre>"

    def _describe_second_opinion(self) -> str:
        """What the Taylor remainder says (comparison/entries/taylor_remainder.py), where it was asked."""
        if math.isnan(self.order):
            return ""
        return f"; second opinion: the Taylor remainder shrinks as t^{self.order:.2f} (t^2 if right, t if wrong)"

    def _describe_sides(self) -> str:
        """The slopes from both sides, where the reason is a kink."""
        if self.verdict is not Kind.KINK and not (self.reason_code is not None and self.reason_code.is_kink):
            return ""
        return f" (left {self.left:+.6e}, right {self.right:+.6e})"


@dataclass(frozen=True)
class Report:
    """All verdicts of one check.

    subject          what was checked
    verdicts         one for each variable (or input) and oracle
    notes            sentences for the reader
    seed, replay     the seed of all that was drawn; a command that repeats the check
    noise            the rounding error of the loss that is differenced, absolute, in units of the loss
    allowed          the kinds of verdict that do not fail the check
    precision_loss   {variable: what the precision of training costs its gradient}: |low - float64| / |float64|, 2-norms
    culprit          the layer at fault, where it is known
    """

    subject: str
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...] = ()
    seed: int = 0
    replay: str = ""
    noise: float = float("nan")
    allowed: frozenset[str] = frozenset()
    precision_loss: dict[str, float] = field(default_factory=dict)
    culprit: Culprit | None = None

    def __post_init__(self) -> None:
        # every text here may hold names from a model or a file: all fronts show what is made harmless once, here
        shown = {
            "subject": make_printable(self.subject),
            "verdicts": tuple(map(_with_printable_texts, self.verdicts)),
            "notes": tuple(map(make_printable, self.notes)),
            "replay": make_printable(self.replay),
            "precision_loss": {make_printable(name): loss for name, loss in self.precision_loss.items()},
        }
        for name, value in shown.items():
            object.__setattr__(self, name, value)

    def fails(self, verdict: Verdict) -> bool:
        """Whether a verdict fails this check: one of the failing kinds, and not allowed."""
        return verdict.failed and verdict.verdict not in self.allowed

    @property
    def failures(self) -> tuple[Verdict, ...]:
        """The verdicts that fail this check."""
        return tuple(filter(self.fails, self.verdicts))

    @property
    def worst_last(self) -> tuple[Verdict, ...]:
        """The verdicts from match to failure, as a terminal shows them: the end is what stays on the screen."""
        return tuple(sorted(self.verdicts, key=lambda v: (self.fails(v), -ORDER.index(v.verdict))))

    @property
    def ok(self) -> bool:
        """Whether nothing failed and something was compared."""
        return not self.failures and any(v.compared or v.together for v in self.verdicts)

    def __bool__(self) -> bool:
        """Whether the report is ok: `assert check_gradients(model, x, y)` means what it says."""
        return self.ok

    @property
    def oracles(self) -> str:
        """Whether the oracles agree, and what to look at where they do not, in words."""
        if not self.failures:
            return "all oracles agree: " + ", ".join(dict.fromkeys(v.oracle for v in self.verdicts))
        at_fault = "" if self.culprit is None else f"; the layer at fault, checked by itself: {self.culprit.text}"
        return f"{self._advice}{at_fault}"

    @property
    def _advice(self) -> str:
        flat = [v for v in self.failures if v.is_straight_through]
        if len(flat) == len(self.failures):
            path = "/".join(flat[0].name.split("/")[-2:])
            return (
                "the loss does not move at all, and autodiff has a slope: a straight-through gradient, as one through "
                f"rounding has. If it is meant, declare it: expect={{'*{path}': 'surrogate'}}, or --expect "
                f"'*{path}=surrogate'"
            )
        worst = find_worst(v.verdict for v in self.failures)
        known = next((v for v in self.failures if v.verdict is worst and v.looks_like), None)
        advice = advise(Failure(v.verdict, v.oracle, v.reason_code) for v in self.failures)
        if known is None:
            return advice
        # where to look: the optimizer does what it is told
        if known.reason_code in (Reason.OWN_STEP_GRADIENT, Reason.GRADIENT_DIFFERS):
            return f"{advice}; it looks like this: {known.looks_like}"
        what = "the step" if known.oracle == "update" else "autodiff"
        return f"{what} is wrong, and it looks like this: {known.looks_like}"

    def summary(self) -> str:
        """One line: variables and inputs, verdicts, entries, the smallest error that would have been seen."""
        if any(v.verdict is Kind.CRASH for v in self.verdicts):
            return f"{self.subject}: {', '.join(v.reason for v in self.verdicts)}"
        said = self.properties()
        seen = f"; smallest error that would have been seen {said['would_see']}" if "would_see" in said else ""
        along = f", {said['together']} together along random directions" if "together" in said else ""
        counted = f"{count_variables({v.name for v in self.verdicts})}, {said['compared']} entries compared{along}"
        return f"{self.subject}: {counted}: {said['verdicts'] or 'nothing'}{seen}"

    def properties(self) -> dict[str, str]:
        """The summary as names and values, for a test's properties in JUnit."""
        counts = Counter(v.verdict for v in self.verdicts)
        visible = [v.visible for v in self.verdicts if not math.isnan(v.visible)]
        together = sum(v.together for v in self.verdicts)
        return {
            "subject": self.subject,
            "compared": f"{sum(v.compared for v in self.verdicts)} of {sum(v.total for v in self.verdicts)}",
            **({"together": str(together)} if together else {}),
            "verdicts": ", ".join(f"{counts[name]} {name}" for name in reversed(ORDER) if counts[name]),
            **({"would_see": f"{max(visible):.1e}"} if visible else {}),
            **({} if self.culprit is None else {"culprit": self.culprit.text}),
            "seed": str(self.seed),
        }

    def explain(self) -> str:
        """The summary, the six lines of every failure with the worst last, and the notes."""
        parts = [self.summary()]
        if self.failures:
            parts += [v.explain(self.replay) for v in self.worst_last if self.fails(v)]
            parts.append(self.oracles)
        parts += list(self.notes)
        return "\n\n".join(parts) if self.failures else "\n".join(parts)

    def raise_if_failed(self) -> Report:
        """This report, if it is ok. Raises: GradientMismatch with the explanation."""
        if not self.ok:
            raise GradientMismatch(self.explain())
        return self

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "subject": self.subject,
            "ok": self.ok,
            "seed": self.seed,
            "replay": self.replay,
            "noise": self.noise,
            "notes": list(self.notes),
            "allowed": sorted(self.allowed),
            "precision_loss": dict(self.precision_loss),
            "culprit": None if self.culprit is None else asdict(self.culprit),
            "verdicts": [v.to_dict() for v in self.verdicts],
        }

    def to_json(self) -> str:
        """to_dict as JSON text; what is not finite is a word there ("nan", "inf"), which JSON has no number for."""
        return write_json_text(self.to_dict())

    def _repr_html_(self) -> str:
        failures = "".join(f"<pre>{escape(v.explain(self.replay))}</pre>" for v in self.failures)
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        advice = f"<p>{escape(self.oracles)}</p>" if self.failures else ""
        table = build_variables_table(self.verdicts, self.allowed)
        return f"<p><b>{escape(self.summary())}</b></p>{table}{failures}{advice}{notes}"

    def __repr__(self) -> str:
        rows = [f"  {v.verdict:<12} {v.name}  [{v.oracle}] {v.coverage}" for v in self.verdicts]
        return "\n".join([self.summary(), *rows, *self.notes])


def _with_printable_texts(verdict: Verdict) -> Verdict:
    return replace(
        verdict,
        name=make_printable(verdict.name),
        oracle=make_printable(verdict.oracle),
        how=make_printable(verdict.how),
        reason=make_printable(verdict.reason),
        instead=make_printable(verdict.instead),
        looks_like=make_printable(verdict.looks_like),
    )


def write_json_text(data: Any) -> str:
    """Plain data as strict JSON: numbers that are not finite as words."""

    def strict(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: strict(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [strict(item) for item in value]
        return repr(float(value)) if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(strict(data), indent=2, allow_nan=False)
