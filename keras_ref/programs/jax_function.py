"""A JAX function of a dictionary of arrays.

A factory returns a dictionary: `forward` (of parameters and x), `parameters` and, as far as there are any, `loss` (of
parameters, x and y), `optimizer`, `x`, `y`. `forward` returns the output, or (output, {name: tensor}). An optimizer has
`init` and `update` as in Optax: init(parameters) → state, update(gradients, state, parameters) → (changes, state); the
changes are added to the parameters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from keras_ref.programs.program import Facts, Load, Point, Program, Stage, Trace, Weight, cast, flatten_arrays, program
from keras_ref.undoing import undoing
from scratch.arrays import Array


@program
class JaxFunction(Program):
    """A JAX function: a dictionary with `forward` and `parameters`."""

    prefix = "jax"
    needs = ("jax", "jax")

    def __init__(self, load: Load) -> None:
        super().__init__(load)
        self.value: Mapping[str, Any] = load()[0]
        self.parameters = {name: np.asarray(array) for name, array in _flatten(self.value["parameters"]).items()}

    @classmethod
    def accepts(cls, value: Any) -> bool:
        return isinstance(value, Mapping) and {"forward", "parameters"} <= set(value)

    def data(self) -> tuple[Any, Any]:
        return self.value.get("x"), self.value.get("y")

    def facts(self) -> Facts:
        import jax

        stages = [Stage.FORWARD, Stage.GRADIENT]
        stages += [Stage.LOSS] if "loss" in self.value else []
        stages += [Stage.UPDATE] if {"loss", "optimizer"} <= set(self.value) else []
        return Facts(
            kind=f"JAX {jax.__version__}",
            weights=tuple(Weight(name=n, shape=v.shape, known=False) for n, v in self.parameters.items()),
            stages=tuple(stages),
        )

    def values(self) -> dict[str, Array]:
        return dict(self.parameters)

    def run(self, point: Point) -> Trace:
        with computing_in_float64():
            return self._run(point)

    def _run(self, point: Point) -> Trace:
        import jax

        parameters = cast(dict(point.weights), point.precision)
        x, y = cast(point.x, point.precision), cast(point.y, point.precision)
        output, inner = _split(self.value["forward"](_nest(parameters), x))
        tensors = {name: np.asarray(value) for name, value in inner.items()}
        outputs = [np.asarray(part) for part in jax.tree_util.tree_leaves(output)]
        tensors["output"] = outputs[0] if len(outputs) == 1 else np.concatenate([o.ravel() for o in outputs])
        cotangents = cast(flatten_arrays(point.cotangent), point.precision)
        if not cotangents and ("loss" not in self.value or y is None):
            return Trace(tensors=tensors, outputs=tuple(outputs))

        def loss(parameters: Any) -> Any:
            if not cotangents:
                return self.value["loss"](_nest(parameters), x, y)
            leaves = jax.tree_util.tree_leaves(_split(self.value["forward"](_nest(parameters), x))[0])
            return sum((leaf * c).sum() for leaf, c in zip(leaves, cotangents, strict=True))

        if not point.gradient:
            return Trace(tensors=tensors, loss=float(loss(parameters)), outputs=tuple(outputs))
        value, gradient = jax.value_and_grad(loss)(parameters)
        steps = 0 if cotangents else point.steps
        return Trace(
            tensors=tensors,
            loss=float(value),
            gradient={name: np.asarray(g) for name, g in gradient.items()},
            steps=tuple(self._train(loss, parameters, steps)) if "optimizer" in self.value else (),
            outputs=tuple(outputs),
        )

    def _train(self, loss: Any, parameters: Mapping[str, Any], steps: int) -> Iterator[dict[str, Array]]:
        """The parameters after each step of the optimizer, from its initial state."""
        import jax

        optimizer, tree = self.value["optimizer"], _nest(parameters)
        state = optimizer.init(tree)
        for _ in range(steps):
            gradient = _nest(jax.grad(loss)(_flatten(tree)))
            changes, state = optimizer.update(gradient, state, tree)
            tree = jax.tree_util.tree_map(lambda value, change: value + change, tree, changes)
            yield {name: np.asarray(value) for name, value in _flatten(tree).items()}


@contextmanager
def computing_in_float64() -> Iterator[None]:
    """Until the end of the block JAX has float64, which belongs to the whole process."""
    import jax

    before = bool(jax.config.jax_enable_x64)  # type: ignore[attr-defined]
    with undoing(jax.config.update, "jax_enable_x64", before):
        jax.config.update("jax_enable_x64", val=True)  # type: ignore[no-untyped-call]
        yield


def _split(made: Any) -> tuple[Any, Mapping[str, Any]]:
    is_pair = isinstance(made, tuple) and len(made) == 2 and isinstance(made[1], Mapping)
    return made if is_pair else (made, {})


def _flatten(parameters: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested dictionary as one of paths."""
    found: dict[str, Any] = {}
    for name, value in parameters.items():
        found |= _flatten(value, f"{prefix}{name}/") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found


def _nest(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The nested dictionary of paths."""
    found: dict[str, Any] = {}
    for path, value in parameters.items():
        *folders, name = path.split("/")
        inner = found
        for folder in folders:
            inner = inner.setdefault(folder, {})
        inner[name] = value
    return found
