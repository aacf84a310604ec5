"""Keras 3 on PyTorch, in a process whose KERAS_BACKEND is torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from keras_ref.programs.keras_backends import KerasOnBackend
from keras_ref.programs.keras_models import Batch, Loss
from keras_ref.programs.program import Point, program
from scratch.arrays import Array


@program
class KerasOnTorch(KerasOnBackend):
    """A model of Keras 3, on PyTorch."""

    prefix = "keras-torch"
    backend = "torch"
    needs = ("torch", "torch")
    title = "Keras {} on PyTorch"

    def gradient(self, model: Any, loss: Loss, inputs: Mapping[str, Any]) -> tuple[float, list[Any], dict[str, Any]]:
        import torch

        watched = {name: tensor.detach().requires_grad_() for name, tensor in inputs.items()}
        value = loss(watched)
        sources = [*(v.value for v in model.trainable_variables), *watched.values()]
        found = torch.autograd.grad(value, sources, allow_unused=True)
        count = len(model.trainable_variables)
        return float(value), list(found[:count]), dict(zip(watched, found[count:], strict=True))

    def make_evaluator(self, model: Any, point: Point, batch: Batch) -> Callable[[Mapping[str, Array]], float]:
        import torch

        evaluate: Callable[[Mapping[str, Array]], float] = torch.no_grad()(super().make_evaluator(model, point, batch))
        return evaluate
