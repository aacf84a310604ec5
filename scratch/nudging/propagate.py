"""Propagate a stack of nudges through the calls of a model: what they change in every tensor, and in the loss.

The tensors at the point itself are known. A nudge changes those that depend on the nudged array only; each of them is
stored in the smallest form that describes it:

    (absent)    unchanged: the tensor of the point stands for all nudges
    Channel     one channel (of the last axis) changed for each nudge: values (stack, rows, middle…), channel (stack,)
    Change      what is to be added to the tensor of the point: values (stack, rows, …)
    an array    (stack, rows, …): any entry may have changed

`rows` is the batch; where the samples are independent, an entry of an input changes one sample, and `rows` is that
sample alone. Every step computes what the loop over forward passes would compute, from what is known; nothing is
differentiated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np

from scratch.arrays import Array
from scratch.calls import Call
from scratch.nudging.base_point import INPUT, BasePoint, find_activation, nudged, own_copy
from scratch.nudging.changes import Change, Channel, Copies, State, merge_batch
from scratch.nudging.loss_term import LossTerm
from scratch.nudging.matrix_layers import MatrixLayer
from scratch.nudging.stack import stacked, values_of

#: entries of the largest array of a block: enough that the overhead of NumPy calls vanishes, few enough for the cache
BLOCK = 2**18


class Propagation:
    """The losses at a point with one entry each of the weight or input `name` nudged."""

    def __init__(self, point: BasePoint, name: str) -> None:
        self.point, self.name = point, name
        self.calls, self.tensors = point.model.calls, point.run.tensors
        #: functions, not bound methods: what holds itself stays for a while, with all that is known of the point
        self.plan: dict[int, tuple[Step, int]] = {}

    def losses(self, entries: Array, offsets: Array) -> Array:
        """The loss with flat entry entries[s] set to its value + offsets[s]: (stack,), (stack,) → (stack,)."""
        if not self.point.can_propagate or not len(entries):
            return self.point.losses_by_loop(self.name, entries, offsets)
        if not self.name.startswith(INPUT):
            return self._propagate(0, State(entries, offsets, {}, {}))
        key, value = self.name.removeprefix(INPUT), self.point.value(self.name)
        size = value[0].size
        independent = self.point.has_independent_samples(key)
        whole = State(entries, offsets, changed={}, masks={}, samples=entries // size if independent else None)
        results = []
        largest = max([size, *(term.values.size for term in self.point.terms)]) if independent else value.size
        for state in whole.split(max(1, BLOCK // largest)):
            copies = own_copy(self._copy(value, state), offsets)
            flat = copies.reshape(state.count, -1)
            flat[np.arange(state.count), state.entries % size if independent else state.entries] += state.offsets
            results.append(self._propagate(0, state.with_changes({key: copies})))
        return np.concatenate(results)

    # From call to call -------------------------------------------------------------------------------------------

    def _propagate(self, position: int, state: State) -> Array:
        """The losses of a state that has passed the calls before `position`; a state that grows too large is split."""
        for i in range(position, len(self.calls)):
            call = self.calls[i]
            if not self.point.owns(call, self.name) and not self._is_changed(call, state):
                continue
            step, size = self.plan[i] if i in self.plan else self._choose(call, state)
            if not self.point.has_masks:
                self.plan[i] = step, size
            if state.count > 1 and state.count * size > BLOCK:
                return np.concatenate([self._propagate(i, part) for part in state.split(max(1, BLOCK // size))])
            state = step(self, call, state)
        return self._losses(state)

    def _is_changed(self, call: Call, state: State) -> bool:
        return any(name in state.changed or name in state.masks for name in call.tensors)

    def _choose(self, call: Call, state: State) -> tuple[Step, int]:
        """How a call is computed, and the number of entries of its largest array for each nudge."""
        point, layer = self.point, self.point.model.layers[call.layer]
        base = self.tensors[call.outputs[0]]
        size = max(self.tensors[name].size for name in (*call.tensors, *call.outputs) if name in self.tensors)
        channel = base.size // max(base.shape[-1], 1) if base.ndim > 1 else base.size
        if point.owns(call, self.name):
            if not self._is_changed(call, state) and point.responses(call, self.name) is not None:
                return Propagation._apply_responses, channel if find_activation(layer).elementwise else base.size  # type: ignore[attr-defined]
            return Propagation._stack, max(size, point.weights[self.name].size)
        if state.samples is not None:
            return Propagation._merge_batch, size // point.batch
        given = state.changed.get(call.inputs[0])
        if given is not None and not self.compute_masks(call, state) and point.keeps_masks(call):
            one = isinstance(given, Channel)
            if one and layer.elementwise and len(call.inputs) == 1 and point.is_per_sample(call):
                return Propagation._pack_channels, channel
            if point.matrix(call) is not None:
                return Propagation._apply_matrix, base.size if one else size
        return Propagation._merge_batch if point.is_per_sample(call) else Propagation._stack, size

    def compute_masks(self, call: Call, state: State) -> dict[str, Array]:
        """The changed masks that a call takes."""
        return {name: state.masks[name] for name in call.inputs if name in state.masks}

    # The ways of computing a call --------------------------------------------------------------------------------

    def _apply_responses(self, call: Call, state: State) -> State:
        """A layer that is linear in the nudged weight: its output before the activation moves by step · feature."""
        point, output = self.point, call.outputs[0]
        features, feature, channel = point.responses(call, self.name)  # type: ignore[misc]
        value = point.value(self.name).reshape(-1)[state.entries]
        steps = (value + state.offsets) - value
        moved, which = features[feature[state.entries]], channel[state.entries]
        moved = moved * steps.reshape(-1, *(1,) * (moved.ndim - 1))
        moved += point.move_channels_first(output, before=call)[which]
        activation = find_activation(point.model.layers[call.layer])
        if activation.elementwise:  # type: ignore[attr-defined]
            return state.with_changes({output: Channel(activation(moved), which)})
        whole = Channel(moved, which).whole(point.compute_before_activation(call))
        return state.with_changes({output: activation(merge_batch(whole)).reshape(whole.shape)})

    def _pack_channels(self, call: Call, state: State) -> State:
        """An elementwise layer: nudges that change different channels share one copy of the tensor."""
        given, base = cast("Channel", state.changed[call.inputs[0]]), self.tensors[call.inputs[0]]
        rank = _ranks(given.channel)
        copies = int(rank.max()) + 1
        if state.count > 1 and copies * base.size > 4 * BLOCK:
            halves = [
                self._pack_channels(call, part).changed[call.outputs[0]] for part in state.split(-(-state.count // 2))
            ]
            values = np.concatenate([half.values for half in halves])  # type: ignore[union-attr]
        else:
            packed = np.empty((copies, *base.shape), np.result_type(given.values, base))
            packed[...] = base
            np.moveaxis(packed, -1, 1)[rank, given.channel] = given.values
            (output,), _ = self.point.forward(
                call, tensors={call.inputs[0]: merge_batch(packed)}, masks={}, copies=Copies(copies)
            )
            values = np.moveaxis(output.reshape(packed.shape), -1, 1)[rank, given.channel]
        return state.with_changes({call.outputs[0]: Channel(values, given.channel)})

    def _apply_matrix(self, call: Call, state: State) -> State:
        """A layer that multiplies the last axis by a matrix: what is added to the input adds its product with it."""
        point, given = self.point, state.changed[call.inputs[0]]
        layer = cast("MatrixLayer", point.matrix(call))
        if isinstance(given, Channel):
            change = given.values - point.move_channels_first(call.inputs[0])[given.channel]
            found = layer.propagate_channel(change, given.channel)
        else:
            base = self.tensors[call.inputs[0]]
            found = layer.propagate_all(given.values if isinstance(given, Change) else given - base)
        return state.with_changes({call.outputs[0]: found})

    def _merge_batch(self, call: Call, state: State) -> State:
        """Any layer whose samples are independent: all nudges in one batch, in one forward pass of the layer."""
        tensors = {name: merge_batch(self._expand(name, state)) for name in call.tensors if name in state.changed}
        masks = {name: merge_batch(mask) for name, mask in self.compute_masks(call, state).items()}
        outputs, after = self.point.forward(
            call, tensors=tensors, masks=masks, copies=Copies(state.count, state.samples)
        )
        new = {name: self._stack_copies(x, state) for name, x in zip(call.outputs, outputs, strict=False)}
        return state.with_changes(new, {name: self._stack_copies(mask, state) for name, mask in after.items()})

    def _stack(self, call: Call, state: State) -> State:
        """Any layer: one forward pass on the stacks of what changes for all nudges; else one for each of them."""
        point, count, key = self.point, state.count, (call.outputs, self.name)
        fixed = point.keeps_masks(call) and not self.compute_masks(call, state)
        if count == 1 or not fixed or key in point.unstackable:
            return self._run_loop(call, state)
        tensors = {n: stacked(self._expand(n, state)) for n in call.tensors if n in state.changed}
        own = point.weights_of(call)
        if point.owns(call, self.name):
            value = own_copy(point.value(self.name), state.offsets)
            values = np.broadcast_to(value, (count, *value.shape)).copy()
            values.reshape(count, -1)[np.arange(count), state.entries] += state.offsets
            own[self.name.removeprefix(call.layer + "/")] = stacked(values)
        try:
            outputs, _ = point.forward(call, tensors=tensors, masks={}, own=own)
        # what cannot be computed on stacks is looped over, and an error of the layer itself is raised there
        except Exception:  # noqa: BLE001
            point.unstackable.add(key)
            return self._run_loop(call, state)
        return state.with_changes({n: values_of(x, count) for n, x in zip(call.outputs, outputs, strict=False)})

    def _run_loop(self, call: Call, state: State) -> State:
        """Any layer: one forward pass of the layer for each nudge, with its weight nudged where that is the weight."""
        point, own, results = self.point, self.point.weights_of(call), []
        name = self.name.removeprefix(call.layer + "/") if point.owns(call, self.name) else None
        if name is not None:
            own[name] = own_copy(own[name], state.offsets)
        for s, (entry, offset) in enumerate(zip(state.entries, state.offsets, strict=True)):
            one = state.select(slice(s, s + 1))
            tensors = {n: self._expand(n, one)[0] for n in call.tensors if n in state.changed}
            masks = {n: mask[0] for n, mask in self.compute_masks(call, one).items()}
            with nudged(own.get(name), entry, offset):  # type: ignore[arg-type]
                results.append(point.forward(call, tensors=tensors, masks=masks, own=own))
        produced = list(zip(*(outputs for outputs, _ in results), strict=True))
        new = {n: np.stack(arrays) for n, arrays in zip(call.outputs, produced, strict=False)}
        changed = {n for _, after in results for n in after}
        after = {n: np.stack([np.asarray(m.get(n, point.run.masks[n])) for _, m in results]) for n in changed}
        return state.with_changes(new, after)

    # The losses --------------------------------------------------------------------------------------------------

    def _losses(self, state: State) -> Array:
        """The loss at the point plus its changes, added up on their own first: large sums would round small changes."""
        point, total = self.point, np.zeros(state.count, np.result_type(state.offsets, np.float64))
        for i, term in enumerate(point.terms):
            if term.tensor in state.changed or term.tensor in state.masks:
                total += term.scale * self._compute_changes(i, term, state)
        if not self.name.startswith(INPUT):
            total += point.compute_penalty_changes(self.name, state.entries, state.offsets)
        total += self._compute_activity_changes(state)
        losses: Array = point.base + total
        return losses

    def _compute_changes(self, i: int, term: LossTerm, state: State) -> Array:
        prediction = merge_batch(self._expand(term.tensor, state))
        if term.linear and state.samples is not None:
            # together with the whole batch, since some losses depend on all targets (whether they are 0 and 1)
            both = np.concatenate([term.target, term.target[state.samples]])
            values = term.function.per_sample(both, np.concatenate([self.tensors[term.tensor], prediction]))
            before, after = np.split(values, [self.point.batch])
            differences = np.zeros((state.count, *term.values.shape), values.dtype)
            differences[np.arange(state.count), state.samples] = after - before[state.samples]
            return term.change(differences)
        if term.linear and term.tensor not in state.masks:
            target = self.point.targets(i, count=state.count, flipped=prediction.flags.f_contiguous)
            if term.valid is None or np.array_equal(
                np.asarray(term.function.valid(target, prediction)), Copies(state.count)(term.valid)
            ):
                values = term.function.per_sample(target, prediction).reshape(state.count, *term.values.shape)
                return term.change(values - term.values)
        masks, predictions = state.masks.get(term.tensor), self._stack_copies(prediction, state)
        pairs = zip(predictions, [term.mask] * state.count if masks is None else masks, strict=True)
        return np.array(
            [term.function(term.target, p, sample_weight=term.share, mask=m)[()] - term.loss for p, m in pairs]
        )

    def _compute_activity_changes(self, state: State) -> Any:
        total: Any = 0.0
        for name, regularizer in self.point.model.activity.items():
            for output in (call.outputs[0] for call in self.calls if call.layer == name):
                if output in state.changed:
                    base = self.tensors[output]
                    known = regularizer(base)
                    total = total + np.array([regularizer(x) - known for x in self._expand(output, state)]) / len(base)
        return total

    # Forms of a tensor -------------------------------------------------------------------------------------------

    def _expand(self, name: str, state: State) -> Array:
        """The tensor of every nudge: (stack, rows, …)."""
        given = state.changed.get(name)
        if given is None:
            return self._copy(self.tensors[name], state)
        return given if isinstance(given, np.ndarray) else given.whole(self.tensors[name])

    @staticmethod
    def _copy(base: Array, state: State) -> Array:
        if state.samples is not None:
            return base[state.samples][:, None]
        return np.broadcast_to(base, (state.count, *base.shape))

    @staticmethod
    def _stack_copies(x: Array, state: State) -> Array:
        return x.reshape(state.count, len(x) // state.count, *x.shape[1:])


def _ranks(channel: Array) -> Array:
    """For each nudge, how many nudges before it have the same channel."""
    order = np.argsort(channel, kind="stable")
    ordered, places = channel[order], np.arange(len(channel))
    first = np.concatenate([[True], ordered[1:] != ordered[:-1]]) if len(channel) else np.empty(0, bool)
    ranks = np.empty(len(channel), int)
    ranks[order] = places - np.maximum.accumulate(np.where(first, places, 0))
    return ranks


#: computes a call of a propagation
Step = Callable[[Propagation, Call, State], State]
