"""The public verb check_gradients, and what the other verbs share with it: Settings, checked."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import tensorflow as tf

from keras_ref.checks import precision
from keras_ref.checks.annotations import between_modes, expected, known, said_aloud
from keras_ref.checks.checked_loss import (
    Subject,
    loss_objects,
    loss_scale,
    mirrored_losses,
    oracle_along,
    oracles_of,
    subject_of,
    twin_of,
    untrained,
)
from keras_ref.checks.disconnected import Causes, explained
from keras_ref.checks.higher_order import forward_mode as pushed_forward
from keras_ref.checks.higher_order import hessian
from keras_ref.checks.surrogates import declared_layers
from keras_ref.checks.updates import Progress, check_updates
from keras_ref.comparison.bisection import located
from keras_ref.comparison.entrywise import Autodiff, compare
from keras_ref.comparison.oracles import autodiff_at
from keras_ref.comparison.repeatability import unrepeatable
from keras_ref.comparison.time_budget import BUDGET, FULL, SAMPLED, chosen, within
from keras_ref.comparison.triangular import symmetrized
from keras_ref.errors import BadInput, UserCodeFailed, errors_as_bad_input, short
from keras_ref.evaluation.float64 import DTYPE, in_precision, layers_of, restore_seeds
from keras_ref.evaluation.gradient_modes import COMPILE_ERRORS, MODES
from keras_ref.evaluation.loss_function import Data, LossFunction, named_leaves
from keras_ref.inputs import data as data_module
from keras_ref.options import matches_variable, parse_budget
from keras_ref.reports.verdict import Report, Verdict
from keras_ref.translation.random_draws import generators_of
from keras_ref.translation.to_keras import mirror
from scratch.arrays import Array
from scratch.differences import Scheme
from scratch.model import Model

__all__ = ["Settings", "check_gradients", "check_updates", "checked"]


def check_gradients(
    model: Any,
    x: Any,
    y: Any = None,
    *,
    loss: Any = None,
    sample_weight: Any = None,
    class_weight: Mapping[int, float] | None = None,
    wrt: Sequence[str] = ("weights", "inputs"),
    training: bool = False,
    effort: str = "auto",
    budget: float | str | None = None,
    variables: str = "*",
    modes: Sequence[str] = ("eager",),
    expect: Mapping[str, str] | None = None,
    oracles: Sequence[str] = ("forward", "twin"),
    scheme: Scheme | None = None,
    most: int | None = None,
    weights: Mapping[str, Array] | None = None,
    order: int = 1,
    forward_mode: bool = False,
    seed: int = 0,
    executor: Any = None,
    progress: Progress | None = None,
    replay: str = "",
) -> Report:
    """Compare autodiff's gradients of a model's loss with slopes that need no calculus.

    model      a built keras.Model (loss and everything else as compiled), or a scratch.Model with `weights`
    x, y       a batch, as the model takes it; without y and loss every output meets a random cotangent
    wrt        "weights", "inputs" or both;   variables  a glob over paths, the model's name or not;   modes  see autodiff.MODES
    effort     "full": every entry; "auto": every entry of a small model, as many as the budget allows of a large one, the
               others together; "fast": all entries together along random directions, bisected where they disagree
    budget     seconds, or a text such as "60s" or "5m", that "auto" may take for comparing entries
    most       compare at most so many entries of each variable, drawn with the seed
    expect     {glob: "surrogate"}: gradients that are meant to differ
    oracles    "forward", "twin" or both; "twin" alone raises NoTwin where there is none
    order      2 checks the second derivative too: autodiff's Hessian · v against differences of its own gradient along v
    forward_mode   check tf.autodiff.ForwardAccumulator too, along a random direction of each variable
    scheme     a scheme of scratch.differences for every entry, in place of as many steps as each entry's doubt asks for

    Two oracles: Keras's own forward pass differenced in float64, always; the NumPy twin where every layer has one.
    Nothing of the model, the data or the seeds is changed. Raises: BadInput (a ValueError) for what cannot be checked, one sentence.
    """
    if isinstance(model, Model):
        model = mirror(model, weights)
        loss = mirrored_losses(loss)
    for one in wrt:
        require_one_of("wrt", one, ("weights", "inputs"))
    sample_weight = data_module.apply_class_weight(y, sample_weight, class_weight)
    data_module.validate_data(model, x, y, sample_weight)
    if "weights" in wrt:
        data_module.require_finite_weights(model)

    def prepare(notes: list[str], dtype: str | None) -> Subject:
        data, loss_of, projection = subject_of(model, Data(x, y, sample_weight), loss, training, seed, notes, dtype)
        trained = list(model.trainable_variables) if "weights" in wrt else []

        def twin(probe: LossFunction) -> Any:
            return twin_of(model, probe, data, projection, training, seed, executor)

        def otherwise() -> Any:
            return subject_of(model, Data(x, y, sample_weight), None, not training, seed, [], dtype)[1]

        return Subject(
            model.name,
            data,
            loss_of,
            trained,
            untrained(model, trained),
            twin,
            loss_scale(model),
            otherwise if getattr(model, "_call_has_training_arg", False) else None,
            training,
        )

    settings = Settings(
        effort,
        variables,
        tuple(modes),
        expect or {},
        tuple(oracles),
        scheme,
        most,
        seed,
        "inputs" in wrt,
        order,
        forward_mode,
        progress,
        replay,
        budget,
    )
    return checked((model, *loss_objects(loss)), prepare, settings)


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
    order: int = 1
    forward_mode: bool = False
    progress: Progress | None = None
    replay: str = ""
    budget: float | str | None = None

    @property
    def fast(self) -> bool:
        """Whether everything is compared along directions; they are taken of Keras's own forward pass."""
        return self.effort == "fast" and "forward" in self.oracles

    @property
    def seconds(self) -> float | None:
        """The budget in seconds."""
        return parse_budget(self.budget)

    def __post_init__(self) -> None:
        parse_budget(self.budget)
        for value, legal, name in (
            *((mode, tuple(MODES), "modes") for mode in self.modes),
            *((one, ("forward", "twin"), "oracles") for one in self.oracles),
            (self.order, (1, 2), "order"),
            (self.effort, ("auto", "full", "fast"), "effort"),
            *((word, ("surrogate",), "expect") for word in self.expect.values()),
        ):
            require_one_of(name, value, legal)


def require_one_of(name: str, value: Any, legal: Sequence[Any]) -> None:
    """Raises: BadInput for an option's value that is not legal."""
    if value not in legal:
        raise BadInput(
            f"`{name}` must be one of {', '.join(map(str, legal))}. Received: {value!r}. Choose one of them."
        )


#: builds the subject of a check, given a list to add notes to and the precision of its data (None: as they are)
Prepare = Callable[[list[str], str | None], Subject]


def checked(things: Sequence[Any], prepare: Prepare, settings: Settings) -> Report:
    """Check a subject that is built over `things` which compute in float64 for the time of the check.

    Where they do not run in float64 at all, they are checked in the precision they have. What a lower precision than
    float64 costs the gradient is measured first.
    """
    notes: list[str] = []
    with errors_as_bad_input(), restore_seeds():
        low = {} if settings.fast else _low_gradient(things, prepare, notes)
        try:
            return _checked(DTYPE, things, prepare, settings, low, notes)
        except UserCodeFailed as failed:
            if not precision.refuses_float64(failed.error):
                raise
            return _checked(None, things, prepare, settings, {}, [precision.refusal(failed.error)])


def _low_gradient(things: Sequence[Any], prepare: Prepare, notes: list[str]) -> dict[str, Any]:
    """The gradient of the variables in the precision that the subject trains in, where that is less than float64."""
    if not precision.low_dtypes(things):
        return {}
    with in_precision(None, *things):
        subject = prepare([], None)
        if subject.training and any(generators_of(layer) for thing in things for layer in layers_of(thing)):
            notes.append(
                "What its low precision costs was not measured: random layers draw other numbers in another precision."
            )
            return {}
        probe = replace(subject, loss=lambda data: subject.loss(data) * subject.scale).probe(
            watch_inputs=False, dtype=None
        )
        return {name: None if g is None else g / subject.scale for name, g in probe.gradient().items()}


def _checked(
    dtype: str | None,
    things: Sequence[Any],
    prepare: Prepare,
    settings: Settings,
    low: Mapping[str, Any],
    notes: list[str],
) -> Report:
    start = time.perf_counter()
    with in_precision(dtype, *things):
        subject = prepare(notes, dtype or "float32")
        probe = subject.probe(watch_inputs=settings.watch_inputs, dtype=dtype or "float32")
        if dtype is None:
            probe.unit = precision.unit_of([*subject.trained, *probe.inputs.values()])
        names = [n for n in probe.values if matches_variable(n, settings.variables, subject.name)]
        _require_names(names, settings.variables, probe)
        notes += _whole_numbers(probe) if settings.watch_inputs else []
        found: list[Any] = (
            [oracle_along(subject.name, probe, notes)]
            if settings.fast
            else oracles_of(subject.name, probe, subject.twin, settings.seed, notes, settings.oracles)
        )
        prepared = start, time.perf_counter(), probe.evaluations
        # along directions autodiff's own rounding is nothing beside that of the slope; it is measured where there is a doubt
        autodiff = (
            Autodiff(probe.gradient(settings.modes[0]), {}, None, settings.modes[0])
            if settings.fast
            else _autodiff(probe, settings.modes[0])
        )
        verdicts = unrepeatable(found[0].probe if settings.fast else probe, found, autodiff, names)
        if not verdicts:
            verdicts = _compared(probe, found, autodiff, names, settings, notes, subject.name, prepared)
            if settings.fast and (settings.forward_mode or any(v.failed for v in verdicts)):
                autodiff = _autodiff(probe, settings.modes[0])
            verdicts = symmetrized(verdicts, probe, found[0], autodiff)
            if settings.order == 2:
                second = subject.probe(
                    watch_inputs=settings.watch_inputs,
                    dtype=dtype or "float32",
                    contraction=precision.direction_of(probe.values, settings.seed),
                )
                verdicts += hessian(
                    second,
                    lambda p, o, a: _compared(p, o, a, names, replace(settings, modes=("eager",)), notes, subject.name),
                    settings.seed,
                )
            if settings.forward_mode:
                verdicts += pushed_forward(probe, found[0].noise, autodiff, names, settings.seed)
        verdicts = known(verdicts, found, notes)
        verdicts, declared = _causes(subject, probe, verdicts, names, things)
    verdicts = [expected(v, settings.expect, subject.name, declared) for v in verdicts]
    said_aloud(verdicts, notes)
    cost = precision.losses_of(low, autodiff.gradient)
    notes += precision.cost(cost, precision.low_dtypes(things))
    return Report(
        subject.name,
        tuple(verdicts),
        tuple(dict.fromkeys(notes)),
        settings.seed,
        settings.replay,
        found[0].noise,
        precision_loss=cost,
    )


def _autodiff(probe: LossFunction, mode: str) -> Autodiff:
    try:
        return autodiff_at(probe, probe.values, mode=mode)
    except LookupError as error:
        raise BadInput(
            f"Autodiff must have a gradient for every operation. Received: {short(error)} Write one with tf.custom_gradient, or stop it with tf.stop_gradient."
        ) from error
    except COMPILE_ERRORS as error:
        if mode != "jit_compile":
            raise
        raise BadInput(
            f"`modes` must be ones that the subject runs in. Received: {mode}, which fails: {short(error)} Leave it out."
        ) from error


def _causes(
    subject: Subject, probe: LossFunction, verdicts: list[Verdict], names: list[str], things: Sequence[Any]
) -> tuple[list[Verdict], frozenset[str]]:
    """Verdicts with the reason why autodiff says None, and the names whose gradient layers under `surrogate` declare."""

    def otherwise() -> LossFunction:
        return replace(subject, loss=subject.otherwise()).probe(watch_inputs=bool(probe.inputs))  # type: ignore[misc]

    causes = Causes(probe, otherwise if subject.otherwise else None, subject.training, tuple(declared_layers(things)))
    return [explained(v, causes) for v in verdicts], frozenset(name for name in names if causes.is_declared(name))


def _whole_numbers(probe: LossFunction) -> list[str]:
    leaves = {name: t for name, t in named_leaves(probe.data.x).items() if t is not None and not t.dtype.is_floating}
    return [f"{name}: {t.dtype.name} has no gradient; it was passed on as it is." for name, t in leaves.items()]


def _require_names(names: list[str], pattern: str, probe: LossFunction) -> None:
    if not probe.values:
        received = (
            ", ".join(sorted({t.dtype.name for t in tf.nest.flatten(probe.data.x) if t is not None})) or "nothing"
        )
        raise BadInput(
            f"A check must have a float input or a variable to differentiate by. Received: {received}. Pass floats, or variables."
        )
    if not names:
        raise BadInput(
            f"`variables` must match at least one variable. Received: {pattern!r}, where there are "
            f"{', '.join(probe.values) or 'none'}. Correct the pattern."
        )


def _compared(
    probe: LossFunction,
    oracles: list[Any],
    autodiff: Autodiff,
    names: list[str],
    settings: Settings,
    notes: list[str],
    subject: str,
    prepared: tuple[float, float, int] | None = None,
) -> list[Verdict]:
    """The verdicts on the named variables; this is where an effort decides what is compared."""
    verdicts: list[Verdict] = []
    most, seed, budget = settings.most, settings.seed, settings.seconds
    large = sum(probe.values[n].size for n in names) > FULL
    apart = [n for n in names if any(matches_variable(n, glob, subject) for glob in settings.expect)]
    if settings.fast:
        verdicts = located(
            probe,
            oracles[0],
            autodiff.gradient,
            names,
            mode=autodiff.how,
            seed=seed,
            notes=notes,
            progress=settings.progress,
            apart=apart,
            prepared=prepared,
        )
        autodiff = _autodiff(probe, autodiff.how) if settings.modes[1:] else autodiff
        return verdicts + [v for mode in settings.modes[1:] for v in between_modes(probe, autodiff, mode, names)]
    if (
        settings.effort == "auto"
        and most is None
        and settings.scheme is None
        and (large or budget is not None)
        and oracles[0].name == "forward"
    ):
        verdicts = within(
            budget or BUDGET,
            probe,
            oracles,
            autodiff,
            names,
            notes,
            most=None if budget else SAMPLED,
            seed=seed,
            progress=settings.progress,
            expect=apart,
        )
        return verdicts + [v for mode in settings.modes[1:] for v in between_modes(probe, autodiff, mode, names)]
    if most is None and settings.effort == "auto" and large:
        most = SAMPLED
        notes.append(
            f"{SAMPLED} entries of each variable are compared, drawn with seed {seed}; effort='full' compares all."
        )
    for i, name in enumerate(names):
        entries = chosen(probe.values[name].size, most, seed + i)
        for oracle in oracles:
            if oracle.name == "twin" and name not in oracle.names:
                continue
            verdicts.append(compare(oracle, name, autodiff, entries, seed=seed, scheme=settings.scheme))
        if settings.progress is not None:
            settings.progress(i + 1, len(names), name)
    for mode in settings.modes[1:]:
        verdicts += between_modes(probe, autodiff, mode, names)
    return verdicts
