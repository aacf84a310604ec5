"""The public verbs: check_gradients and check_updates."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ref import data as data_module
from keras_ref import departures
from keras_ref.comparison import Autodiff, compare
from keras_ref.locate import located
from keras_ref.mirror import mirror, mirrored
from keras_ref.oracles import autodiff_at
from keras_ref.probe import Data, Probe
from keras_ref.reflect import NoTwin
from keras_ref.retype import DTYPE, in_float64, policy_of, states_of
from keras_ref.subject import distinct, loss_objects, oracles_of, subject_of
from keras_ref.updates import compare_steps
from keras_ref.verdicts import Report, Verdict
from scratch.differences import UNIT, Scheme
from scratch.losses.base import Loss
from scratch.model import Model
from scratch.registry import every, get

Array = np.ndarray
Progress = Callable[[int, int, str], None]

#: entries that effort "auto" compares of one variable, when the model has more than FULL in all
FULL, SAMPLED = 4096, 64


def check_gradients(
    model: Any,
    x: Any,
    y: Any = None,
    *,
    loss: Any = None,
    sample_weight: Any = None,
    wrt: Sequence[str] = ("weights", "inputs"),
    training: bool = False,
    effort: str = "auto",
    variables: str = "*",
    modes: Sequence[str] = ("eager",),
    expect: Mapping[str, str] | None = None,
    oracles: Sequence[str] = ("forward", "twin"),
    scheme: Scheme | None = None,
    most: int | None = None,
    weights: Mapping[str, Array] | None = None,
    seed: int = 0,
    executor: Any = None,
    progress: Progress | None = None,
    replay: str = "",
) -> Report:
    """Compare autodiff's gradients of a model's loss with slopes that need no calculus.

    model      a built keras.Model (loss and everything else as compiled), or a scratch.Model with `weights`
    x, y       a batch, as the model takes it; without y and loss every output meets a random cotangent
    wrt        "weights", "inputs" or both;   variables  a glob over variable paths;   modes  see autodiff.MODES
    effort     "full": every entry; "auto": every entry of a small model, sampled ones of a large one
    most       compare at most so many entries of each variable, drawn with the seed
    expect     {glob: "surrogate"}: gradients that are meant to differ
    oracles    "forward", "twin" or both; "twin" alone raises NoTwin where there is none
    scheme     a scheme of scratch.differences for every entry, in place of as many steps as each entry's doubt asks for

    Two oracles: Keras's own forward pass differenced in float64, always; the NumPy twin where every layer has one.
    Nothing of the model, the data or the seeds is changed. Raises: ValueError for what cannot be checked, one sentence.
    """
    if isinstance(model, Model):
        model = mirror(model, weights)
        loss = _mirrored_losses(loss)
    _options(effort, modes, wrt, expect, oracles)
    data_module.validated(model, x, y, sample_weight)
    if "weights" in wrt:
        data_module.finite_weights(model)
    notes: list[str] = []
    with ExitStack() as stack:
        stack.enter_context(in_float64(model, *loss_objects(loss)))
        data, loss_of, projection = subject_of(model, Data(x, y, sample_weight), loss, training, seed, notes)
        trained = list(model.trainable_variables) if "weights" in wrt else []
        state = [v for v in model.variables if all(v is not other for other in trained)]
        state += [*getattr(model, "metrics_variables", ()), *states_of(model)]
        probe = Probe(loss_of, trained, distinct(state), data, watch_inputs="inputs" in wrt)
        names = [n for n in probe.values if fnmatch.fnmatch(n, variables)]
        _require_names(names, variables, probe)
        found = oracles_of(model, probe, data, projection, training, seed, notes, executor, oracles, along=effort == "fast")
        declared = [n for n in names if any(fnmatch.fnmatch(n, glob) for glob in expect or {})]
        verdicts = _compared(probe, found, names, effort, modes, seed, progress, notes, scheme, most, declared)
        verdicts = _known(verdicts, found, notes)
    verdicts = [_expected(v, expect or {}) for v in verdicts]
    _said_aloud(verdicts, notes)
    return Report(model.name, tuple(verdicts), tuple(dict.fromkeys(notes)), seed, replay, found[0].noise)


def check_updates(
    model: Any,
    x: Any,
    y: Any = None,
    *,
    optimizer: Any = None,
    loss: Any = None,
    sample_weight: Any = None,
    steps: int = 3,
    batch_size: int | None = None,
    weights: Mapping[str, Array] | None = None,
    seed: int = 0,
    executor: Any = None,
    progress: Progress | None = None,
    replay: str = "",
) -> Report:
    """Compare the weights after each of Keras's own training steps with numeric gradient and optimizer twin.

    model, x, y   as for check_gradients; batches of `batch_size` are taken in order, round and round
    optimizer, loss   those the model was compiled with, unless given

    Model, optimizer and data are afterwards what they were. Raises: ValueError for what cannot be checked.
    """
    if steps < 1:
        raise ValueError(f"`steps` must be at least 1. Received: steps={steps}. Pass the number of training steps to compare.")
    if isinstance(model, Model):
        model = mirror(model, weights)
        optimizer = optimizer if isinstance(optimizer, (str, keras.optimizers.Optimizer)) else mirrored(optimizer)
        loss = _mirrored_losses(loss)
    data_module.validated(model, x, y, sample_weight)
    data_module.finite_weights(model)
    compiled = getattr(model, "optimizer", None)
    if optimizer is None and compiled is None:
        raise ValueError(f"A model must have an optimizer for its updates to be checked. Received: {model.name!r}, not compiled. Compile it, or pass optimizer= and loss=.")
    notes: list[str] = []
    with ExitStack() as stack:
        given = [optimizer] if isinstance(optimizer, keras.optimizers.Optimizer) else []
        stack.enter_context(in_float64(model, *given, *loss_objects(loss)))
        if optimizer is not None or loss is not None:
            model.compile(optimizer=optimizer or compiled, loss=loss if loss is not None else model.loss, run_eagerly=True)
        batches = _batches(Data(x, y, sample_weight), steps, batch_size)
        _, loss_of, projection = subject_of(model, batches[0], None, True, seed, notes)
        if projection:
            raise ValueError(f"A training step needs targets. Received: y=None for {model.name!r}, which was compiled with a loss. Pass y.")

        trained = list(model.trainable_variables)
        state = [v for v in model.variables if all(v is not other for other in trained)]
        probe = Probe(loss_of, trained, distinct([*state, *model.metrics_variables, *states_of(model)]), batches[0], watch_inputs=False)

        def oracle_of(probe: Probe) -> Any:
            return oracles_of(model, probe, probe.data, False, True, seed, notes, executor)[-1]

        try:
            verdicts = compare_steps(model, probe, oracle_of, batches, seed=seed, progress=progress)
        except NoTwin as reason:
            notes.append(f"No twin: {reason}")
            verdicts = [Verdict(v.path, "update", "undecided", 0, int(np.prod(v.shape)), reason=str(reason)) for v in model.trainable_variables]
    return Report(f"{model.name}, {steps} steps of {_optimizer_name(optimizer or compiled)}", tuple(verdicts), tuple(dict.fromkeys(notes)), seed, replay)


def _mirrored_losses(loss: Any) -> Any:
    """Losses given as objects or names of scratch, as Keras's."""
    flat = list(loss) if isinstance(loss, (list, tuple)) else [loss]
    flat = [get("loss", one)() if isinstance(one, str) and one in every("loss") else one for one in flat]
    flat = [mirrored(one, dtype="float64") if isinstance(one, Loss) else one for one in flat]
    return flat[0] if len(flat) == 1 else flat


def _optimizer_name(optimizer: Any) -> str:
    return optimizer if isinstance(optimizer, str) else type(optimizer).__name__


def _batches(data: Data, steps: int, batch_size: int | None) -> list[Data]:
    """`steps` batches in order, round and round."""
    samples = len(np.asarray(tf.nest.flatten(data.x)[0]))
    size = min(batch_size or samples, samples)
    starts = range(0, samples - samples % size, size)

    def take(part: Any, start: int) -> Any:
        return tf.nest.map_structure(lambda leaf: None if leaf is None else np.asarray(leaf)[start : start + size], part)

    order = [starts[i % len(starts)] for i in range(steps)]
    return [Data(take(data.x, s), take(data.y, s), take(data.sample_weight, s)) for s in order]


def _options(
    effort: str, modes: Sequence[str], wrt: Sequence[str], expect: Mapping[str, str] | None, oracles: Sequence[str]
) -> None:
    from keras_ref.autodiff import MODES

    for value, legal, name in (
        *((mode, tuple(MODES), "modes") for mode in modes),
        *((one, ("weights", "inputs"), "wrt") for one in wrt),
        *((one, ("forward", "twin"), "oracles") for one in oracles),
        (effort, ("auto", "full", "fast"), "effort"),
        *((word, ("surrogate",), "expect") for word in (expect or {}).values()),
    ):
        if value not in legal:
            raise ValueError(f"`{name}` must be one of {', '.join(legal)}. Received: {value!r}. Choose one of them.")


def _require_names(names: list[str], pattern: str, probe: Probe) -> None:
    if not names:
        raise ValueError(
            f"`variables` must match at least one variable. Received: {pattern!r}, where there are "
            f"{', '.join(probe.values) or 'none'}. Correct the pattern."
        )


def _compared(
    probe: Probe, oracles: list[Any], names: list[str], effort: str, modes: Sequence[str], seed: int,
    progress: Progress | None, notes: list[str], scheme: Scheme | None, most: int | None, declared: list[str],
) -> list[Verdict]:  # fmt: skip
    if effort == "fast":
        verdicts = located(probe, oracles[0], names, mode=modes[0], seed=seed, notes=notes, progress=progress, declared=declared)
        if len(modes) > 1:
            autodiff = autodiff_at(probe, probe.values, mode=modes[0])
            verdicts += [v for mode in modes[1:] for v in _between_modes(probe, autodiff, mode, names)]
        return verdicts
    autodiff = autodiff_at(probe, probe.values, mode=modes[0])
    verdicts = []
    total = sum(probe.values[n].size for n in names)
    if most is None and effort != "full" and total > FULL:
        most = SAMPLED
        notes.append(f"{total} entries: {SAMPLED} of each variable are compared, drawn with seed {seed}; effort='full' compares all.")
    for i, name in enumerate(names):
        entries = _chosen(probe.values[name].size, most, seed + i)
        for oracle in oracles:
            if oracle.name == "twin" and name not in oracle.names:
                continue
            verdicts.append(compare(oracle, name, autodiff, entries, seed=seed, scheme=scheme))
        if progress is not None:
            progress(i + 1, len(names), name)
    for mode in modes[1:]:
        verdicts += _between_modes(probe, autodiff, mode, names)
    return verdicts


def _chosen(size: int, most: int | None, seed: int) -> Array:
    if most is None or size <= most:
        return np.arange(size)
    return np.sort(np.random.default_rng(seed).choice(size, most, replace=False))


def _between_modes(probe: Probe, first: Autodiff, mode: str, names: list[str]) -> list[Verdict]:
    """Gradients of another mode against those of the first; both are exact but for rounding."""
    other = autodiff_at(probe, probe.values, mode=mode)
    verdicts = []
    for name in names:
        a, b = first.gradient[name], other.gradient[name]
        if a is None or b is None:
            if (a is None) != (b is None):
                verdicts.append(Verdict(name, mode, "mode-dependent", reason=f"None in {first.how if a is None else mode} only"))
            continue
        allowed = first.rounding[name] + other.rounding[name]
        with np.errstate(invalid="ignore"):
            same = (np.abs(a - b) <= allowed) | ((a == b) | (np.isnan(a) & np.isnan(b)))
            excess = np.where(same, 0.0, np.nan_to_num(np.abs(a - b), nan=np.inf) + UNIT)
        i = int(np.argmax(excess)) if excess.size else 0
        verdicts.append(
            Verdict(
                name, mode, "match" if same.all() else "mode-dependent", a.size, a.size,
                {"match": int(same.sum()), "mode-dependent": int((~same).sum())},
                tuple(int(k) for k in np.unravel_index(i, a.shape)), float(a.ravel()[i]), float(b.ravel()[i]),
                truncation=0.0, rounding=float(allowed.ravel()[i]), visible=float(2 * allowed.max(initial=0.0)), how=first.how,
            )
        )  # fmt: skip
    return verdicts


def _known(verdicts: list[Verdict], oracles: list[Any], notes: list[str]) -> list[Verdict]:
    """Where Keras is known to depart from the definition, a twin that differs is that departure, not a new finding.

    The forward oracle still judges the backward pass: a departure excuses only the twin.
    """
    twins = [o for o in oracles if o.name == "twin"]
    if not twins or not any(v.failed and v.oracle == "twin" for v in verdicts):
        return verdicts
    specs = twins[0].specifications
    # a layer that has no float64 kernels computes in float32, which the twin does not: refused in float64, it is excused
    ids = departures.touching(specs) or (
        departures.refusing(specs) if any(policy_of(spec) != DTYPE for spec in specs) else ()
    )
    if not ids:
        return verdicts
    named = ", ".join(ids)
    notes.append(f"Keras departs from the definition here ({named}; see departures.toml): the twin differs for that reason.")
    return [replace(v, verdict="departure", reason=named) if v.failed and v.oracle == "twin" else v for v in verdicts]


def _expected(verdict: Verdict, expect: Mapping[str, str]) -> Verdict:
    declared = any(fnmatch.fnmatch(verdict.name, pattern) for pattern in expect)
    if declared and verdict.verdict in ("mismatch", "undecided", "kink", "disconnected"):
        return replace(verdict, verdict="surrogate", reason=f"declared a surrogate; found: {verdict.verdict}")
    return verdict


def _said_aloud(verdicts: list[Verdict], notes: list[str]) -> None:
    """Nothing passes vacuously: dead and saturated parts, disconnected variables and kinks are named."""
    for v in verdicts:
        if v.oracle != "forward":
            continue
        if v.verdict == "match" and v.compared and v.numeric == 0.0 and v.autodiff == 0.0 and abs(v.visible) >= 0 and _all_zero(v):
            notes.append(f"{v.name}: every compared slope is zero (dead, saturated or without influence); compared against the noise alone.")
        if v.verdict == "disconnected":
            notes.append(f"{v.name}: autodiff gives None, and the loss does not move either: it is not connected to this loss.")
        if v.counts.get("kink"):
            notes.append(f"{v.name}: {v.counts['kink']} entries sit on a kink; autodiff is right beside it.")


def _all_zero(verdict: Verdict) -> bool:
    return not np.isfinite(verdict.visible_relative)
