"""The point that is nudged: an objective with its arguments, and what is computed once because no nudge changes it."""

from __future__ import annotations

import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np

from scratch import registry
from scratch.arrays import Array, leaves
from scratch.calls import Call, Tensor, as_masks, as_tuple, make_keywords
from scratch.layers.base import Layer, Response, Weights
from scratch.model import Run
from scratch.naming import weights_of
from scratch.noise import ROLLS, noise_of
from scratch.nudging.changes import Copies
from scratch.nudging.linear_structure import find_mixing, find_responses, without_activation
from scratch.nudging.loss_term import LossTerm
from scratch.nudging.matrix_layers import MatrixLayer
from scratch.nudging.stack import Stack
from scratch.objective import Objective, list_per_output
from scratch.regularizers import L1, L1L2, L2
from scratch.rounding import Rounding, make_noisy, round_objective

#: the prefix of the names of inputs; weights have their own names
INPUT = "input:"
#: the largest number of bytes of the features of one weight
FEATURES = 2**28


def find_activation(layer: Layer) -> Callable[..., Array]:
    """The activation of a layer; the identity where it has none."""
    activation: Callable[..., Array] = registry.get("activation", getattr(layer, "activation", "linear"))
    return activation


class BasePoint:
    """An objective with its arguments. What no nudge changes is computed at its first use and kept.

    weights, x, y, sample_weight, training, draws, masks   as `Objective.__call__` takes them
    """

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
        self.weights = {name: _as_float64(value) for name, value in weights.items()}
        self.inputs = {name: _as_float64(value) for name, value in self.model.named_inputs(x).items()}
        self.y, self.sample_weight, self.training, self.draws, self.masks = y, sample_weight, training, draws, masks
        self.token = uuid.uuid4().hex
        self.clear()

    def clear(self) -> None:
        """Forget what has been computed of the calls."""
        self._responses: dict[tuple[tuple[str, ...], str], Response | None] = {}
        self._mixings: dict[tuple[str, ...], Array | None] = {}
        self._matrices: dict[tuple[str, ...], MatrixLayer] = {}
        self._arrays: dict[tuple[Any, ...], Array] = {}
        self._own: dict[str, dict[str, Array]] = {}
        #: calls that cannot be computed on stacks while a weight or input is nudged: their outputs, and its name
        self.unstackable: set[tuple[tuple[str, ...], str]] = set()

    def __reduce__(self) -> Any:
        """Only the arguments are sent to another process; what is derived from them is computed there."""
        names = ("objective", "model", "weights", "inputs", "y", "sample_weight", "training", "draws", "masks", "token")
        return _receive, ({name: self.__dict__[name] for name in names},)

    def value(self, name: str) -> Array:
        """The array that `name` names: a weight, or with the prefix "input:" an input."""
        return self.inputs[name.removeprefix(INPUT)] if name.startswith(INPUT) else self.weights[name]

    # One forward pass for each nudge -----------------------------------------------------------------------------

    def loss(self, weights: Weights, inputs: Mapping[str, Array]) -> Any:
        """The loss at other weights and inputs: one whole forward pass."""
        options = {"training": self.training, "draws": self.draws, "masks": self.masks, "point": self.run}
        return self.objective(weights, inputs, self.y, sample_weight=self.sample_weight, **options)[()]

    @cached_property
    def noise(self) -> float:
        """The absolute rounding error of the loss at the point (see scratch.noise)."""
        rolls = [self._perturb(Rounding(np.random.default_rng(k), common=k % 2 == 1, alone=True)) for k in range(ROLLS)]
        with np.errstate(invalid="ignore"):  # of losses that are not finite
            return noise_of((float(np.real(roll - self.base)) for roll in rolls), float(np.real(self.base)))

    def _perturb(self, rounding: Rounding) -> Any:
        """The loss at the point with every operation off by rounding."""
        objective = round_objective(self.objective, rounding)
        options = {"training": self.training, "draws": self.draws, "masks": self.masks, "point": self.run}
        weights = {name: make_noisy(value, rounding) for name, value in self.weights.items()}
        with np.errstate(all="ignore"):
            run = objective.model.run(weights, self.inputs, **options)
            return np.asarray(objective.of_run(run, weights, self.y, sample_weight=self.sample_weight))[()]

    def losses_by_loop(self, name: str, entries: Array, offsets: Array) -> Array:
        """The losses with one entry of `name` nudged, (stack,) → (stack,): the loop that all else must equal."""
        weights, inputs, results = dict(self.weights), dict(self.inputs), np.empty(offsets.shape, offsets.dtype)
        value = own_copy(self.value(name), offsets)
        into = inputs if name.startswith(INPUT) else weights
        into[name.removeprefix(INPUT)] = value
        for s, (entry, offset) in enumerate(zip(entries, offsets, strict=True)):
            with nudged(value, entry, offset):
                results[s] = self.loss(weights, inputs)
        return results

    # What no nudge changes ---------------------------------------------------------------------------------------

    @cached_property
    def run(self) -> Run:
        """The forward pass at the point."""
        return self.model.run(self.weights, self.inputs, training=self.training, draws=self.draws, masks=self.masks)

    @cached_property
    def base(self) -> Any:
        """The loss at the point. Raises: ValueError for a loss that is not one number."""
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
    def terms(self) -> tuple[LossTerm, ...]:
        """The losses of the outputs."""
        losses = self.objective.losses
        targets, shares = (list_per_output(given, self.model.outputs) for given in (self.y, self.sample_weight))
        scales = self.objective.loss_weights or (1.0,) * len(losses)
        return tuple(
            LossTerm.of(self.run, tensor=tensor, function=loss, target=np.asarray(target), share=share, scale=scale)
            for tensor, loss, target, share, scale in zip(
                self.model.outputs, losses, targets, shares, scales, strict=True
            )
            if loss is not None
        )

    def targets(self, i: int, *, count: int, flipped: bool) -> Array:
        """The target of term i for `count` nudges, (count · batch, …): rows of an array that is kept, as large as has
        been needed. `flipped` asks for columns that are contiguous, where there are two axes.
        """
        target = self.terms[i].target
        rows, known = count * len(target), self._arrays.get(("target", i, flipped))
        if known is None or len(known) < rows:
            if flipped and target.ndim == 2:
                known = np.broadcast_to(target.T[:, None], (target.shape[1], count, len(target))).reshape(-1, rows).T
            else:
                known = Copies(count)(target)
            self._arrays["target", i, flipped] = known
        return known[:rows]

    @cached_property
    def can_propagate(self) -> bool:
        """Whether nudges can be propagated: the loss is finite, and no second call of a layer sees new state."""
        layers = self.model.layers
        counts = {name: sum(call.layer == name for call in self.model.calls) for name in layers}
        carried = self.training and any(counts[name] > 1 and layer.state for name, layer in layers.items())
        return not carried and bool(np.isfinite(self.base))

    @cached_property
    def size(self) -> int:
        """The number of entries of all tensors."""
        return sum(np.size(tensor) for tensor in self.run.tensors.values())

    @cached_property
    def has_masks(self) -> bool:
        """Whether any tensor has a mask."""
        return any(mask is not None for mask in self.run.masks.values())

    def owns(self, call: Call, name: str) -> bool:
        """Whether `name` is a weight of the called layer."""
        return name.startswith(call.layer + "/")

    def is_unary(self, call: Call) -> bool:
        """Whether a call is a function of its weights and one input alone: no mask, draw, training or keyword."""
        layer, masked = self.model.layers[call.layer], any(self.run.masks[name] is not None for name in call.inputs)
        stopped = bool(self.run.stopped.get(call.outputs[0]))
        active = {"training": self.training, "mask": masked, "draw": bool(self._draws(call)), "stopped": stopped}
        return len(call.inputs) == 1 and not call.keywords and not any(active.get(name) for name in layer.accepts)

    def keeps_masks(self, call: Call) -> bool:
        """Whether the masks of a call's outputs are independent of the values of its inputs."""
        layer = self.model.layers[call.layer]
        usual = type(layer).compute_mask is Layer.compute_mask or layer.stopped_per_sample
        return usual or all(self.run.masks[name] is None for name in call.outputs)

    def is_per_sample(self, call: Call) -> bool:
        """Whether all nudges can be one batch of a call: samples are independent, and first axis of every tensor."""
        if self.model.layers[call.layer].couples_batch(training=self.training):
            return False
        names = [*call.tensors, *(name for name in call.outputs if name in self.run.tensors)]
        led_by_batch = all(np.ndim(self.run.tensors[n]) and len(self.run.tensors[n]) == self.batch for n in names)
        arrays = (leaf for leaf in leaves(call.keywords.values()) if not isinstance(leaf, Tensor))
        scalar = all(value is None or isinstance(value, (bool, int, float, str)) for value in arrays)
        # a draw whose shape does not grow with the batch is shared by all samples, or belongs to this batch alone
        fixed = (np.shape(draw) for draw, axis in self._draws(call).values() if axis is None)
        return led_by_batch and scalar and not any(self.batch > 1 and self.batch in shape for shape in fixed)

    def has_independent_samples(self, key: str) -> bool:
        """Whether a sample of input `key` changes only what that same sample adds to the loss."""
        reached = {key}
        for call in self.model.calls:
            if reached.intersection(call.tensors):
                if not self.is_per_sample(call) or call.layer in self.model.activity:
                    return False
                reached.update(call.outputs)
        terms = [term for term in self.terms if term.tensor in reached]
        return len(self.inputs[key]) == self.batch and all(
            term.is_per_sample and len(term.target) == self.batch for term in terms
        )

    def responses(self, call: Call, name: str) -> Response | None:
        """`Layer.responses` of a weight, verified; None where the call is not unary or its features are too large."""
        key = (call.outputs, name)
        if key not in self._responses:
            layer, output = self.model.layers[call.layer], self.run.tensors[call.outputs[0]]
            fits = output.ndim > 1 and self.weights[name].size * output.size * 8 <= FEATURES * output.shape[-1] ** 2
            usable = fits and len(call.outputs) == 1 and self.is_unary(call)
            arguments = self.weights_of(call), name.removeprefix(call.layer + "/"), self.run.tensors[call.inputs[0]]
            self._responses[key] = find_responses(layer, *arguments) if usable else None
        return self._responses[key]

    def matrix(self, call: Call) -> MatrixLayer | None:
        """A call as a product with the verified matrix of `Layer.mixing`; None where it is none, or is not unary."""
        key, found = call.outputs, self._find_mixing(call)
        if found is not None and key not in self._matrices:
            name = call.outputs[0]
            self._matrices[key] = MatrixLayer.of(
                name,
                matrix=found,
                activation=find_activation(self.model.layers[call.layer]),
                before=self.compute_before_activation(call),
                output=self.run.tensors[name],
                as_change=any(name in c.tensors and self._find_mixing(c) is not None for c in self.model.calls),
            )
        return self._matrices.get(key)

    def _find_mixing(self, call: Call) -> Array | None:
        """`find_mixing` of a call; None where it is not unary, or its input is not finite."""
        key = call.outputs
        if key not in self._mixings:
            layer, x = self.model.layers[call.layer], self.run.tensors[call.inputs[0]]
            usable = self.is_unary(call) and np.isfinite(x).all()
            self._mixings[key] = find_mixing(layer, self.weights_of(call), x) if usable else None
        return self._mixings[key]

    def compute_before_activation(self, call: Call) -> Array:
        """The output of a call before its activation."""
        layer, output = self.model.layers[call.layer], call.outputs[0]
        linear = without_activation(layer)
        if linear is layer:
            return self.run.tensors[output]
        if ("before", output) not in self._arrays:
            inputs = [self.run.tensors[name] for name in call.inputs]
            self._arrays["before", output] = linear.forward(self.weights_of(call), *inputs)
        return self._arrays["before", output]

    def move_channels_first(self, name: str, before: Call | None = None) -> Array:
        """A tensor with its channels first, contiguous; where `before` is given, before the activation of that call."""
        key = ("channels", name, before is None)
        if key not in self._arrays:
            base = self.run.tensors[name] if before is None else self.compute_before_activation(before)
            self._arrays[key] = np.ascontiguousarray(np.moveaxis(base, -1, 0))
        return self._arrays[key]

    # Calls of a layer --------------------------------------------------------------------------------------------

    def weights_of(self, call: Call) -> dict[str, Array]:
        """The weights of the called layer, by the names that the layer gives them."""
        if call.layer not in self._own:
            self._own[call.layer] = weights_of(self.weights, call.layer)
        return self._own[call.layer].copy()

    def _draws(self, call: Call) -> dict[str, tuple[Array, int | None]]:
        """The draws of a call, each with its batch axis (the one that doubles with the batch), or None."""
        draws = (self.draws or {}).get(call.outputs[0])
        if not draws:
            return {}
        shapes = [self.run.tensors[name].shape for name in call.inputs]
        layer = self.model.layers[call.layer]
        once, twice = layer.draw_shapes(*shapes), layer.draw_shapes(*((2 * n, *rest) for n, *rest in shapes))
        grown = {name: [i for i, n in enumerate(once[name]) if twice[name][i] != n] for name in once}
        return {name: (np.asarray(draw), next(iter(grown.get(name, ())), None)) for name, draw in draws.items()}

    def forward(
        self,
        call: Call,
        *,
        tensors: Mapping[str, Array],
        masks: Mapping[str, Array],
        copies: Copies | None = None,
        own: Weights | None = None,
    ) -> tuple[tuple[Array, ...], dict[str, Array]]:
        """The outputs of a call with changed `tensors` and `masks`, and the masks of outputs that change with them.

        Tensors and masks that are not given are `copies` of those of the point; `own` replaces the layer's weights.
        Where tensors or weights are stacks, so are the outputs that depend on them.
        """
        layer, copies = self.model.layers[call.layer], copies or Copies()
        known = {n: tensors[n] if n in tensors else copies(self.run.tensors[n]) for n in call.tensors}
        given = [masks[n] if n in masks else copies(self.run.masks[n]) for n in call.inputs]
        mask = tuple(given) if len(given) > 1 else given[0]
        draws = self._draws(call).items()
        draw = {name: array if axis is None else copies(array, axis=axis) for name, (array, axis) in draws} or None
        stopped = self.run.stopped.get(call.outputs[0], {})
        stopped = {name: copies(array) for name, array in stopped.items()} if layer.stopped_per_sample else stopped
        context = {"training": self.training, "mask": mask, "draw": draw, "stopped": stopped}
        arguments = [known[name] for name in call.inputs]
        own = self.weights_of(call) if own is None else own
        outputs: tuple[Any, ...] = tuple(
            x if isinstance(x, Stack) else np.asarray(x)
            for x in as_tuple(layer.forward(own, *arguments, **make_keywords(call, layer, known, context)))
        )
        before = {name: self.run.masks[name] for name in call.outputs}
        if (
            layer.stopped_per_sample
            or all(m is None for m in before.values())
            or (not masks and (not tensors or self.keeps_masks(call)))
        ):
            return outputs, {}
        after = zip(call.outputs, as_masks(layer.compute_mask(*arguments, mask=mask), len(call.outputs)), strict=True)
        return outputs, {n: m for n, m in after if m is not None and not np.array_equal(m, copies(before[n]))}

    def compute_penalty_changes(self, name: str, entries: Array, offsets: Array) -> Any:
        """The changes of a weight's regularization loss with one entry nudged: (stack,), or 0 without a regularizer."""
        regularizer = self.model.regularizers.get(name)
        if regularizer is None:
            return 0.0
        value, results = self.weights[name], []
        if isinstance(regularizer, (L1, L2, L1L2)):  # a sum over entries: only the nudged one changes
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
    """Assign value + offset to a flat entry of an array, and its value again at the end. None: nothing is nudged."""
    if array is None:
        yield
        return
    flat = array.reshape(-1)
    value = flat[entry]
    flat[entry] = value + offset
    try:
        yield
    finally:
        flat[entry] = value


_RECEIVED: OrderedDict[str, BasePoint] = OrderedDict()


def _receive(state: dict[str, Any]) -> BasePoint:
    """The point of a token in this process: the one that an earlier block brought, if one did."""
    point = _RECEIVED.get(state["token"])
    if point is None:
        point = object.__new__(BasePoint)
        point.__dict__.update(state)
        point.clear()
        _RECEIVED[point.token] = point
        while len(_RECEIVED) > 2:
            _RECEIVED.popitem(last=False)
    return point


def _as_float64(value: Any) -> Array:
    """Floats as float64, whatever their precision: numeric gradients are computed in float64."""
    value = np.asarray(value)
    losses: Array = value.astype(np.float64) if value.dtype.kind == "f" else value
    return losses


def own_copy(value: Array, offsets: Array) -> Array:
    """A contiguous copy of an array, in the dtype that adding the offsets needs."""
    return np.array(value, np.result_type(value, offsets), order="C")
