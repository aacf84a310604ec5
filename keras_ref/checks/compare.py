"""The public verb compare: where two programs with the same weights part, and which of the two is right there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from keras_ref.comparison.diagnoses.parting import explain_parting
from keras_ref.comparison.two_programs.program_comparison import (
    Both,
    compare_at,
    find_first_parting,
    judge_row,
    list_matched,
    match_weights_of,
    report_part,
)
from keras_ref.comparison.two_programs.weight_matching import Matching, match_weights
from keras_ref.errors import BadInput, errors_as_bad_input
from keras_ref.evaluation.arguments import takes
from keras_ref.evaluation.changed_state.float64 import restore_process_state
from keras_ref.evaluation.changed_state.guard import leaves_no_trace
from keras_ref.programs.program import Facts, Point, Program, Stage, round_floats
from keras_ref.programs.remote import TIME_LIMIT, RemoteProgram
from keras_ref.programs.targets import open_object
from keras_ref.programs.user_objects import left_as_they_are
from keras_ref.reports.comparison import Comparison, Row
from scratch.arrays import Array
from scratch.progress import Progress


@takes()
@leaves_no_trace
def compare(
    a: Any,
    b: Any,
    x: Any = None,
    y: Any = None,
    *,
    steps: int = 3,
    training: bool = False,
    precision: str = "float64",
    weights: Mapping[str, Array] | None = None,
    map: Mapping[str, str] | None = None,  # noqa: A002 (the option's name)
    seed: int = 0,
    time_limit: float = TIME_LIMIT,
    progress: Progress | None = None,
    replay: str = "",
) -> Comparison:
    """Give two programs the same weights and find the first place where they part.

    a, b        Keras models, of Keras 2 too, PyTorch modules, JAX functions, NumPy modules, scratch models; a text is
                a target, which runs in a process of its own: "keras-jax:package.module:factory", "student.py"
    x, y        inputs and targets, batch first; those that come with a or b unless given, without sample weights
    steps       training steps whose updates are compared, 0 for none
    training    whether the forward pass is that of training; random layers are in inference all the same
    precision   float64, where both compute in it; else float32
    weights     values by the names of a; its own unless given, constant ones moved at random, so that nothing hides
    map         {weight of a: weight of b} where names, order and shapes do not say it
    seed        of what is drawn: data, constant weights, cotangents, roundings
    time_limit  seconds that a process of a target may take for one request
    progress    called with (done, total, what)
    replay      a command that repeats the comparison, for the report

    What is allowed is measured of both programs, and absolute, in units of the values compared. Objects are afterwards
    what they were. Raises: BadInput (a ValueError) or CouldNotRun, in one sentence, for what cannot be compared;
    MemoryError where memory does not suffice.
    """
    if steps < 0:
        raise BadInput(f"`steps` must be at least 0. Received: steps={steps}. Pass 0 to compare no updates.")
    with (
        errors_as_bad_input(),
        restore_process_state(),
        left_as_they_are(a, b, x, y, weights),
        _opened(a, time_limit) as first,
        _opened(b, time_limit) as second,
    ):
        report_part(progress, "loading A")
        facts_a = first.facts()
        report_part(progress, "loading B")
        programs = (first, facts_a), (second, second.facts())
        matching = match_weights(programs[0][1].weights, programs[1][1].weights, map)
        x, y = _choose_data(programs, x, y)
        values = _choose_values(first, second, matching, weights, seed=seed)
        own_b = second.values() if programs[1][1].weights else {}
        points, notes = _make_points(
            programs, matching, values, own_b, x=x, y=y, training=training, steps=steps, seed=seed
        )
        both, more = _run(programs, matching, points, precision, seed=seed, progress=progress)
        report_part(progress, "judging")
        return make_report(both, notes=(*notes, *more), seed=seed, replay=replay)


def make_report(both: Both, *, notes: tuple[str, ...], seed: int, replay: str) -> Comparison:
    """The report of two programs that were run."""
    rows = both.rows
    parting = find_first_parting(rows)
    cause = ""
    if parting is not None:
        index = rows.index(parting)
        parting = judge_row(both, parting)
        rows = (*rows[:index], parting, *rows[index + 1 :])
        cause = explain_parting(both, parting)
    return Comparison(
        a=both.a.facts.kind,
        b=both.b.facts.kind,
        precision=both.a.point.precision,
        matched=list_matched(both.matching),
        rows=rows,
        parting=parting,
        cause=cause,
        notes=(*notes, *_list_side_notes(both)),
        errors=tuple(
            f"{letter} raised in its {stage}: {sentence}"
            for letter, side in (("A", both.a), ("B", both.b))
            for stage, sentence in side.measured.trace.errors.items()
        ),
        seed=seed,
        replay=replay,
    )


@contextmanager
def _opened(value: Any, time_limit: float) -> Iterator[Program]:
    """The program of an object or target; a process that was started for it ends."""
    if not isinstance(value, str):
        yield open_object(value)
        return
    program = RemoteProgram(value, time_limit=time_limit)
    try:
        yield program
    finally:
        program.close()


def _choose_data(programs: tuple[tuple[Program, Facts], ...], x: Any, y: Any) -> tuple[Any, Any]:
    """Inputs and targets: those given, else those of the first program that has some."""
    if x is not None:
        return x, y
    for program, _ in programs:
        x, y = program.data()
        if x is not None:
            return x, y
    raise BadInput(
        "Two programs are compared on data. Received: none, and neither has its own. Pass x and y, or --data."
    )


def _choose_values(
    a: Program, b: Program, matching: Matching, given: Mapping[str, Array] | None, *, seed: int
) -> dict[str, Array]:
    """The weights by the names of A: exact in float32, and no constant."""
    own = a.values() or b.values()
    generator = np.random.default_rng(seed)
    found = {}
    for name, value in {**own, **(given or {})}.items():
        array = np.asarray(value, dtype=float)
        if given is None and array.size > 1 and np.ptp(array) == 0:
            array = array + generator.uniform(-0.25, 0.25, array.shape)
        found[name] = round_floats(array, "float32")
    for pair in matching.pairs:
        if pair.a.name not in found:
            found[pair.a.name] = generator.normal(size=pair.a.shape)
    return found


def _make_points(
    programs: tuple[tuple[Program, Facts], ...],
    matching: Matching,
    values: Mapping[str, Array],
    own_b: Mapping[str, Array],
    *,
    x: Any,
    y: Any,
    training: bool,
    steps: int,
    seed: int,
) -> tuple[tuple[Point, Point], tuple[str, ...]]:
    """The point of each program, and notes on what is not compared."""
    notes = []
    names = tuple(facts for _, facts in programs)
    has_loss = all(Stage.LOSS in facts.stages for facts in names) and y is not None
    x, y = round_floats(x, "float32"), round_floats(y, "float32")
    weights_b = match_weights_of(matching, values, own_b)
    point = Point(weights=values, x=x, y=y, training=training, steps=steps)
    if not has_loss:
        without = " and ".join(
            letter for letter, facts in zip("AB", names, strict=True) if Stage.LOSS not in facts.stages
        )
        why = f"{without} has none" if without else "there are no targets"
        if all(facts.projects for facts in names):
            trace = programs[0][0].run(replace(point, y=None, steps=0, gradient=False))
            outputs = trace.outputs or (trace.tensors["output"],)
            generator = np.random.default_rng(seed)
            cotangent = round_floats([generator.normal(size=o.shape) for o in outputs], "float32")
            point = replace(point, cotangent=cotangent, steps=0)
            notes.append(f"The loss is not compared: {why}. Gradients are those of Σ c · output, c random.")
        else:
            point = replace(point, steps=0)
            notes.append(f"The loss is not compared: {why}.")
    notes += [
        f"{letter} has no {stage}: it is not compared."
        for letter, facts in zip("AB", names, strict=True)
        for stage in (Stage.FORWARD, Stage.GRADIENT, Stage.UPDATE)
        if stage not in facts.stages and not (stage is Stage.UPDATE and steps == 0) and not facts.notes
    ]
    rate = next((rate for facts in names if (rate := _find_learning_rate(facts)) is not None), None)
    point = replace(point, learning_rate=rate)
    return (point, replace(point, weights=weights_b)), tuple(notes)


def _find_learning_rate(facts: Facts) -> float | None:
    """The learning rate as it was written down: 0.1, where a float32 variable holds 0.1 + 1.5e-9."""
    rate = None if facts.optimizer is None else facts.optimizer.config.get("learning_rate")
    return float(str(np.float32(rate))) if isinstance(rate, (int, float)) else None


def _run(
    programs: Any,
    matching: Matching,
    points: tuple[Point, Point],
    precision: str,
    *,
    seed: int,
    progress: Progress | None,
) -> tuple[Both, tuple[str, ...]]:
    """Both programs in float64; in float32 where one of them does not compute in float64 throughout."""
    wanted = [replace(point, precision=precision) for point in points]
    both = compare_at(programs[0], programs[1], (wanted[0], wanted[1]), matching, seed=seed, progress=progress)
    narrow = any(
        array.dtype in (np.float32, np.float16)
        for side in (both.a, both.b)
        for array in side.measured.trace.tensors.values()
    )
    parting = find_first_parting(both.rows)
    if precision == "float32" or not (narrow or (parting is not None and _may_be_a_constant(both, parting))):
        return both, ()
    rough, _ = _run(programs, matching, points, "float32", seed=seed, progress=progress)
    if narrow:
        return rough, ("One of them computes in float32 in part.",)
    place = next((row for row in rough.rows if parting is not None and _is_same_place(row, parting)), None)
    if place is None or not place.agrees:
        return both, ()
    return rough, (
        f"In float64 {parting.place} ({parting.stage}) differs by {parting.difference:.1e}, which float32 does not "
        "resolve: a constant that one of them keeps in float32, say."
        if parting is not None
        else "",
    )


def _may_be_a_constant(both: Both, row: Row) -> bool:
    """Whether a difference of a forward pass is so small that the rounding of a constant to float32 may make it.

    Half the digits of float32 are more than any such rounding takes: the input of the layer is still the same.
    """
    tensor = both.a.measured.trace.tensors.get(row.a)
    if row.stage != Stage.FORWARD or tensor is None:
        return False
    size = float(np.max(np.abs(tensor), initial=0.0))
    return row.difference <= float(np.sqrt(np.finfo(np.float32).eps)) * size


def _is_same_place(one: Row, other: Row) -> bool:
    return (one.stage, one.a, one.b) == (other.stage, other.a, other.b)


def _list_side_notes(both: Both) -> Iterator[str]:
    for letter, side in (("A", both.a), ("B", both.b)):
        yield from (f"{letter}: {note}" for note in side.facts.notes)
    yield f"Both compute in {both.a.point.precision}; what is allowed is measured of both."
    if both.a.point.training:
        yield "The forward pass is that of training."
