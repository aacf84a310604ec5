"""What a lesson is about: one of the book's recipes, or a small Keras model with its data, loss and optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ref.checks.twins import twin_loss_weights, twin_losses
from keras_ref.errors import CouldNotRun
from keras_ref.inputs import data as data_module
from keras_ref.inputs.targets import load_data, load_target
from keras_ref.lesson.recipe_table import RECIPES
from keras_ref.translation.from_keras import NoTwin, reflect_with_variables, reflected
from keras_ref.translation.to_keras import mirror, mirrored, mirrored_loss
from scratch import recipe
from scratch.arrays import Array
from scratch.layers.core import Dense
from scratch.losses.regression import MeanSquaredError
from scratch.model import Model
from scratch.objective import Objective
from scratch.optimizers.base import Optimizer
from scratch.optimizers.sgd import SGD

#: what a page can still teach from: entries of weights that are nudged one by one before the reader's eyes, rows of
#: data, numbers of a forward pass (each is a cell of a table)
WEIGHTS, SAMPLES, NUMBERS = 128, 64, 8000


@dataclass(frozen=True)
class Subject:
    """A twin with its start weights, data, objective and optimizer, and the Keras model that stands beside it.

    `variables` maps the twin's weight names to the Keras model's variables.
    """

    name: str
    title: str
    note: str
    model: Model
    weights: Mapping[str, Array]
    x: Any
    y: Any
    objective: Objective
    optimizer: Optimizer
    keras_model: Any
    variables: Mapping[str, Any]

    @property
    def trained(self) -> tuple[str, ...]:
        """Names of the weights that are trained, in the order of the flat vectors."""
        return self.model.trainable

    @property
    def labels(self) -> tuple[str, ...]:
        """One label for each trained entry: dense/kernel[0, 2]; without an index where there is only one."""
        return tuple(
            label_of(n, index, self.weights[n].shape)
            for n in self.trained
            for index in np.ndindex(self.weights[n].shape)
        )

    @property
    def samples(self) -> int:
        """Rows of data."""
        return len(first(self.x))


def label_of(name: str, index: tuple[int, ...], shape: tuple[int, ...]) -> str:
    """dense/kernel[0, 2]; the name alone where the weight has one entry."""
    return name if int(np.prod(shape)) == 1 else f"{name}{list(index)}"


def first(part: Any) -> Array:
    """The array of a single input, or the first of several."""
    return np.asarray(part[0] if isinstance(part, (list, tuple)) else part)


def take(part: Any, index: Array) -> Any:
    """The rows of an array, or of each of several."""
    return [value[index] for value in part] if isinstance(part, (list, tuple)) else part[index]


def recipe_subject(name: str, weights: Any = None, *, learning_rate: float = recipe.LEARNING_RATE) -> Subject:
    """One of the book's recipes, or the same network with other start `weights` ([kernel, bias, kernel, bias, …]).

    Raises: CouldNotRun for an unknown recipe, for weights that are no such list, for an illegal learning rate.
    """
    if name not in RECIPES:
        raise CouldNotRun(
            f"A recipe must be one of {', '.join(RECIPES)}. Received: {name!r}. Name one of them; gradtwin lesson also takes a model, package.module:factory."
        )
    own = weights is not None
    start, note = RECIPES[name]
    arrays = [np.asarray(w, dtype=float) for w in start] if not own else _arrays(weights)
    kernels = arrays[::2]
    if not np.isfinite(learning_rate) or learning_rate < 0:
        raise CouldNotRun(
            f"A learning rate must be a finite number, at least 0. Received: {learning_rate}. Pass 0.01, say."
        )
    count = len(kernels)
    names = (
        ["dense"]
        if count == 1
        else [*(["hidden"] if count == 2 else [f"hidden_{i + 1}" for i in range(count - 1)]), "output"]
    )
    layers = {n: Dense(k.shape[1], "linear" if n == names[-1] else "relu") for n, k in zip(names, kernels, strict=True)}
    model = Model.chain(layers, (len(kernels[0]),))
    values = dict(zip(model.weight_shapes, arrays, strict=True))
    built = mirror(model, values)
    loss, optimizer = MeanSquaredError(), SGD(learning_rate)
    built.compile(optimizer=mirrored(optimizer), loss=mirrored_loss(loss), run_eagerly=True)
    from keras_ref.translation.weights import variables

    x, y = np.asarray(recipe.INPUTS, dtype=float), np.asarray(recipe.OUTPUTS, dtype=float)
    title = f"Recipe {name[-1]} of the book" + (", other weights" if own else "")
    said = "y = 2x, with weights of your own" if own else note
    return Subject(
        name, title, said, model, values, x, y, Objective.of(model, loss), optimizer, built, variables(built, model)
    )


def _arrays(weights: Any) -> list[Array]:
    """Weights [kernel, bias, …] as arrays. Raises: CouldNotRun, one sentence."""
    rule = "Weights must be [kernel, bias, kernel, bias, …] of one input and one output, as in scratch/recipe.py"
    advice = "Pass '[[[1.5]], [0.0]]', say."
    try:
        arrays = [np.asarray(w, dtype=float) for w in weights]
    except (TypeError, ValueError) as error:
        raise CouldNotRun(f"{rule}. Received: {weights!r}, which are no arrays of numbers. {advice}") from error
    kernels, biases = arrays[::2], arrays[1::2]
    sizes = [1, *(k.shape[1] if k.ndim == 2 else -1 for k in kernels)]
    fits = len(kernels) == len(biases) > 0 and sizes[-1] == 1
    fits = fits and all(
        k.ndim == 2 and k.shape[0] == n and b.shape == (k.shape[1],)
        for k, b, n in zip(kernels, biases, sizes, strict=False)
    )
    if not fits:
        raise CouldNotRun(
            f"{rule}. Received: arrays of shapes {', '.join(str(a.shape) for a in arrays) or 'none'}. {advice}"
        )
    if not all(np.isfinite(a).all() for a in arrays):
        raise CouldNotRun(f"{rule}, all finite. Received: {weights!r}. {advice}")
    _small(sum(a.size for a in arrays), "these weights", len(recipe.INPUTS))
    return arrays


def target_subject(target: str, data: str = "", *, seed: int = 0) -> Subject:
    """A Keras model, package.module:factory or a .keras file, with data of an .npz file, the factory's own, or drawn.

    Raises: CouldNotRun for a model that is too large, is not compiled, has no twin, or draws random numbers in training.
    """
    model, *own = load_target(target)
    if not getattr(model, "built", False) or not model.trainable_variables:
        raise CouldNotRun(
            f"A model must be built and have trainable weights to be taught from. Received: {target}, which has none. Give it an Input and a layer with weights."
        )
    entries = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    _small(entries, target, 0)
    if getattr(model, "_compile_loss", None) is None or model.optimizer is None:
        raise CouldNotRun(
            f"A model must be compiled with a loss and an optimizer to be taught from. Received: {target}, which is not. Call model.compile(optimizer=…, loss=…) in the factory."
        )
    x, y, weight = _data(model, target, own, data, seed)
    if weight is not None:
        raise CouldNotRun(
            f"A lesson takes no sample weights. Received: sample_weight in {data or target}. Leave it out, or use gradtwin check."
        )
    _small(entries, target, len(first(x)))
    try:
        twin, variables = reflect_with_variables(model)
        objective = Objective.of(twin, twin_losses(model, len(twin.outputs)), twin_loss_weights(model, len(twin.outputs)))
        optimizer = _meant(reflected(model.optimizer, "optimizer"))
    except NoTwin as reason:
        raise CouldNotRun(
            f"A model must have a NumPy twin to be taught from. {str(reason).split('. ', 1)[-1].split('. Its ')[0].rstrip('.')}. Use gradtwin check, which needs no twin."
        ) from reason
    run = twin.run({n: np.asarray(v.numpy(), dtype=float) for n, v in variables.items()}, x)
    random = [
        call.layer
        for call in twin.calls
        if twin.layers[call.layer].draw_shapes(*(np.shape(run.tensors[n]) for n in call.inputs))
    ]
    if random:
        raise CouldNotRun(
            f"A model must not draw random numbers to be taught from: nudged losses would differ by chance. Received: {', '.join(random)}. Leave them out, or use gradtwin check --training."
        )
    shown = sum(np.size(tensor) for tensor in run.tensors.values())
    if shown > NUMBERS:
        raise CouldNotRun(
            f"A forward pass must have at most {NUMBERS} numbers to be taught from, each being shown. Received: {target}, which has {shown} with {len(first(x))} samples. "
            "Pass fewer rows in --data, use a smaller model of the same kind, or gradtwin check, which takes any size."
        )
    weights = {name: np.asarray(v.numpy(), dtype=float) for name, v in variables.items()}
    note = f"{entries} weights in {len(twin.trainable)} arrays, {len(first(x))} samples{f' drawn with seed {seed}' if not data and own[0] is None else ''}, {type(optimizer).__name__}, {_losses(objective)}"
    return Subject(
        model.name, f"The model {model.name}", note, twin, weights, x, y, objective, optimizer, model, variables
    )


def _meant(optimizer: Any) -> Any:
    """An optimizer with the learning rate that was meant: Keras keeps 0.1 in float32, as 0.10000000149."""
    rate = getattr(optimizer, "learning_rate", None)
    return replace(optimizer, learning_rate=float(str(np.float32(rate)))) if isinstance(rate, float) else optimizer


def _losses(objective: Objective) -> str:
    return " + ".join(type(loss).__name__ for loss in objective.losses if loss is not None)


def _data(model: Any, target: str, own: list[Any], data: str, seed: int) -> tuple[Any, Any, Any]:
    if data:
        x, y, weight = load_data(data)
        if y is None:
            raise CouldNotRun(
                f"--data must hold targets y for a lesson. Received: {data} without. Add y to the .npz file."
            )
    elif own[0] is not None:
        x, y, weight = own
        if y is None:
            raise CouldNotRun(
                f"A factory with data must return targets for a lesson. Received: {target}, which returns a model and x. Return (model, x, y)."
            )
    else:
        x, weight = data_module.draw_inputs(model, seed=seed), None
        y = data_module.draw_targets(model, model(x), seed=seed)
    data_module.validate_data(model, x, y)
    x, y = ([np.asarray(leaf) for leaf in tf.nest.flatten(part)] for part in (x, y))
    return (x[0] if len(x) == 1 else x), (y[0] if len(y) == 1 else y), weight


def _small(entries: int, subject: str, samples: int) -> None:
    if entries > WEIGHTS:
        raise CouldNotRun(
            f"A model must have at most {WEIGHTS} weights to be taught from, each being nudged before the reader's eyes. "
            f"Received: {subject}, which has {entries}. Use gradtwin check, which takes any size, or a smaller model of the same kind."
        )
    if samples > SAMPLES:
        raise CouldNotRun(
            f"A lesson must have at most {SAMPLES} samples, each being shown. Received: {samples} for {subject}. "
            "Pass fewer rows in --data, or use gradtwin check, which takes any number."
        )


def subject_of(target: str, data: str = "", *, seed: int = 0) -> Subject:
    """The subject that a word on the command line names: a recipe, or a model."""
    plain = ":" not in target and not target.endswith(".keras") and "/" not in target
    return recipe_subject(target) if plain else target_subject(target, data, seed=seed)


def fresh_optimizer(subject: Subject) -> keras.optimizers.Optimizer:
    """The subject's optimizer for Keras, as new: nothing remembered."""
    return mirrored(subject.optimizer)
