"""LessonModel: what a lesson is about, a recipe of the book or a small Keras model, with data, loss and optimizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from keras_ref.errors import CouldNotRun, shorten_error
from keras_ref.evaluation.keras_objects.keras_parts import list_by_output, loss_weights_of, pair_inputs
from keras_ref.evaluation.keras_objects.leaves import name_leaves
from keras_ref.inputs import data as data_module
from keras_ref.inputs.model_files import is_model_file
from keras_ref.inputs.targets import load_data, load_target
from keras_ref.lesson.recipe_table import RECIPES
from keras_ref.lesson.words import Phrase, phrase
from keras_ref.own_modules import recipe
from keras_ref.reports.escaping import make_printable
from keras_ref.translation.compiled_losses import build_twin_losses
from keras_ref.translation.from_keras import NoTwin, reflect_object, reflect_with_variables
from keras_ref.translation.to_keras import mirror, mirror_loss, mirror_object
from keras_ref.translation.weights import map_variables
from scratch.arrays import Array
from scratch.layers.core import Dense
from scratch.losses.regression import MeanSquaredError
from scratch.model import Model
from scratch.objective import Objective
from scratch.optimizers.base import Optimizer
from scratch.optimizers.sgd import SGD

#: what fits into a page: weights, each nudged and shown; rows of data; numbers of a forward pass, each a table cell
WEIGHTS, SAMPLES, NUMBERS = 128, 64, 8000


@dataclass(frozen=True)
class LessonModel:
    """A NumPy twin with its start weights, data, objective and optimizer, and the Keras model beside it.

    source      the book that it is from, where it is from one
    x, y        an array, or a list of arrays where there are several inputs or outputs
    variables   {name of a weight of the twin: variable of keras_model}
    """

    name: str
    title: Phrase
    note: Phrase
    source: Phrase | None
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
        """Names of the trained weights, in the order in which `flatten` puts them."""
        return self.model.trainable

    @property
    def labels(self) -> tuple[str, ...]:
        """A label for each trained entry: dense/kernel[0, 2]; without the index where there is only one entry."""
        return tuple(
            make_label(n, index, self.weights[n].shape)
            for n in self.trained
            for index in np.ndindex(self.weights[n].shape)
        )

    @property
    def samples(self) -> int:
        """Rows of data."""
        return len(take_first(self.x))

    def flatten(self, arrays: Mapping[str, Array]) -> Array:
        """The trained entries of arrays, given by weight name, as one vector."""
        return np.concatenate([np.ravel(arrays[name]) for name in self.trained])

    def unflatten(self, vector: Sequence[float] | Array) -> dict[str, Array]:
        """All weights, the trained ones taken from a vector as `flatten` makes it, the others as at the start."""
        values, at = dict(self.weights), 0
        for name in self.trained:
            size = values[name].size
            values[name] = np.asarray(vector[at : at + size], dtype=float).reshape(values[name].shape)
            at += size
        return values

    def evaluate_loss(self, weights: Mapping[str, Array]) -> float:
        """The loss of all samples in training mode; inf or nan where it overflows."""
        with np.errstate(all="ignore"):
            return float(self.objective(weights, self.x, self.y, training=True))


def make_label(name: str, index: tuple[int, ...], shape: tuple[int, ...]) -> str:
    """dense/kernel[0, 2], as it is shown; the name alone where the weight has one entry."""
    return make_printable(name if int(np.prod(shape)) == 1 else f"{name}{list(index)}")


def take_first(part: Any) -> Array:
    """The array of a single input, or the first of several."""
    return np.asarray(part[0] if isinstance(part, (list, tuple)) else part)


def take(part: Any, index: Array) -> Any:
    """The rows of an array, or of each of several."""
    return [value[index] for value in part] if isinstance(part, (list, tuple)) else part[index]


def make_recipe_model(name: str, weights: Any = None, *, learning_rate: float = recipe.LEARNING_RATE) -> LessonModel:
    """One of the book's recipes, or its network with other start `weights` ([kernel, bias, kernel, bias, …]).

    Raises: CouldNotRun for an unknown recipe, for weights that are no such list, for an illegal learning rate.
    """
    if name not in RECIPES:
        raise CouldNotRun(
            f"A recipe must be one of {', '.join(RECIPES)}. Received: {name!r}. Name one of them; gradtwin lesson also "
            "takes a model, package.module:factory."
        )
    if not np.isfinite(learning_rate) or learning_rate < 0:
        raise CouldNotRun(
            f"A learning rate must be a finite number, at least 0. Received: {learning_rate}. Pass 0.01, say."
        )
    own = weights is not None
    start = RECIPES[name][0]
    arrays = _own_weights(weights) if own else [np.asarray(w, dtype=float) for w in start]
    model = _build_recipe_network(arrays[::2])
    values = dict(zip(model.weight_shapes, arrays, strict=True))
    keras_model = mirror(model, values)
    loss, optimizer = MeanSquaredError(), SGD(learning_rate)
    keras_model.compile(optimizer=mirror_object(optimizer), loss=mirror_loss(loss), run_eagerly=True)
    return LessonModel(
        name=name,
        title=phrase("title_recipe_other" if own else "title_recipe", number=name[-1]),
        note=phrase("note_own" if own else f"note_{name}"),
        source=phrase("source_recipe"),
        model=model,
        weights=values,
        x=np.asarray(recipe.INPUTS, dtype=float),
        y=np.asarray(recipe.OUTPUTS, dtype=float),
        objective=Objective.of(model, loss),
        optimizer=optimizer,
        keras_model=keras_model,
        variables=map_variables(keras_model, model),
    )


def _build_recipe_network(kernels: Sequence[Array]) -> Model:
    """Dense layers of these kernels' sizes, with ReLU between them."""
    count = len(kernels)
    hidden = ["hidden"] if count == 2 else [f"hidden_{i + 1}" for i in range(count - 1)]
    names = ["dense"] if count == 1 else [*hidden, "output"]
    layers = {n: Dense(k.shape[1], "linear" if n == names[-1] else "relu") for n, k in zip(names, kernels, strict=True)}
    return Model.chain(layers, (len(kernels[0]),))


def _own_weights(weights: Any) -> list[Array]:
    """Weights [kernel, bias, …] as arrays. Raises: CouldNotRun."""
    rule = "Weights must be [kernel, bias, kernel, bias, …] of one input and one output, as in scratch/recipe.py"
    advice = "Pass '[[[1.5]], [0.0]]', say."
    try:
        arrays = [np.asarray(w, dtype=float) for w in weights]
    except (TypeError, ValueError, OverflowError) as error:
        given = shorten_error(repr(weights))[:-1]
        raise CouldNotRun(f"{rule}. Received: {given}, which are no arrays of numbers. {advice}") from error
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
    _refuse_large("these weights", entries=sum(a.size for a in arrays), samples=len(recipe.INPUTS))
    return arrays


def load_target_model(target: str, data: str = "", *, seed: int = 0) -> LessonModel:
    """A Keras model (package.module:factory or a .keras file) with the data of an .npz file, of the factory, or drawn.

    Raises: CouldNotRun for a model that is too large, not compiled, has no twin, or draws random numbers in training.
    """
    model, *own = load_target(target)
    _refuse_untrainable(model, target)
    entries = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    _refuse_large(target, entries=entries, samples=0)
    x, y, weight = _choose_data(model, target, own=own, data=data, seed=seed)
    if weight is not None:
        raise CouldNotRun(
            f"A lesson takes no sample weights. Received: sample_weight in {data or target}. Leave it out, or use "
            "gradtwin check."
        )
    try:
        twin, keras_variables = reflect_with_variables(model)
        objective = Objective.of(
            twin, build_twin_losses(model, len(twin.outputs)), loss_weights_of(model, len(twin.outputs))
        )
        optimizer = _with_decimal_rate(reflect_object(model.optimizer, "optimizer"))
    except NoTwin as reason:
        raise CouldNotRun(
            "A model must have a NumPy twin to be taught from. "
            f"{str(reason).split('. ', 1)[-1].split('. Its ')[0].rstrip('.')}. Use gradtwin check, which needs no twin."
        ) from reason
    x, y = _list_in_order(model, x, y)
    _refuse_large(target, entries=entries, samples=len(take_first(x)))
    weights = {name: np.asarray(v.numpy(), dtype=float) for name, v in keras_variables.items()}
    _refuse_forward_pass(twin, weights, x, target)
    drawn = phrase("note_drawn", seed=seed) if not data and own[0] is None else ""
    return LessonModel(
        name=make_printable(model.name),
        title=phrase("title_model", name=make_printable(model.name)),
        note=phrase(
            "note_model",
            entries=entries,
            arrays=len(twin.trainable),
            samples=len(take_first(x)),
            drawn=drawn,
            optimizer=type(optimizer).__name__,
            losses=_name_losses(objective),
        ),
        source=None,
        model=twin,
        weights=weights,
        x=x,
        y=y,
        objective=objective,
        optimizer=optimizer,
        keras_model=model,
        variables=keras_variables,
    )


def _refuse_untrainable(model: Any, target: str) -> None:
    """Raises: CouldNotRun for a model without trainable weights, or not compiled."""
    if not getattr(model, "built", False) or not model.trainable_variables:
        raise CouldNotRun(
            f"A model must be built and have trainable weights to be taught from. Received: {target}, which has none. "
            "Give it an Input and a layer with weights."
        )
    if getattr(model, "_compile_loss", None) is None or model.optimizer is None:
        raise CouldNotRun(
            f"A model must be compiled with a loss and an optimizer to be taught from. Received: {target}, which is "
            "not. Call model.compile(optimizer=…, loss=…) in the factory."
        )


def _refuse_forward_pass(twin: Model, weights: Mapping[str, Array], x: Any, target: str) -> None:
    """Raises: CouldNotRun for a forward pass that draws random numbers, or has too many numbers to be shown."""
    run = twin.run(weights, x)
    random = [
        call.layer
        for call in twin.calls
        if twin.layers[call.layer].draw_shapes(*(np.shape(run.tensors[n]) for n in call.inputs))
    ]
    if random:
        raise CouldNotRun(
            "A model must not draw random numbers to be taught from: nudged losses would differ by chance. "
            f"Received: {', '.join(random)}. Leave them out, or use gradtwin check --training."
        )
    shown = sum(np.size(tensor) for tensor in run.tensors.values())
    if shown > NUMBERS:
        raise CouldNotRun(
            f"A forward pass must have at most {NUMBERS} numbers to be taught from, each being shown. Received: "
            f"{target}, which has {shown} with {len(take_first(x))} samples. Pass fewer rows in --data, use a smaller "
            "model of the same kind, or gradtwin check, which takes any size."
        )


def _with_decimal_rate(optimizer: Any) -> Any:
    """An optimizer with the learning rate as it was written: Keras keeps 0.1 in float32, as 0.10000000149."""
    rate = getattr(optimizer, "learning_rate", None)
    return replace(optimizer, learning_rate=float(str(np.float32(rate)))) if isinstance(rate, float) else optimizer


def _name_losses(objective: Objective) -> str:
    return " + ".join(type(loss).__name__ for loss in objective.losses if loss is not None)


def _choose_data(model: Any, target: str, own: Sequence[Any], data: str, seed: int) -> tuple[Any, Any, Any]:
    """x, y and sample weight: from the file `data`, else the factory's `own`, else drawn. Raises: CouldNotRun."""
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
                f"A factory with data must return targets for a lesson. Received: {target}, which returns a model and "
                "x. Return (model, x, y)."
            )
    else:
        x, weight = data_module.draw_inputs(model, seed=seed), None
        y = data_module.draw_targets(model, model(x), seed=seed)
    data_module.validate_data(model, x, y)
    return x, y, weight


def _list_in_order(model: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """x and y of a functional model in the order of its inputs and outputs: an array of one, a list of several."""
    leaves = name_leaves(x)
    xs = [np.asarray(leaves[name]) for name in pair_inputs(model, x)]
    ys = [np.asarray(target) for target in list_by_output(model, y, len(model.outputs))]
    return (xs[0] if len(xs) == 1 else xs), (ys[0] if len(ys) == 1 else ys)


def _refuse_large(name: str, *, entries: int, samples: int) -> None:
    """Raises: CouldNotRun for more weights or more samples than a page can show."""
    if entries > WEIGHTS:
        raise CouldNotRun(
            f"A model must have at most {WEIGHTS} weights to be taught from, each being nudged and shown. Received: "
            f"{name}, which has {entries}. Use gradtwin check, which takes any size, or a smaller model of the same "
            "kind."
        )
    if samples > SAMPLES:
        raise CouldNotRun(
            f"A lesson must have at most {SAMPLES} samples, each being shown. Received: {samples} for {name}. "
            "Pass fewer rows in --data, or use gradtwin check, which takes any number."
        )


def load_lesson_model(target: str, data: str = "", *, seed: int = 0) -> LessonModel:
    """What the command line's argument names: a recipe, else a model. Raises: CouldNotRun."""
    plain = ":" not in target and not is_model_file(target)
    return make_recipe_model(target) if plain else load_target_model(target, data, seed=seed)


def make_optimizer(lesson_model: LessonModel) -> keras.optimizers.Optimizer:
    """A new Keras optimizer with the lesson's settings and no state."""
    return mirror_object(lesson_model.optimizer)
