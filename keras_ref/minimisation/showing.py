"""Showing a case: its text is run, both values are computed, and the entry and the step for the script are chosen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_ref.minimisation.cases import CLAIMS, HOOK, CallCase, Setup
from keras_ref.minimisation.running import running
from keras_ref.reports.escaping import make_printable
from scratch.arrays import Array
from scratch.releases import find_version

#: the exponent of the first step that is tried: 2**-17 is about the cube root of the spacing of float64, where
#: truncation and rounding of a central difference balance for a function of slopes near 1
STEP = -17
#: exponents that are tried where the quotient of a step is no good
EXPONENTS = (STEP, -10, -24, -5, -31, -2)
#: how many times less than autodiff the quotient of twice the step may differ from the quotient
CLEAR = 8
#: a difference that counts, as a share of the larger value: below, it may be rounding of what is shown
SHARE = 2.0**-30
PACKAGES = {"keras": "Keras", "tensorflow": "TensorFlow", "numpy": "NumPy"}


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Both values of a case at the entry that is shown, and the lines that compute them.

    lines      from the imports to the assignments of `got` and `want`
    path       the statement by which the user's modules are found
    got, want  the values;   names  what both are called
    """

    lines: tuple[str, ...]
    path: str
    got: float
    want: float
    names: tuple[str, str]

    @property
    def limit(self) -> float:
        """What both may differ by where the fault is corrected: half of what they differed by."""
        if np.isfinite(self.got):
            return abs(self.got - self.want) / 2
        return abs(self.want) / 2 or 0.5


def show(case: CallCase) -> Shown | None:
    """What a case shows; None where it cannot be run, or where both values agree. Raises: nothing of the case's own."""
    try:
        setup = case.setup()
        with running(write_whole_setup(setup)) as names:
            shown = _find_shown(case, setup, names)
            return None if draws_unseeded(case, names) else shown
    except Exception:  # noqa: BLE001 (a candidate that makes no sense may raise anything)
        return None


def draws_unseeded(case: CallCase, names: Mapping[str, Any]) -> bool:
    """Whether a layer, which was called, draws its weights or noise without a seed: its script would show something
    else each time."""
    return case.is_layer and not case.seeded and bool(names["layer"].variables) and case.weights is None


def write_setup(setup: Setup) -> str:
    """The text that builds a case."""
    lines = ("import os, sys, numpy as np, tensorflow as tf, keras", setup.search_path(), *setup.head, *setup.lines)
    return "\n".join(lines)


def write_whole_setup(setup: Setup) -> str:
    """The text that builds a case, and keeps its function and its points beside it."""
    return "\n".join((write_setup(setup), f"f = {setup.function}", f"points = {setup.points}"))


def _find_shown(case: CallCase, setup: Setup, names: dict[str, Any]) -> Shown | None:
    claim = CLAIMS[case.claim]
    for point in range(len(names["points"])) if "{point" in claim.lines else (0,):
        for step in _describe_steps(names["points"]):
            both = _compute(claim.lines, names, step, point)
            entry = find_worst(both)
            if entry is None:
                break  # the next point
            if not _is_clear(both, _compute(claim.lines, names, f"2*{step}", point), entry):
                continue
            lines = claim.lines.format(points=setup.points, h=step, at=both.place(entry), point=point)
            got, want = (float(values[entry.part][entry.index]) for values in (both.got, both.want))
            written = [f"f = {setup.function}", *lines.splitlines()]
            return run_setup(setup, written, got=got, want=want, names=(claim.got, claim.want))
    return None


def run_setup(setup: Setup, lines: Sequence[str], *, got: float, want: float, names: tuple[str, str]) -> Shown:
    """What a setup and the lines behind it show."""
    if any("np." in line for line in lines):
        setup.writer.modules.add("numpy")
    return Shown(lines=(*setup.head, *setup.lines, *lines), path=setup.search_path(), got=got, want=want, names=names)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An entry of one of several arrays."""

    part: int
    index: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Both:
    """Arrays of both sides; `nested` where the lines give several of each."""

    got: list[Array]
    want: list[Array]
    nested: bool

    def place(self, entry: Entry) -> str:
        """How an entry is written behind the name of either side."""
        index = f"[{', '.join(map(str, entry.index))}]" if entry.index else ""
        return f"[{entry.part}]" * self.nested + index


def list_both(got: Any, want: Any) -> Both:
    """Both sides as lists of arrays."""
    nested = isinstance(got, tuple)
    sides = [[np.asarray(part) for part in (side if nested else (side,))] for side in (got, want)]
    return Both(got=sides[0], want=sides[1], nested=nested)


def _compute(lines: str, names: dict[str, Any], step: str, point: int) -> Both:
    scope = dict(names)
    exec(lines.format(points="points", h=step, at="", point=point), scope)  # noqa: S102 (see running.py)
    return list_both(scope["got"], scope["want"])


def _describe_steps(points: list[Any]) -> Iterator[str]:
    """Steps as they are written: powers of two, and for small numbers shares of the smallest."""
    yield from (f"2**{exponent}" for exponent in EXPONENTS)
    sizes = [abs(v) for p in points for v in np.ravel(p) if v and np.isfinite(v)]
    if sizes and min(sizes) < 2.0**-5:
        yield from (f"{float(min(sizes)):.0e}*2**{exponent}" for exponent in (-10, STEP))


def find_worst(both: Both) -> Entry | None:
    """The entry in which both sides differ most; None where they agree in all."""
    best, largest = None, 0.0
    for part, (got, want) in enumerate(zip(both.got, both.want, strict=True)):
        if not got.size or got.shape != want.shape:
            continue
        with np.errstate(all="ignore"):
            differ = np.abs(got - want)
            scale = np.maximum(np.abs(want), np.where(np.isfinite(got), np.abs(got), 0.0))
            differ = np.where(np.isfinite(got), differ, np.inf)
            differ = np.where(np.isfinite(want) & (differ > SHARE * scale), differ, 0.0)
        if differ.max() > largest:
            index = np.unravel_index(int(np.argmax(differ)), got.shape)
            best, largest = Entry(part=part, index=tuple(map(int, index))), float(differ.max())
    return best


def _is_clear(both: Both, again: Both, entry: Entry) -> bool:
    """Whether the quotient of twice the step agrees with the quotient, as far as autodiff differs from it."""
    got, want = both.got[entry.part][entry.index], both.want[entry.part][entry.index]
    other = again.want[entry.part][entry.index]
    off = abs(want - other) if np.isfinite(other) else np.inf
    if not np.isfinite(got):
        return bool(off <= abs(want) / CLEAR + 2.0**STEP)
    return bool(CLEAR * off <= abs(got - want))


def write_script(shown: Shown, what: str, *, plain: str = "") -> str:
    """The script.

    plain   a statement to run before TensorFlow is imported
    """
    versions = ", ".join(f"{shown_as} {find_version(name) or 'unknown'}" for name, shown_as in PACKAGES.items())
    got, want = shown.names
    lines = (
        f"# gradtwin: {make_printable(what)}. {versions}.",
        f"import os, sys; {plain}{shown.path}{HOOK}",
        *shown.lines,
        f'print("{got}:", got, " {want}:", want)',
        f"sys.exit(int(not abs(got - want) <= {shown.limit:.0e}))  # half of what they differed by",
    )
    return "\n".join(lines) + "\n"
