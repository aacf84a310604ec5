"""What a program is: named weights, and the stages of a training step at a point that is given to it.

    @program
    class AnotherFramework(Program): ...

A program is never asked for its code, only for values: the tensors of its forward pass, its loss, its gradient, its
weights after some steps. All arrays that come in and go out are NumPy's, weights and tensors in the layout of Keras
where the program knows how its own differs (`Weight.known`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, ClassVar, Self

import numpy as np

from keras_ref.evaluation.keras_objects.leaves import name_leaves, replace_leaves
from keras_ref.own_modules import registry
from scratch.arrays import Array

program = registry.add_kind("program", package="keras_ref.programs")


class Stage(StrEnum):
    """A part of a training step, in the order of the computation."""

    WEIGHTS = "weights"
    FORWARD = "forward"
    LOSS = "loss"
    GRADIENT = "gradient"
    UPDATE = "update"


@dataclass(frozen=True, kw_only=True)
class Weight:
    """A weight of a program.

    name        unique in the program, "dense/kernel"; the layer is what stands before the last slash
    shape       in the layout of Keras if that is `known`
    trainable   whether the gradient trains it
    known       whether names and layouts are those of Keras
    path        what the framework itself calls it, where that is more than the name
    """

    name: str
    shape: tuple[int, ...]
    trainable: bool = True
    known: bool = True
    path: str = ""

    @property
    def part(self) -> str:
        """What it is in its layer: kernel, bias, …"""
        return self.name.rsplit("/", 1)[-1]


@dataclass(frozen=True, kw_only=True)
class Definition:
    """What a program says of one of its layers, losses or optimizers.

    name         that the program gives it
    class_name   the class of Keras that it corresponds to; "" where none does
    config       the configuration of that class, as far as it is known
    """

    name: str
    class_name: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a program says of itself.

    kind        in words ("Keras 3.15.1 on TensorFlow")
    name        that its author gave it
    weights     in order; empty for a program that takes those of the other one, as they are
    stages      the stages that it has
    precisions  those that it computes in where float64 is asked for
    layers      the definitions of its layers, in order, as far as it knows them
    optimizer   that of its steps
    loss        that it minimizes
    own_loss    whether it computes its loss by code of its own, for which there may be no definition
    projects    whether it can take the gradient of Σ cotangent · output, without a loss of its own
    notes       sentences for the report
    """

    kind: str
    name: str = ""
    weights: tuple[Weight, ...] = ()
    stages: tuple[Stage, ...] = ()
    precisions: tuple[str, ...] = ()
    layers: tuple[Definition, ...] = ()
    optimizer: Definition | None = None
    loss: Definition | None = None
    own_loss: bool = False
    projects: bool = True
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data, to be sent to another process."""

        def plain(one: Definition | None) -> dict[str, Any] | None:
            return None if one is None else dict(vars(one))

        return {
            **vars(self),
            "weights": [dict(vars(w)) for w in self.weights],
            "layers": [dict(vars(one)) for one in self.layers],
            "optimizer": plain(self.optimizer),
            "loss": plain(self.loss),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The facts of the `data` that `to_dict` wrote."""

        def one(given: Any) -> Definition | None:
            return None if given is None else Definition(**given)

        return cls(
            kind=data["kind"],
            name=data["name"],
            weights=tuple(Weight(**{**w, "shape": tuple(w["shape"])}) for w in data["weights"]),
            stages=tuple(map(Stage, data["stages"])),
            precisions=tuple(data["precisions"]),
            layers=tuple(Definition(**d) for d in data["layers"]),
            optimizer=one(data["optimizer"]),
            loss=one(data["loss"]),
            own_loss=bool(data["own_loss"]),
            projects=bool(data["projects"]),
            notes=tuple(data["notes"]),
        )


@dataclass(frozen=True, kw_only=True)
class Point:
    """Where a program is run.

    weights     the value of every weight, by name
    x, y        inputs and targets, nested as the program takes them, batch first
    cotangent   random arrays, one for each output: the loss is then Σ cotangent · output, whatever y is
    precision   what it should compute in
    training    whether the forward pass is that of training; random layers are in inference all the same
    steps       how many training steps to take, all on the same batch
    gradient    whether the gradient is wanted
    learning_rate   for a program that takes it as an argument; None lets it take its own
    sample_weight   that of each sample, for a program that is a Keras model
    loss        a loss in the place of the program's own, as plain data (keras.losses.serialize), for a Keras model
    added       whether what layers add to the loss (add_loss, regularizers) counts beside the cotangents, and alone
                where there is no other loss
    inputs      whether the gradient by the floats of x is wanted too, for a Keras model
    """

    weights: Mapping[str, Array]
    x: Any
    y: Any = None
    cotangent: Any = None
    precision: str = "float64"
    training: bool = False
    steps: int = 0
    gradient: bool = True
    learning_rate: float | None = None
    sample_weight: Any = None
    loss: Any = None
    added: bool = False
    inputs: bool = False

    def at(self, values: Mapping[str, Array]) -> Point:
        """The same point with other `values` of some weights, and of inputs (by the names of name_leaves)."""
        inputs = {name: value for name, value in values.items() if name not in self.weights}
        weights = {name: value for name, value in values.items() if name in self.weights}
        x = replace_leaves(self.x, inputs) if inputs else self.x
        return replace(self, weights={**self.weights, **weights}, x=x)

    def value_of(self, name: str) -> Array:
        """The value of a weight, or of an input."""
        return np.asarray(self.weights[name] if name in self.weights else name_leaves(self.x)[name])


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What a program did at a point.

    tensors    the outputs of its layers in the order of the computation, the output of the model last
    loss       nan where the program has none
    gradient   of the loss by the names of trained weights, and of inputs where they are wanted; None where there is
               none
    steps      all weights after each training step
    errors     {stage: sentence} of the stages that raised, where the others could still be run
    added      what layers add to the loss: "add_loss", "regularization"
    outputs    of the model, one array each; those of a dictionary in the order of its keys' names
    """

    tensors: Mapping[str, Array] = field(default_factory=dict)
    loss: float = float("nan")
    gradient: Mapping[str, Array | None] = field(default_factory=dict)
    steps: tuple[Mapping[str, Array], ...] = ()
    errors: Mapping[str, str] = field(default_factory=dict)
    added: tuple[str, ...] = ()
    outputs: tuple[Array, ...] = ()


#: makes what a program wraps, and its data: (object, x, y); called again for every precision
Load = Callable[[], tuple[Any, Any, Any]]


class Program(ABC):
    """Base of the programs. A subclass decorated with `@program` is found by its prefix, or by what it accepts.

    prefix    before the colon of a target: "torch:package.module:factory"
    backend   the KERAS_BACKEND of the process that it runs in; "" where any will do
    needs     the module that has to be installed, and the extra of gradtwin that installs it
    last      whether others are asked first whether an object is theirs

    `load`, with which it is made, opens the target: it returns the object, and its inputs and targets or None.
    Of the methods, `name` is that of a weight or input, and the point a `Point`.
    Shapes  a weight and its gradient alike, data with the batch first; losses (m,) or (m, e), in the unit of the loss
    """

    prefix: ClassVar[str]
    backend: ClassVar[str] = ""
    needs: ClassVar[tuple[str, str]] = ("", "")
    last: ClassVar[bool] = False

    def __init__(self, load: Load) -> None:
        self.load = load

    @classmethod
    @abstractmethod
    def accepts(cls, value: Any) -> bool:
        """Whether this is the program for an object (`value`), by its class or what it holds; imports nothing."""

    @abstractmethod
    def facts(self) -> Facts:
        """What the program says of itself."""

    @abstractmethod
    def values(self) -> dict[str, Array]:
        """{weight: its present value}."""

    @abstractmethod
    def run(self, point: Point) -> Trace:
        """The stages at a point. Raises: UserCodeFailed or CouldNotRun where the program itself raises."""

    def data(self) -> tuple[Any, Any]:
        """The inputs and targets that came with the program; None where there are none."""
        return self.load()[1:]

    def losses(self, point: Point, name: str, entries: Array, offsets: Array) -> Array:
        """The losses with flat entry entries[j] of a weight or input moved by offsets[i, j]: (e,), (m, e) → (m, e).

        Raises: UserCodeFailed or CouldNotRun where the program itself raises.
        """
        own, shape = point.value_of(name), np.shape(offsets)

        def moved(entry: int, offset: float) -> Mapping[str, Array]:
            value = np.array(own, dtype=float)
            value.reshape(-1)[entry] += offset
            return {name: value}

        places = np.broadcast_to(np.asarray(entries, dtype=int), shape).ravel()
        found = self.losses_at(point, map(moved, places, np.ravel(offsets)))
        return found.reshape(shape)

    def losses_along(self, point: Point, direction: Mapping[str, Array], steps: Array) -> Array:
        """The losses (m,) at the point + step · direction for each of `steps`, (m,).

        `direction` is {name: array} of the weights and inputs that move, in their shapes.
        Raises: UserCodeFailed or CouldNotRun where the program itself raises.
        """
        own = {name: np.asarray(point.value_of(name), dtype=float) for name in direction}
        return self.losses_at(point, ({n: own[n] + step * d for n, d in direction.items()} for step in steps))

    def losses_at(self, point: Point, moved: Iterable[Mapping[str, Array]]) -> Array:
        """The losses (m,) with other values of some weights or inputs: `moved` is m times {name: array}.

        Raises: UserCodeFailed or CouldNotRun where the program itself raises.
        """
        still = replace(point, gradient=False, steps=0)
        return np.array([self.run(still.at(values)).loss for values in moved])

    def differentiate(self, point: Point) -> Trace:
        """The loss and its gradient alone, without the tensors of the forward pass and without steps.

        Raises: UserCodeFailed or CouldNotRun where the program itself raises.
        """
        return self.run(replace(point, steps=0))


def list_outputs(output: Any) -> list[Any]:
    """The tensors of a nested output; those of a dictionary in the order of its keys' names, as Keras and JAX sort."""
    if isinstance(output, Mapping):
        return [part for key in sorted(output) for part in list_outputs(output[key])]
    if isinstance(output, (list, tuple)):
        return [part for value in output for part in list_outputs(value)]
    return [output]


def flatten_arrays(value: Any) -> list[Array]:
    """The arrays in a nested value, in order; those of a dictionary in the order of its keys."""
    if value is None:
        return []
    if isinstance(value, Mapping):
        return [array for part in value.values() for array in flatten_arrays(part)]
    if is_nested(value):
        return [array for part in value for array in flatten_arrays(part)]
    return [np.asarray(value)]


def is_nested(value: Any) -> bool:
    """Whether a list holds arrays (or nothing), and is no array written as a list of numbers."""
    return isinstance(value, (list, tuple)) and all(part is None or np.ndim(part) > 0 for part in value)


def cast(value: Any, precision: str) -> Any:
    """The floats of a nested value in a precision, everything else as it is."""
    if value is None:
        return None
    if isinstance(value, Mapping):
        return {key: cast(part, precision) for key, part in value.items()}
    if is_nested(value):
        return [cast(part, precision) for part in value]
    array = np.asarray(value)
    return array.astype(precision) if array.dtype.kind == "f" else array


def round_floats(value: Any, precision: str) -> Any:
    """The floats of a nested value in float64, rounded to a lower precision, so that both see the same numbers."""
    return cast(cast(value, precision), "float64")
