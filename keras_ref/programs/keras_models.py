"""What programs that are Keras models share, on any backend, of Keras 3 and Keras 2: a kind adds its derivatives."""

from __future__ import annotations

import importlib
import json
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from keras_ref.errors import running_user_code
from keras_ref.evaluation.keras_objects.leaves import name_leaves, replace_leaves
from keras_ref.programs.keras_layers import is_random, leaves, observing
from keras_ref.programs.program import (
    Definition,
    Facts,
    Load,
    Point,
    Program,
    Stage,
    Trace,
    Weight,
    cast,
    flatten_arrays,
    list_outputs,
)
from keras_ref.undoing import undoing
from scratch.arrays import Array

#: the loss as a function of inputs by name, in the place of those of the batch
Loss = Callable[[Mapping[str, Any]], Any]


@dataclass(frozen=True)
class Batch:
    """The data of a point as tensors: `cotangents` in the place of a loss where there are some."""

    x: Any
    y: Any
    sample_weight: Any
    cotangents: list[Any]

    def at(self, inputs: Mapping[str, Any]) -> Batch:
        """The same with other inputs, by name."""
        return replace(self, x=replace_leaves(self.x, inputs)) if inputs else self


class KerasProgram(Program):
    """Base of the Keras programs.

    library   the module: keras or tf_keras
    title     in words, with the version
    """

    library: ClassVar[str] = "keras"
    title: ClassVar[str] = "Keras {} on TensorFlow"

    def __init__(self, load: Load) -> None:
        super().__init__(load)
        self._models: dict[str, Any] = {}
        self._optimizers: dict[str, list[Array]] = {}

    @property
    def keras(self) -> Any:
        """The library."""
        return importlib.import_module(self.library)

    # What a kind of Keras defines ---------------------------------------------------------------------------------

    @abstractmethod
    def gradient(self, model: Any, loss: Loss, inputs: Mapping[str, Any]) -> tuple[float, list[Any], dict[str, Any]]:
        """The loss at these inputs, and its gradient by each of model.trainable_variables and by each of the inputs.

        None where it does not depend on one.
        """

    def make(self, precision: str) -> Any:
        """A model that computes in a precision, which is the float type meanwhile."""
        del precision
        return self.load()[0]

    @contextmanager
    def model_in(self, precision: str, loss: Any = None) -> Iterator[Any]:
        """The model in a precision, for the time of a run; with a loss of its own where one is given as plain data."""
        key = precision if loss is None else f"{precision} {json.dumps(loss, sort_keys=True)}"
        with self.float_type(precision):
            if key not in self._models:
                self._models[key] = self.make(precision)
                if loss is not None:
                    self._models[key].compile(optimizer=None, loss=self.keras.losses.deserialize(loss))
            yield self._models[key]

    @contextmanager
    def float_type(self, precision: str) -> Iterator[None]:
        """Until the end of the block, the precision of new layers and tensors: it belongs to the whole process."""
        before = self.keras.backend.floatx()
        with undoing(self.keras.backend.set_floatx, before):
            self.keras.backend.set_floatx(precision)
            yield

    def numpy(self, value: Any) -> Array:
        """A tensor as an array."""
        return np.asarray(self.keras.ops.convert_to_numpy(value))

    def compute_loss(self, model: Any, batch: Batch, output: Any, *, training: bool) -> Any:
        """The compiled loss, with what layers add to it."""
        return model._compute_loss(  # noqa: SLF001 (what train_step itself calls)
            x=batch.x, y=batch.y, y_pred=output, sample_weight=batch.sample_weight, training=training
        )

    # What all have ------------------------------------------------------------------------------------------------

    def facts(self) -> Facts:
        with self.model_in("float64") as model:
            trained = {id(v) for v in model.trainable_variables}
            optimizer = getattr(model, "optimizer", None)
            loss = getattr(model, "loss", None) if self._is_compiled(model) else None
            stages = [Stage.FORWARD, Stage.GRADIENT]
            stages += [Stage.LOSS] if loss is not None or self._is_compiled(model) else []
            stages += [Stage.UPDATE] if optimizer is not None and loss is not None else []
            return Facts(
                kind=self.title.format(self.keras.__version__),
                name=model.name,
                weights=tuple(
                    Weight(
                        name=name,
                        shape=tuple(v.shape),
                        trainable=id(v) in trained,
                        path=name_variable(v),
                    )
                    for name, v in self.named(model).items()
                ),
                stages=tuple(stages),
                precisions=tuple(sorted(find_compute_dtypes(model))),
                layers=tuple(
                    Definition(name=one.name, class_name=type(one).__name__, config=simplify_config(one))
                    for one in leaves(model)
                ),
                optimizer=None
                if optimizer is None
                else Definition(
                    name="optimizer", class_name=type(optimizer).__name__, config=simplify_config(optimizer)
                ),
                loss=None
                if loss is None
                else Definition(name="loss", class_name=loss if isinstance(loss, str) else type(loss).__name__),
                own_loss=type(model).compute_loss not in self._compute_losses(),
                notes=self._write_notes(model),
            )

    def values(self) -> dict[str, Array]:
        with self.model_in("float64") as model:
            return {name: self.numpy(v) for name, v in self.named(model).items()}

    def run(self, point: Point) -> Trace:
        with self.model_in(point.precision, point.loss) as model, running_user_code():
            self._assign(model, point.weights)
            batch = self._make_batch(point)
            tensors: dict[str, Array] = {}
            with observing(model, self._make_observer(tensors)):
                output = model(batch.x, training=point.training)
            outputs = tuple(self.numpy(part) for part in list_outputs(output))
            tensors["output"] = outputs[0] if len(outputs) == 1 else np.concatenate([np.ravel(o) for o in outputs])
            added = describe_added_losses(model)
            self._assign(model, point.weights)
            with observing(model, None):
                loss, gradient = self._differentiate(model, point, batch)
                steps = self._train(model, point, batch)
            return Trace(tensors=tensors, loss=loss, gradient=gradient, steps=steps, added=added, outputs=outputs)

    def differentiate(self, point: Point) -> Trace:
        with self.model_in(point.precision, point.loss) as model, running_user_code(), observing(model, None):
            self._assign(model, point.weights)
            loss, gradient = self._differentiate(model, point, self._make_batch(point))
            return Trace(loss=loss, gradient=gradient)

    def losses_at(self, point: Point, moved: Iterable[Mapping[str, Array]]) -> Array:
        with self.model_in(point.precision, point.loss) as model, running_user_code(), observing(model, None):
            self._assign(model, point.weights)
            return np.array(list(map(self.make_evaluator(model, point, self._make_batch(point)), moved)))

    def make_evaluator(self, model: Any, point: Point, batch: Batch) -> Callable[[Mapping[str, Array]], float]:
        """The loss as a function of other values of some weights and inputs; the model is afterwards at the point."""

        def evaluate(values: Mapping[str, Array]) -> float:
            self._assign(model, values)
            loss = self._compute_loss(model, point, batch.at(self.convert_inputs(point, values)))
            # a forward pass in training moves averages
            self._assign(model, point.weights if point.training else {n: point.value_of(n) for n in values})
            return float(self.numpy(loss))

        return evaluate

    def convert_inputs(self, point: Point, values: Mapping[str, Array]) -> dict[str, Any]:
        """The tensors of those of the values that are inputs."""
        return {
            n: self._convert_to_tensors(cast(v, point.precision)) for n, v in values.items() if n not in point.weights
        }

    def _make_batch(self, point: Point) -> Batch:
        x, y, weight = (
            self._convert_to_tensors(cast(value, point.precision)) for value in (point.x, point.y, point.sample_weight)
        )
        return Batch(
            x, y, weight, [self._convert_to_tensors(c) for c in cast(flatten_arrays(point.cotangent), point.precision)]
        )

    def named(self, model: Any) -> dict[str, Any]:
        """The weights by name, trained ones in the order of the gradient; seeds are none."""
        return {
            name_variable(v).removeprefix(f"{model.name}/"): v
            for v in model.weights
            if not name_variable(v).endswith("seed_generator_state")
        }

    def _compute_losses(self) -> list[Any]:
        """The methods of the library that compute a compiled loss."""
        return [self.keras.Model.compute_loss, self.keras.Sequential.compute_loss]

    def _is_compiled(self, model: Any) -> bool:
        return bool(getattr(model, "compiled", False) or getattr(model, "_is_compiled", False))

    def _write_notes(self, model: Any) -> tuple[str, ...]:
        random = [one.name for one in leaves(model) if is_random(one)]
        return (f"Random layers are in inference: {', '.join(random)}.",) if random else ()

    def _assign(self, model: Any, weights: Mapping[str, Array]) -> None:
        for name, variable in self.named(model).items():
            if name in weights:
                variable.assign(np.asarray(weights[name]).astype(name_dtype(variable)))

    def _convert_to_tensors(self, value: Any) -> Any:
        if value is None:
            return None
        if isinstance(value, Mapping):
            return {key: self._convert_to_tensors(part) for key, part in value.items()}
        if isinstance(value, list):
            return [self._convert_to_tensors(part) for part in value]
        return self.keras.ops.convert_to_tensor(value)

    def _compute_loss(self, model: Any, point: Point, batch: Batch) -> Any:
        output = model(batch.x, training=point.training)
        if not batch.cotangents:
            return self.compute_loss(model, batch, output, training=point.training)
        products = [part * c for part, c in zip(list_outputs(output), batch.cotangents, strict=True)]
        return sum([self._sum(product) for product in products] + (list(model.losses) if point.added else []))

    def _sum(self, value: Any) -> Any:
        return self.keras.ops.sum(value)

    def _differentiate(self, model: Any, point: Point, batch: Batch) -> tuple[float, dict[str, Array | None]]:
        if not (batch.cotangents or point.added or (batch.y is not None and self._is_compiled(model))):
            return float("nan"), {}
        if not point.gradient:
            return float(self.numpy(self._compute_loss(model, point, batch))), {}
        watched = {n: leaf for n, leaf in name_leaves(batch.x).items() if self._is_float(leaf)} if point.inputs else {}
        loss, gradients, of_inputs = self.gradient(
            model, lambda inputs: self._compute_loss(model, point, batch.at(inputs)), watched
        )
        self._assign(model, point.weights)  # a forward pass in training moves averages
        names = {id(v): name for name, v in self.named(model).items()}
        of_weights = {names[id(v)]: g for v, g in zip(model.trainable_variables, gradients, strict=True)}
        return loss, {
            name: None if g is None else self.numpy(self.dense(g)) for name, g in (of_weights | of_inputs).items()
        }

    def _is_float(self, tensor: Any) -> bool:
        return tensor is not None and "float" in str(tensor.dtype)

    def dense(self, gradient: Any) -> Any:
        """A gradient as one array, where it is sparse."""
        return gradient

    def _train(self, model: Any, point: Point, batch: Batch) -> tuple[Mapping[str, Array], ...]:
        """The weights after each of Keras's own training steps, the optimizer being as it is at the start."""
        if not point.steps or batch.y is None or getattr(model, "optimizer", None) is None:
            return ()
        optimizer, found = model.optimizer, []
        if hasattr(optimizer, "build"):  # which does nothing where it is built
            optimizer.build(model.trainable_variables)
        variables = list_optimizer_variables(optimizer)
        start = [self.numpy(v) for v in variables]
        keep_learning_rate_exact(optimizer, self.numpy)
        for _ in range(point.steps):
            model.train_on_batch(batch.x, batch.y, sample_weight=batch.sample_weight)
            found.append({name: self.numpy(v) for name, v in self.named(model).items()})
        for variable, value in zip(variables, start, strict=True):
            variable.assign(value)
        return tuple(found)

    def _make_observer(self, tensors: dict[str, Array]) -> Callable[[str, Any], None]:
        def observe(name: str, output: Any) -> None:
            for i, part in enumerate(list_outputs(output)):
                try:
                    array = self.numpy(part)
                except Exception:  # noqa: BLE001, S112 (a symbolic value inside a loop has no numbers to look at)
                    continue
                key, times = f"{name}.{i}" if i else name, 2
                while key in tensors:
                    key, times = f"{name}:{times}", times + 1
                tensors[key] = array

        return observe


def list_optimizer_variables(optimizer: Any) -> list[Any]:
    """The variables of an optimizer: a method lists them in the older ones of Keras 2."""
    return list(optimizer.variables() if callable(optimizer.variables) else optimizer.variables)


def keep_learning_rate_exact(optimizer: Any, numpy: Callable[[Any], Array]) -> None:
    """Give an optimizer the learning rate that was written down: 0.1, where a float32 variable holds 0.1 + 1.5e-9."""
    rate: Any = getattr(optimizer, "_learning_rate", None)
    if hasattr(rate, "assign"):
        rate.assign(float(str(np.float32(numpy(rate)))))


def describe_added_losses(model: Any) -> tuple[str, ...]:
    """What layers have added to the loss in the last call of a model, by kind."""
    regularized = bool(model.losses)
    adding = [one for one in leaves(model) if getattr(one, "_losses", None)]
    by_call = any(getattr(one, "activity_regularizer", None) is None for one in adding)
    return (("add_loss",) if by_call else ()) + (("regularization",) if regularized else ())


def name_variable(variable: Any) -> str:
    """The path of a variable, without what TensorFlow appends."""
    return str(getattr(variable, "path", None) or variable.name).removesuffix(":0")


def find_compute_dtypes(model: Any) -> set[str]:
    """The floating dtypes that the layers of a model compute in, and keep their weights in."""
    found = {name_dtype(v) for v in model.weights}
    found |= {str(getattr(one, "compute_dtype", None)) for one in leaves(model)}
    return {name for name in found if "float" in name}


def name_dtype(variable: Any) -> str:
    """The name of a variable's dtype."""
    return str(getattr(variable.dtype, "name", variable.dtype))


def simplify_config(keras_object: Any) -> dict[str, Any]:
    """The configuration of a layer or optimizer as plain data; {} where it has none."""
    try:
        return dict(json.loads(json.dumps(keras_object.get_config(), default=str)))
    except (NotImplementedError, TypeError, ValueError):
        return {}
