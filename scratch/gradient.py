"""The numeric gradient of a model: its loss at nudged weights and inputs, differenced by any scheme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from scratch.arrays import Array
from scratch.differences import Central, Estimate, Scheme
from scratch.layers.base import Weights
from scratch.model import Model
from scratch.nudging.base_point import INPUT, BasePoint
from scratch.nudging.blocks import Remote, call_with_one_blas_thread, one_blas_thread, run_blocks
from scratch.nudging.propagate import Propagation
from scratch.objective import Objective
from scratch.progress import Progress

#: the smallest block for a worker, in changed entries of tensors (a nudge changes at most those of the whole model)
WORTHWHILE = 2**20
#: blocks that nudges are divided into, at most, or as many as keep each within so many times WORTHWHILE. It is the same
#: on every machine, for the last bits of a loss may depend on the size of its stack
BLOCKS, LARGEST = 32, 64
#: the largest number of nudges in memory at once, beside the results
AT_ONCE = 2**22


class Nudges:
    """The losses of an objective around one point: with one entry nudged, or with all weights moved along a direction.

    `weights`, `x` and `y` are as `Objective` takes them. `executor` runs the blocks: any concurrent.futures.Executor,
    or None for one thread on each core. `progress(done, total, name)` is called as nudges are done. `plain` makes one
    whole forward pass for each nudge: the reference that propagation is tested against. `point` are the options of
    `BasePoint`: sample_weight, training, draws, masks.
    """

    def __init__(
        self,
        objective: Objective,
        weights: Weights,
        x: Any,
        y: Any,
        *,
        executor: Executor | None = None,
        progress: Progress | None = None,
        plain: bool = False,
        **point: Any,
    ) -> None:
        self.point = BasePoint(objective, weights, x, y, **point)
        self.executor, self.progress, self.plain = executor, progress, plain

    @property
    def objective(self) -> Objective:
        """The objective, with crossentropies computed from logits where the graph allows it."""
        return self.point.objective

    @property
    def base(self) -> float:
        """The loss at the point."""
        return float(self.point.base)

    @property
    def noise(self) -> float:
        """The absolute rounding error of the loss at the point."""
        return self.point.noise

    def value(self, name: str) -> Array:
        """The array that `name` names: a weight, or with the prefix "input:" an input."""
        return self.point.value(name)

    def losses(self, name: str, entries: Array, offsets: Array) -> Array:
        """The losses with flat entry entries[j] of `name` set to its value + offsets[i, j].

        Shapes  entries (e,), offsets (m, e)   →   losses (m, e)
        An offset that leaves the value as it is gives the loss at the point. Complex offsets give complex losses.
        """
        entries, offsets = np.asarray(entries, int), np.asarray(offsets)
        offsets = offsets.astype(np.complex128 if np.iscomplexobj(offsets) else np.float64, copy=False)
        values = self.value(name).reshape(-1)[entries]
        results = np.full(offsets.shape, self.base, offsets.dtype)
        columns = max(1, AT_ONCE // max(1, len(offsets)))
        for start in range(0, len(entries), columns):
            part = slice(start, start + columns)
            moves = values[part] + offsets[:, part] != values[part]
            which = np.broadcast_to(entries[part], moves.shape)[moves]
            results[:, part][moves] = self._losses_in_blocks(
                name, which, offsets[:, part][moves], number=results.size, finished=start * len(offsets)
            )
        return results

    def _losses_in_blocks(self, name: str, entries: Array, offsets: Array, *, number: int, finished: int) -> Array:
        """The losses for pairs of entry and offset, (stack,), (stack,) → (stack,), in blocks.

        `number` and `finished` count all nudges of the caller, and those that are done.
        """
        job, total = Job(self.point, name, self.plain), len(entries)
        worthwhile = total * self.point.size // WORTHWHILE
        count = max(1, min(worthwhile, total, max(BLOCKS, worthwhile // LARGEST)))
        edges = [total * i // count for i in range(count + 1)]
        blocks = [(entries[a:b], offsets[a:b]) for a, b in pairwise(edges)]

        def done(i: int) -> None:
            nonlocal finished
            finished += len(blocks[i][0])
            if self.progress is not None:
                self.progress(finished, number, name)

        if count > 1:
            # what all blocks share is computed before several threads need it
            call_with_one_blas_thread(job, entries[:1], offsets[:1])
        remote = None
        if self.executor is not None and count > 1:
            remote = Remote.of(self.executor, job, blocks, here=job, given_up=self._give_up)
        return np.concatenate(run_blocks(job, blocks, remote=remote, done=done))

    def _give_up(self) -> None:
        self.executor = None

    def directional(self, direction: Mapping[str, Array], steps: Array) -> Array:
        """The losses at weights + step · direction for each of `steps`: (m,) → (m,)."""
        with one_blas_thread():
            return np.array([self._move_along(direction, step) for step in np.asarray(steps)])

    def _move_along(self, direction: Mapping[str, Array], step: Any) -> Any:
        weights, inputs = dict(self.point.weights), dict(self.point.inputs)
        for name, towards in direction.items():
            into, key = (inputs, name.removeprefix(INPUT)) if name.startswith(INPUT) else (weights, name)
            into[key] = into[key] + step * np.asarray(towards)
        with np.errstate(all="ignore"):
            return self.point.loss(weights, inputs)


@dataclass(frozen=True)
class Job:
    """What is sent to a worker: a point, and the name of the weight or input that is nudged there."""

    point: BasePoint
    name: str
    plain: bool

    def __call__(self, entries: Array, offsets: Array) -> Array:
        """The losses with one entry nudged each: (stack,), (stack,) → (stack,). Overflow gives infinite losses."""
        with np.errstate(all="ignore"):
            if self.plain:
                return self.point.losses_by_loop(self.name, entries, offsets)
            return Propagation(self.point, self.name).losses(entries, offsets)


def numeric_gradient(
    model: Model,
    weights: Weights,
    x: Any,
    y: Any,
    *,
    loss: Any,
    scheme: Scheme | None = None,
    wrt: Sequence[str] = ("weights",),
    loss_weights: Sequence[float] = (),
    noise: float | None = None,
    **point: Any,
) -> dict[str, Estimate]:
    """The gradient of the loss by nudging every entry of each array that `wrt` names: {"dense/kernel": Estimate, …}.

    weights   {"dense/kernel": array, …}, of the shapes in `model.weight_shapes`
    x, y      inputs and targets, as `Objective` takes them: batch first
    loss      a loss or its name, or a sequence of them, one for each output;   loss_weights  a factor of each
    scheme    a scheme of scratch.differences (None: `Central`)
    wrt       "weights" (all trainable ones), "inputs" (those of floats, as "input:<name>") or names of either kind
    noise     the absolute noise of the loss, in units of the loss (None: it is measured)
    point     the options of `Nudges`

    An estimate has the shape of its array; value, truncation and rounding are loss per unit of the array's entries.
    Raises: ValueError for a name in `wrt` that names nothing, for inputs that the model does not take, or for a loss
    that is not a scalar.
    Source  Neural Networks with Keras Cookbook, chapter 1; the errors: scratch/differences.py, scratch/noise.py
    """
    nudges = Nudges(Objective.of(model, loss, loss_weights), weights, x, y, **point)
    scheme = Central() if scheme is None else scheme
    names = resolve_names(nudges, wrt)
    if noise is None:
        noise = nudges.noise
    gradient = {}
    for name in names:
        value = nudges.value(name)
        estimate = scheme(partial(nudges.losses, name, np.arange(value.size)), value.ravel(), noise)
        gradient[name] = estimate.reshape(value.shape)
    return gradient


def resolve_names(nudges: Nudges, wrt: Sequence[str]) -> tuple[str, ...]:
    """The names that `wrt` stands for. Raises: ValueError for a name of no weight or float input."""
    floats = tuple(INPUT + name for name, value in nudges.point.inputs.items() if value.dtype.kind == "f")
    known = {"weights": nudges.point.model.trainable, "inputs": floats}
    names: dict[str, None] = {}
    for one in (wrt,) if isinstance(wrt, str) else wrt:
        if one not in known and one not in nudges.point.weights and one not in floats:
            raise ValueError(
                f"`wrt` must hold 'weights', 'inputs', or names of weights or float inputs. Received: {one!r}. "
                f"The names are {', '.join((*nudges.point.weights, *floats))}."
            )
        names.update(dict.fromkeys(known.get(one, (one,))))
    return tuple(names)
