"""What is added to the outcome of a comparison: known departures, declared surrogates, and notes.

Every annotator is a pure function of an outcome; `list_annotators` lists them in the order in which they apply.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ref.checks.disconnected import GradientPaths, explain_none_and_nan
from keras_ref.checks.held_layers import compare_beside_layers
from keras_ref.checks.meant_to_differ import explain_meant
from keras_ref.comparison.diagnoses.table import Gradients, explain_each
from keras_ref.comparison.entries.proven_departures import DepartingTwin, Proof
from keras_ref.comparison.entries.triangular import mark_symmetrized
from keras_ref.comparison.sources.evidence import Annotator, Evidence, Outcome
from keras_ref.comparison.sources.oracles import ForwardOracle, Oracle, TwinOracle
from keras_ref.comparison.sources.settings import SURROGATE
from keras_ref.evaluation.keras_objects.keras_parts import find_untracked_variables, list_layers, unwrap_variable
from keras_ref.reports.verdict import Kind, Reason, Verdict
from keras_ref.translation.departures import get_departure

#: kinds of verdict that a declared surrogate may end in
OF_SURROGATES = frozenset((Kind.MISMATCH, Kind.UNDECIDED, Kind.KINK, Kind.DISCONNECTED))

#: what is added where the layers cannot be held
NOTE_ON_UNHELD = (
    "{}: only the layer with the surrogate gradient was looked for; what lies before and behind it could not be "
    "compared: {}."
)


def list_annotators(
    evidence: Evidence, paths: GradientPaths, keras_objects: Sequence[Any] = ()
) -> tuple[Annotator, ...]:
    """The annotators of a check of gradients of these Keras objects."""
    return (
        partial(mark_symmetrized, evidence=evidence),
        partial(mark_departures, evidence=evidence),
        partial(explain_none_and_nan, evidence=evidence, paths=paths),
        partial(explain_meant, evidence=evidence, paths=paths),
        partial(name_causes, evidence=evidence),
        partial(mark_surrogates, evidence=evidence, paths=paths),
        partial(note_vacuous, evidence=evidence),
        partial(fail_where_nothing_trains, evidence=evidence),
        partial(note_untracked, evidence=evidence, keras_objects=keras_objects),
    )


def list_annotators_of_program(evidence: Evidence) -> tuple[Annotator, ...]:
    """The annotators of a check of another program's gradients, of which there is no graph to look into."""
    return (
        partial(mark_departures, evidence=evidence),
        explain_unreached,
        partial(name_causes, evidence=evidence),
        partial(mark_surrogates, evidence=evidence),
        partial(note_vacuous, evidence=evidence),
        partial(fail_where_nothing_trains, evidence=evidence),
    )


def explain_unreached(outcome: Outcome) -> Outcome:
    """Where autodiff gives None and the loss does not move either, the variable is not connected to it."""

    def explained(verdict: Verdict) -> Verdict:
        is_bare = verdict.verdict is Kind.DISCONNECTED and verdict.reason_code is None
        return verdict.because(Reason.NOT_CONNECTED) if is_bare else verdict

    return outcome.each(explained)


def name_causes(outcome: Outcome, *, evidence: Evidence) -> Outcome:
    """What the mismatches look like, by the table of diagnoses, where something in it fits to rounding."""

    def gradients(verdicts: Sequence[Verdict], oracle: Oracle) -> Gradients:
        wrong = {v.name: np.asarray(evidence.autodiff.gradient[v.name], dtype=float) for v in verdicts}
        leaves = [np.asarray(leaf) for leaf in tf.nest.flatten(evidence.loss.data.x)]
        return Gradients(
            wrong=wrong,
            right={v.name: np.reshape(v.slopes, wrong[v.name].shape) for v in verdicts},
            allowed={v.name: v.allowed for v in verdicts},
            weights={name: np.asarray(value) for name, value in oracle.values.items()},
            samples=len(leaves[0]) if leaves and leaves[0].ndim else 0,
            indices=next((leaf for leaf in leaves if leaf.dtype.kind in "iu"), None),
        )

    causes: dict[tuple[str, str], str] = {}
    for oracle in (one for one in evidence.oracles if one.of_forward_pass):
        wrong = [v for v in outcome.verdicts if v.oracle == oracle.name and v.verdict is Kind.MISMATCH and v.slopes]
        wrong = [v for v in wrong if evidence.autodiff.gradient[v.name] is not None]
        causes |= {(oracle.name, name): words for name, words in explain_each(gradients(wrong, oracle)).items()}
    return outcome.each(lambda v: replace(v, looks_like=causes.get((v.oracle, v.name), "")))


def mark_departures(outcome: Outcome, *, evidence: Evidence) -> Outcome:
    """Where Keras is known to depart from the definition and that is shown to be the difference, it is no new finding.

    The forward oracle still judges the backward pass: a departure excuses only the twin, which follows a definition.
    """
    twin = next((oracle for oracle in evidence.oracles if isinstance(oracle, TwinOracle)), None)
    if twin is None or not any(v.failed and v.oracle == twin.name for v in outcome.verdicts):
        return outcome
    departing = DepartingTwin(
        twin=twin,
        autodiff=evidence.autodiff,
        forward=cache(lambda: _find_forward_oracle(evidence)),
        seed=evidence.settings.seed,
    )
    return prove_departures(outcome, departing)


def _find_forward_oracle(evidence: Evidence) -> ForwardOracle:
    found = next((oracle for oracle in evidence.oracles if isinstance(oracle, ForwardOracle)), None)
    return found or ForwardOracle.at(evidence.loss, evidence.loss.values, seed=evidence.settings.seed)


def prove_departures(outcome: Outcome, departing: DepartingTwin) -> Outcome:
    """The outcome with what a twin calls wrong a departure where that is proven, and notes on what Keras does."""
    wrong = [v for v in outcome.verdicts if v.oracle == departing.twin.name and v.accused and departing.entries]
    proofs = {v.name: departing.prove(v) for v in wrong}

    def marked(verdict: Verdict) -> Verdict:
        proof = proofs.get(verdict.name) if verdict.oracle == departing.twin.name else None
        return verdict if proof is None else _mark_departed(verdict, proof)

    named: dict[str, Verdict] = {}
    for v, proof in zip(wrong, proofs.values(), strict=True):
        for known in () if proof is None else proof.ids:
            named.setdefault(known, v)
    notes = [
        f"Keras departs from the definition here ({known}): {get_departure(known).reason} In {v.name} {list(v.worst)} "
        f"Keras has {v.autodiff:+.6e}, and the definition {v.numeric:+.6e}."
        for known, v in named.items()
    ]
    unexplained = [name for name, proof in proofs.items() if proof is None]
    if unexplained:
        tried = ", ".join(departing.entries)
        notes.append(f"No known departure explains what differs from the twin in {', '.join(unexplained)} ({tried}).")
    return outcome.each(marked).with_notes(*notes)


def _mark_departed(verdict: Verdict, proof: Proof) -> Verdict:
    """The verdict, what was called wrong in it being a known departure; undecided where other entries are."""
    rest = {kind: n for kind, n in verdict.counts.items() if kind not in (Kind.MISMATCH, Kind.NAN)}
    counts = {**rest, Kind.DEPARTURE.value: len(verdict.accused)}
    kind = Kind.UNDECIDED if Kind.UNDECIDED in rest else Kind.DEPARTURE
    instead = " ".join(get_departure(known).reason for known in proof.ids)
    departed = replace(verdict, verdict=kind, counts=counts, accused=(), instead=instead)
    return departed.because(Reason.KNOWN_DEPARTURE, ", ".join(proof.ids), proof.shown)


def mark_surrogates(outcome: Outcome, *, evidence: Evidence, paths: GradientPaths | None = None) -> Outcome:
    """Verdicts on gradients that are surrogates: by pattern, by a layer under `surrogate`, or by quantization.

    What lies before and behind such a layer is compared with the layer held. Without paths, which a program of another
    backend does not show, by pattern alone.
    """
    by_name = {name for name in evidence.names if evidence.expectation(name) == SURROGATE}
    excused: dict[str, Reason] = {}
    if paths is not None:
        excused |= {n: Reason.SURROGATE_BY_QUANTIZATION for n in evidence.names if paths.is_quantized(n)}
        excused |= {n: Reason.SURROGATE_BY_LAYER for n in evidence.names if paths.is_declared(n)}
    excused |= dict.fromkeys(by_name, Reason.SURROGATE_BY_NAME)
    forward = next((oracle.name for oracle in evidence.oracles if oracle.of_forward_pass), None)
    #: two errors may cancel in a match: a wrong sign before a gradient reversal
    doubted = [
        v.name
        for v in outcome.verdicts
        if v.oracle == forward and v.verdict in (*OF_SURROGATES, Kind.MATCH) and v.name in excused.keys() - by_name
    ]
    doubted = [name for name in doubted if paths is not None and not paths.is_overwritten(name)]
    beside = None if paths is None else compare_beside_layers(doubted, evidence=evidence, paths=paths)

    def judged(verdict: Verdict) -> Verdict:
        if beside is not None and paths is not None and verdict.oracle == forward:
            wrong = beside.of(verdict.name, paths)
            if wrong is not None:
                return wrong.because(Reason.WRONG_BESIDE_SURROGATE, wrong.reason or wrong.verdict)
        if verdict.verdict not in OF_SURROGATES or verdict.name not in excused:
            return verdict
        return replace(verdict, verdict=Kind.SURROGATE).because(excused[verdict.name], verdict.verdict)

    notes = [] if beside is None or not beside.refusal else [NOTE_ON_UNHELD.format(", ".join(doubted), beside.refusal)]
    return outcome.each(judged).with_notes(*notes)


def fail_where_nothing_trains(outcome: Outcome, *, evidence: Evidence) -> Outcome:
    """Disconnected variables fail where no variable that is trained has a gradient, in training neither."""
    trained, gradient = evidence.loss.variables, evidence.autodiff.gradient
    in_training = {v.name for v in outcome.verdicts if v.reason_code is Reason.CONNECTED_ONLY_IN}
    if not trained or in_training & set(trained) or any(gradient[name] is not None for name in trained):
        return outcome

    def failing(verdict: Verdict) -> Verdict:
        if verdict.verdict is not Kind.DISCONNECTED or verdict.name not in trained:
            return verdict
        return verdict.because(Reason.NOTHING_TRAINS, verdict.reason)

    return outcome.each(failing)


def note_untracked(outcome: Outcome, *, evidence: Evidence, keras_objects: Sequence[Any]) -> Outcome:
    """Add a note for each variable of TensorFlow's own in a layer: Keras 3 does not train it."""
    return outcome.with_notes(*note_untracked_variables(evidence.loss.untracked, keras_objects))


def note_untracked_variables(read_by_loss: Iterable[Any], keras_objects: Iterable[Any]) -> list[str]:
    """A note for each of TensorFlow's own trainable variables that layers hold, or that a loss over layers reads."""
    keras_objects = list(keras_objects)
    held = {id(v): name for one in keras_objects for name, v in find_untracked_variables(one).items()}
    layers = [layer for one in keras_objects for layer in list_layers(one)]
    weights = {id(unwrap_variable(v)) for layer in layers for v in layer.variables}
    read = {id(v): v.name.removesuffix(":0") for v in read_by_loss if layers and id(v) not in weights}
    return [
        f"{name}: a tf.Variable is no weight of a layer, so that Keras does not train it"
        f"{', although the loss depends on it' if key in read else ''}. Make it with add_weight."
        for key, name in (held | {key: name for key, name in read.items() if key not in held}).items()
    ]


def note_vacuous(outcome: Outcome, *, evidence: Evidence) -> Outcome:
    """Add a note for each all-zero gradient, disconnected variable, symmetrized matrix and kink."""
    forward = {oracle.name for oracle in evidence.oracles if oracle.of_forward_pass}
    notes = []
    for v in outcome.verdicts:
        if v.oracle not in forward:
            continue
        if v.verdict is Kind.MATCH and _is_all_zero(v):
            notes.append(
                f"{v.name}: every compared slope is zero (dead, saturated or without influence); compared against the "
                "noise alone."
            )
        if v.verdict is Kind.DISCONNECTED:
            notes.append(f"{v.name}: autodiff gives None, and the loss does not move either: {v.reason}.")
        if v.verdict is Kind.SYMMETRIZED:
            notes.append(f"{v.name}: {v.reason}.")
        if v.jumps:
            notes.append(
                f"{v.jumps} of {v.compared} entries of {v.name} sit on a jump of the loss (a comparison that decides "
                "there): they have no derivative; autodiff is right on the branch that the point lies on."
            )
        if kinks := v.counts.get(Kind.KINK, 0) - v.jumps:
            notes.append(f"{v.name}: {kinks} entries sit on a kink; autodiff is right beside it.")
    return outcome.with_notes(*notes)


def _is_all_zero(v: Verdict) -> bool:
    """Whether every compared entry is zero on both sides, so that no error has a size relative to it."""
    zero = v.compared > 0 and v.numeric == 0.0 and v.autodiff == 0.0
    return zero and not np.isnan(v.visible) and not np.isfinite(v.visible_relative)
