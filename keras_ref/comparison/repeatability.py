"""Whether a loss is a function at all: the same point twice, and what autodiff ran against what is differenced."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from keras_ref.comparison.sources.autodiff import Gradient
from keras_ref.comparison.sources.evidence import Evidence, Outcome
from keras_ref.comparison.sources.noise import measure_noise
from keras_ref.comparison.sources.sums import absolute_dot
from keras_ref.reports.verdict import Kind, Reason, Verdict
from scratch.arrays import Array

#: a difference of two runs up to this many units in the last place of the terms that add up to a loss is not looked
#: into. Beyond that the rounding of both runs is measured, which costs more than the runs
SLACK = 64


def compare_runs(evidence: Evidence) -> Outcome:
    """A verdict for every name where the loss differs between runs, or between modes; none where it is a function."""
    loss, how = evidence.loss, evidence.autodiff.how
    ours = [oracle for oracle in evidence.oracles if oracle.of_forward_pass]
    zeros = np.zeros(2)
    losses = ours[0].directional({}, zeros) if ours else loss.directional({}, zeros)
    scale = float(np.max(np.abs(losses))) + size_of_terms(evidence.autodiff.gradient, loss.values)
    allowed = SLACK * loss.unit * scale
    graph = [float(one) for one in losses] + [oracle.base for oracle in ours]
    if max(graph) - min(graph) > allowed:
        farthest = max(graph, key=lambda one: abs(one - graph[0]))
        return _repeat_for_names(evidence, Kind.NONDETERMINISTIC, Reason.LOSS_NOT_REPEATABLE, graph[0], farthest)
    taped = loss.seen[how]
    # without any gradient there is none that could belong to another loss than the one that is differenced
    if abs(taped - graph[0]) <= allowed or all(g is None for g in evidence.autodiff.gradient.values()):
        return Outcome()
    seed = evidence.settings.seed
    noise = ours[0].measured_noise(seed=seed) if ours else measure_noise(loss, loss.values, graph[0], seed=seed)
    if abs(taped - graph[0]) <= 2 * noise:
        return Outcome()
    loss.gradient(how)
    again = loss.seen[how]
    if abs(again - taped) > allowed:
        return _repeat_for_names(evidence, Kind.NONDETERMINISTIC, Reason.LOSS_NOT_REPEATABLE, taped, again)
    return _repeat_for_names(evidence, Kind.MODE_DEPENDENT, Reason.LOSS_DEPENDS_ON_MODE, taped, how, graph[0])


def size_of_terms(gradient: Gradient, values: Mapping[str, Array]) -> float:
    """Σ |slope · value|: how large the terms of a loss are that may cancel in it."""
    sizes = [absolute_dot(g, values[n]) for n, g in gradient.items() if g is not None and np.isfinite(g).all()]
    return sum(size for size in sizes if np.isfinite(size))


def _repeat_for_names(evidence: Evidence, kind: Kind, reason: Reason, *details: float | str) -> Outcome:
    """The same verdict on every variable and input."""
    said = [f"{one:.15g}" if isinstance(one, float) else one for one in details]
    verdicts = [Verdict(n, "forward", kind, total=evidence.size(n)) for n in evidence.names]
    return Outcome(tuple(verdict.because(reason, *said) for verdict in verdicts))
