"""Training of any model by numeric gradients: batches, epochs, and their history."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from scratch import registry
from scratch.arrays import Array
from scratch.differences import Scheme
from scratch.fields import is_integer
from scratch.gradient import numeric_gradient
from scratch.layers.base import Weights
from scratch.model import Model
from scratch.objective import Objective, list_per_output
from scratch.optimizers.base import Optimizer, State


@dataclass(frozen=True)
class Epoch:
    """One epoch: its number (from 1), the mean loss of its batches, each before its step, the weights after it."""

    number: int
    loss: float
    weights: Mapping[str, Array]


@dataclass(frozen=True)
class History:
    """The result of training: its epochs, the final weights and the final state of the optimizer."""

    epochs: tuple[Epoch, ...]
    weights: Mapping[str, Array]
    state: State

    @property
    def losses(self) -> tuple[float, ...]:
        """The loss of each epoch."""
        return tuple(epoch.loss for epoch in self.epochs)

    def __repr__(self) -> str:
        rows = [f"  epoch {epoch.number:>4}  loss {epoch.loss:.8g}" for epoch in self.epochs]
        return "\n".join(
            [f"History of {len(rows)} epochs", *rows[:3], *(["  …"] if len(rows) > 6 else []), *rows[3:][-3:]]
        )

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><td>{epoch.number}</td><td>{epoch.loss:.8g}</td></tr>" for epoch in self.epochs)
        return f"<table><caption>History</caption><tr><th>epoch</th><th>loss</th></tr>{rows}</table>"


def split_batches(samples: int, batch_size: int | None, *, generator: np.random.Generator | None) -> Iterator[Array]:
    """The sample indices of each batch of one epoch, in order, or in the order that the generator draws.

    Raises: ValueError for a batch size that is not a positive integer.
    """
    size = samples if batch_size is None else batch_size
    if not is_integer(size) or size < 1:
        raise ValueError(
            f"`batch_size` must be a positive integer. Received: {batch_size!r}. Pass 1 or more, or None for all."
        )
    order = np.arange(samples) if generator is None else generator.permutation(samples)
    for start in range(0, samples, size):
        yield order[start : start + size]


def fit(
    model: Model,
    weights: Weights,
    x: Any,
    y: Any,
    *,
    loss: Any,
    optimizer: Optimizer | str = "SGD",
    epochs: int = 1,
    batch_size: int | None = 32,
    shuffle: bool = False,
    seed: int = 0,
    sample_weight: Any = None,
    scheme: Scheme | None = None,
    state: State | None = None,
    training: bool = True,
    draws: Any = None,
    executor: Any = None,
    progress: Callable[[int, int], None] | None = None,
) -> History:
    """Train a model by nudging its weights: numeric gradients, then the optimizer. Arguments are not changed.

    weights              {"dense/kernel": array, …} to start from, of the shapes in `model.weight_shapes`
    x, y, sample_weight  as `Objective` takes them, batch first
    loss                 a loss or its name, or a sequence of them, one for each output
    optimizer, state     an optimizer or its name, and its state (None: that before the first step)
    epochs               passes through the data
    batch_size           samples of a step (None: all);   shuffle  whether each epoch's order is drawn from `seed`
    scheme               a scheme of scratch.differences (None: `Central`)
    training             whether layers compute as in training;   draws  their random arrays, the same for every batch
    executor             of `Nudges`;   progress  called with (epoch, epochs) after each epoch

    Constraints act after each step, moving averages of layers are updated with each batch, and the final weights are
    those of the optimizer's `finalize` (averages in place of weights), as in Keras's own training.
    Raises: ValueError for a number of epochs below 0, a batch size below 1, a name that is not registered, inputs that
    the model does not take, and losses, targets or sample weights that are not one for each output.
    Source  Neural Networks with Keras Cookbook, chapter 1
    """
    if not is_integer(epochs) or epochs < 0:
        raise ValueError(f"`epochs` must be a whole number, at least 0. Received: epochs={epochs!r}. Pass 1, say.")
    optimizer = registry.get("optimizer", optimizer)() if isinstance(optimizer, str) else optimizer
    objective = Objective.of(model, loss)
    current = {name: np.array(weights[name]) for name in model.weight_shapes}
    state = optimizer.init({name: current[name] for name in model.trainable}) if state is None else state
    generator = np.random.default_rng(seed) if shuffle else None
    inputs = model.named_inputs(x)
    targets, shares = (_list_arrays(given, model) for given in (y, sample_weight))
    samples, done = len(next(iter(inputs.values()))), []
    for number in range(1, epochs + 1):
        losses, sizes = [], []
        for index in split_batches(samples, batch_size, generator=generator):
            batch_x = {name: value[index] for name, value in inputs.items()}
            batch_y, share = (_take(parts, index) for parts in (targets, shares))
            options: dict[str, Any] = {"sample_weight": share, "training": training, "draws": draws}
            losses.append(float(objective(current, batch_x, batch_y, **options)))
            sizes.append(len(index))
            current, state = train_step(
                model,
                current,
                batch_x,
                batch_y,
                loss=loss,
                optimizer=optimizer,
                state=state,
                scheme=scheme,
                executor=executor,
                **options,
            )
        done.append(
            Epoch(number, float(np.average(losses, weights=sizes)), {name: w.copy() for name, w in current.items()})
        )
        if progress is not None:
            progress(number, epochs)
    ended = optimizer.finalize({name: current[name] for name in model.trainable}, state) if epochs else {}
    return History(tuple(done), {**current, **ended}, state)


def _list_arrays(given: Any, model: Model) -> tuple[Array | None, ...]:
    """Targets or sample weights as an array for each output, None where it has none."""
    return tuple(None if part is None else np.asarray(part) for part in list_per_output(given, model.outputs))


def _take(parts: tuple[Array | None, ...], index: Array) -> Any:
    """Some of the samples: an array of a single output, a tuple of several."""
    taken = tuple(None if part is None else part[index] for part in parts)
    return taken[0] if len(taken) == 1 else taken


def train_step(
    model: Model,
    weights: Weights,
    x: Any,
    y: Any,
    *,
    optimizer: Optimizer,
    state: State,
    training: bool = True,
    draws: Any = None,
    **options: Any,
) -> tuple[dict[str, Array], State]:
    """One step: numeric gradient, optimizer, constraints, moving averages. Returns the new weights and state.

    `options` are those of `numeric_gradient`: loss, scheme, sample_weight, executor, …
    """
    estimates = numeric_gradient(model, weights, x, y, training=training, draws=draws, **options)
    gradients = {name: estimates[name].value for name in model.trainable}
    return apply_step(model, weights, gradients, x, optimizer=optimizer, state=state, training=training, draws=draws)


def apply_step(
    model: Model,
    weights: Weights,
    gradients: Mapping[str, Array],
    x: Any,
    *,
    optimizer: Optimizer,
    state: State,
    training: bool = True,
    draws: Any = None,
) -> tuple[dict[str, Array], State]:
    """The part of a step that follows the gradient: optimizer, constraints, moving averages."""
    trained, state = optimizer.step(
        {name: weights[name] for name in model.trainable}, gradients, state, constraints=model.constraints
    )
    updates = model.run(weights, x, training=training, draws=draws).updates if training and model.state else {}
    return {**weights, **trained, **updates}, state
