"""Keras 3 on JAX, in a process whose KERAS_BACKEND is jax."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from keras_ref.programs.keras_backends import KerasOnBackend
from keras_ref.programs.keras_models import Batch, Loss
from keras_ref.programs.program import Point, cast, program
from scratch.arrays import Array


@program
class KerasOnJax(KerasOnBackend):
    """A model of Keras 3, on JAX. Its losses run compiled, its gradient operation by operation."""

    prefix = "keras-jax"
    backend = "jax"
    needs = ("jax", "jax")
    title = "Keras {} on JAX"

    def gradient(self, model: Any, loss: Loss, inputs: Mapping[str, Any]) -> tuple[float, list[Any], dict[str, Any]]:
        import jax

        variables = model.trainable_variables

        def of(values: list[Any], inputs: Mapping[str, Any]) -> Any:
            return self._without_writing(variables, values, lambda: loss(inputs))

        value, (found, of_inputs) = jax.value_and_grad(of, argnums=(0, 1))([v.value for v in variables], dict(inputs))
        return float(value), list(found), dict(of_inputs)

    def make_evaluator(self, model: Any, point: Point, batch: Batch) -> Callable[[Mapping[str, Array]], float]:
        import jax

        variables = self.named(model)
        compiled = self._compile(model, point)
        parts = (batch.x, batch.y, batch.sample_weight, batch.cotangents)
        own = {name: v.value for name, v in variables.items()}

        def evaluate(values: Mapping[str, Array]) -> float:
            weights = {n: jax.numpy.asarray(cast(v, point.precision)) for n, v in values.items() if n in variables}
            moved = batch.at(self.convert_inputs(point, values))
            return float(compiled({**own, **weights}, (moved.x, *parts[1:])))

        return evaluate

    def _compile(self, model: Any, point: Point) -> Callable[[Mapping[str, Any], Any], Any]:
        """The loss of a model as a function of all its weights and of the data, compiled once for all its points.

        Not compiled where the model decides by values, which a traced one cannot.
        """
        import jax

        key = (id(model), point.training, point.added)
        variables = self.named(model)

        def loss(weights: Mapping[str, Any], data: Any) -> Any:
            values = [weights[name] for name in variables]
            return self._without_writing(
                list(variables.values()), values, lambda: self._compute_loss(model, point, Batch(*data))
            )

        if key not in self._functions:
            compiled = jax.jit(loss)

            def evaluate(weights: Mapping[str, Any], data: Any) -> Any:
                try:
                    return compiled(weights, data)
                except jax.errors.ConcretizationTypeError:
                    return loss(weights, data)

            self._functions[key] = evaluate
        found: Callable[[Mapping[str, Any], Any], Any] = self._functions[key]
        return found

    def _without_writing(self, variables: list[Any], values: list[Any], compute: Callable[[], Any]) -> Any:
        """A result with other values of variables; what is written meanwhile is forgotten."""
        mapping = list(zip(variables, values, strict=True))
        with self.keras.StatelessScope(state_mapping=mapping, collect_losses=True):
            return compute()
