"""What is known at the point that is nudged: every tensor, every mask, and what each sample adds to the loss."""

from __future__ import annotations

import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from scratch import registry
from scratch.arrays import Array
from scratch.calls import Call, Tensor, as_masks, as_tuple, keywords_of, leaves
from scratch.layers.base import Layer, Weights
from scratch.model import Run
from scratch.naming import weights_of
from scratch.nudging.linear_structure import linear, mixing_of, responses_of
from scratch.nudging.loss_term import Term
from scratch.noise import ROLLS, noise_of
from scratch.objective import Objective, per_output
from scratch.regularizers import L1, L1L2, L2
from scratch.rounding import Rounding, noisy, rounded_objective

#: how an entry of an input array is named, where a weight would have its own name
INPUT = "input:"
#: bytes that the features of one weight may take
FEATURES = 2**28


def activation_of(layer: Layer) -> Callable[..., Array]:
    """The function that ends a layer."""
    return registry.get("activation", getattr(layer, "activation", "linear"))


@dataclass(frozen=True)
class Copies:
    """How an array of the point becomes one of many nudges: `count` times the batch, or the `samples` that go alone."""

    count: int = 1
    samples: Array | None = None

    @property
    def alone(self) -> bool:
        """Whether the array stays as it is."""
        return self.count == 1 and self.samples is None

    def __call__(self, base: Any, axis: int = 0) -> Any:
        if base is None or self.alone:
            return base
        if self.samples is not None:
            return np.take(base, self.samples, axis=axis)
        return np.concatenate([base] * self.count, axis=axis)


class Point:
    """An objective with all its arguments, and (made when first asked for) what a nudge does not change."""

    def __init__(
        self,
        objective: Objective,
        weights: Weights,
        x: Any,
        y: Any,
        *,
        sample_weight: Any = None,
        training: bool = False,
        draws: Mapping[str, Mapping[str, Array]] | None = None,
        masks: Mapping[str, Array] | None = None,
    ) -> None:
        self.objective = objective.resolved
        self.model = self.objective.model
        self.weights = {name: _double(value) for name, value in weights.items()}
        self.inputs = {name: _double(value) for name, value in self.model.named_inputs(x).items()}
        self.y, self.sample_weight, self.training, self.draws, self.masks = y, sample_weight, training, draws, masks
        self.token = uuid.uuid4().hex
        self._responses: dict[Any, Any] = {}
        self._arrays: dict[Any, Array] = {}
        self._own: dict[str, dict[str, Array]] = {}

    def __reduce__(self) -> Any:
        """What travels to another process is what was given; what was made from it there stays there."""
        names = ("objective", "model", "weights", "inputs", "y", "sample_weight", "training", "draws", "masks", "token")
        return _arrived, (
            {name: self.__dict__[name] for name in names} | {"_responses": {}, "_arrays": {}, "_own": {}},
        )

    def value(self, name: str) -> Array:
        """The array that `name` names: a weight, or with the prefix "input:" an input."""
        return self.inputs[name.removeprefix(INPUT)] if name.startswith(INPUT) else self.weights[name]

    # The plain way -----------------------------------------------------------------------------------------------

    def loss(self, weights: Weights, inputs: Mapping[str, Array]) -> Any:
        """The loss elsewhere: one whole forward pass."""
        options = {"training": self.training, "draws": self.draws, "masks": self.masks, "point": self.run}
        return self.objective(weights, inputs, self.y, sample_weight=self.sample_weight, **options)[()]

    @cached_property
    def noise(self) -> float:
        """The absolute rounding error of the loss at the point (see scratch.noise)."""
        rolls = (self._rolled(Rounding(np.random.default_rng(k), common=k % 2 == 1)) for k in range(ROLLS))
        return noise_of((float(np.real(roll - self.base)) for roll in rolls), float(np.real(self.base)))

    def _rolled(self, rounding: Rounding) -> Any:
        """The loss at the point with every operation off by rounding."""
        objective = rounded_objective(self.objective, rounding)
        options = {"training": self.training, "draws": self.draws, "masks": self.masks, "point": self.run}
        weights = {name: noisy(value, rounding) for name, value in self.weights.items()}
        with np.errstate(all="ignore"):
            run = objective.model.run(weights, self.inputs, **options)
            return np.asarray(objective.of_run(run, weights, self.y, sample_weight=self.sample_weight))[()]

    def plain(self, name: str, entries: Array, offsets: Array) -> Array:
        """The losses with one entry of `name` nudged, (stack,) → (stack,): the loop that everything else must equal."""
        weights, inputs, results = dict(self.weights), dict(self.inputs), np.empty(offsets.shape, offsets.dtype)
        value = own_copy(self.value(name), offsets)
        into = inputs if name.startswith(INPUT) else weights
        into[name.removeprefix(INPUT)] = value
        for s, (entry, offset) in enumerate(zip(entries, offsets, strict=True)):
            with nudged(value, entry, offset):
                results[s] = self.loss(weights, inputs)
        return results

    # What a nudge does not change --------------------------------------------------------------------------------

    @cached_property
    def run(self) -> Run:
        """The forward pass at the point."""
        return self.model.run(self.weights, self.inputs, training=self.training, draws=self.draws, masks=self.masks)

    @cached_property
    def base(self) -> Any:
        """The loss at the point."""
        with np.errstate(all="ignore"):
            loss = np.asarray(self.objective.of_run(self.run, self.weights, self.y, sample_weight=self.sample_weight))
        if loss.ndim:
            raise ValueError(f"A loss must be one number. Received: shape {loss.shape}. Give the loss a reduction.")
        return loss[()]

    @cached_property
    def batch(self) -> int:
        """The number of samples."""
        return len(next(iter(self.inputs.values())))

    @cached_property
    def terms(self) -> tuple[Term, ...]:
        """The losses of the outputs, at the point."""
        losses = self.objective.losses
        targets, shares = per_output(self.y, len(losses)), per_output(self.sample_weight, len(losses))
        scales = self.objective.loss_weights or (1.0,) * len(losses)
        rows = zip(self.model.outputs, losses, targets, shares, scales, strict=True)
        return tuple(Term.of(o, f, np.asarray(t), w, s, self.run) for o, f, t, w, s in rows if f is not None)

    @cached_property
    def ordinary(self) -> bool:
        """Whether nudges can be followed: a finite loss, and no layer whose second call sees the state of its first."""
        layers = self.model.layers
        counts = {name: sum(call.layer == name for call in self.model.calls) for name in layers}
        carried = self.training and any(counts[name] > 1 and layer.state for name, layer in layers.items())
        return not carried and bool(np.isfinite(self.base))

    @cached_property
    def size(self) -> int:
        """The number of entries of all tensors."""
        return sum(np.size(tensor) for tensor in self.run.tensors.values())

    @cached_property
    def masked(self) -> bool:
        """Whether there are masks at all."""
        return any(mask is not None for mask in self.run.masks.values())

    def owns(self, call: Call, name: str) -> bool:
        """Whether `name` is a weight of the called layer."""
        return name.startswith(call.layer + "/")

    def bare(self, call: Call) -> bool:
        """Whether a call is a function of one input and weights alone: no mask, draw, training or keyword plays a part."""
        layer, masked = self.model.layers[call.layer], any(self.run.masks[name] is not None for name in call.inputs)
        held = bool(self.run.held.get(call.outputs[0]))
        active = {"training": self.training, "mask": masked, "draw": bool(self._draws(call)), "held": held}
        return len(call.inputs) == 1 and not call.keywords and not any(active.get(name) for name in layer.accepts)

    def passes_mask(self, call: Call) -> bool:
        """Whether the masks behind a call do not depend on the values of its inputs."""
        layer = self.model.layers[call.layer]
        usual = type(layer).compute_mask is Layer.compute_mask or layer.stopped_per_sample
        return usual or all(self.run.masks[name] is None for name in call.outputs)

    def mergeable(self, call: Call) -> bool:
        """Whether all nudges can be one batch of a call: each sample goes its own way, and all tensors begin with samples."""
        if self.model.layers[call.layer].couples_batch(self.training):
            return False
        names = [*call.tensors, *(name for name in call.outputs if name in self.run.tensors)]
        led = all(np.ndim(self.run.tensors[n]) and len(self.run.tensors[n]) == self.batch for n in names)
        arrays = (leaf for leaf in leaves(call.keywords.values()) if not isinstance(leaf, Tensor))
        plain = all(value is None or isinstance(value, (bool, int, float, str)) for value in arrays)
        # a draw that does not grow with the batch is shared by the samples, or made for this very batch
        fixed = (np.shape(draw) for draw, axis in self._draws(call).values() if axis is None)
        return led and plain and not any(self.batch > 1 and self.batch in shape for shape in fixed)

    def separable(self, key: str) -> bool:
        """Whether a sample of input `key` reaches the loss by itself."""
        reached = {key}
        for call in self.model.calls:
            if reached.intersection(call.tensors):
                if not self.mergeable(call) or call.layer in self.model.activity:
                    return False
                reached.update(call.outputs)
        led = all(term.alone and len(term.target) == self.batch for term in self.terms if term.tensor in reached)
        return led and len(self.inputs[key]) == self.batch

    def responses(self, call: Call, name: str) -> tuple[Array, Array, Array] | None:
        """Layer.responses of a weight, where its context lets them hold and memory lets them be."""
        key = (call.outputs, name)
        if key not in self._responses:
            layer, output = self.model.layers[call.layer], self.run.tensors[call.outputs[0]]
            fits = output.ndim > 1 and self.weights[name].size * output.size * 8 <= FEATURES * output.shape[-1] ** 2
            usable = fits and len(call.outputs) == 1 and self.bare(call)
            arguments = self.weights_of(call), name.removeprefix(call.layer + "/"), self.run.tensors[call.inputs[0]]
            self._responses[key] = responses_of(layer, *arguments) if usable else None
        return self._responses[key]

    def mixing(self, call: Call) -> Array | None:
        """The matrix by which a layer multiplies the last axis of its input, if that is all it does before its activation."""
        key = (call.outputs, "mixing")
        if key not in self._responses:
            layer, x = self.model.layers[call.layer], self.run.tensors[call.inputs[0]]
            self._responses[key] = mixing_of(layer, self.weights_of(call), x) if self.bare(call) else None
        return self._responses[key]

    def largest(self, call: Call) -> float:
        """The largest entry of the matrix of `mixing`."""
        key = (call.outputs, "largest")
        if key not in self._responses:
            self._responses[key] = float(np.max(np.abs(self.mixing(call)), initial=0))  # type: ignore[arg-type]
        return self._responses[key]

    def before(self, call: Call) -> Array:
        """The output of a call before its activation."""
        layer, output = self.model.layers[call.layer], call.outputs[0]
        if linear(layer) is layer:
            return self.run.tensors[output]
        if ("before", output) not in self._arrays:
            inputs = [self.run.tensors[name] for name in call.inputs]
            self._arrays["before", output] = linear(layer).forward(self.weights_of(call), *inputs)
        return self._arrays["before", output]

    def channels(self, name: str, before: Call | None = None) -> Array:
        """A tensor with its channels in front and each of them in one piece of memory."""
        key = ("channels", name, before is None)
        if key not in self._arrays:
            base = self.run.tensors[name] if before is None else self.before(before)
            self._arrays[key] = np.ascontiguousarray(np.moveaxis(base, -1, 0))
        return self._arrays[key]

    # Calls of a layer --------------------------------------------------------------------------------------------

    def weights_of(self, call: Call) -> dict[str, Array]:
        """The weights of the called layer, by their own names."""
        if call.layer not in self._own:
            self._own[call.layer] = weights_of(self.weights, call.layer)
        return self._own[call.layer].copy()

    def _draws(self, call: Call) -> dict[str, tuple[Array, int | None]]:
        """The draws of a call, each with the axis that is the batch: the one that doubles when the batch does."""
        draws = (self.draws or {}).get(call.outputs[0])
        if not draws:
            return {}
        shapes = [self.run.tensors[name].shape for name in call.inputs]
        layer = self.model.layers[call.layer]
        once, twice = layer.draw_shapes(*shapes), layer.draw_shapes(*((2 * n, *rest) for n, *rest in shapes))
        grown = {name: [i for i, n in enumerate(once[name]) if twice[name][i] != n] for name in once}
        return {name: (np.asarray(draw), next(iter(grown.get(name, ())), None)) for name, draw in draws.items()}

    def call(
        self,
        call: Call,
        tensors: Mapping[str, Array],
        masks: Mapping[str, Array],
        *,
        copies: Copies | None = None,
        own: Weights | None = None,
    ) -> tuple[tuple[Array, ...], dict[str, Array]]:
        """Outputs of a call with some tensors and masks changed, and the masks that change with them.

        Whatever is not in `tensors` and `masks` is that of the point, `copies` of it.
        """
        layer, copies = self.model.layers[call.layer], copies or Copies()
        known = {n: tensors[n] if n in tensors else copies(self.run.tensors[n]) for n in call.tensors}
        given = [masks[n] if n in masks else copies(self.run.masks[n]) for n in call.inputs]
        mask = tuple(given) if len(given) > 1 else given[0]
        draws = self._draws(call).items()
        draw = {name: array if axis is None else copies(array, axis=axis) for name, (array, axis) in draws} or None
        held = self.run.held.get(call.outputs[0], {})
        held = {name: copies(array) for name, array in held.items()} if layer.stopped_per_sample else held
        context = {"training": self.training, "mask": mask, "draw": draw, "held": held}
        arguments = [known[name] for name in call.inputs]
        own = self.weights_of(call) if own is None else own
        outputs = tuple(
            np.asarray(x) for x in as_tuple(layer.forward(own, *arguments, **keywords_of(call, layer, known, context)))
        )
        before = {name: self.run.masks[name] for name in call.outputs}
        if (
            layer.stopped_per_sample
            or all(m is None for m in before.values())
            or (not masks and (not tensors or self.passes_mask(call)))
        ):
            return outputs, {}
        after = zip(call.outputs, as_masks(layer.compute_mask(*arguments, mask=mask), len(call.outputs)), strict=True)
        return outputs, {n: m for n, m in after if m is not None and not np.array_equal(m, copies(before[n]))}

    def penalty(self, name: str, entries: Array, offsets: Array) -> Any:
        """What the regularizer of a weight adds when one entry is nudged, over what it adds at the point."""
        regularizer = self.model.regularizers.get(name)
        if regularizer is None:
            return 0.0
        value, results = self.weights[name], []
        if isinstance(regularizer, (L1, L2, L1L2)):  # a sum over entries: the nudged one alone is enough
            old = value.reshape(-1)[entries]
            return np.array(
                [regularizer(pair[:1]) - regularizer(pair[1:]) for pair in np.stack([old + offsets, old], axis=1)]
            )
        base, value = regularizer(value), own_copy(value, offsets)
        for entry, offset in zip(entries, offsets, strict=True):
            with nudged(value, entry, offset):
                results.append(regularizer(value) - base)
        return np.array(results)


@contextmanager
def nudged(array: Array | None, entry: int, offset: Any) -> Iterator[None]:
    """Inside, a flat entry of an array holds its value + offset, by assignment; then its value again. None: nothing."""
    if array is None:
        yield
        return
    flat = array.reshape(-1)
    kept = flat[entry]
    flat[entry] = kept + offset
    try:
        yield
    finally:
        flat[entry] = kept


_ARRIVED: OrderedDict[str, Point] = OrderedDict()


def _arrived(state: dict[str, Any]) -> Point:
    """The point of that token in this process: the one that came with an earlier block, if it did."""
    point = _ARRIVED.get(state["token"])
    if point is None:
        point = object.__new__(Point)
        point.__dict__.update(state)
        _ARRIVED[point.token] = point
        while len(_ARRIVED) > 2:
            _ARRIVED.popitem(last=False)
    return point


def _double(value: Any) -> Array:
    """Numeric slopes are taken in float64, whatever the weights are held in."""
    value = np.asarray(value)
    return value.astype(np.float64) if value.dtype.kind == "f" else value


def own_copy(value: Array, offsets: Array) -> Array:
    """A copy in one piece of memory that can hold what the offsets add."""
    return np.array(value, np.result_type(value, offsets), order="C")
