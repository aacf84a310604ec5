"""Keras 3 on PyTorch, in a process whose KERAS_BACKEND is torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras_ref.programs.keras_models import KerasProgram, keep_float64
from keras_ref.programs.program import program


@program
class KerasOnTorch(KerasProgram):
    """A model of Keras 3, on PyTorch."""

    prefix = "keras-torch"
    backend = "torch"
    needs = ("torch", "torch")
    title = "Keras {} on PyTorch"

    @classmethod
    def accepts(cls, value: Any) -> bool:
        del value
        return False  # a model does not say its backend: the process has one

    def make(self, precision: str) -> Any:
        keep_float64()
        return super().make(precision)

    def gradient(self, model: Any, loss: Callable[[], Any]) -> tuple[float, list[Any]]:
        import torch

        value = loss()
        variables = [v.value for v in model.trainable_variables]
        return float(value), list(torch.autograd.grad(value, variables, allow_unused=True))
