"""Plain NumPy, by a student: a module, class or object with any of forward, loss, backward and update_weights.

Functions are found by their names and called by the names of their parameters, so that most signatures fit as they are:

    forward(x, weights)                          also predict(X); feed_forward(inputs, outputs, weights) is a loss
    loss(output, y)                              also loss(x, y, weights)
    backward(x, y, weights), gradients(…)        also with what forward returned beside its output (`cache`)
    update_weights(weights, gradients, rate)     also the book's update_weights(inputs, outputs, weights, epochs)

Weights are a dictionary, a list, or the arrays that an object holds. Samples may be rows or columns.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any

import numpy as np

from keras_ref.errors import CouldNotRun
from keras_ref.programs.numpy_weights import WeightStore, name_gradients
from keras_ref.programs.program import Facts, Load, Point, Program, Stage, Trace, Weight, cast, flatten_arrays, program
from keras_ref.programs.targets import describe_error
from scratch.arrays import Array

#: names of functions, by what they do
FORWARD = ("forward", "predict", "forward_pass", "forward_propagation", "feedforward", "feed_forward")
LOSS = ("loss", "compute_loss", "cost", "compute_cost", "mse", "cross_entropy", "feed_forward")
GRADIENT = ("backward", "gradients", "gradient", "backprop", "backward_pass", "back_propagation", "compute_gradients")
UPDATE = ("update_weights", "update", "update_parameters", "train_step", "step")
#: names of parameters, by what they are given
PARAMETERS = {
    "x": ("x", "X", "inputs", "input", "input_data", "a0", "A0", "batch", "features"),
    "y": ("y", "Y", "outputs", "targets", "target", "labels", "y_true", "t", "T", "true", "truth", "expected"),
    "weights": ("weights", "params", "parameters", "w", "theta", "network", "model"),
    "output": ("output", "out", "prediction", "predictions", "y_hat", "yhat", "y_pred", "p", "P", "pred", "a_out"),
    "cache": ("cache", "caches", "memory", "hidden", "activations", "intermediates", "saved", "state", "trace"),
    "gradients": ("gradients", "grads", "grad", "gradient", "dw", "dweights", "deltas"),
    "learning_rate": ("learning_rate", "lr", "rate", "eta", "alpha", "step_size"),
    "epochs": ("epochs", "n_epochs", "iterations", "steps", "epoch"),
}


@program
class NumpyModule(Program):
    """A student's module, class or object."""

    prefix = "numpy"
    last = True

    def __init__(self, load: Load) -> None:
        super().__init__(load)
        self.value, self._x, self._y = load()
        if inspect.isclass(self.value):
            self.value = self._call(self.value)
        self.functions = {
            stage: found
            for stage, names in (("forward", FORWARD), ("loss", LOSS), ("gradient", GRADIENT), ("update", UPDATE))
            if (found := next((f for n in names if callable(f := getattr(self.value, n, None))), None)) is not None
        }
        forward = self.functions.get("forward")
        if forward is not None and "y" in assign_roles(forward) and forward == self.functions.get("loss"):
            del self.functions["forward"]  # the book's feed_forward returns the loss
        self.store = WeightStore.of(self.value, call=self._call)
        self.rate = next(
            (
                float(v)
                for n in (*PARAMETERS["learning_rate"], "LEARNING_RATE")
                if np.ndim(v := getattr(self.value, n, "")) == 0 and isinstance(v, (int, float))
            ),
            None,
        )

    @classmethod
    def accepts(cls, value: Any) -> bool:
        names = {*FORWARD, *LOSS, *GRADIENT, *UPDATE}
        written = isinstance(value, (ModuleType, type)) or type(value).__module__ != "builtins"
        return written and any(callable(getattr(value, name, None)) for name in names)

    def data(self) -> tuple[Any, Any]:
        x, y = self._x, self._y
        for name in ("X", "x", "INPUTS", "inputs"):
            x = getattr(self.value, name, None) if x is None else x
        for name in ("Y", "y", "OUTPUTS", "outputs", "targets"):
            y = getattr(self.value, name, None) if y is None else y
        ready = [None if v is None or callable(v) else np.asarray(v) for v in (x, y)]
        return ready[0], ready[1]

    def facts(self) -> Facts:
        stages = [Stage(name) for name in ("forward", "loss", "gradient", "update") if name in self.functions]
        missing = [name for name in ("forward", "loss", "gradient", "update") if name not in self.functions]
        return Facts(
            kind="NumPy",
            weights=tuple(Weight(name=n, shape=np.shape(v), known=False) for n, v in self.store.values().items()),
            stages=tuple(stages),
            projects=False,
            notes=tuple(f"There is no function for the {name}: it is not compared." for name in missing),
        )

    def values(self) -> dict[str, Array]:
        return {name: np.array(value, dtype=float) for name, value in self.store.values().items()}

    def run(self, point: Point) -> Trace:
        weights = {name: np.array(value, dtype=point.precision) for name, value in point.weights.items()}
        x, y = cast(point.x, point.precision), cast(point.y, point.precision)
        samples = len(flatten_arrays(x)[0])
        columns = self._takes_columns(x, weights)
        if columns:
            x, y = np.asarray(x).T, y if y is None or np.ndim(y) < 2 else np.asarray(y).T
        known: dict[str, Any] = {"x": x, "y": y, "weights": self.store.put(weights)}
        known |= self._pass_learning_rate(point)
        tensors: dict[str, Array] = {}
        errors: dict[str, str] = {}
        loss, gradient, steps = float("nan"), dict[str, Array | None](), list[Mapping[str, Array]]()
        with noting(errors, "forward"):
            tensors = self._run_forward(known, samples if columns else 0)
        if y is None or "forward" in errors:
            return Trace(tensors=tensors, errors=errors)
        with noting(errors, "loss"):
            if "loss" in self.functions:
                loss = float(np.mean(np.asarray(self._run("loss", known))))
        with noting(errors, "gradient"):
            if "gradient" in self.functions and point.gradient:
                gradient = dict(self._run_backward(known, weights))
        with noting(errors, "update"):
            if "update" in self.functions and "gradient" not in errors:
                for k in range(point.steps):
                    if k:
                        self._run_forward(known, 0)
                        self._run_backward(known, weights)
                    weights = self._step(known, weights)
                    steps.append(weights)
        return Trace(tensors=tensors, loss=loss, gradient=gradient, steps=tuple(steps), errors=errors)

    def _run_forward(self, known: dict[str, Any], columns: int) -> dict[str, Array]:
        """The tensors of the forward pass, turned where samples are columns; `known` gets the output and the cache."""
        if "forward" not in self.functions:
            return {}
        output, cache = split_output(self._run("forward", known))
        known |= {"output": output} | ({} if cache is None else {"cache": cache})
        named = {**name_arrays(cache), "output": np.asarray(output)}
        return {name: turn_samples(array, columns) if columns else array for name, array in named.items()}

    def _run_backward(self, known: dict[str, Any], weights: Mapping[str, Array]) -> dict[str, Array | None]:
        """The gradient by the names of the weights; `known` gets it as the program returns it."""
        if "gradient" not in self.functions:
            return {}
        known["gradients"] = self._run("gradient", known)
        return dict(name_gradients(known["gradients"], self.value, weights))

    def _step(self, known: dict[str, Any], weights: Mapping[str, Array]) -> dict[str, Array]:
        """One training step; `known` gets the weights after it. They are returned, or changed in place."""
        before = copy.deepcopy(known["weights"])
        made = self._run("update", {**known, "weights": before, "epochs": 1})
        found = self.store.read(made if made is not None else before, weights)
        known["weights"] = self.store.put(found)
        return found

    def _pass_learning_rate(self, point: Point) -> dict[str, Any]:
        rate = self.rate if point.learning_rate is None else point.learning_rate
        return {} if rate is None else {"learning_rate": rate}

    def _takes_columns(self, x: Any, weights: Mapping[str, Array]) -> bool:
        """Whether samples are columns: the first matrix fits x from the left only."""
        if not isinstance(x, np.ndarray) or x.ndim != 2:
            return False
        first = next((w for w in weights.values() if np.ndim(w) == 2), None)
        return first is not None and first.shape[1] == x.shape[1] and first.shape[0] != x.shape[1]

    def _run(self, stage: str, known: Mapping[str, Any]) -> Any:
        function = self.functions[stage]
        return self._call(function, **select_arguments(function, known))

    def _call(self, function: Callable[..., Any], **given: Any) -> Any:
        """Raises: CouldNotRun with the line of the student's own code."""
        try:
            return function(**given)
        except Exception as error:
            raise CouldNotRun(f"{describe_error(error, find_file(function, self.value))} Correct it there.") from error


def find_file(function: Callable[..., Any], owner: Any) -> str:
    """The file of a function; of one that has none (a functools.partial), that of the module or class it is found in.

    "" without any.
    """
    for one in (inspect.unwrap(function), owner, type(owner)):
        with suppress(TypeError, OSError):
            if file := inspect.getsourcefile(one):
                return file
    return ""


@contextmanager
def noting(errors: dict[str, str], stage: str) -> Iterator[None]:
    """Note the error of a stage, and let the others be run."""
    try:
        yield
    except CouldNotRun as error:
        errors[stage] = str(error)


def assign_roles(function: Callable[..., Any]) -> dict[str, str]:
    """{what it is: parameter of the function}; parameters with another name are left out."""
    names = {name: role for role, known in PARAMETERS.items() for name in known}
    return {names[p]: p for p in inspect.signature(function).parameters if p in names}


def select_arguments(function: Callable[..., Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call, by parameter. Raises: CouldNotRun for a parameter that nothing is known for."""
    own, given = assign_roles(function), {}
    for role, named in own.items():
        if role in known:
            given[named] = known[role]
    parameters = inspect.signature(function).parameters
    for name, parameter in parameters.items():
        needed = parameter.default is parameter.empty and parameter.kind in (
            parameter.POSITIONAL_OR_KEYWORD,
            parameter.KEYWORD_ONLY,
        )
        if name not in given and needed:
            if isinstance(known.get("weights"), Mapping) and name in known["weights"]:
                given[name] = known["weights"][name]
                continue
            expected = ", ".join(sorted({names[0] for names in PARAMETERS.values()}))
            raise CouldNotRun(
                f"A parameter must have a known name ({expected}, or that of a weight). Received: {name!r} of "
                f"{getattr(function, '__name__', 'a function')}. Rename it, or give it a default."
            )
    return given


def split_output(made: Any) -> tuple[Any, Any]:
    """(output, cache) of what forward returned: an array, (output, cache), (cache, output), or activations in order."""
    if isinstance(made, Mapping):
        return next((made[n] for n in PARAMETERS["output"] if n in made), list(made.values())[-1]), made
    if not isinstance(made, (tuple, list)) or not made:
        return made, None
    arrays = [isinstance(part, np.ndarray) for part in made]
    if isinstance(made, tuple) and arrays[0]:  # the output first, then what the backward pass needs
        return made[0], made[1] if len(made) == 2 else list(made[1:])
    return made[-1], made[0] if isinstance(made, tuple) and len(made) == 2 else made


def name_arrays(cache: Any) -> dict[str, Array]:
    """The arrays of at least two axes that forward returned beside its output, by name."""
    items = cache.items() if isinstance(cache, Mapping) else enumerate(flatten_arrays(cache), start=1)
    arrays = {str(name) if isinstance(name, str) else f"array {name}": value for name, value in items}
    return {name: value for name, value in arrays.items() if isinstance(value, np.ndarray) and value.ndim > 1}


def turn_samples(array: Array, samples: int) -> Array:
    """An array whose samples are columns, with its samples as rows."""
    return array.T if array.ndim == 2 and array.shape[1] == samples else array
