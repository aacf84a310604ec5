"""Keras 3 on JAX, in a process whose KERAS_BACKEND is jax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras_ref.programs.keras_models import KerasProgram, keep_float64
from keras_ref.programs.program import program


@program
class KerasOnJax(KerasProgram):
    """A model of Keras 3, on JAX."""

    prefix = "keras-jax"
    backend = "jax"
    needs = ("jax", "jax")
    title = "Keras {} on JAX"

    @classmethod
    def accepts(cls, value: Any) -> bool:
        del value
        return False  # a model does not say its backend: the process has one

    def make(self, precision: str) -> Any:
        keep_float64()
        return super().make(precision)

    def gradient(self, model: Any, loss: Callable[[], Any]) -> tuple[float, list[Any]]:
        import jax

        variables = model.trainable_variables

        def of(values: list[Any]) -> Any:
            with self.keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
                return loss()

        value, gradients = jax.value_and_grad(of)([v.value for v in variables])
        return float(value), list(gradients)
