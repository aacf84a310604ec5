"""The public verbs: check_gradients and check_updates."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ref import data as data_module
from keras_ref import precision
from keras_ref.autodiff import MODES
from keras_ref.comparison import Autodiff, compare
from keras_ref.findings import between_modes, expected, known, said_aloud
from keras_ref.mirror import mirror, mirrored
from keras_ref.options import BadInput
from keras_ref.oracles import autodiff_at
from keras_ref.probe import Data, Probe
from keras_ref.reflect import NoTwin
from keras_ref.retype import DTYPE, in_float64, in_precision
from keras_ref.subject import Subject, loss_objects, loss_scale, oracles_of, subject_of, twin_of, untrained
from keras_ref.updates import compare_steps
from keras_ref.verdicts import Report, Verdict
from scratch.differences import Scheme
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
    Nothing of the model, the data or the seeds is changed. Raises: BadInput (a ValueError) for what cannot be checked, one sentence.
    """
    if isinstance(model, Model):
        model = mirror(model, weights)
        loss = _mirrored_losses(loss)
    for one in wrt:
        require_one_of("wrt", one, ("weights", "inputs"))
    data_module.validated(model, x, y, sample_weight)
    if "weights" in wrt:
        data_module.finite_weights(model)

    def prepare(notes: list[str], dtype: str | None) -> Subject:
        data, loss_of, projection = subject_of(model, Data(x, y, sample_weight), loss, training, seed, notes, dtype)
        trained = list(model.trainable_variables) if "weights" in wrt else []

        def twin(probe: Probe) -> Any:
            return twin_of(model, probe, data, projection, training, seed, executor)

        return Subject(model.name, data, loss_of, trained, untrained(model, trained), twin, loss_scale(model))

    settings = Settings(effort, variables, tuple(modes), expect or {}, tuple(oracles), scheme, most, seed, "inputs" in wrt, progress, replay)
    return checked((model, *loss_objects(loss)), prepare, settings)


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

    Model, optimizer and data are afterwards what they were. Raises: BadInput (a ValueError) for what cannot be checked.
    """
    if steps < 1:
        raise BadInput(f"`steps` must be at least 1. Received: steps={steps}. Pass the number of training steps to compare.")
    if isinstance(model, Model):
        model = mirror(model, weights)
        optimizer = optimizer if isinstance(optimizer, (str, keras.optimizers.Optimizer)) else mirrored(optimizer)
        loss = _mirrored_losses(loss)
    data_module.validated(model, x, y, sample_weight)
    data_module.finite_weights(model)
    compiled = getattr(model, "optimizer", None)
    if optimizer is None and compiled is None:
        raise BadInput(f"A model must have an optimizer for its updates to be checked. Received: {model.name!r}, not compiled. Compile it, or pass optimizer= and loss=.")
    notes: list[str] = []
    with ExitStack() as stack:
        given = [optimizer] if isinstance(optimizer, keras.optimizers.Optimizer) else []
        stack.enter_context(in_float64(model, *given, *loss_objects(loss)))
        if optimizer is not None or loss is not None:
            model.compile(optimizer=optimizer or compiled, loss=loss if loss is not None else model.loss, run_eagerly=True)
        batches = _batches(Data(x, y, sample_weight), steps, batch_size)
        _, loss_of, projection = subject_of(model, batches[0], None, True, seed, notes)
        if projection:
            raise BadInput(f"A training step needs targets. Received: y=None for {model.name!r}, which was compiled with a loss. Pass y.")

        trained = list(model.trainable_variables)
        probe = Probe(loss_of, trained, untrained(model, trained), batches[0], watch_inputs=False)

        def oracle_of(probe: Probe) -> Any:
            return oracles_of(model.name, probe, lambda p: twin_of(model, p, p.data, False, True, seed, executor), seed, notes)[-1]

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


@dataclass(frozen=True)
class Settings:
    """How a check is done: the options that the verbs share, as check_gradients explains them."""

    effort: str = "auto"
    variables: str = "*"
    modes: tuple[str, ...] = ("eager",)
    expect: Mapping[str, str] = field(default_factory=dict)
    oracles: tuple[str, ...] = ("forward", "twin")
    scheme: Scheme | None = None
    most: int | None = None
    seed: int = 0
    watch_inputs: bool = True
    progress: Progress | None = None
    replay: str = ""

    def __post_init__(self) -> None:
        for value, legal, name in (
            *((mode, tuple(MODES), "modes") for mode in self.modes),
            *((one, ("forward", "twin"), "oracles") for one in self.oracles),
            (self.effort, ("auto", "full", "fast"), "effort"),
            *((word, ("surrogate",), "expect") for word in self.expect.values()),
        ):
            require_one_of(name, value, legal)


def require_one_of(name: str, value: Any, legal: Sequence[str]) -> None:
    """Raises: BadInput for an option's value that is not legal."""
    if value not in legal:
        raise BadInput(f"`{name}` must be one of {', '.join(legal)}. Received: {value!r}. Choose one of them.")


#: builds the subject of a check, given a list to add notes to and the precision of its data (None: as they are)
Prepare = Callable[[list[str], str | None], Subject]


def checked(things: Sequence[Any], prepare: Prepare, settings: Settings) -> Report:
    """Check a subject that is built over `things` which compute in float64 for the time of the check.

    Where they do not run in float64 at all, they are checked in the precision they have. What a lower precision than
    float64 costs the gradient is measured first.
    """
    low = _low_gradient(things, prepare)
    try:
        return _checked(DTYPE, things, prepare, settings, low, [])
    except (TypeError, ValueError, tf.errors.OpError) as error:
        if isinstance(error, BadInput) or not precision.refuses_float64(error):
            raise
        return _checked(None, things, prepare, settings, {}, [precision.refusal(error)])


def _low_gradient(things: Sequence[Any], prepare: Prepare) -> dict[str, Any]:
    """The gradient of the variables in the precision that the subject trains in, where that is less than float64."""
    if not precision.is_low(things):
        return {}
    with in_precision(None, *things):
        subject = prepare([], None)
        probe = replace(subject, loss=lambda data: subject.loss(data) * subject.scale).probe(watch_inputs=False, dtype=None)
        return {name: None if g is None else g / subject.scale for name, g in probe.gradient().items()}


def _checked(
    dtype: str | None, things: Sequence[Any], prepare: Prepare, settings: Settings, low: Mapping[str, Any], notes: list[str]
) -> Report:  # fmt: skip
    with in_precision(dtype, *things):
        subject = prepare(notes, dtype or "float32")
        probe = subject.probe(watch_inputs=settings.watch_inputs, dtype=dtype or "float32")
        if dtype is None:
            probe.unit = precision.unit_of([*subject.trained, *probe.inputs.values()])
        names = [n for n in probe.values if fnmatch.fnmatch(n, settings.variables)]
        _require_names(names, settings.variables, probe)
        found = oracles_of(subject.name, probe, subject.twin, settings.seed, notes, settings.oracles)
        autodiff = autodiff_at(probe, probe.values, mode=settings.modes[0])
        verdicts = _compared(probe, found, autodiff, names, settings, notes)
        verdicts = known(verdicts, found, notes)
    verdicts = [expected(v, settings.expect) for v in verdicts]
    said_aloud(verdicts, notes)
    cost = precision.losses_of(low, autodiff.gradient)
    return Report(subject.name, tuple(verdicts), tuple(dict.fromkeys(notes)), settings.seed, settings.replay, found[0].noise, precision_loss=cost)


def _require_names(names: list[str], pattern: str, probe: Probe) -> None:
    if not names:
        raise BadInput(
            f"`variables` must match at least one variable. Received: {pattern!r}, where there are "
            f"{', '.join(probe.values) or 'none'}. Correct the pattern."
        )


def _compared(
    probe: Probe, oracles: list[Any], autodiff: Autodiff, names: list[str], settings: Settings, notes: list[str]
) -> list[Verdict]:  # fmt: skip
    """The verdicts on the named variables; this is where an effort decides what is compared."""
    verdicts, most, seed = [], settings.most, settings.seed
    total = sum(probe.values[n].size for n in names)
    if most is None and settings.effort != "full" and total > FULL:
        most = SAMPLED
        notes.append(f"{total} entries: {SAMPLED} of each variable are compared, drawn with seed {seed}; effort='full' compares all.")
    for i, name in enumerate(names):
        entries = _chosen(probe.values[name].size, most, seed + i)
        for oracle in oracles:
            if oracle.name == "twin" and name not in oracle.names:
                continue
            verdicts.append(compare(oracle, name, autodiff, entries, seed=seed, scheme=settings.scheme))
        if settings.progress is not None:
            settings.progress(i + 1, len(names), name)
    for mode in settings.modes[1:]:
        verdicts += between_modes(probe, autodiff, mode, names)
    return verdicts


def _chosen(size: int, most: int | None, seed: int) -> Array:
    if most is None or size <= most:
        return np.arange(size)
    return np.sort(np.random.default_rng(seed).choice(size, most, replace=False))
