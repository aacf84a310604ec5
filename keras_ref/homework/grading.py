"""One submission: each of its stages beside Keras with the same weights, and beside the slopes of its own loss."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_ref.comparison.diagnoses.arrays import factors
from keras_ref.comparison.diagnoses.parting import build_chain, count_outputs, count_samples
from keras_ref.comparison.diagnoses.table import Gradients, explain_gradients, is_same
from keras_ref.comparison.two_programs.program_comparison import Both, compare_at
from keras_ref.comparison.two_programs.weight_matching import Pair, match_weights
from keras_ref.errors import BadInput, CouldNotRun
from keras_ref.homework.exercises import Exercise
from keras_ref.homework.grades import Grade, StageResult
from keras_ref.programs.program import Point, Program, Stage
from keras_ref.programs.remote import RemoteProgram
from keras_ref.programs.targets import open_object
from keras_ref.reports.comparison import Row
from keras_ref.reports.files import is_folder, is_plain_file, require_readable
from scratch.arrays import Array
from scratch.differences import UNIT, Richardson

#: seconds that a submission may take for one question
TIME_LIMIT = 20.0
#: steps by which the slopes of the book's own update may be taken
NUDGES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


def grade(path: str, exercise: Exercise, *, seed: int = 0, time_limit: float = TIME_LIMIT) -> Grade:
    """Run a submission in a process of its own and compare it with the exercise's Keras model."""
    student = RemoteProgram(f"numpy:{path}", time_limit=time_limit)
    try:
        found = grade_program(student, exercise, path=path, seed=seed)
    except (CouldNotRun, BadInput) as error:
        return Grade(path, exercise.name, refused=str(error))
    finally:
        student.close()
    return found


def grade_program(student: Program, exercise: Exercise, *, path: str, seed: int = 0) -> Grade:
    """The grade of a program. Raises: CouldNotRun or BadInput where it does not run at all."""
    x, y = exercise.data()
    keras_side = open_object(exercise.build(), x, y)
    facts = keras_side.facts(), student.facts()
    matching = match_weights(facts[0].weights, facts[1].weights)
    if matching.only_a or matching.only_b:
        missing = [w.name for w in matching.only_b] or [f"{w.name} {w.shape}" for w in matching.only_a]
        raise BadInput(
            f"A submission must have the weights of its exercise ({_shapes(exercise)}). Received: "
            f"{', '.join(f'{w.name} {w.shape}' for w in facts[1].weights)}; {', '.join(missing)} does not fit. "
            "Check the shapes in initial_weights()."
        )
    generator = np.random.default_rng(seed + 1)
    values = {p.a.name: generator.integers(-8, 9, p.a.shape) / 8 + 1 / 16 for p in matching.pairs}
    point = Point(weights=values, x=x, y=y, steps=2, learning_rate=exercise.learning_rate)
    theirs = replace(point, weights={p.b.name: p.to_b(values[p.a.name]) for p in matching.pairs})
    both = compare_at((keras_side, facts[0]), (student, facts[1]), (point, theirs), matching, seed=seed)
    rough = None
    if any(not row.agrees for row in both.rows if row.stage in (Stage.FORWARD, Stage.LOSS)):
        # what float32 does not resolve is not the student's: Keras keeps constants (0.2 of a leaky relu) in float32
        points = replace(point, precision="float32"), replace(theirs, precision="float32")
        rough = compare_at((keras_side, facts[0]), (student, facts[1]), points, matching, seed=seed)
    return Grader(both, exercise, rough).grade(path)


def _shapes(exercise: Exercise) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in exercise.weights.items())


class Grader:
    """The stages of one submission that was run, A being Keras and B the student's program; `rough` in float32."""

    def __init__(self, both: Both, exercise: Exercise, rough: Both | None) -> None:
        self.both, self.exercise, self.pairs = both, exercise, both.matching.pairs
        #: forward pass and loss as far as float32 resolves them
        self.first = rough or both
        self.rows = self.first.rows
        self.scale, self.scaled_by = self._scale()

    def grade(self, path: str) -> Grade:
        """All stages in order."""
        forward = self._grade_forward()
        loss = self._grade_loss(forward)
        gradient = self._grade_gradient(forward, loss)
        update = self._update(gradient)
        notes = (f"Your loss is Keras's × {self.scaled_by}; that is taken into account.",) if self.scaled_by else ()
        return Grade(path, self.exercise.name, (forward, loss, gradient, update), notes=notes)

    def _explain_absent(self, stage: Stage) -> StageResult | None:
        """What is said of a stage that cannot be compared."""
        sentence = self.both.b.measured.trace.errors.get(stage)
        if sentence is not None:
            if "NotImplementedError" in sentence:
                return StageResult(stage, "unwritten", "not written yet")
            return StageResult(stage, "raised", f"it raises an error: {sentence}")
        if stage not in self.both.b.facts.stages:
            return StageResult(stage, "missing", "there is no function for it")
        earlier = self.both.b.measured.trace.errors.get(Stage.FORWARD)
        return (
            StageResult(stage, "waiting", "it needs the forward pass") if earlier and stage != Stage.FORWARD else None
        )

    def _scale(self) -> tuple[float, str]:
        """By how much the student's loss is Keras's, where that has a name: a sum where Keras takes a mean."""
        a, b = self.first.a.measured, self.first.b.measured
        if np.isnan(b.trace.loss) or abs(a.trace.loss - b.trace.loss) <= a.loss + b.loss:
            return 1.0, ""
        known = Gradients(
            wrong={}, right={}, allowed={}, samples=count_samples(self.both.a.point), outputs=count_outputs(self.both.a)
        )
        n, k = known.samples, known.outputs
        more = [(c / 2, f"{c / 2:g}") for c, _ in factors(known)] + [(n / 2, f"{n / 2:g}"), (k / 2, f"{k / 2:g}")]
        for factor, words in [*factors(known), *more]:
            if factor > 0 and abs(b.trace.loss - factor * a.trace.loss) <= b.loss + factor * a.loss:
                return factor, words
        return 1.0, ""

    def _grade_forward(self) -> StageResult:
        absent = self._explain_absent(Stage.FORWARD)
        rows = [row for row in self.rows if row.stage == Stage.FORWARD]
        if absent is not None or not rows:
            return absent or StageResult(Stage.FORWARD, "missing", "there is no function for it")
        output = next(row for row in rows if row.a == "output")
        if output.agrees:
            return StageResult(Stage.FORWARD, "right")
        first = next(row for row in rows if not row.agrees)
        where = "" if first.a == "output" else f", first at `{first.b}`"
        what = first.note or f"it differs by {first.difference:.1e} where rounding allows {first.allowed:.0e}"
        return StageResult(
            Stage.FORWARD, "wrong", f"the output is not the network's{where}: {what}", shown=_format_numbers(first)
        )

    def _grade_loss(self, forward: StageResult) -> StageResult:
        absent = self._explain_absent(Stage.LOSS)
        if absent is not None:
            return absent
        row = next((row for row in self.rows if row.stage == Stage.LOSS), None)
        if row is None:
            return StageResult(Stage.LOSS, "missing", "it gives no number")
        if row.agrees or self.scaled_by:
            return StageResult(Stage.LOSS, "right", f"× {self.scaled_by}" if self.scaled_by else "")
        if forward.state == "wrong":
            return StageResult(Stage.LOSS, "waiting", "the output that it is computed from is not right yet")
        return StageResult(
            Stage.LOSS, "wrong", f"it is {row.value_b:.6g}, not the loss of the exercise", shown=_format_numbers(row)
        )

    def _grade_gradient(self, forward: StageResult, loss: StageResult) -> StageResult:
        absent = self._explain_absent(Stage.GRADIENT)
        if absent is not None:
            return absent
        own = self.first is not self.both or forward.state == "wrong" or loss.state == "wrong"
        right, allowed = self._compute_right_gradients(own=own)
        wrong = {p.a.name: g for p in reversed(self.pairs) if (g := self.both.gradient_of_b(p)) is not None}
        names = {p.a.name: p.b.name for p in self.pairs}
        absent_names = [names[p.a.name] for p in self.pairs if p.a.name not in wrong]
        bad = [n for n, g in wrong.items() if n in right and not is_same(g, right[n], allowed[n])]
        mine = forward.state == "wrong" or loss.state == "wrong"
        whose = "the slopes of your own loss" if mine else "the slopes of the loss"
        if not bad and not absent_names:
            return StageResult(Stage.GRADIENT, "right", f"it is {whose}" if mine else "")
        if not bad:
            return StageResult(Stage.GRADIENT, "wrong", f"there is no gradient for {', '.join(absent_names)}")
        shapes = [n for n in bad if wrong[n].shape != right[n].shape]
        good = [names[n] for n in wrong if n not in bad]
        cause = None if shapes else self._find_cause(wrong, right, allowed, bad)
        text = f"the gradient of {names[bad[0]]} is not {whose}" + (f" ({', '.join(good)} right)" if good else "")
        if shapes:
            text += f"; its shape is {wrong[shapes[0]].shape}, that of the weight {right[shapes[0]].shape}"
        elif cause is not None:
            text += f". It looks like this: {self._name_weights(cause.words)}"
        n = bad[0]
        return StageResult(
            Stage.GRADIENT,
            "wrong",
            text,
            cause="" if cause is None else cause.name,
            shown=f"right: {np.array2string(right[n], precision=6)}\nyours: {np.array2string(wrong[n], precision=6)}",
        )

    def _name_weights(self, words: str) -> str:
        """Words with the student's names of the weights in them."""
        for pair in self.pairs:
            words = words.replace(f"`{pair.a.name}`", f"`{pair.b.name}`")
        return words

    def _compute_right_gradients(self, *, own: bool) -> tuple[dict[str, Array], dict[str, float]]:
        """The gradients that are due, by the names of A: Keras's to the student's scale, or slopes of the own loss."""
        a, b = self.both.a.measured, self.both.b.measured
        right, allowed = {}, {}
        for pair in self.pairs:
            name = pair.a.name
            if own and not np.isnan(b.trace.loss):
                right[name], allowed[name] = self._measure_slopes(pair)
            elif (gradient := a.trace.gradient.get(name)) is not None:
                right[name] = self.scale * gradient
                allowed[name] = self.scale * a.gradient[name] + b.gradient.get(pair.b.name, 0.0)
        return right, allowed

    def _measure_slopes(self, pair: Pair) -> tuple[Array, float]:
        """The slopes of the student's own loss, in A's layout, and their largest error."""
        side = self.both.b
        at = np.ravel(np.asarray(side.point.weights[pair.b.name], dtype=float))
        noise = max(side.measured.loss, UNIT * abs(side.measured.trace.loss))

        def line(offsets: Array) -> Array:
            return side.program.losses(side.point, pair.b.name, np.arange(at.size), offsets)

        found = Richardson()(line, at, noise)
        error = float(np.max(found.error, initial=0.0)) + side.measured.gradient.get(pair.b.name, 0.0)
        return pair.to_a(found.value.reshape(pair.b.shape)), error

    def _find_cause(
        self, wrong: dict[str, Array], right: dict[str, Array], allowed: dict[str, float], bad: list[str]
    ) -> Any:
        order = [*bad, *(n for n in wrong if n not in bad)]
        chain = build_chain(self.both.a.facts, self.both.a.point)
        if chain is not None:
            chain = replace(chain, slope=self.scale * chain.slope)
        return explain_gradients(
            Gradients(
                wrong={n: wrong[n] for n in order},
                right=right,
                allowed=allowed,
                weights=self.both.a.point.weights,
                samples=count_samples(self.both.a.point),
                outputs=count_outputs(self.both.a),
                chain=chain,
            )
        )

    def _update(self, gradient: StageResult) -> StageResult:
        """A step is right if it is that of gradient descent on the student's own gradient, or on nudged slopes."""
        absent = self._explain_absent(Stage.UPDATE)
        if absent is not None:
            return absent
        side, rate = self.both.b, self.exercise.learning_rate
        if not side.measured.trace.steps:
            text = "it needs the gradient" if gradient.state != "right" else "it returns no weights"
            return StageResult(Stage.UPDATE, "waiting", text)
        first = side.measured.trace.steps[0]
        texts = []
        for pair in self.pairs:
            own = side.measured.trace.gradient.get(pair.b.name)
            start = np.asarray(side.point.weights[pair.b.name], dtype=float)
            if own is None:
                continue
            after = np.asarray(first[pair.b.name], dtype=float)
            if after.shape != start.shape or not is_same(
                after, start - rate * own, side.measured.steps[0][pair.b.name]
            ):
                texts.append(_describe_step(pair.b.name, start, after=after, gradient=own, rate=rate))
        if texts:
            return StageResult(Stage.UPDATE, "wrong", texts[0])
        if side.measured.trace.gradient:
            stale = self._explain_stale()
            return (
                StageResult(Stage.UPDATE, "wrong", stale, cause="stale")
                if stale
                else StageResult(Stage.UPDATE, "right")
            )
        return self._grade_nudged_update(first, rate)

    def _explain_stale(self) -> str:
        """Whether the second step is the first one again, which no gradient descent takes."""
        steps = self.both.b.measured.trace.steps
        if len(steps) < 2 or Stage.GRADIENT in self.both.b.measured.trace.errors:
            return ""
        for pair in self.pairs:
            start, one, two = (np.asarray(s[pair.b.name], dtype=float) for s in (self.both.b.point.weights, *steps[:2]))
            if np.any(one != start) and not is_same(two - one, one - start, self.both.b.measured.steps[1][pair.b.name]):
                return ""
        return "the second step is the first one again: the gradient is a stale one, that of the previous point"

    def _grade_nudged_update(self, first: Any, rate: float) -> StageResult:
        """The book's own update: slopes by a nudge of one weight at a time."""
        side = self.both.b
        for nudge in (0.0, *NUDGES):
            texts = []
            for pair in self.pairs:
                start = np.asarray(side.point.weights[pair.b.name], dtype=float)
                if nudge:
                    losses = side.program.losses(
                        side.point,
                        pair.b.name,
                        np.arange(start.size),
                        np.array([[0.0] * start.size, [nudge] * start.size]),
                    )
                    slope = ((losses[1] - losses[0]) / nudge).reshape(start.shape)
                    error = rate * 2 * side.measured.loss / nudge + side.measured.steps[0][pair.b.name]
                else:
                    keras_gradient = self.both.a.measured.trace.gradient[pair.a.name]
                    if keras_gradient is None:
                        continue
                    slope, error = self.scale * pair.to_b(keras_gradient), side.measured.steps[0][pair.b.name]
                after = np.asarray(first[pair.b.name], dtype=float)
                if after.shape != start.shape or not is_same(after, start - rate * slope, error):
                    texts.append(_describe_step(pair.b.name, start, after=after, gradient=slope, rate=rate))
            if not texts:
                return StageResult(Stage.UPDATE, "right", f"by nudges of {nudge:g}" if nudge else "")
        return StageResult(Stage.UPDATE, "wrong", texts[0])


def _describe_step(name: str, start: Array, after: Array, gradient: Array, rate: float) -> str:
    """What a step that is not that of gradient descent looks like."""
    if after.shape != start.shape:
        return f"{name} has the shape {after.shape} after the step, and {start.shape} before it"
    if np.array_equal(after, start):
        return f"{name} is not updated"
    moved, size = start - after, float(np.vdot(gradient, gradient))
    factor = float(np.vdot(moved, gradient)) / size if size else 0.0
    # chooses words for a step that was judged wrong before, by measured rounding: no verdict hangs on these digits
    fits = np.allclose(moved, factor * gradient, rtol=1e-9, atol=1e-12)
    if fits and np.isclose(factor, -rate):
        return f"{name} goes uphill: the gradient is added, not subtracted"
    if fits:
        return f"{name} steps by {factor:.6g} × the gradient, where the learning rate is {rate:g}"
    if np.allclose(after, -rate * gradient):
        return f"{name} is the step itself: what it was before is lost"
    return f"{name} is not what it was minus {rate:g} × its gradient"


def _format_numbers(row: Row) -> str:
    return f"right: {row.value_a:.12g}, yours: {row.value_b:.12g} at {list(row.worst)}"


def _is_aside(file: Path) -> bool:
    """Whether a file of a folder is no submission: a hidden one, Jupyter's copy of one, one of a package."""
    return any(part.startswith(("_", ".")) or part == "site-packages" for part in file.parts)


def list_submissions(paths: list[str]) -> list[str]:
    """The files of some paths; of a folder all of its Python files, but for hidden ones and those of an environment.

    Raises: CouldNotRun where there is none.
    """
    found = []
    for path in paths:
        if not is_plain_file(path):  # of a file its own grade says so
            require_readable(path)
        if is_folder(path):
            found += sorted(str(file) for file in Path(path).glob("**/*.py") if not _is_aside(file.relative_to(path)))
        elif is_plain_file(path):
            found.append(path)
        else:
            raise CouldNotRun(f"A submission must exist. Received: {path}, which does not. Check the path.")
    if not found:
        raise CouldNotRun(
            f"There must be a submission. Received: {', '.join(paths)} without Python files. Name a file."
        )
    return found
