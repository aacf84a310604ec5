"""What programs that are Keras models share, on any backend, of Keras 3 and Keras 2: a kind adds its derivatives."""

from __future__ import annotations

import importlib
import json
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

import numpy as np

from keras_ref.errors import running_user_code
from keras_ref.programs.program import Definition, Facts, Load, Point, Program, Stage, Trace, Weight, cast, flat_arrays
from scratch.arrays import Array

#: parts of the names of layers that draw random numbers in training: they are kept in inference
RANDOM = ("Dropout", "Gaussian", "Random", "AlphaDropout")
#: layers whose insides run once a time step, or on symbolic values: they are looked at from outside
OPAQUE = ("RNN", "LSTM", "GRU", "Bidirectional", "TimeDistributed", "MultiHeadAttention", "SpectralNormalization")


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
    def gradient(self, model: Any, loss: Callable[[], Any]) -> tuple[float, list[Any]]:
        """The loss, and its gradient by each of model.trainable_variables; None where it does not depend on one."""

    def make(self, precision: str) -> Any:
        """A model that computes in a precision, which is the float type meanwhile."""
        del precision
        return self.load()[0]

    @contextmanager
    def model_in(self, precision: str) -> Iterator[Any]:
        """The model in a precision, for the time of a run."""
        with self.float_type(precision):
            if precision not in self._models:
                self._models[precision] = self.make(precision)
            yield self._models[precision]

    @contextmanager
    def float_type(self, precision: str) -> Iterator[None]:
        """Until the end of the block, the precision of new layers and tensors: it belongs to the whole process."""
        before = self.keras.backend.floatx()
        self.keras.backend.set_floatx(precision)
        try:
            yield
        finally:
            self.keras.backend.set_floatx(before)

    def numpy(self, value: Any) -> Array:
        """A tensor as an array."""
        return np.asarray(self.keras.ops.convert_to_numpy(value))

    def compute_loss(self, model: Any, x: Any, y: Any, output: Any) -> Any:
        """The compiled loss, regularization included."""
        return model.compute_loss(x=x, y=y, y_pred=output)

    # What all have ------------------------------------------------------------------------------------------------

    def facts(self) -> Facts:
        with self.model_in("float64") as model:
            optimizer = getattr(model, "optimizer", None)
            loss = getattr(model, "loss", None) if self._is_compiled(model) else None
            stages = [Stage.FORWARD, Stage.GRADIENT]
            stages += [Stage.LOSS] if loss is not None or self._is_compiled(model) else []
            stages += [Stage.UPDATE] if optimizer is not None and loss is not None else []
            return Facts(
                kind=self.title.format(self.keras.__version__),
                weights=tuple(
                    Weight(name=name, shape=tuple(v.shape), trainable=id(v) in self._trained(model))
                    for name, v in self.named(model).items()
                ),
                stages=tuple(stages),
                layers=tuple(
                    Definition(name=one.name, class_name=type(one).__name__, config=plain_config(one))
                    for one in leaves(model)
                ),
                optimizer=None
                if optimizer is None
                else Definition(name="optimizer", class_name=type(optimizer).__name__, config=plain_config(optimizer)),
                loss=None
                if loss is None
                else Definition(name="loss", class_name=loss if isinstance(loss, str) else type(loss).__name__),
                notes=self._notes(model),
            )

    def values(self) -> dict[str, Array]:
        with self.model_in("float64") as model:
            return {name: self.numpy(v) for name, v in self.named(model).items()}

    def run(self, point: Point) -> Trace:
        with self.model_in(point.precision) as model, running_user_code():
            self._assign(model, point.weights)
            x, y = (self._tensors(cast(value, point.precision)) for value in (point.x, point.y))
            cotangents = cast(flat_arrays(point.cotangent), point.precision)
            tensors: dict[str, Array] = {}
            with observing(model, self._observer(tensors)):
                output = model(x, training=point.training)
            tensors["output"] = self._first(output)
            self._assign(model, point.weights)
            with observing(model, None):
                loss, gradient = self._differentiate(model, point, x, y, cotangents)
                steps = self._train(model, point, x, y)
            return Trace(tensors=tensors, loss=loss, gradient=gradient, steps=steps)

    def losses(self, point: Point, name: str, entries: Array, offsets: Array) -> Array:
        found = np.empty(np.shape(offsets))
        with self.model_in(point.precision) as model, observing(model, None):
            self._assign(model, point.weights)
            x, y = (self._tensors(cast(value, point.precision)) for value in (point.x, point.y))
            cotangents = cast(flat_arrays(point.cotangent), point.precision)
            variable = self.named(model)[name]
            for place in np.ndindex(found.shape):
                moved = np.array(point.weights[name], dtype=float)
                moved.reshape(-1)[entries[place[1]]] += offsets[place]
                variable.assign(moved.astype(point.precision))
                found[place] = float(self.numpy(self._loss(model, point, x, y, cotangents)))
        return found

    def named(self, model: Any) -> dict[str, Any]:
        """The weights by name, trained ones in the order of the gradient; seeds are none."""
        return {
            variable_name(v).removeprefix(f"{model.name}/"): v
            for v in model.weights
            if not variable_name(v).endswith("seed_generator_state")
        }

    def _trained(self, model: Any) -> set[int]:
        return {id(v) for v in model.trainable_variables}

    def _is_compiled(self, model: Any) -> bool:
        return bool(getattr(model, "compiled", False) or getattr(model, "_is_compiled", False))

    def _notes(self, model: Any) -> tuple[str, ...]:
        random = [one.name for one in leaves(model) if is_random(one)]
        return (f"Random layers are in inference: {', '.join(random)}.",) if random else ()

    def _assign(self, model: Any, weights: Mapping[str, Array]) -> None:
        for name, variable in self.named(model).items():
            if name in weights:
                variable.assign(np.asarray(weights[name]).astype(dtype_name(variable)))

    def _tensors(self, value: Any) -> Any:
        if value is None:
            return None
        if isinstance(value, Mapping):
            return {key: self._tensors(part) for key, part in value.items()}
        if isinstance(value, list):
            return [self._tensors(part) for part in value]
        return self.keras.ops.convert_to_tensor(value)

    def _outputs(self, output: Any) -> list[Any]:
        if isinstance(output, Mapping):
            return [part for value in output.values() for part in self._outputs(value)]
        if isinstance(output, (list, tuple)):
            return [part for value in output for part in self._outputs(value)]
        return [output]

    def _first(self, output: Any) -> Array:
        parts = [self.numpy(part) for part in self._outputs(output)]
        return parts[0] if len(parts) == 1 else np.concatenate([np.ravel(part) for part in parts])

    def _loss(self, model: Any, point: Point, x: Any, y: Any, cotangents: list[Array]) -> Any:
        output = model(x, training=point.training)
        if not cotangents:
            return self.compute_loss(model, x, y, output)
        products = [part * self._tensors(c) for part, c in zip(self._outputs(output), cotangents, strict=True)]
        return sum(self._sum(product) for product in products)

    def _sum(self, value: Any) -> Any:
        return self.keras.ops.sum(value)

    def _differentiate(
        self, model: Any, point: Point, x: Any, y: Any, cotangents: list[Array]
    ) -> tuple[float, dict[str, Array | None]]:
        if not (cotangents or (y is not None and self._is_compiled(model))):
            return float("nan"), {}
        if not point.gradient:
            return float(self.numpy(self._loss(model, point, x, y, cotangents))), {}
        loss, gradients = self.gradient(model, lambda: self._loss(model, point, x, y, cotangents))
        self._assign(model, point.weights)  # a forward pass in training moves averages
        names = {id(v): name for name, v in self.named(model).items()}
        return loss, {
            names[id(v)]: None if g is None else self.numpy(self.dense(g))
            for v, g in zip(model.trainable_variables, gradients, strict=True)
        }

    def dense(self, gradient: Any) -> Any:
        """A gradient as one array, where it is sparse."""
        return gradient

    def _train(self, model: Any, point: Point, x: Any, y: Any) -> tuple[Mapping[str, Array], ...]:
        """The weights after each of Keras's own training steps, the optimizer being as it is at the start."""
        if not point.steps or y is None or getattr(model, "optimizer", None) is None:
            return ()
        optimizer, found = model.optimizer, []
        if not getattr(optimizer, "built", True) or hasattr(optimizer, "build"):
            optimizer.build(model.trainable_variables)
        variables = optimizer_variables(optimizer)
        start = [self.numpy(v) for v in variables]
        exact_learning_rate(optimizer, self.numpy)
        for _ in range(point.steps):
            model.train_on_batch(x, y)
            found.append({name: self.numpy(v) for name, v in self.named(model).items()})
        for variable, value in zip(variables, start, strict=True):
            variable.assign(value)
        return tuple(found)

    def _observer(self, tensors: dict[str, Array]) -> Callable[[str, Any], None]:
        def observe(name: str, output: Any) -> None:
            for i, part in enumerate(self._outputs(output)):
                try:
                    array = self.numpy(part)
                except Exception:  # noqa: BLE001, S112 (a symbolic value inside a loop has no numbers to look at)
                    continue
                key, times = f"{name}.{i}" if i else name, 2
                while key in tensors:
                    key, times = f"{name}:{times}", times + 1
                tensors[key] = array

        return observe


def optimizer_variables(optimizer: Any) -> list[Any]:
    """The variables of an optimizer: a method lists them in the older ones of Keras 2."""
    return list(optimizer.variables() if callable(optimizer.variables) else optimizer.variables)


def exact_learning_rate(optimizer: Any, numpy: Callable[[Any], Array]) -> None:
    """Give an optimizer the learning rate that was written down: 0.1, where a float32 variable holds 0.1 + 1.5e-9."""
    rate: Any = getattr(optimizer, "_learning_rate", None)
    if hasattr(rate, "assign"):
        rate.assign(float(str(np.float32(numpy(rate)))))


def keep_float64() -> None:
    """Let Keras on JAX and PyTorch compute in float64 in this process: they turn float64 results into float32."""
    from keras.src.backend.common import dtypes

    dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"


def variable_name(variable: Any) -> str:
    """The path of a variable, without what TensorFlow appends."""
    return str(getattr(variable, "path", None) or variable.name).removesuffix(":0")


def dtype_name(variable: Any) -> str:
    """The name of a variable's dtype."""
    return str(getattr(variable.dtype, "name", variable.dtype))


def is_random(layer: Any) -> bool:
    """Whether a layer draws random numbers in training."""
    return any(part in type(layer).__name__ for part in RANDOM)


def leaves(model: Any) -> list[Any]:
    """The layers of a model in order, nested models and blocks entered, loops over time not; inputs left out."""
    found: list[Any] = []

    def parts(layer: Any) -> list[Any]:
        return list(getattr(layer, "layers", None) or getattr(layer, "_layers", None) or ())

    def walk(layer: Any) -> None:
        for part in parts(layer):
            if type(part).__name__ == "InputLayer" or part in found or not hasattr(part, "call"):
                continue
            if not is_opaque(part):
                walk(part)
            if not hasattr(part, "layers"):
                found.append(part)

    walk(model)
    return found


def is_opaque(layer: Any) -> bool:
    """Whether the inside of a layer is not looked at."""
    return any(part in cls.__name__ for cls in type(layer).__mro__ for part in OPAQUE)


@contextmanager
def observing(model: Any, observe: Callable[[str, Any], None] | None) -> Iterator[None]:
    """Every layer reports its output; layers that draw random numbers are in inference."""
    with ExitStack() as stack:
        for layer in leaves(model):
            stack.enter_context(_replaced_call(layer, observe))
        yield


@contextmanager
def _replaced_call(layer: Any, observe: Callable[[str, Any], None] | None) -> Iterator[None]:
    call, had = layer.call, vars(layer).get("call")

    def called(*args: Any, **kwargs: Any) -> Any:
        if is_random(layer):
            kwargs["training"] = False
        output = call(*args, **kwargs)
        if observe is not None:
            observe(layer.name, output)
        return output

    object.__setattr__(layer, "call", called)
    try:
        yield
    finally:
        if had is None:
            object.__delattr__(layer, "call")
        else:
            object.__setattr__(layer, "call", had)


def plain_config(thing: Any) -> dict[str, Any]:
    """The configuration of a layer or optimizer as plain data; {} where it has none."""
    try:
        return dict(json.loads(json.dumps(thing.get_config(), default=str)))
    except (NotImplementedError, TypeError, ValueError):
        return {}
