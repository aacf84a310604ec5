"""A train_step of a model's own: the gradients that it hands to optimizers, and what these make of them.

Two comparisons for every call of an optimizer: the weights after it with the optimizer's law on the gradients that were
handed over, and these gradients with slopes. The slopes are those of the loss that the train step returns. Else they
are those of the losses whose gradients it took from a tape since the variable's last update, at the weights at which it
took them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import keras
import numpy as np

from keras_ref.comparison.sources.evidence import Outcome
from keras_ref.comparison.sources.oracles import Oracles
from keras_ref.comparison.steps.optimizer_step import (
    DepartingStep,
    NumericGradient,
    OptimizerTwin,
    StepPredictions,
    StepStart,
    predict,
)
from keras_ref.comparison.steps.own_moves import Beside, OwnMove, judge_moves
from keras_ref.comparison.steps.step_gradients import Target, differs, find_foreign
from keras_ref.comparison.steps.step_losses import FIRST, LossSlopes, MakeLoss, StepLosses
from keras_ref.comparison.steps.step_verdicts import (
    as_dense,
    compute_visible,
    judge_handed,
    unscale_gradients,
    with_judgement,
)
from keras_ref.comparison.steps.train_step_losses import loss_in, own_optimizers, returned_loss
from keras_ref.comparison.steps.train_step_recording import Handover, Recording, TakenGradient, record_step
from keras_ref.comparison.steps.training_steps import Precision, choose_worst_step, compare_variable
from keras_ref.evaluation.changed_state.keras_2 import is_optimizer
from keras_ref.evaluation.keras_objects.keras_parts import unwrap_variable
from keras_ref.evaluation.loss_function import Data, LossFunction
from keras_ref.evaluation.sparse_gradient import SparseGradient
from keras_ref.reports.verdict import Kind, Reason, Verdict, find_worst
from keras_ref.translation.from_keras import NoTwin
from scratch.arrays import Array
from scratch.progress import Progress


@dataclass
class State:
    """The values of variables, which can be put back."""

    values: list[tuple[Any, Array]]

    @classmethod
    def of(cls, variables: Sequence[Any]) -> State:
        """The present values."""
        return cls([(v, v.numpy()) for v in map(unwrap_variable, variables)])

    def put_back(self) -> None:
        """Assign the values."""
        for variable, value in self.values:
            variable.assign(value)


def compare_own_steps(
    model: keras.Model,
    batches: Sequence[Data],
    *,
    trained: Sequence[Any],
    make: MakeLoss,
    oracles_at: Callable[[LossFunction], Oracles],
    precision: Precision,
    seed: int = 0,
    progress: Progress | None = None,
) -> Outcome:
    """One verdict per trained variable, of its worst step, where the model has a train_step of its own."""
    optimizers = own_optimizers(model)
    returned = make(returned_loss(model, optimizers, trained, dtype=precision.dtype))
    variables = dict(returned.variables)
    losses = StepLosses(model, variables, make=make, oracles_at=oracles_at, precision=precision)
    names = {id(held): name for name, v in variables.items() for held in (v, unwrap_variable(v))}
    started = {id(o) for o in optimizers if is_optimizer(o) and int(o.iterations.numpy())}
    comparison = OwnSteps(seed)
    found: dict[str, list[Verdict]] = {name: [] for name in variables}
    notes = list[str]()
    for step, data in enumerate(batches, start=1):
        known = losses.measure_returned(returned, data)
        notes += known.notes
        start = State.of([*variables.values(), *returned.state, *(v for o in optimizers for v in o.variables)])
        recording = record_step(
            model,
            data,
            optimizers=optimizers,
            names=names,
            trained=variables,
            started=started,
            precision=precision,
        )
        if not known.why_not:
            known = known.repeated(float(loss_in(recording.logs)), "returns", FIRST)
        end = State.of([v for v, _ in start.values])
        for verdict in comparison.of_step(Step(step, recording, known=known, start=start, data=data, losses=losses)):
            found.setdefault(verdict.name, []).append(verdict)
        end.put_back()
        if progress is not None:
            progress(step, len(batches), f"step {step}")
    missing = "it handed no gradient of this variable to an optimizer"
    verdicts = [
        _choose_worst(own) if own else Verdict(name, "update", Kind.UNDECIDED).because(Reason.OWN_STEP, missing)
        for name, own in found.items()
    ]
    return Outcome(tuple(verdicts), tuple(notes))


def _choose_worst(verdicts: Sequence[Verdict]) -> Verdict:
    """That of the worst step among those of the worst kind."""
    kind = find_worst(v.verdict for v in verdicts)
    return choose_worst_step(v for v in verdicts if v.verdict is kind)


@dataclass
class Step:
    """One step: what it did, the slopes of the loss that it returned, and those of the losses that it differentiated.

    number    from 1
    start     the state before it
    targets   the slopes that were measured by now, by the number of the gradient
    """

    number: int
    recording: Recording
    known: LossSlopes
    start: State
    data: Data
    losses: StepLosses
    targets: dict[int, Target] = field(default_factory=dict)

    def make_target(self, taken: TakenGradient) -> Target:
        """A gradient that the step took, with slopes of its loss."""
        if taken.number not in self.targets:
            self.start.put_back()
            found = self.losses.measure_differentiated(taken, self.data)
            self.targets[taken.number] = Target(taken=taken, slopes=found.slopes, why_not=found.why_not)
        return self.targets[taken.number]

    def moved(self) -> set[str]:
        """The variables that it moved by itself, and gave to no optimizer."""
        return self.recording.written.difference(*(call.before for call in self.recording.calls))

    def find_moved_beside(self) -> dict[str, Beside]:
        """What it made by itself of the variables that it gave to optimizers."""
        at, found = dict(self.recording.before), dict[str, Beside]()
        ends = [(call.before, call.after) for call in self.recording.calls]
        handed = {name for before, _ in ends for name in before} & at.keys()
        for before, after in [*ends, ({name: self.recording.after[name] for name in handed}, {})]:
            for name in before.keys() & handed:
                beside = Beside(at[name], before[name], self.recording.unit)
                if beside.is_move:
                    found.setdefault(name, beside)
            at |= after
        return found

    def judge_moves(self) -> list[Verdict]:
        """The verdicts on the variables that it moved by itself and gave to no optimizer."""

        def slopes_of(name: str) -> NumericGradient | None:
            taken = [t for t in self.recording.taken if name in t.sources]
            return self.make_target(taken[-1]).slopes.get(name) if len(taken) == 1 else None

        before, after = self.recording.before, self.recording.after
        moves = [
            OwnMove(name=name, before=before[name], after=after[name], slopes=slopes_of(name), unit=self.recording.unit)
            for name in sorted(self.moved())
        ]
        return judge_moves(moves, weights=after, step=self.number)


@dataclass
class OwnSteps:
    """The comparison of one step after the other, and what it carries from step to step.

    followed   the twin of every optimizer that was the law so far, with a state of its own
    pending    by name, the gradients that were taken since the variable's last update
    idle       whether a step went by without an optimizer
    """

    seed: int
    followed: dict[int, OptimizerTwin] = field(default_factory=dict)
    pending: dict[str, list[Target]] = field(default_factory=dict)
    idle: bool = False

    def of_step(self, step: Step) -> Iterator[Verdict]:
        """The verdicts on all variables that a step hands to optimizers, or moves by itself."""
        moved = step.find_moved_beside()
        for verdict in self._of_step(step):
            yield moved[verdict.name].judge(verdict, step.number) if verdict.name in moved else verdict

    def _of_step(self, step: Step) -> Iterator[Verdict]:
        recording = step.recording
        self.idle |= not recording.calls
        yield from step.judge_moves()
        used: dict[str, int] = {}
        for call in recording.calls:
            for verdict in self._compare_call(call, step=step.number):
                name = verdict.name
                taken = [t for t in recording.taken[used.get(name, 0) : call.taken] if name in t.sources]
                earlier = self.pending.pop(name, [])
                used[name] = call.taken
                if verdict.failed or name not in call.gradients:
                    yield verdict
                else:
                    yield self._judge_handed(verdict, call, step, earlier=earlier, taken=taken)
        left = [(t, name) for t in recording.taken for name in t.sources if t.number >= used.get(name, 0)]
        moved = step.moved()
        for one, name in left:
            if name not in moved:
                self.pending.setdefault(name, []).append(step.make_target(one))

    def _judge_handed(
        self, verdict: Verdict, call: Handover, step: Step, *, earlier: list[Target], taken: list[TakenGradient]
    ) -> Verdict:
        """The verdict on an update that follows the law, by the gradient that was handed over for it.

        earlier, taken   the gradients since the last update: of steps before, and of this one
        """
        handed, name, own = unscale_gradients(call), verdict.name, step.known.slopes.get(verdict.name)
        if own is not None and not differs(handed.gradients[name], own).any():
            return replace(verdict, visible=max(verdict.visible, compute_visible(handed.gradients[name], own)))
        once = sum(name in other.gradients for other in step.recording.calls) == 1
        judgement = judge_handed(
            name,
            handed,
            [t.scaled(1 / handed.scale) for t in (*earlier, *map(step.make_target, taken))],
            step.known,
            honest=once and not step.recording.written and not self.idle,
        )
        if judgement.reason is Reason.OWN_STEP_GRADIENT:
            every = (step.make_target(t).scaled(1 / handed.scale) for t in step.recording.taken)
            judgement = find_foreign(name, handed.gradients[name], every) or judgement
        return with_judgement(verdict, handed.gradients[name], judgement, step=step.number)

    def _compare_call(self, call: Handover, *, step: int) -> Iterator[Verdict]:
        """The verdicts of the optimizer's law on the variables of one call.

        Where there is no twin that was followed so far, or an optimizer is called on other variables, the twin starts
        from the optimizer's own state.
        """
        if isinstance(call.twin, NoTwin):
            for name, value in call.before.items():
                yield Verdict(name, "update", Kind.UNDECIDED, total=value.size).because(Reason.NO_TWIN, call.twin)
            return
        before = self.followed.pop(id(call.optimizer), call.twin)
        twin = before if before.paths == call.twin.paths else call.twin
        scale = twin.optimizer.loss_scale(twin.state)
        handed = {name: g / scale for name, g in call.gradients.items()}
        dense = as_dense(handed)
        start = StepStart(
            weights=call.before, gradients=dense, errors={name: call.unit * np.abs(g) for name, g in dense.items()}
        )
        rows = {name: g for name, g in handed.items() if isinstance(g, SparseGradient)}
        law = predict(twin, start, seed=self.seed)
        departing = cache(lambda: DepartingStep.of(twin, start, rows=rows, seed=self.seed))
        predictions = StepPredictions(numeric=law, law=law, departing=departing)
        verdicts = [compare_variable(name, value, predictions, step=step) for name, value in call.after.items()]
        kinds = {verdict.verdict for verdict in verdicts}
        # of slices of one index an optimizer may remember something else than the law, even where its step is the law's
        repeated = any(one.repeated for one in rows.values())
        if kinds == {Kind.MATCH} and (twin.release == 2 or not repeated):
            self.followed[id(call.optimizer)] = replace(twin, state=law.state, doubt=law.doubt)
        elif kinds == {Kind.DEPARTURE} and twin.release == 2:  # whose own state is not read
            as_keras = departing().prediction
            self.followed[id(call.optimizer)] = replace(twin, state=as_keras.state, doubt=as_keras.doubt)
        yield from verdicts
