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
from keras_ref.draws import draws_of_model
from keras_ref.oracles import ForwardOracle, TwinOracle, autodiff_at
from keras_ref.probe import Data, Probe, named_leaves
from keras_ref.reflect import NoTwin, reflect_with_variables, reflected
from keras_ref.retype import in_float64
from keras_ref.updates import compare_steps
from keras_ref.verdicts import Report, Verdict
from scratch.differences import UNIT
from scratch.gradient import Nudges
from scratch.losses.base import Loss, Projection
from scratch.model import Model
from scratch.objective import Objective
from scratch.registry import every, get

Array = np.ndarray
Progress = Callable[[int, int, str], None]

#: relative noise of a loss from which on float64 rounding alone no longer explains it
SUSPICIOUS = 2.0**-36
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
    expect     {glob: "surrogate"}: gradients that are meant to differ
    oracles    "forward", "twin" or both; "twin" alone raises NoTwin where there is none

    Two oracles: Keras's own forward pass differenced in float64, always; the NumPy twin where every layer has one.
    Nothing of the model, the data or the seeds is changed. Raises: ValueError for what cannot be checked, one sentence.
    """
    if isinstance(model, Model):
        from keras_ref.mirror import mirror

        model = mirror(model, weights)
        loss = _mirrored_losses(loss)
    _options(effort, modes, wrt, expect, oracles)
    data_module.validated(model, x, y, sample_weight)
    if "weights" in wrt:
        data_module.finite_weights(model)
    notes: list[str] = []
    with ExitStack() as stack:
        stack.enter_context(in_float64(model, *_loss_objects(loss)))
        data, loss_of, projection = _subject(model, Data(x, y, sample_weight), loss, training, seed, notes)
        trained = list(model.trainable_variables) if "weights" in wrt else []
        state = [v for v in model.variables if all(v is not other for other in trained)]
        state += list(getattr(model, "metrics_variables", ()))
        probe = Probe(loss_of, trained, _distinct(state), data, watch_inputs="inputs" in wrt)
        names = [n for n in probe.values if fnmatch.fnmatch(n, variables)]
        _require_names(names, variables, probe)
        found = _oracles(model, probe, data, projection, training, seed, notes, executor, oracles)
        verdicts = _compared(probe, found, names, effort, modes, seed, progress, notes)
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
        from keras_ref.mirror import mirror, mirrored

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
        stack.enter_context(in_float64(model, *given, *_loss_objects(loss)))
        if optimizer is not None or loss is not None:
            model.compile(optimizer=optimizer or compiled, loss=loss if loss is not None else model.loss, run_eagerly=True)
        batches = _batches(Data(x, y, sample_weight), steps, batch_size)
        data, loss_of, projection = _subject(model, batches[0], None, True, seed, notes)
        if projection:
            raise ValueError(f"A training step needs targets. Received: y=None for {model.name!r}, which was compiled with a loss. Pass y.")

        trained = list(model.trainable_variables)
        state = [v for v in model.variables if all(v is not other for other in trained)]
        probe = Probe(loss_of, trained, _distinct([*state, *model.metrics_variables]), batches[0], watch_inputs=False)

        def oracle_of(probe: Probe) -> Any:
            return _oracles(model, probe, probe.data, False, True, seed, notes, executor)[-1]

        try:
            verdicts = compare_steps(model, probe, oracle_of, batches, seed=seed, progress=progress)
        except NoTwin as reason:
            notes.append(f"No twin: {reason}")
            verdicts = [Verdict(v.path, "update", "undecided", 0, int(np.prod(v.shape)), reason=str(reason)) for v in model.trainable_variables]
    return Report(f"{model.name}, {steps} steps of {_optimizer_name(optimizer or compiled)}", tuple(verdicts), tuple(dict.fromkeys(notes)), seed, replay)


def _mirrored_losses(loss: Any) -> Any:
    """Losses given as objects or names of scratch, as Keras's."""
    from keras_ref.mirror import mirrored

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


def _distinct(variables: list[Any]) -> list[Any]:
    return list({id(v): v for v in variables}.values())


def _loss_objects(loss: Any) -> list[Any]:
    return [one for one in tf.nest.flatten(loss) if isinstance(one, keras.losses.Loss)]


def _subject(
    model: Any, data: Data, loss: Any, training: bool, seed: int, notes: list[str]
) -> tuple[Data, Callable[[Data], Any], bool]:
    """The loss as a function of data: compiled, given, or random cotangents on every float output."""
    if loss is not None:
        _compile(model, loss)
    compiled = getattr(model, "_compile_loss", None) is not None
    if data.y is None:
        shapes = keras.tree.flatten(model(data.tensors().x, training=False))
        if compiled:
            notes.append("No targets were given: every output meets a random cotangent in place of the compiled loss.")
        generator = np.random.default_rng(seed + 2)
        cotangents = [generator.normal(size=tuple(t.shape)) for t in shapes]

        def projected(data: Data) -> Any:
            outputs = keras.tree.flatten(_call(model, data.x, training))
            parts = [tf.reduce_sum(tf.cast(o, "float64") * c) for o, c in zip(outputs, data.y, strict=True) if o.dtype.is_floating]
            return tf.add_n([*parts, *(tf.cast(extra, "float64") for extra in model.losses)])

        return Data(data.x, cotangents, None), projected, True
    if not compiled and not model.losses and type(model).compute_loss is keras.Model.compute_loss:
        raise ValueError(
            f"A model must have a loss when targets are given. Received: {model.name!r}, not compiled, and loss=None. "
            "Compile it with a loss, or pass loss=."
        )

    def compiled_loss(data: Data) -> Any:
        y_pred = _call(model, data.x, training)
        return model._compute_loss(x=data.x, y=data.y, y_pred=y_pred, sample_weight=data.sample_weight, training=training)

    return data, compiled_loss, False


def _call(model: Any, x: Any, training: bool) -> Any:
    return model(x, training=training) if getattr(model, "_call_has_training_arg", True) else model(x)


def _compile(model: Any, loss: Any) -> None:
    """Give the model a loss for the time of the check (in_float64 puts the old one back)."""
    model.compile(optimizer=None, loss=loss, run_eagerly=True)


def _oracles(
    model: Any, probe: Probe, data: Data, projection: bool, training: bool, seed: int, notes: list[str], executor: Any,
    wanted: Sequence[str] = ("forward", "twin"),
) -> list[Any]:  # fmt: skip
    found: list[Any] = [ForwardOracle.at(probe, probe.values, seed=seed)] if "forward" in wanted else []
    if "twin" in wanted:
        try:
            found.append(_twin(model, probe, data, projection, training, seed, executor))
        except NoTwin as reason:
            if not found:
                raise
            notes.append(f"No twin: {reason}")
    for oracle in found:
        _finite(oracle, model.name)
        if oracle.noise > SUSPICIOUS * abs(oracle.base) and oracle.name == "forward":
            notes.append(
                f"float32 inside: the loss of {model.name} has a noise of {oracle.noise:.1e} "
                f"({oracle.noise / max(abs(oracle.base), UNIT):.0e} of its value), more than float64 rounding; steps were widened accordingly."
            )
    return found


def _finite(oracle: Any, name: str) -> None:
    if not np.isfinite(oracle.base):
        raise ValueError(
            f"The loss must be finite before its gradient can be checked. Received: {oracle.base} from the forward pass of "
            f"{name!r}. Look at the forward pass, the data and the weights first."
        )
    if not np.isfinite(oracle.noise):
        raise ValueError(f"The loss of {name!r} must be finite near the point. Received: values that are not. Move the weights.")


def _twin(model: Any, probe: Probe, data: Data, projection: bool, training: bool, seed: int, executor: Any) -> TwinOracle:
    twin, variables = reflect_with_variables(model)
    if projection:
        objective = Objective.of(twin, tuple(Projection() for _ in twin.outputs))
        targets: Any = [np.asarray(c) for c in data.y]
    else:
        if type(model).compute_loss not in (keras.Model.compute_loss, keras.Sequential.compute_loss):
            raise NoTwin(f"The loss of a twin must be a compiled one. Received: {type(model).__name__}, which computes its own.")
        objective = Objective.of(twin, _twin_losses(model, len(twin.outputs)), _loss_weights(model, len(twin.outputs)))
        targets = tf.nest.flatten(data.y) if len(twin.outputs) > 1 else np.asarray(tf.nest.flatten(data.y)[0])
    weights = tf.nest.flatten(data.sample_weight) if data.sample_weight is not None else [None]
    paths = {id(v): path for path, v in probe.variables.items()}
    names = {paths[id(v)]: name for name, v in variables.items() if id(v) in paths}
    leaves = named_leaves(probe.data.x)
    inputs = dict(zip(leaves, twin.inputs, strict=True))
    names |= {n: f"input:{inputs[n]}" for n in probe.inputs}
    fixed = {name: np.asarray(v.numpy()) for name, v in variables.items()}
    integers = {inputs[n]: np.asarray(t) for n, t in leaves.items()}
    draws = _draws(model, twin, training, fixed, integers)

    def make(values: Mapping[str, Array]) -> Nudges:
        moved = {name: values[path] for path, name in names.items() if path in values}
        own = fixed | {n: v for n, v in moved.items() if not n.startswith("input:")}
        x = integers | {n.removeprefix("input:"): v for n, v in moved.items() if n.startswith("input:")}
        share = weights[0] if len(weights) == 1 else weights
        return Nudges(objective, own, x, targets, sample_weight=None if share is None else np.asarray(share), training=training, draws=draws, executor=executor)

    specifications = (*twin.layers.values(), *objective.losses)
    return replace(TwinOracle.at(make, names, probe.values, seed=seed), specifications=specifications)


def _draws(model: Any, twin: Model, training: bool, weights: Mapping[str, Array], x: Mapping[str, Array]) -> Any:
    """In training, the random arrays that Keras will draw from the present state of its seeds."""
    if not training or not any("draw" in layer.accepts for layer in twin.layers.values()):
        return None
    shapes = {name: tensor.shape for name, tensor in twin.run(weights, x).tensors.items()}
    return draws_of_model(twin, {name: keras_layer(model, name) for name in twin.layers}, shapes)


def keras_layer(model: Any, name: str) -> Any:
    """The layer of a Keras model that the twin calls `name`: nested models are in front, divided by strokes."""
    for part in name.split("/"):
        model = model.get_layer(part)
    return model


def _twin_losses(model: Any, count: int) -> tuple[Any, ...]:
    given = getattr(model, "loss", None)
    flat = keras.tree.flatten(given) if isinstance(given, (list, tuple, dict)) else [given]
    flat = flat * count if len(flat) == 1 else flat
    losses = [None if one is None else keras.losses.get(one) for one in flat]
    return tuple(None if one is None else twin_loss(one) for one in losses)


def twin_loss(loss: Any) -> Any:
    """The scratch loss of a Keras loss object, or of one of Keras's own loss functions. Raises: NoTwin."""
    if isinstance(loss, keras.losses.Loss):
        return reflected(loss, "loss")
    name = getattr(loss, "__name__", str(loss))
    for candidate in vars(keras.losses).values():
        if isinstance(candidate, type) and issubclass(candidate, keras.losses.Loss) and candidate is not keras.losses.Loss:
            spelled = keras.utils.to_snake_case(candidate.__name__) if hasattr(keras.utils, "to_snake_case") else ""
            if spelled == name and getattr(loss, "__module__", "").startswith("keras."):
                return reflected(candidate(), "loss")
    from scratch.model import snake_case

    for candidate_name in dir(keras.losses):
        candidate = getattr(keras.losses, candidate_name)
        if isinstance(candidate, type) and snake_case(candidate_name) == name and getattr(loss, "__module__", "").startswith("keras."):
            return reflected(candidate(), "loss")
    raise NoTwin(f"A loss must be one of Keras's to have a twin. Received: {name}, a function of its own.")


def _loss_weights(model: Any, count: int) -> tuple[float, ...]:
    given = getattr(getattr(model, "_compile_loss", None), "_user_loss_weights", None)
    if given is None:
        return ()
    flat = [float(w) for w in keras.tree.flatten(given)]
    return tuple(flat * count if len(flat) == 1 else flat)


def _compared(
    probe: Probe, oracles: list[Any], names: list[str], effort: str, modes: Sequence[str], seed: int,
    progress: Progress | None, notes: list[str],
) -> list[Verdict]:  # fmt: skip
    autodiff = autodiff_at(probe, probe.values, mode=modes[0])
    verdicts = []
    total = sum(probe.values[n].size for n in names)
    if effort != "full" and total > FULL:
        notes.append(f"{total} entries: {SAMPLED} of each variable are compared, drawn with seed {seed}; effort='full' compares all.")
    for i, name in enumerate(names):
        entries = _chosen(probe.values[name].size, effort, total, seed + i)
        for oracle in oracles:
            if oracle.name == "twin" and name not in oracle.names:
                continue
            verdicts.append(compare(oracle, name, autodiff, entries, seed=seed))
        if progress is not None:
            progress(i + 1, len(names), name)
    for mode in modes[1:]:
        verdicts += _between_modes(probe, autodiff, mode, names)
    return verdicts


def _chosen(size: int, effort: str, total: int, seed: int) -> Array:
    if effort == "full" or total <= FULL or size <= SAMPLED:
        return np.arange(size)
    return np.sort(np.random.default_rng(seed).choice(size, SAMPLED, replace=False))


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


_TRACED: dict[Any, tuple[Any, Probe, list[str]]] = {}


def _traced(model: Model, loss: Loss, shapes: tuple[tuple[int, ...], ...]) -> tuple[Any, Probe, list[str]]:
    """A Keras model and its probe for an architecture, built once: weights and data are moved to each point."""
    key = (repr(model), loss, shapes)
    if key in _TRACED:
        return _TRACED[key]
    from keras_ref.mirror import mirror, mirrored_loss
    from keras_ref.weights import variables

    built = mirror(model)
    built.compile(optimizer=None, loss=mirrored_loss(loss), run_eagerly=True)
    scope = in_float64(built)
    scope.__enter__()
    names = variables(built, model)
    data, loss_of, _ = _subject(built, Data(*(np.zeros(shape) for shape in shapes)), None, False, 0, [])
    state = [v for v in built.variables if all(v is not names[n] for n in model.trainable)]
    probe = Probe(loss_of, [names[n] for n in model.trainable], state, data, watch_inputs=False)
    return _TRACED.setdefault(key, (built, probe, list(model.trainable)))


def numeric_sides(model: Model, weights: Mapping[str, Array], x: Array, y: Array, loss: Loss) -> tuple[TwinOracle, Autodiff]:
    """Both sides of one comparison, ready for `compare`: the twin as oracle, and Keras's autodiff (as a graph).

    For many points of few architectures: the Keras model of each is built and traced once.
    """
    built, probe, names = _traced(model, loss, (x.shape, y.shape))
    built.set_weights([weights[n] for n in names])
    probe.refresh(Data(x, y))
    paths = dict(zip(probe.variables, names, strict=True))

    def make(values: Mapping[str, Array]) -> Nudges:
        return Nudges(Objective.of(model, loss), {paths[p]: v for p, v in values.items()}, x, y)

    return TwinOracle.at(make, paths, probe.values), autodiff_at(probe, probe.values, mode="function")


def _known(verdicts: list[Verdict], oracles: list[Any], notes: list[str]) -> list[Verdict]:
    """Where Keras is known to depart from the definition, a twin that differs is that departure, not a new finding.

    The forward oracle still judges the backward pass: a departure excuses only the twin.
    """
    twins = [o for o in oracles if o.name == "twin"]
    if not twins or not any(v.failed and v.oracle == "twin" for v in verdicts):
        return verdicts
    ids = departures.touching(twins[0].specifications)
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
