"""Models of Keras 3 on another backend: a worker process gives losses and gradients, compared as TensorFlow's are."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_ref.checks.annotations import list_annotators_of_program
from keras_ref.checks.check import compare, make_report
from keras_ref.checks.checked_loss import NOTE_ON_COTANGENTS, note_on_added_losses
from keras_ref.checks.gather import build_oracles
from keras_ref.checks.precision import LowPrecision, measure_cost
from keras_ref.checks.twins import build_twin
from keras_ref.comparison.sources.autodiff import run_autodiff
from keras_ref.comparison.sources.evidence import Evidence, Preparation, annotate
from keras_ref.comparison.sources.oracles import TwinOracle
from keras_ref.comparison.sources.settings import STOP_GRADIENT, Settings
from keras_ref.comparison.two_programs.program_loss import ProgramLoss
from keras_ref.errors import BadInput, CouldNotRun, shorten_error
from keras_ref.evaluation.changed_state.float64 import DTYPE, in_precision
from keras_ref.evaluation.keras_objects.naming import find_path
from keras_ref.evaluation.loss_function import Data, LossFunction
from keras_ref.inputs.data import require_finite_numbers, validate_data
from keras_ref.inputs.targets import complete_data, load_target
from keras_ref.programs.program import Facts, Point, Program, cast, round_floats
from keras_ref.programs.remote import RemoteProgram, Worker
from keras_ref.reports.verdict import Report
from keras_ref.translation.from_keras import NoTwin
from scratch.arrays import Array

#: the backends of Keras 3, by the name of KERAS_BACKEND; TensorFlow is the one that checks run on
BACKENDS = ("tensorflow", "jax", "torch")
#: what takes the gradient there, in a report
AUTODIFF = {"jax": "jax.grad", "torch": "torch.autograd.grad"}


@dataclass(frozen=True, kw_only=True)
class BackendSubject:
    """What is checked on another backend.

    target    text that the worker opens
    model     the same model on TensorFlow, for its twin and the data that it asks for; None where there is none
    is_users  whether that model is the user's, whose weights are then the point
    why_not   why there is none
    """

    target: str
    model: Any = None
    is_users: bool = False
    why_not: str = ""
    data: Data = field(default_factory=lambda: Data(None))


def check_on_backend(
    model: Any,
    data: Data,
    *,
    backend: str,
    loss: Any,
    training: bool,
    settings: Settings,
    worker: Worker | None = None,
) -> Report:
    """Compare the gradients of a model on another backend with slopes; options as check_gradients has them.

    model    a text, package.module:factory or a .keras file, which a process of that backend opens; or a model, which
             is saved for it
    worker   a process to ask in the place of a new one
    Raises: BadInput or CouldNotRun for what cannot be checked there.
    """
    started = time.perf_counter()
    _refuse(settings, backend)
    simplify_loss(loss)
    with _subject_of(model, data) as subject:
        program = RemoteProgram(f"keras-{backend}:{subject.target}", worker=worker)
        try:
            return _check(
                program, subject, backend=backend, loss=loss, training=training, settings=settings, started=started
            )
        finally:
            program.close()


def _refuse(settings: Settings, backend: str) -> None:
    """Raises: BadInput for options that are about TensorFlow."""
    asked = {
        f"modes={tuple(settings.modes)!r}": tuple(settings.modes) != ("eager",),
        "order=2": settings.order != 1,
        "forward_mode=True": settings.forward_mode,
        "digits=True": settings.digits,
        'expect="stop_gradient"': STOP_GRADIENT in (settings.expect or {}).values(),
    }
    for option, is_asked in asked.items():
        if is_asked:
            raise BadInput(
                f"On the backend {backend} an option must not be about TensorFlow's graphs. Received: {option}. Leave "
                "it out."
            )


@contextmanager
def _subject_of(model: Any, data: Data) -> Iterator[BackendSubject]:
    """A target, with its own data where none are given; or a model, saved to a file until the end of the block."""
    if isinstance(model, str):
        try:
            found, x, y, weight = load_target(model)
        except CouldNotRun as error:  # a layer that only another backend runs
            yield BackendSubject(target=model, why_not=str(error), data=data)
            return
        own = Data(x, y, weight) if data.x is None else data
        yield BackendSubject(target=model, model=found, data=own)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.keras")
        try:
            model.save(path)
        except Exception as error:
            raise BadInput(
                f"A model must be one that can be saved to be checked on another backend. Received: {model.name!r}: "
                f"{shorten_error(error)} Pass the text package.module:factory instead."
            ) from error
        yield BackendSubject(target=path, model=model, is_users=True, data=data)


def _check(
    program: Program,
    subject: BackendSubject,
    *,
    backend: str,
    loss: Any,
    training: bool,
    settings: Settings,
    started: float,
) -> Report:
    facts = program.facts()
    _require_float64(facts)
    data, drawn = _choose_data(program, subject, seed=settings.seed)
    weights = _read_weights(program, facts, subject)
    point, notes = make_minimised_point(
        program, facts, data, weights, loss=simplify_loss(loss), training=training, seed=settings.seed
    )
    trained = [w for w in facts.weights if w.trainable] if settings.watch_weights else []
    theirs = dict(zip((w.name for w in facts.weights), _list_variables(subject), strict=False))
    # a model that was saved and loaded has shorter paths
    paths = {w.name: find_path(theirs[w.name]) if subject.is_users else w.path for w in trained}
    function = ProgramLoss(
        program,
        point,
        paths={path: name for name, path in paths.items()},
        variables={path: theirs.get(name) for name, path in paths.items()},
        watch_inputs=settings.watch_inputs,
    )

    def twin(at: ProgramLoss) -> TwinOracle:
        return _build_twin(subject, facts, at, point=point, training=training, loss=loss)

    found = build_oracles(function, twin, subject=facts.name, wanted=settings.oracles_differenced, seed=settings.seed)
    prepared = Preparation(started, time.perf_counter(), function.evaluations)
    autodiff = run_autodiff(function, function.values, mode=AUTODIFF[backend])
    settings.require_expected(function.values, facts.name)
    evidence = Evidence(
        subject=facts.name,
        loss=function,
        oracles=found.oracles,
        autodiff=autodiff,
        names=settings.select(function.values, facts.name),
        settings=settings,
        contracted=_refuse_contraction,
        notes=(
            f"{facts.kind}, in a process of its own: its rounding was estimated from differences, which is no bound.",
            *(facts.notes if training else ()),
            *drawn,
            *notes,
            *found.notes,
        ),
        preparation=prepared,
    )
    outcome = annotate(compare(evidence), list_annotators_of_program(evidence))
    low = LowPrecision(dtypes=("float32",), gradient=function.gradient_in("float32"))
    return make_report(evidence, outcome, measure_cost(low, autodiff, function))


def _require_float64(facts: Facts) -> None:
    """Raises: BadInput where layers keep a lower precision, whose rounding no difference of losses shows."""
    lower = [name for name in facts.precisions if name != DTYPE]
    if lower:
        raise BadInput(
            f"On another backend a model must compute in float64 for the time of a check. Received: {facts.name!r}, "
            f"which keeps {' and '.join(lower)}. Leave the dtype of its layers out, or register its custom classes."
        )


def _refuse_contraction(_: Mapping[str, Array]) -> LossFunction:
    """Raises: BadInput."""
    raise BadInput("A second derivative must be TensorFlow's. Received: order=2 on another backend. Leave it out.")


# What is computed ---------------------------------------------------------------------------------------------------


def _choose_data(program: Program, subject: BackendSubject, *, seed: int) -> tuple[Data, tuple[str, ...]]:
    """The data: given, the target's own, or drawn for the model on TensorFlow; and a note on what was drawn."""
    data, drawn = subject.data, ""
    if data.x is None:
        data = Data(*program.data())
    if data.x is None:
        if subject.model is None:
            raise BadInput(
                f"A check on another backend must have data. Received: none, and {subject.target} does not load on "
                "TensorFlow, which would draw some. Return (model, x, y) from the factory, or pass x and y, or --data."
            )
        (_, x, y, weight), drawn = complete_data(subject.model, seed=seed)
        data = Data(x, y, weight)
    if subject.model is not None:
        validate_data(subject.model, data.x, data.y, data.sample_weight)
    for name, value in (("x", data.x), ("y", data.y), ("sample_weight", data.sample_weight)):
        require_finite_numbers(name, value, strings=False)
    return Data(*(cast(part, "float64") for part in (data.x, data.y, data.sample_weight))), (drawn,) if drawn else ()


def _read_weights(program: Program, facts: Facts, subject: BackendSubject) -> dict[str, Array]:
    """The weights of the point, exact in float32: those of the user's model, or those that the worker's has."""
    if subject.is_users:
        values = [np.asarray(v) for v in _list_variables(subject)]
        return {w.name: value for w, value in zip(facts.weights, values, strict=True)}
    return dict(round_floats(program.values(), "float32"))


def _list_variables(subject: BackendSubject) -> list[Any]:
    """The weights of the model on TensorFlow, in the order in which a worker lists them; none without one."""
    if subject.model is None:
        return []
    return [v for v in subject.model.weights if not v.path.endswith("seed_generator_state")]


def simplify_loss(loss: Any) -> Any:
    """A loss that was given, as plain data. Raises: BadInput for a function, which does not travel."""
    if loss is None:
        return None
    parts = loss if isinstance(loss, (list, tuple)) else [loss]
    if len(parts) != 1 or not isinstance(parts[0], (str, keras.losses.Loss)):
        raise BadInput(
            f"On another backend `loss` must be a name or a loss object of Keras. Received: {type(loss).__name__}. "
            "Compile the model with it in a factory, package.module:factory."
        )
    one = keras.losses.get(parts[0])
    return keras.losses.serialize(one)


def make_minimised_point(
    program: Program,
    facts: Facts,
    data: Data,
    weights: Mapping[str, Array],
    *,
    loss: Any,
    training: bool,
    seed: int,
) -> tuple[Point, tuple[str, ...]]:
    """The point, with what is minimised there: the loss, what layers add, or Σ c · output with random c. And notes.

    The same choice as checked_loss.make_model_loss makes. Raises: BadInput for targets without a loss.
    """
    point = Point(
        weights=weights, x=data.x, y=data.y, sample_weight=data.sample_weight, training=training, loss=loss, added=True
    )
    has_loss = facts.loss is not None or loss is not None
    if has_loss and data.y is not None:
        return point, ()
    called = program.run(replace(point, y=None, added=False, gradient=False))
    if not has_loss and ("add_loss" in called.added or (called.added and data.y is not None)):
        return replace(point, y=None), (note_on_added_losses(facts.name, has_targets=data.y is not None),)
    if data.y is not None and not facts.own_loss:
        raise BadInput(
            f"A model must have a loss when targets are given. Received: {facts.name!r}, compiled without one, and "
            "loss=None. Compile it with a loss, or pass loss=."
        )
    if facts.own_loss:
        return point, ()
    generator = np.random.default_rng(seed + 2)
    cotangent = [generator.normal(size=output.shape) for output in called.outputs]
    return replace(point, y=None, cotangent=cotangent), (NOTE_ON_COTANGENTS,) if has_loss else ()


# The twin -----------------------------------------------------------------------------------------------------------


def _build_twin(
    subject: BackendSubject, facts: Facts, function: ProgramLoss, *, point: Point, training: bool, loss: Any
) -> TwinOracle:
    """The twin of the same model on TensorFlow, at the point of the worker's. Raises: NoTwin."""
    if subject.model is None:
        raise NoTwin(
            f"The twin is read from the model on TensorFlow, which must load there. Received: {subject.why_not}"
        )
    if training and facts.notes:
        raise NoTwin(
            "Random layers must be in inference to have a twin on another backend. Received: training. "
            f"{facts.notes[0]}"
        )
    with in_precision(DTYPE, subject.model):
        if loss is not None:
            subject.model.compile(optimizer=None, loss=loss)
        for variable, weight in zip(_list_variables(subject), facts.weights, strict=True):
            variable.assign(point.weights[weight.name])
        given = Data(point.x, point.cotangent if point.cotangent is not None else point.y, point.sample_weight)
        return build_twin(
            subject.model, function, data=given, projection=point.cotangent is not None, training=training
        )
