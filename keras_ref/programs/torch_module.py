"""A PyTorch module; its weights in the layouts of Keras, by the table of torch_layouts.py.

A factory returns the module, (module, x, y), or a dictionary with `module` and, as far as there are any, `loss` (of
output and targets), `optimizer` (a function from parameters to a torch.optim.Optimizer), `x`, `y`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_ref.programs.program import Facts, Load, Point, Program, Stage, Trace, Weight, cast, flatten_arrays, program
from keras_ref.programs.torch_beside_tensorflow import leave_out_triton, without_graphics_card
from keras_ref.programs.torch_layouts import Entry, find_definition, list_entries
from scratch.arrays import Array


@program
class TorchModule(Program):
    """A torch.nn.Module."""

    prefix = "torch"
    needs = ("torch", "torch")

    def __init__(self, load: Load) -> None:
        super().__init__(load)
        leave_out_triton()
        value, self._x, self._y = load()
        self.parts: Mapping[str, Any] = value if isinstance(value, Mapping) else {"module": value}
        self._modules: dict[str, Any] = {}

    @classmethod
    def accepts(cls, value: Any) -> bool:
        module = value.get("module") if isinstance(value, Mapping) else value
        return any(c.__name__ == "Module" and c.__module__.startswith("torch.nn") for c in type(module).__mro__)

    def data(self) -> tuple[Any, Any]:
        x, y = (self.parts.get(n, own) for n, own in (("x", self._x), ("y", self._y)))
        return tuple(None if v is None else np.asarray(v) for v in (x, y))  # type: ignore[return-value]

    def facts(self) -> Facts:
        import torch

        module = self._convert("float64")
        stages = [Stage.FORWARD, Stage.GRADIENT]
        stages += [Stage.LOSS] if "loss" in self.parts else []
        stages += [Stage.UPDATE] if {"loss", "optimizer"} <= set(self.parts) else []
        random = [name for name, part in module.named_modules() if "Dropout" in type(part).__name__]
        return Facts(
            kind=f"PyTorch {torch.__version__.partition('+')[0]}",
            weights=tuple(
                Weight(name=e.name, shape=e.read().shape, trainable=e.trainable, known=e.known)
                for e in list_entries(module)
            ),
            stages=tuple(stages),
            layers=tuple(find_definition(name, part) for name, part in leaves(module)),
            notes=(f"Random layers are in inference: {', '.join(random)}.",) if random else (),
        )

    def values(self) -> dict[str, Array]:
        return {e.name: e.read() for e in list_entries(self._convert("float64"))}

    def run(self, point: Point) -> Trace:
        with without_graphics_card():
            return self._run(point)

    def _run(self, point: Point) -> Trace:
        import torch

        module = self._convert(point.precision)
        entries = list_entries(module)
        self._assign(entries, point.weights)
        arrays = [self._make_tensor(a) for a in flatten_arrays(cast(point.x, point.precision))]
        first = is_channels_first(module, arrays)
        rank = arrays[0].ndim if first else 0
        given = [to_channels_first(a) if a.ndim == rank else a for a in arrays]
        targets = [self._make_tensor(a) for a in flatten_arrays(cast(point.y, point.precision))]
        y = next((to_channels_first(a) if a.ndim == rank else a for a in targets), None)
        cotangents = [self._make_tensor(c) for c in flatten_arrays(cast(point.cotangent, point.precision))]
        tensors: dict[str, Array] = {}
        self._set_mode(module, training=point.training)
        with torch.no_grad(), _hooks(module, tensors, rank):
            outputs = _list_tensors(module(*given))
        found = [to_channels_last(o, rank).detach().cpu().numpy() for o in outputs]
        tensors["output"] = found[0] if len(found) == 1 else np.concatenate([o.ravel() for o in found])
        self._assign(entries, point.weights)
        if not cotangents and ("loss" not in self.parts or y is None):
            return Trace(tensors=tensors, outputs=tuple(found))

        def loss() -> Any:
            made = _list_tensors(module(*given))
            if cotangents:
                pairs = zip(made, cotangents, strict=True)
                return sum((to_channels_last(o, rank) * c).sum() for o, c in pairs)
            return self.parts["loss"](made[0], y)

        module.zero_grad()
        value = loss()
        gradient: dict[str, Array | None] = {}
        if point.gradient:
            value.backward()
            gradient = {e.name: e.gradient() for e in entries if e.trainable}
        self._assign(entries, point.weights)
        steps = []
        if point.steps and "optimizer" in self.parts and not cotangents:
            optimizer = self.parts["optimizer"](list(module.parameters()))
            self._set_mode(module, training=True)
            for _ in range(point.steps):
                optimizer.zero_grad()
                loss().backward()
                optimizer.step()
                steps.append({e.name: e.read() for e in entries})
        return Trace(
            tensors=tensors,
            loss=float(value.detach()),
            gradient=gradient,
            steps=tuple(steps),
            outputs=tuple(found),
        )

    def _convert(self, precision: str) -> Any:
        import torch

        if precision not in self._modules:
            self._modules[precision] = copy.deepcopy(self.parts["module"]).to(getattr(torch, precision))
        return self._modules[precision]

    def _make_tensor(self, array: Array) -> Any:
        import torch

        found = torch.as_tensor(np.array(array))
        return found if found.is_floating_point() else found.long()

    def _assign(self, entries: tuple[Entry, ...], weights: Mapping[str, Array]) -> None:
        import torch

        with torch.no_grad():
            for entry in entries:
                if entry.name in weights:
                    entry.write(np.asarray(weights[entry.name]))

    def _set_mode(self, module: Any, *, training: bool) -> None:
        module.train(training)
        for part in module.modules():
            if "Dropout" in type(part).__name__:
                part.eval()


def leaves(module: Any) -> list[tuple[str, Any]]:
    """The modules without children, those with parameters of their own included, in order."""
    return [
        (name, part)
        for name, part in module.named_modules()
        if name and (not list(part.children()) or list(part.parameters(recurse=False)))
    ]


def is_channels_first(module: Any, arrays: list[Any]) -> bool:
    """Whether images are to be handed over with their channels first: the first convolution wants it."""
    for _, part in leaves(module):
        wanted = getattr(part, "in_channels", None)
        if wanted is not None and arrays and arrays[0].ndim > 2:
            return bool(arrays[0].shape[-1] == wanted and (arrays[0].shape[1] != wanted or arrays[0].ndim == 3))
    return False


def to_channels_first(array: Any) -> Any:
    """(batch, space…, channels) → (batch, channels, space…)"""
    return array.movedim(-1, 1).contiguous()


def to_channels_last(tensor: Any, rank: int) -> Any:
    """(batch, channels, space…) → (batch, space…, channels) where images have `rank` axes; others as they are."""
    return tensor.movedim(1, -1) if rank and tensor.ndim == rank else tensor


def _list_tensors(made: Any) -> list[Any]:
    """The tensors of an output, as list_outputs orders them; states of recurrent modules stay behind."""
    if isinstance(made, Mapping):
        return [made[key] for key in sorted(made)]
    if isinstance(made, (tuple, list)):
        return [made[0]] if len(made) > 1 and isinstance(made[1], (tuple, list)) else list(made)
    return [made]


class _hooks:  # noqa: N801 (a context)
    """Every module without children records its output, channels last where images have `rank` axes."""

    def __init__(self, module: Any, tensors: dict[str, Array], rank: int) -> None:
        def record(name: str) -> Any:
            def hook(_: Any, __: Any, output: Any) -> None:
                array = to_channels_last(_list_tensors(output)[0].detach(), rank).cpu().numpy()
                key, times = name, 2
                while key in tensors:
                    key, times = f"{name}:{times}", times + 1
                tensors[key] = np.array(array)

            return hook

        self.handles = [part.register_forward_hook(record(name)) for name, part in leaves(module)]

    def __enter__(self) -> None:
        """Nothing to do: the hooks are there."""

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()
