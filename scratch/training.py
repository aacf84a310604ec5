"""Training of any model by numeric gradients: batches, epochs, and their history."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scratch import registry
from scratch.arrays import Array
from scratch.differences import Scheme
from scratch.gradient import numeric_gradient
from scratch.layers.base import Weights
from scratch.model import Model
from scratch.objective import Objective
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
    if not isinstance(size, (int, np.integer)) or size < 1:
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
    x, y, sample_weight  arrays or sequences of arrays, batch first
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
    the model does not take, and losses that are not one for each output.
    Source  Neural Networks with Keras Cookbook, chapter 1
    """
    if epochs < 0:
        raise ValueError(f"`epochs` must be at least 0. Received: epochs={epochs}. Pass a whole number of passes.")
    optimizer = registry.get("optimizer", optimizer)() if isinstance(optimizer, str) else optimizer
    objective = Objective.of(model, loss)
    current = {name: np.array(weights[name]) for name in model.weight_shapes}
    state = optimizer.init({name: current[name] for name in model.trainable}) if state is None else state
    generator = np.random.default_rng(seed) if shuffle else None
    samples, done = len(_take_first(x)), []
    for number in range(1, epochs + 1):
        losses, sizes = [], []
        for index in split_batches(samples, batch_size, generator=generator):
            batch = [_take(part, index) for part in (x, y, sample_weight)]
            options: dict[str, Any] = {"sample_weight": batch[2], "training": training, "draws": draws}
            losses.append(float(objective(current, batch[0], batch[1], **options)))
            sizes.append(len(index))
            current, state = train_step(
                model,
                current,
                batch[0],
                batch[1],
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


def _take_first(x: Any) -> Any:
    if isinstance(x, Mapping):
        return next(iter(x.values()))
    return (
        x[0]
        if isinstance(x, (tuple, list)) and np.ndim(x[0]) > 0 and not np.isscalar(x[0]) and isinstance(x[0], np.ndarray)
        else x
    )


def _take(part: Any, index: Array) -> Any:
    if part is None:
        return None
    if isinstance(part, Mapping):
        return {name: np.asarray(value)[index] for name, value in part.items()}
    if isinstance(part, Sequence) and part and isinstance(part[0], np.ndarray):
        return [value[index] for value in part]
    return np.asarray(part)[index]
