"""Is the loss a function at all? The same point twice, and the graph that is differenced against what autodiff ran."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_ref.comparison.entrywise import Autodiff
from keras_ref.evaluation.loss_function import LossFunction
from keras_ref.reports.verdict import Verdict

#: rounding that two runs of one computation may differ by, in units in the last place of the terms that add up to it
SLACK = 64


def unrepeatable(probe: LossFunction, oracles: list[Any], autodiff: Autodiff, names: list[str]) -> list[Verdict]:
    """A verdict for every name where the loss differs between two runs, or between modes; none where it is a function."""
    losses = probe.directional({}, np.zeros(2))
    scale = float(np.max(np.abs(losses))) + _terms(autodiff.gradient, probe.values)
    allowed = SLACK * probe.unit * scale
    graph = [float(loss) for loss in losses] + [o.base for o in oracles if o.name == "forward"]
    if max(graph) - min(graph) > allowed:
        return _all(
            names,
            probe,
            "nondeterministic",
            f"the loss is {graph[0]:.15g} and {_farthest(graph):.15g} at the same point",
        )
    noise = max([o.noise for o in oracles if o.name == "forward"], default=0.0)
    taped = probe.seen[autodiff.how]
    if abs(taped - graph[0]) <= allowed + 8 * noise:
        return []
    again = probe.run_in(autodiff.how, probe.tape, probe.values)[1]
    if abs(again - taped) > allowed:
        return _all(names, probe, "nondeterministic", f"the loss is {taped:.15g} and {again:.15g} at the same point")
    return _all(
        names,
        probe,
        "mode-dependent",
        f"the loss itself is {taped:.15g} in mode {autodiff.how} and {graph[0]:.15g} in the graph that is differenced",
    )


def _farthest(losses: list[float]) -> float:
    return max(losses, key=lambda loss: abs(loss - losses[0]))


def _terms(gradient: Mapping[str, Any], values: Mapping[str, Any]) -> float:
    """Σ |slope · value|: how large the terms of a loss are that may cancel in it."""
    sizes = [
        float(np.sum(np.abs(g * values[n]))) for n, g in gradient.items() if g is not None and np.isfinite(g).all()
    ]
    return sum(size for size in sizes if np.isfinite(size))


def _all(names: list[str], probe: LossFunction, verdict: str, reason: str) -> list[Verdict]:
    return [Verdict(name, "forward", verdict, 0, probe.values[name].size, reason=reason) for name in names]
