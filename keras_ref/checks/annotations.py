"""What is made of the numbers of a check: modes against each other, known departures, declared surrogates, notes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from keras_ref.comparison.entrywise import Autodiff
from keras_ref.comparison.oracles import autodiff_at
from keras_ref.errors import short
from keras_ref.evaluation.float64 import DTYPE, policy_of
from keras_ref.evaluation.gradient_modes import COMPILE_ERRORS
from keras_ref.evaluation.loss_function import LossFunction
from keras_ref.options import matches_variable
from keras_ref.reports.verdict import Verdict
from keras_ref.translation import departures
from scratch.differences import UNIT


def between_modes(probe: LossFunction, first: Autodiff, mode: str, names: list[str]) -> list[Verdict]:
    """Gradients of another mode against those of the first; both are exact but for rounding."""
    try:
        other = autodiff_at(probe, probe.values, mode=mode)
    except COMPILE_ERRORS as error:
        if mode != "jit_compile":
            raise
        return [
            Verdict(
                names[0] if len(names) == 1 else "every gradient",
                mode,
                "undecided",
                reason=f"it does not compile: {short(error)}",
            )
        ]
    verdicts = []
    for name in names:
        a, b = first.gradient[name], other.gradient[name]
        if a is None or b is None:
            if (a is None) != (b is None):
                verdicts.append(
                    Verdict(name, mode, "mode-dependent", reason=f"None in {first.how if a is None else mode} only")
                )
            continue
        allowed = first.rounding[name] + other.rounding[name]
        with np.errstate(invalid="ignore"):
            equal = (a == b) | (np.isnan(a) & np.isnan(b))
            if not (equal | (np.abs(a - b) <= allowed)).all():
                allowed = first.doubted[name] + other.doubted[name]
            same = equal | (np.abs(a - b) <= allowed)
            excess = np.where(same, 0.0, np.nan_to_num(np.abs(a - b), nan=np.inf) + UNIT)
        i = int(np.argmax(excess)) if excess.size else 0
        verdicts.append(
            Verdict(
                name,
                mode,
                "match" if same.all() else "mode-dependent",
                a.size,
                a.size,
                {"match": int(same.sum()), "mode-dependent": int((~same).sum())},
                tuple(int(k) for k in np.unravel_index(i, a.shape)),
                float(a.ravel()[i]),
                float(b.ravel()[i]),
                truncation=0.0,
                rounding=float(allowed.ravel()[i]),
                visible=float(2 * allowed.max(initial=0.0)),
                how=first.how,
            )
        )
    return verdicts


def known(verdicts: list[Verdict], oracles: list[Any], notes: list[str]) -> list[Verdict]:
    """Where Keras is known to depart from the definition, a twin that differs is that departure, not a new finding.

    The forward oracle still judges the backward pass: a departure excuses only the twin.
    """
    twins = [o for o in oracles if o.name == "twin"]
    if not twins or not any(v.failed and v.oracle == "twin" for v in verdicts):
        return verdicts
    specs = twins[0].specifications
    # a layer that has no float64 kernels computes in float32, which the twin does not: refused in float64, it is excused
    ids = departures.find_departures(specs) or (
        departures.find_refusals(specs) if any(policy_of(spec) != DTYPE for spec in specs) else ()
    )
    if not ids:
        return verdicts
    named = ", ".join(ids)
    notes.append(
        f"Keras departs from the definition here ({named}; see departures.toml): the twin differs for that reason."
    )
    return [replace(v, verdict="departure", reason=named) if v.failed and v.oracle == "twin" else v for v in verdicts]


def expected(
    verdict: Verdict, expect: Mapping[str, str], model: str, declared: frozenset[str] = frozenset()
) -> Verdict:
    """The verdict, a surrogate where that was declared: by pattern, or by a layer under `keras_ref.surrogate`."""
    if verdict.verdict not in ("mismatch", "undecided", "kink", "disconnected"):
        return verdict
    if any(matches_variable(verdict.name, pattern, model) for pattern in expect):
        return replace(verdict, verdict="surrogate", reason=f"declared a surrogate; found: {verdict.verdict}")
    if verdict.name in declared:
        return replace(
            verdict,
            verdict="surrogate",
            reason=f"its gradient passes through a layer under @surrogate; found: {verdict.verdict}",
        )
    return verdict


def said_aloud(verdicts: list[Verdict], notes: list[str]) -> None:
    """Nothing passes vacuously: dead and saturated parts, disconnected variables and kinks are named."""
    for v in verdicts:
        if v.oracle != "forward":
            continue
        if (
            v.verdict == "match"
            and v.compared
            and v.numeric == 0.0
            and v.autodiff == 0.0
            and abs(v.visible) >= 0
            and _all_zero(v)
        ):
            notes.append(
                f"{v.name}: every compared slope is zero (dead, saturated or without influence); compared against the noise alone."
            )
        if v.verdict == "disconnected":
            notes.append(f"{v.name}: autodiff gives None, and the loss does not move either: {v.reason}.")
        if v.verdict == "symmetrized":
            notes.append(f"{v.name}: {v.reason}.")
        if v.counts.get("kink"):
            notes.append(f"{v.name}: {v.counts['kink']} entries sit on a kink; autodiff is right beside it.")


def _all_zero(verdict: Verdict) -> bool:
    return not np.isfinite(verdict.visible_relative)
